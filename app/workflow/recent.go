package workflow

import (
	"context"
	"sync"

	"github.com/agentfield/agentfield/models"
)

// Loaded is a run with its graph. It is shared between those who read it at the same time: nobody may change it.
type Loaded struct {
	Run       *models.Run
	Steps     []models.Step
	Graph     *Graph
	Truncated bool
}

// Load reads a run and its graph. What has ended does not change, so that the graphs of a few such runs are kept: as long as the
// totals of the run, which are read each time, are still those of the graph.
func (s *Service) Load(ctx context.Context, id string) (Loaded, error) {
	run, err := s.Run(ctx, id)
	if err != nil {
		return Loaded{}, err
	}
	if kept, ok := s.recent.find(run); ok {
		return kept, nil
	}
	steps, truncated, err := s.Steps(ctx, run.ID)
	if err != nil {
		return Loaded{}, err
	}
	loaded := Loaded{Run: run, Steps: steps, Graph: Build(steps), Truncated: truncated}
	s.recent.keep(loaded)
	return loaded, nil
}

// What is kept is bounded to some 15 MB.
const (
	recentRuns  = 64
	recentSteps = 2 * MaxSteps
)

// recent are the graphs of ended runs that were asked for last, the last first.
type recent struct {
	mu   sync.Mutex
	runs []Loaded
}

func (r *recent) find(run *models.Run) (Loaded, bool) {
	if run.FinishedAt == nil {
		return Loaded{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, kept := range r.runs {
		if kept.Run.ID == run.ID {
			copy(r.runs[1:i+1], r.runs[:i])
			r.runs[0] = kept
			fits := same(kept.Run, run)
			kept.Run = run
			return kept, fits
		}
	}
	return Loaded{}, false
}

// same reports whether nothing was called between two looks at an ended run: each call counts, and counts are never taken back.
func same(a, b *models.Run) bool { return a.Total == b.Total && *a.FinishedAt == *b.FinishedAt }

// keep remembers a graph of which everything has ended, and forgets those asked for longest ago.
func (r *recent) keep(l Loaded) {
	if l.Run.FinishedAt == nil || l.Truncated || len(l.Steps) != l.Run.Total || !l.Graph.ended() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	runs, room := []Loaded{l}, recentSteps-len(l.Steps)
	for _, kept := range r.runs {
		if kept.Run.ID == l.Run.ID || len(kept.Steps) > room || len(runs) == recentRuns {
			continue
		}
		room -= len(kept.Steps)
		runs = append(runs, kept)
	}
	r.runs = runs
}

func (g *Graph) ended() bool {
	for status, n := range g.Counts {
		if n > 0 && !status.Terminal() {
			return false
		}
	}
	return true
}
