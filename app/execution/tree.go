package execution

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/agentfield/agentfield/models"
)

// Member is what became of one execution of a run that was cancelled, paused or resumed.
type Member struct {
	ID       string
	Previous models.Status // where it stood
	Status   models.Status // where it stands now
	Err      error         // *StateError when it has moved on by itself in the meantime
}

const (
	cancelPasses   = 5  // what an agent calls while its run is cancelled is found by the next
	cancelTogether = 64 // moves that wait for the same commit
)

const selectOpen = `SELECT id, status FROM executions WHERE run_id = $1 AND ` + active + ` ORDER BY created_at, id LIMIT 10000`

// CancelRun ends every execution of a run that has not ended, callers before what they called. Each is moved under its own guard, with
// its webhook and the word to its agent. The answer has those that had not ended.
func (s *Service) CancelRun(ctx context.Context, runID, reason string) ([]Member, error) {
	var all []Member
	known := map[string]bool{}
	for range cancelPasses {
		open, err := s.open(ctx, selectOpen, runID, known)
		if err != nil {
			return all, err
		}
		if len(open) == 0 {
			return all, nil
		}
		s.actOnAll(ctx, open, func(ctx context.Context, id string) (Moved, error) { return s.Cancel(ctx, id, reason) })
		for _, m := range open {
			known[m.ID] = true
		}
		all = append(all, open...)
	}
	return all, nil
}

// open lists what has not ended and was not met in an earlier pass.
func (s *Service) open(ctx context.Context, query, runID string, known map[string]bool) ([]Member, error) {
	rows, err := s.DB.Query(ctx, query, runID)
	if err != nil {
		return nil, fmt.Errorf("read what has not ended in %s: %w", runID, err)
	}
	defer rows.Close()
	var open []Member
	for rows.Next() {
		var m Member
		if err := rows.Scan(&m.ID, &m.Previous); err != nil {
			return nil, fmt.Errorf("read what has not ended in %s: %w", runID, err)
		}
		if !known[m.ID] {
			open = append(open, m)
		}
	}
	return open, rows.Err()
}

// actOnAll acts on many at a time, so that they share their commits.
func (s *Service) actOnAll(ctx context.Context, members []Member, act func(ctx context.Context, id string) (Moved, error)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, cancelTogether)
	for i := range members {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			members[i].became(act(ctx, members[i].ID))
		})
	}
	wg.Wait()
}

func (m *Member) became(done Moved, err error) {
	m.Err, m.Status = err, m.Previous
	var state *StateError
	switch {
	case err == nil:
		m.Previous, m.Status = done.Previous, done.Row.Status
	case errors.As(err, &state):
		m.Status = state.Status
	}
}
