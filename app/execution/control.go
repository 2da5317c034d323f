package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Moved tells what an act of an operator did.
type Moved struct {
	Row      *models.Execution
	Previous models.Status
}

// Cancel ends an execution by hand, wherever it stands; the agent is told if it has the call. *StateError when it has ended already.
func (s *Service) Cancel(ctx context.Context, id, reason string) (Moved, error) {
	return s.operate(ctx, id, func(row *models.Execution) (Moved, error) {
		if row.Status.Terminal() {
			return Moved{}, &StateError{ID: id, Status: row.Status, Wanted: string(models.Cancelled)}
		}
		m := &move{
			id: id, from: []models.Status{row.Status}, to: models.Cancelled, reason: clean(reason), attempt: row.Attempt,
			instance: s.inFlight.instance(id), notify: dispatched(row),
		}
		ours, err := s.transition(ctx, m)
		if err != nil || !ours {
			return Moved{}, errors.Join(err, notOurs(ours))
		}
		s.teller.Wake()
		return Moved{Row: m.row, Previous: row.Status}, nil
	})
}

// dispatched reports whether an agent may have the call.
func dispatched(row *models.Execution) bool {
	status := row.Status
	if row.PausedIn != nil {
		status = *row.PausedIn
	}
	return row.Attempt > 0 && status != models.Queued && status != models.Pending
}

// errRaced says that the status has changed between reading and moving.
var errRaced = errors.New("the execution has moved on in this moment: look again")

func notOurs(ours bool) error {
	if ours {
		return nil
	}
	return errRaced
}

// operate judges an execution and moves it; when it moves on in between it is judged anew.
func (s *Service) operate(ctx context.Context, id string, act func(*models.Execution) (Moved, error)) (Moved, error) {
	const tries = 3
	for n := 1; ; n++ {
		row, err := s.Row(ctx, id)
		if err != nil {
			return Moved{}, err
		}
		moved, err := act(row)
		switch {
		case !errors.Is(err, errRaced):
			return moved, err
		case n == tries:
			return Moved{}, &StateError{ID: id, Status: row.Status, Wanted: "changed: it moves on too fast"}
		}
	}
}

const noticeAttempts = 4

// leaveNotice queues the word to the agent, in the transaction that cancels.
func (s *Service) leaveNotice(ctx context.Context, tx *database.Tx, m *move, now int64) error {
	text, err := json.Marshal(map[string]any{
		"execution_id": m.id, "workflow_id": m.row.Workflow(), "reason": m.reason, "emitted_at": time.UnixMilli(now).UTC().Format(time.RFC3339),
	})
	if err != nil {
		return fmt.Errorf("write the notice: %w", err)
	}
	_, err = tx.Exec(ctx, insertNotice, newID("note_"), m.id, "cancel", m.row.NodeID, m.row.InstanceID, string(text), now, noticeAttempts)
	if err != nil {
		return fmt.Errorf("queue the notice: %w", err)
	}
	tx.AfterCommit(s.teller.Wake)
	return nil
}
