package workflow

import (
	"sync"

	"github.com/agentfield/agentfield/models"
)

// What is kept is bounded to some 15 MB.
const (
	recentRuns  = 64
	recentSteps = 2 * MaxSteps
)

// recent are the graphs of the runs that were asked for last, the last first.
type recent struct {
	mu   sync.Mutex
	runs []*kept
}

// kept is the graph of one run as it was read last. Whoever brings it up to date holds mu, so that many who ask at once do the work once.
type kept struct {
	id string

	mu     sync.Mutex
	loaded *Loaded // nil before the first read
	upTo   int64   // the event up to which it is complete

	size int // executions counted against recentSteps; guarded by recent.mu
}

// of returns what is kept of a run, moved to the front.
func (r *recent) of(id string) *kept {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, k := range r.runs {
		if k.id == id {
			copy(r.runs[1:i+1], r.runs[:i])
			r.runs[0] = k
			return k
		}
	}
	k := &kept{id: id}
	r.runs = append([]*kept{k}, r.runs...)
	r.shrink()
	return k
}

// resized counts what a run has grown to.
func (r *recent) resized(k *kept, size int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k.size = size
	r.shrink()
}

// shrink forgets the runs asked for longest ago. Those who are reading one keep it for themselves.
func (r *recent) shrink() {
	room := recentSteps
	for i, k := range r.runs {
		if room -= k.size; room < 0 || i == recentRuns {
			clear(r.runs[i:])
			r.runs = r.runs[:i]
			return
		}
	}
}

// ended reports whether the graph cannot change any more: everything in it is over, and nothing was called since, for each call counts.
func (l *Loaded) ended(run *models.Run) bool {
	if run.FinishedAt == nil || l.Run.FinishedAt == nil || *run.FinishedAt != *l.Run.FinishedAt || run.Total != len(l.Steps) {
		return false
	}
	for status, n := range l.Graph.Counts {
		if n > 0 && !status.Terminal() {
			return false
		}
	}
	return true
}
