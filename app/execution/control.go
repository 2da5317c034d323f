package execution

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Cancelled tells what a cancel did.
type Cancelled struct {
	Row      *models.Execution
	Previous models.Status
}

// Cancel ends an execution by hand, wherever it stands; the agent is told if it has the call. *StateError when it has ended already.
func (s *Service) Cancel(ctx context.Context, id, reason string) (Cancelled, error) {
	row, err := s.Row(ctx, id)
	for range 3 { // the status may change between reading and moving; each try judges anew
		if err != nil {
			return Cancelled{}, err
		}
		if row.Status.Terminal() {
			return Cancelled{}, &StateError{ID: id, Status: row.Status, Wanted: string(models.Cancelled)}
		}
		m := &move{
			id: id, from: []models.Status{row.Status}, to: models.Cancelled, reason: clean(reason), attempt: row.Attempt,
			instance: s.inFlight.instance(id), notify: row.Attempt > 0 && row.Status != models.Queued && row.Status != models.Pending,
		}
		ours, err := s.transition(ctx, m)
		if err != nil {
			return Cancelled{}, err
		}
		if ours {
			s.teller.Wake()
			return Cancelled{Row: m.row, Previous: row.Status}, nil
		}
		if row, err = s.Row(ctx, id); err != nil {
			return Cancelled{}, err
		}
	}
	return Cancelled{}, &StateError{ID: id, Status: row.Status, Wanted: string(models.Cancelled)}
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
