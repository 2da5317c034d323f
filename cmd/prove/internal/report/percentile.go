// Package report turns measurements into the tables that the prove program prints. Its one invariant: a figure in a table comes from
// the samples it was given and from nothing else, so an empty measurement is shown as empty and never as zero.
package report

import (
	"math"
	"slices"
	"time"
)

// Durations collects the durations of one kind of request.
type Durations []time.Duration

// Percentile is the smallest sample that at least p per cent of the samples do not exceed (nearest rank); zero without samples.
func (d Durations) Percentile(p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Clone(d)
	slices.Sort(sorted)
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Max is the longest sample, zero without samples.
func (d Durations) Max() time.Duration { return d.Percentile(100) }

// Ms writes a duration as milliseconds with as many digits as are worth reading.
func Ms(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms >= 100:
		return trimFloat(ms, 0)
	case ms >= 10:
		return trimFloat(ms, 1)
	default:
		return trimFloat(ms, 2)
	}
}
