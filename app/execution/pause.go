package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// An operator holds executions back. What has not been dispatched is not; what an agent works on goes on there, since agents are not told
// (wire.md 3.10), but its result counts only afterwards. No deadline runs meanwhile.

// ErrInsideAgent says that an execution cannot be held back.
var ErrInsideAgent = errors.New("the agent runs this call by itself: pause the execution that made it")

// Pause holds an execution back until Unpause. by is the person, for the record; nil: nobody in particular. *StateError when it is not
// pending, queued or running.
func (s *Service) Pause(ctx context.Context, id, reason string, by *audit.Origin) (Moved, error) {
	return s.operate(ctx, id, func(row *models.Execution) (Moved, error) {
		switch {
		case !row.Status.CanBecome(models.Paused):
			return Moved{}, &StateError{ID: id, Status: row.Status, Wanted: string(models.Paused)}
		case row.Local:
			return Moved{}, ErrInsideAgent
		}
		m := &move{id: id, from: []models.Status{row.Status}, to: models.Paused, attempt: row.Attempt, reason: clean(reason)}
		return s.onRecord(ctx, row, "execution.paused", m.reason, by, func(tx *database.Tx) (*models.Execution, error) {
			return s.leave(ctx, tx, m)
		})
	})
}

var fromPaused = []models.Status{models.Paused}

// Unpause lets an execution go on: back into the queue if it was not dispatched, else as running, and to its end if that was reported
// meanwhile. *StateError when it is not paused.
func (s *Service) Unpause(ctx context.Context, id string, by *audit.Origin) (Moved, error) {
	return s.operate(ctx, id, func(row *models.Execution) (Moved, error) {
		if row.Status != models.Paused {
			return Moved{}, &StateError{ID: id, Status: row.Status, Wanted: "resumed"}
		}
		return s.onRecord(ctx, row, "execution.resumed", "", by, func(tx *database.Tx) (*models.Execution, error) { return s.unpause(ctx, tx, row) })
	})
}

func (s *Service) unpause(ctx context.Context, tx *database.Tx, row *models.Execution) (*models.Execution, error) {
	if _, err := s.Lock(ctx, tx, row.ID); err != nil {
		return nil, err
	}
	var kept bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM execution_payloads WHERE execution_id = $1 AND kind = $2)", []any{row.ID, int16(models.PayloadKept)}, &kept)
	if err != nil {
		return nil, fmt.Errorf("look for a kept outcome: %w", err)
	}
	m := &move{id: row.ID, from: fromPaused, to: models.Running, attempt: row.Attempt}
	if dispatched(row) || kept {
		return s.goOn(ctx, tx, m)
	}
	m.to = models.Queued
	return s.leave(ctx, tx, m)
}

// onRecord makes a move together with the entry of who asked for it.
func (s *Service) onRecord(
	ctx context.Context, row *models.Execution, action, reason string, by *audit.Origin, act func(tx *database.Tx) (*models.Execution, error),
) (Moved, error) {
	moved := Moved{Previous: row.Status}
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if moved.Row, err = act(tx); err != nil || by == nil {
			return err
		}
		return audit.Append(ctx, tx, audit.Entry{
			Origin: *by, At: s.DB.NowMs(), Action: action, ObjectKind: "execution", Object: row.ID, Reason: reason,
			Before: map[string]any{"status": row.Status}, After: map[string]any{"status": moved.Row.Status},
		})
	})
	if _, raced := errors.AsType[*StateError](err); raced {
		return Moved{}, errRaced
	}
	return moved, err
}

const (
	selectPausable = `SELECT id, status FROM executions WHERE run_id = $1 AND ` + active + ` AND status IN ('pending', 'queued', 'running') AND NOT local
		ORDER BY created_at, id LIMIT 10000`
	selectPaused = `SELECT id, status FROM executions WHERE run_id = $1 AND ` + active + ` AND status = 'paused' ORDER BY created_at, id LIMIT 10000`
)

// PauseRun holds back everything in a run that is on its way. What is called in it later, it does not know.
func (s *Service) PauseRun(ctx context.Context, runID, reason string) ([]Member, error) {
	return s.actOnRun(ctx, selectPausable, runID, func(ctx context.Context, id string) (Moved, error) { return s.Pause(ctx, id, reason, nil) })
}

// UnpauseRun lets everything in a run go on that is paused.
func (s *Service) UnpauseRun(ctx context.Context, runID string) ([]Member, error) {
	return s.actOnRun(ctx, selectPaused, runID, func(ctx context.Context, id string) (Moved, error) { return s.Unpause(ctx, id, nil) })
}

func (s *Service) actOnRun(ctx context.Context, which, runID string, act func(ctx context.Context, id string) (Moved, error)) ([]Member, error) {
	members, err := s.open(ctx, which, runID, nil)
	if err != nil {
		return nil, err
	}
	s.actOnAll(ctx, members, act)
	return members, nil
}
