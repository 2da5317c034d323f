package crash

import (
	"testing"
	"time"
)

func TestAgentsTreatRepeatedCallsAsTheySay(t *testing.T) {
	for m, want := range map[manner]int{joins: 1, reports: 1, forgets: 3} {
		began := time.Now()
		w := prepare(m, time.Millisecond)
		for range 3 {
			done, _ := w.begin("exec_1", "key-1")
			<-done
		}
		calls, runs, ended := w.seen("exec_1", "key-1")
		if calls != 3 || runs != want {
			t.Errorf("agent that %s: got %d calls and %d runs, want 3 and %d", m, calls, runs, want)
		}
		if took := ended.Sub(began); took < time.Millisecond {
			t.Errorf("agent that %s: work of 1 ms was done after %s", m, took)
		}
	}
}
