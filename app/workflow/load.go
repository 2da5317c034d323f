package workflow

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/agentfield/agentfield/models"
)

// Loaded is a run with its graph. It is shared between those who read it at the same time: nobody may change it.
type Loaded struct {
	Run       *models.Run
	Steps     []models.Step
	Graph     *Graph
	Truncated bool
}

// Load reads a run and its graph. The graphs of a few runs are kept with the place in the event log up to which they are complete, so that
// only what has changed since is read: whoever asks gets what the database held when they asked, or later.
func (s *Service) Load(ctx context.Context, id string) (Loaded, error) {
	run, m, err := s.markedRun(ctx, id)
	if err != nil {
		return Loaded{}, err
	}
	upTo := s.log.advance(m)
	k := s.recent.of(run.ID)
	k.mu.Lock()
	defer k.mu.Unlock()
	l, err := s.bringUp(ctx, k, run, m)
	if err != nil {
		return Loaded{}, err
	}
	if l.Truncated || len(l.Steps) < run.Total { // not to be told from a graph that misses something: read anew each time
		k.loaded, k.upTo = nil, 0
	} else {
		k.loaded, k.upTo = &l, max(k.upTo, upTo)
	}
	s.recent.resized(k, len(l.Steps))
	return l, nil
}

// bringUp returns the graph as it is now: what is kept, with what has changed, or read whole where that is less work.
func (s *Service) bringUp(ctx context.Context, k *kept, run *models.Run, m mark) (Loaded, error) {
	if k.loaded == nil {
		return s.whole(ctx, run)
	}
	l := *k.loaded
	ended := l.ended(run)
	l.Run = run
	if ended || m.newest <= k.upTo && len(l.Steps) == run.Total {
		return l, nil
	}
	if m.newest-k.upTo > worthwhile(len(l.Steps)) {
		return s.whole(ctx, run)
	}
	changed, err := s.changed(ctx, run.ID, k.upTo)
	if err != nil {
		return Loaded{}, err
	}
	l.patch(changed)
	if len(l.Steps) < run.Total || len(l.Steps) > MaxSteps {
		return s.whole(ctx, run)
	}
	return l, nil
}

// worthwhile is how many events of all runs are looked through at most, for a run of so many executions: beyond, reading them all is faster.
func worthwhile(steps int) int64 { return int64(100 + 4*steps) }

func (s *Service) whole(ctx context.Context, run *models.Run) (Loaded, error) {
	steps, truncated, err := s.Steps(ctx, run.ID)
	if err != nil {
		return Loaded{}, err
	}
	return Loaded{Run: run, Steps: steps, Graph: Build(steps), Truncated: truncated}, nil
}

// What was changed is in the event log: every change of an execution that a picture shows leaves an event behind. LATERAL with LIMIT keeps
// PostgreSQL from scanning all executions, whatever it believes about the number of events.
const (
	changedIDs      = `WITH c AS MATERIALIZED (SELECT DISTINCT execution_id FROM events WHERE id > $1 AND run_id = $2) `
	selectChanged   = changedIDs + `SELECT ` + stepColumns + ` FROM executions WHERE id IN (SELECT execution_id FROM c)`
	selectChangedPg = changedIDs + `SELECT x.* FROM c CROSS JOIN LATERAL (SELECT ` + stepColumns + ` FROM executions WHERE id = c.execution_id LIMIT 1) x`
)

// changed reads the executions of a run to which something has happened after an event.
func (s *Service) changed(ctx context.Context, runID string, after int64) ([]models.Step, error) {
	query := selectChanged
	if s.DB.Postgres() {
		query = selectChangedPg
	}
	rows, err := s.DB.Query(ctx, query, after, runID)
	if err != nil {
		return nil, fmt.Errorf("read what has changed in the run %q: %w", runID, err)
	}
	defer rows.Close()
	var steps []models.Step
	for rows.Next() {
		x, err := scanStep(rows)
		if err != nil {
			return nil, fmt.Errorf("read what has changed in the run %q: %w", runID, err)
		}
		steps = append(steps, x)
	}
	return steps, rows.Err()
}

// patch puts changed and new executions into the graph, without touching what others may be reading.
func (l *Loaded) patch(changed []models.Step) {
	if len(changed) == 0 {
		return
	}
	steps := slices.Grow(slices.Clone(l.Steps), len(changed))
	for _, x := range changed {
		if n := l.Graph.Find(x.ID); n != nil {
			steps[n.Index] = x
		} else {
			steps = append(steps, x)
		}
	}
	if len(steps) > len(l.Steps) {
		slices.SortFunc(steps, func(a, b models.Step) int {
			return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.ID, b.ID))
		})
	}
	l.Steps, l.Graph = steps, Build(steps)
}
