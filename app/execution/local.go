package execution

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What agents run by themselves: a function of theirs that calls another one without asking us. They tell of it while and after it runs,
// and it becomes an execution of the run like any other, except that nothing is ever dispatched for it and no webhook tells of its end.

// Local is what an agent tells of a call inside itself (wire.md 3.12).
type Local struct {
	Token      string // of the execution, or of one above it; may be empty where unsigned agents are accepted
	ID         string
	RunID      string
	WorkflowID string
	ParentID   string
	NodeID     string
	Function   string
	Kind       string // reasoner or skill
	Status     models.Status
	Reason     string
	Input      []byte // JSON; nil: not told
	Result     []byte // JSON
	Error      string
	Took       time.Duration // 0: not told
}

// Observe takes what an agent tells of a call inside itself. created is false when the execution was known. What has ended stays as it is, and
// so does what was dispatched: its answer or its report ends it.
func (s *Service) Observe(ctx context.Context, l Local) (row *models.Execution, created bool, err error) {
	if l.ParentID == l.ID {
		l.ParentID = ""
	}
	if err := s.vouchedFor(ctx, l); err != nil {
		return nil, false, err
	}
	if row, err = s.Row(ctx, l.ID); errors.Is(err, ErrNotFound) {
		if row, created, err = s.beginLocal(ctx, l); err != nil {
			return nil, false, err
		}
	}
	if err != nil || !row.Local || row.Status.Terminal() {
		return row, created, err
	}
	if !created && row.ParentID == nil && l.ParentID != "" {
		if err := s.adopt(ctx, row.ID, l.ParentID); err != nil {
			return nil, false, err
		}
	}
	return row, created, s.moveLocal(ctx, row, l)
}

// vouchedFor demands a token of the execution or of any above it, since calls inside an agent have none of their own.
func (s *Service) vouchedFor(ctx context.Context, l Local) error {
	err := s.Vouched(l.Token, l.ID, l.ParentID)
	if err == nil || l.Token == "" || l.ParentID == "" {
		return err
	}
	rows, err := s.DB.Query(ctx, chainAbove(s.DB.Postgres())+" SELECT id FROM chain LIMIT 64", l.ParentID)
	if err != nil {
		return fmt.Errorf("look for what is above %s: %w", l.ParentID, err)
	}
	above, err := collectIDs(rows)
	if err != nil {
		return fmt.Errorf("look for what is above %s: %w", l.ParentID, err)
	}
	return s.Vouched(l.Token, above...)
}

// beginLocal writes the execution down as running. What was first heard of at its end began as long ago as it took.
func (s *Service) beginLocal(ctx context.Context, l Local) (*models.Execution, bool, error) {
	began := s.DB.NowMs() - l.Took.Milliseconds()
	row := &models.Execution{
		Rank: rankOf(nil),
		ID:   l.ID, ParentID: optional(l.ParentID), NodeID: l.NodeID, Function: l.Function, FunctionKind: l.Kind, Mode: "async", Local: true,
		Status: models.Running, AvailableAt: began, Attempt: 1, MaxAttempts: 1, CreatedAt: began, StartedAt: &began, InputBytes: int64(len(l.Input)),
	}
	item := &submission{row: row, input: s.newBody(l.Input)}
	sub := Submission{RunID: l.RunID, WorkflowID: l.WorkflowID, ParentID: l.ParentID}
	row.WorkflowID = optional(sub.WorkflowID)
	if sub.WorkflowID == sub.RunID {
		row.WorkflowID = nil
	}
	if err := s.placeInRun(ctx, item, sub); err != nil {
		return nil, false, err
	}
	if l.RunID == "" && l.WorkflowID == "" && row.WorkflowID == nil {
		if err := s.runOfParent(ctx, row); err != nil {
			return nil, false, err
		}
	}
	if err := s.ofWhom(ctx, row); err != nil {
		return nil, false, err
	}
	if err := s.inheritTrace(ctx, row); err != nil {
		return nil, false, err
	}
	if err := s.submits.Do(ctx, item); err != nil {
		return nil, false, err
	}
	if !item.written { // somebody else has told of it in this moment
		row, err := s.Row(ctx, l.ID)
		return row, false, err
	}
	return row, true, nil
}

// runOfParent: an execution of which nothing is known but its id is a run of its own by that id.
func (s *Service) runOfParent(ctx context.Context, row *models.Execution) error {
	row.RunID = row.ID
	if row.ParentID == nil {
		return nil
	}
	err := s.DB.QueryRow(ctx, "SELECT run_id FROM executions WHERE id = $1", []any{*row.ParentID}, &row.RunID)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		return fmt.Errorf("read the parent of an execution: %w", err)
	}
	return nil
}

// ofWhom takes session and actor from the run, which agents do not tell.
func (s *Service) ofWhom(ctx context.Context, row *models.Execution) error {
	err := s.DB.QueryRow(ctx, "SELECT session_id, actor_id FROM runs WHERE id = $1", []any{row.RunID}, &row.SessionID, &row.ActorID)
	if err != nil && !errors.Is(err, database.ErrNoRows) {
		return fmt.Errorf("read the run of an execution: %w", err)
	}
	return nil
}

// moveLocal follows the status that the agent tells. Words that do not lead anywhere from here change nothing.
func (s *Service) moveLocal(ctx context.Context, row *models.Execution, l Local) error {
	to := l.Status
	if to == models.Pending || to == models.Queued || to == models.Paused || to == row.Status || !row.Status.CanBecome(to) {
		return nil
	}
	m := &move{id: row.ID, from: []models.Status{row.Status}, to: to, reason: clean(l.Reason), data: map[string]any{"source": "event"}}
	switch to { //nolint:exhaustive // the others carry nothing
	case models.Succeeded:
		result := l.Result
		if result == nil {
			result = []byte("null")
		}
		m.result = s.newBody(result)
	case models.Failed:
		m.failure = &failure{code: "agent_error", category: "agent_error", message: cut(orElse(clean(l.Error), orElse(m.reason, "the agent reported a failure")), 4096)}
		m.details = s.newBody(l.Result)
	case models.Timeout:
		m.failure = &failure{code: "agent_timeout", category: "agent_timeout", message: cut(orElse(clean(l.Error), "the agent reported a time-out"), 4096)}
	}
	_, err := s.transition(ctx, m)
	return err
}

const endedSince = 60_000 // ms that a caller has been over before what it called by itself is given up

// sweepLocal ends calls inside agents that nobody will tell of any more: their caller ended a while ago, or their node is gone.
func (s *Service) sweepLocal(ctx context.Context) (bool, error) {
	before := s.DB.NowMs() - endedSince
	left, err := s.rows(ctx, `SELECT `+executionColumns+` FROM executions WHERE status IN ('running', 'waiting') AND `+active+` AND local AND (EXISTS
			(SELECT 1 FROM executions p WHERE p.id = executions.parent_id AND p.finished_at < $1)
		OR executions.created_at < $1 AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.node_id = executions.node_id
			AND (i.lifecycle <> 'offline' OR i.stopped_at IS NULL OR i.stopped_at > $1))) LIMIT $2`, before, sweepPage)
	if err != nil {
		return false, fmt.Errorf("look for calls inside agents that are over: %w", err)
	}
	return len(left) == sweepPage, s.moveRows(ctx, left, func(e *models.Execution) *move {
		return &move{
			id: e.ID, from: []models.Status{e.Status}, to: models.Cancelled,
			reason: "what called it has ended, or its agent is gone, and the agent has not told how it went",
		}
	})
}
