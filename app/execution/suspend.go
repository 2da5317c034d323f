package execution

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// What approvals do to an execution. Each runs in the caller's transaction, so that decision and effect are one.

// Lock reads an execution and keeps others from changing it until the end of the transaction. Whoever changes an execution and something
// that belongs to it begins with the execution, so that two who meet wait for each other instead of both.
func (s *Service) Lock(ctx context.Context, tx *database.Tx, id string) (*models.Execution, error) {
	query := `SELECT ` + executionColumns + ` FROM executions WHERE id = $1`
	if tx.Postgres() {
		query += " FOR UPDATE"
	}
	rows, err := tx.Query(ctx, query, id)
	if err != nil {
		return nil, fmt.Errorf("lock an execution: %w", err)
	}
	found, err := collect(rows, nil)
	if err != nil {
		return nil, fmt.Errorf("lock an execution: %w", err)
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return found[0], nil
}

// LockFor is Lock for an agent that shows by token, that of X-Execution-Token, that it was given the execution.
func (s *Service) LockFor(ctx context.Context, tx *database.Tx, id, token string) (*models.Execution, error) {
	attempt, err := s.attemptOf(id, token)
	if err != nil {
		return nil, err
	}
	row, err := s.Lock(ctx, tx, id)
	if err != nil {
		return nil, err
	}
	if attempt > 0 && attempt < row.Attempt {
		return nil, ErrStaleAttempt
	}
	return row, nil
}

// StartedBy is the principal that began an execution: who sent its request, else whoever sent the nearest one above it; nil when
// nobody is known.
func (s *Service) StartedBy(ctx context.Context, tx *database.Tx, id string) (*string, error) {
	var who *string
	err := tx.QueryRow(ctx, chainAbove(tx.Postgres())+` SELECT started_by FROM executions WHERE id IN (SELECT id FROM chain) AND started_by IS NOT NULL
		ORDER BY created_at DESC, id DESC LIMIT 1`, []any{id}, &who)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		return nil, fmt.Errorf("look who started %s: %w", id, err)
	}
	return who, nil
}

// Suspend moves a running execution to waiting: it holds no lease, no slot and no time of its limit from then on. *StateError when it is
// not running.
func (s *Service) Suspend(ctx context.Context, tx *database.Tx, row *models.Execution) (*models.Execution, error) {
	m := &move{id: row.ID, from: fromRunning, to: models.Waiting, attempt: row.Attempt, reason: "waiting_for_approval"}
	suspended, err := s.leave(ctx, tx, m)
	if err != nil {
		return nil, err
	}
	if err := tx.QueryRow(ctx, countRound, []any{row.ID}, &suspended.Rounds); err != nil {
		return nil, fmt.Errorf("count the round of %s: %w", row.ID, err)
	}
	return suspended, nil
}

var fromWaiting = []models.Status{models.Waiting}

// Resume moves a waiting execution back to running. What the agent reported meanwhile becomes the end at once.
func (s *Service) Resume(ctx context.Context, tx *database.Tx, id, reason string) (*models.Execution, error) {
	return s.goOn(ctx, tx, &move{id: id, from: fromWaiting, to: models.Running, reason: reason})
}

// goOn moves an execution back to running. What came of it meanwhile becomes its end at once.
func (s *Service) goOn(ctx context.Context, tx *database.Tx, m *move) (*models.Execution, error) {
	row, err := s.leave(ctx, tx, m)
	if err != nil {
		return nil, err
	}
	kept, err := s.keptIn(ctx, tx, m.id)
	if err != nil || kept == nil {
		return row, err
	}
	return s.applyKept(ctx, tx, row, kept)
}

// applyKept ends a running execution with what its agent reported while it waited, or puts it back: when the request asked for another
// attempt after such a failure, or when the instance has gone and the function may be run again, which then finds the decision.
func (s *Service) applyKept(ctx context.Context, tx *database.Tx, row *models.Execution, kept *keptOutcome) (*models.Execution, error) {
	end := &move{id: row.ID, from: fromRunning, to: models.Succeeded, attempt: row.Attempt, result: s.newBody(kept.Result), data: map[string]any{"source": "kept"}}
	if kept.Failed {
		end.result, end.failures = nil, 1
		end.failure = &failure{code: kept.Code, category: kept.Category, message: kept.Error, class: kept.Class}
		end.to, end.details, end.reason = models.Failed, s.newBody(kept.Details), kept.Category
		policy := parsePolicy(row.RetryPolicy)
		switch {
		case kept.Repeatable && row.Redeliveries < s.MaxRedeliveries:
			end.to, end.details, end.kind, end.after = models.Queued, nil, event.KindRedelivered, s.RedeliveryBackoff.Delay(row.Redeliveries+1)
			end.failure, end.failures, end.redeliveries, end.reason = nil, 0, 1, "the instance went away while the execution waited"
		case policy.retries(kept.Class, row.Failures+1):
			end.to, end.details, end.kind, end.after = models.Queued, nil, event.KindAttemptFailed, policy.delay(row.Failures+1)
		}
	}
	return s.leave(ctx, tx, end)
}

