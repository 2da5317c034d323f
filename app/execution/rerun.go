package execution

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// ErrNoInput says that there is nothing to repeat an execution with.
var ErrNoInput = errors.New("the input of this execution is no longer kept: send one")

// Again says who repeats an execution, and how. The zero value repeats it as it was.
type Again struct {
	Input     []byte                 // a JSON object instead of the input it had; nil: the same bytes
	Key       *models.IdempotencyKey // Scope, Key and BodyHash; nil: every request makes another one
	StartedBy string                 // the principal, unless it is an agent or nobody in particular
	By        *audit.Origin          // a person, whose act goes on the record; nil: a program
}

// Rerun makes an execution once more: the same function, session, actor, context and retry policy. It belongs to a run of its own, because
// the old one has its status and its picture for good, and names the execution it repeats. The webhook is not kept: whoever registered it
// was promised one announcement of the execution they asked for. A limit is kept, unless it was only the default of synchronous calls.
// The errors are those of Submit, ErrNotFound and ErrNoInput.
func (s *Service) Rerun(ctx context.Context, id string, again Again) (Started, error) {
	row, err := s.Row(ctx, id)
	if err != nil {
		return Started{}, err
	}
	sub := Submission{
		ID: NewID(), NodeID: row.NodeID, Function: row.Function, Input: again.Input, SessionID: value(row.SessionID), ActorID: value(row.ActorID),
		Retry: parsePolicy(row.RetryPolicy), StartedBy: again.StartedBy, Key: again.Key, RerunOf: row.ID, Along: concurrencyOf(row),
	}
	priority := row.Priority()
	sub.Priority = &priority
	if row.Context != nil {
		sub.Context = []byte(*row.Context)
	}
	if row.TimeoutMs != nil && (row.Mode == "async" || msDuration(*row.TimeoutMs) != s.SyncTimeout) {
		sub.Timeout = msDuration(*row.TimeoutMs)
	}
	if sub.Input == nil {
		if sub.Input, err = s.Payload(ctx, id, models.PayloadInput); errors.Is(err, database.ErrNoRows) {
			return Started{}, ErrNoInput
		} else if err != nil {
			return Started{}, fmt.Errorf("read the input of %s: %w", id, err)
		}
	}
	if again.By != nil {
		sub.Record = &audit.Entry{
			Origin: *again.By, At: s.DB.NowMs(), Action: "execution.rerun", ObjectKind: "execution", Object: row.ID,
			After: map[string]any{"execution_id": sub.ID, "target": row.Target(), "input_edited": again.Input != nil},
		}
	}
	return s.Submit(ctx, sub)
}

// Reruns lists the executions that repeat this one, newest first, at most limit.
func (s *Service) Reruns(ctx context.Context, id string, limit int) ([]*models.Execution, error) {
	rows, err := s.rows(ctx, `SELECT `+executionColumns+` FROM executions WHERE rerun_of = $1 ORDER BY created_at DESC, id DESC LIMIT $2`, id, limit)
	if err != nil {
		return nil, fmt.Errorf("list the reruns of %s: %w", id, err)
	}
	return rows, nil
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
