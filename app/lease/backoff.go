package lease

import (
	"math"
	"math/rand/v2"
	"time"
)

// Backoff is a schedule of growing pauses, a pure function of the number of the try.
type Backoff struct {
	First  time.Duration // after the first failure
	Max    time.Duration // no pause is longer; 0: five minutes
	Factor float64       // of one pause to the next; 0: 2
	Jitter float64       // ± this part of each pause; 0: a fifth. Negative: none
}

// Delay is the pause after the n-th failure, counted from 1.
func (b Backoff) Delay(n int) time.Duration {
	factor, limit, jitter := b.Factor, b.Max, b.Jitter
	if factor == 0 {
		factor = 2
	}
	if limit == 0 {
		limit = 5 * time.Minute
	}
	if jitter == 0 {
		jitter = 0.2
	}
	d := float64(b.First) * math.Pow(factor, float64(max(n, 1)-1))
	d = math.Min(d, float64(limit))
	if jitter > 0 {
		d *= 1 - jitter + 2*jitter*rand.Float64() //nolint:gosec // spreading, not secrecy
	}
	return time.Duration(d)
}