// EndWaiting ends a waiting execution as cancelled, timeout or failed, with the reason as its message; the agent is told of a cancel.
func (s *Service) EndWaiting(ctx context.Context, tx *database.Tx, id string, to models.Status, reason, message string) (*models.Execution, error) {
	m := &move{id: id, from: fromWaiting, to: to, reason: reason, notify: to == models.Cancelled}
	if to != models.Cancelled {
		m.failure = &failure{code: reason, category: "internal_error", message: message}
	}
	return s.leave(ctx, tx, m)
}

// GiveUp ends a running execution whose decision nobody took.
func (s *Service) GiveUp(ctx context.Context, tx *database.Tx, id string, attempt int, to models.Status, code, message string) (*models.Execution, error) {
	return s.leave(ctx, tx, &move{
		id: id, from: fromRunning, to: to, attempt: attempt, reason: code, failures: 1,
		failure: &failure{code: code, category: "agent_unreachable", message: message},
	})
}

func (s *Service) leave(ctx context.Context, tx *database.Tx, m *move) (*models.Execution, error) {
	if err := s.moveAll(ctx, tx, []*move{m}); err != nil {
		return nil, err
	}
	if m.row != nil {
		return m.row, nil
	}
	row, err := s.rowIn(ctx, tx, m.id)
	if err != nil {
		return nil, err
	}
	return nil, &StateError{ID: m.id, Status: row.Status, Wanted: string(m.to)}
}

func (s *Service) rowIn(ctx context.Context, tx *database.Tx, id string) (*models.Execution, error) {
	rows, err := tx.Query(ctx, `SELECT `+executionColumns+` FROM executions WHERE id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read an execution: %w", err)
	}
	found, err := collect(rows, nil)
	if err != nil {
		return nil, fmt.Errorf("read an execution: %w", err)
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return found[0], nil
}

// Tell leaves a notice for the agent at an address of its own, delivered until it answers 2xx or the attempts run out.
func (s *Service) Tell(ctx context.Context, tx *database.Tx, row *models.Execution, kind, url, text string, attempts int) error {
	now := s.DB.NowMs()
	_, err := tx.Exec(ctx, `INSERT INTO notices (id, execution_id, kind, node_id, instance_id, url, body, status, available_at, attempt, max_attempts, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued', $8, 0, $9, $8)`, newID("note_"), row.ID, kind, row.NodeID, row.InstanceID, url, text, now, attempts)
	if err != nil {
		return fmt.Errorf("queue the notice: %w", err)
	}
	tx.AfterCommit(s.teller.Wake)
	return nil
}

// keptOutcome is what an agent reported while its execution waited or was paused.
type keptOutcome struct {
	Failed   bool            `json:"failed,omitempty"`
	Code     string          `json:"code,omitempty"` // as of a failure, as are the three that follow
	Category string          `json:"category,omitempty"`
	Class    string          `json:"class,omitempty"`
	Error    string          `json:"error,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Details  json.RawMessage `json:"details,omitempty"`
	// Repeatable: not a word of the agent, but its end; the function may see the execution twice.
	Repeatable bool `json:"repeatable,omitempty"`
}

// keepOutcome stores it until the decision, or until an operator resumes; should that have come in this moment, it is applied at once.
func (s *Service) keepOutcome(ctx context.Context, row *models.Execution, kept keptOutcome) error {
	text, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("keep an outcome: %w", err)
	}
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		is, err := s.Lock(ctx, tx, row.ID)
		if err != nil {
			return err
		}
		switch {
		case is.Status == models.Running && is.Attempt == row.Attempt:
			_, err := s.applyKept(ctx, tx, is, &kept)
			return err
		case is.Status != models.Waiting && is.Status != models.Paused:
			return s.Events.Append(ctx, tx, s.eventOf(is, event.KindLateReport, map[string]any{"source": "kept", "result": cut(string(kept.Result), 4096)}))
		}
		if err := storePayloads(ctx, tx, []storedPayload{{row.ID, models.PayloadKept, s.newBody(text)}}); err != nil {
			return err
		}
		return s.Events.Append(ctx, tx, s.eventOf(is, event.KindKept, nil))
	})
}

// keptIn takes a kept outcome out of the store.
func (s *Service) keptIn(ctx context.Context, tx *database.Tx, id string) (*keptOutcome, error) {
	var encoding int16
	var stored []byte
	err := tx.QueryRow(ctx, "SELECT encoding, body FROM execution_payloads WHERE execution_id = $1 AND kind = $2", []any{id, int16(models.PayloadKept)}, &encoding, &stored)
	if errors.Is(err, database.ErrNoRows) {
		return nil, nil //nolint:nilnil // nothing kept is the ordinary case
	}
	if err != nil {
		return nil, fmt.Errorf("read a kept outcome: %w", err)
	}
	text, err := s.Codec.Decode(encoding, stored)
	if err != nil {
		return nil, err
	}
	kept := &keptOutcome{}
	if err := json.Unmarshal(text, kept); err != nil {
		return nil, fmt.Errorf("read a kept outcome: %w", err)
	}
	if _, err := tx.Exec(ctx, "DELETE FROM execution_payloads WHERE execution_id = $1 AND kind = $2", id, int16(models.PayloadKept)); err != nil {
		return nil, fmt.Errorf("remove a kept outcome: %w", err)
	}
	return kept, nil
}
