package crash

import (
	"testing"
	"time"
)

func TestAgentsTreatRepeatedCallsAsTheySay(t *testing.T) {
	for m, want := range map[manner]int{joins: 1, reports: 1, forgets: 3} {
		w := &worker{manner: m, work: time.Millisecond, calls: map[string]int{}, runs: map[string]int{}, done: map[string]chan struct{}{}}
		for range 3 {
			done, _ := w.begin("exec_1", "key-1")
			<-done
		}
		if calls, runs := w.seen("exec_1", "key-1"); calls != 3 || runs != want {
			t.Errorf("agent that %s: got %d calls and %d runs, want 3 and %d", m, calls, runs, want)
		}
	}
}
