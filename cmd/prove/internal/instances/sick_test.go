package instances

import (
	"testing"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
)

func TestWhatReachesASickInstanceIsCountedInWindows(t *testing.T) {
	began := time.Now()
	at := func(seconds ...float64) (arrivals []fake.Arrival) {
		for _, s := range seconds {
			arrivals = append(arrivals, fake.Arrival{At: began.Add(time.Duration(s * float64(time.Second)))})
		}
		return arrivals
	}
	for _, c := range []struct {
		arrivals      []fake.Arrival
		failsAfter    time.Duration
		begun, probes int
	}{
		{nil, 0, 0, 0},
		{at(0, 1, 2), 0, 3, 0},
		{at(0, 0.1, 0.2, 0.3, 0.4, 0.5), 0, 6, 0},
		{at(0, 0.1, 0.2, 0.3, 0.4, 10, 20.05, 30.1), 0, 5, 1},
		{at(0, 0.1, 0.2, 0.3, 0.4, 9, 12, 18.5, 19), 0, 5, 3},
		{at(0, 0.1, 0.2, 0.3, 4, 5, 9, 20), 5 * time.Second, 7, 1},
	} {
		if begun, probes := judge(c.arrivals, c.failsAfter); begun != c.begun || probes != c.probes {
			t.Errorf("%d arrivals: %d to begin with, then %d, want %d and %d", len(c.arrivals), begun, probes, c.begun, c.probes)
		}
	}
}
