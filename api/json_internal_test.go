package api

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestInstantsAreWrittenAsTheLayoutSays(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	instants := []int64{0, -1, 1, 999, 1_700_000_000_000, time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli(), time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}
	for range 10_000 {
		instants = append(instants, random.Int64N(4e12))
	}
	for _, ms := range instants {
		if got, want := string(appendInstant(nil, ms)), formatMs(ms); got != want {
			t.Fatalf("%d is written %s, not %s", ms, got, want)
		}
	}
}
