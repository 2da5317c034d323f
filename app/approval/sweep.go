package approval

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

const sweepPage = 200

// sweep carries out decisions whose hold is over and expires requests whose time is. Every replica may: each is a compare-and-set.
func (s *Service) sweep(ctx context.Context) (bool, error) {
	now := s.DB.NowMs()
	held, err := collect(s.DB.Query(ctx, "SELECT "+columns+" FROM approvals WHERE held_until IS NOT NULL AND closed_at IS NULL AND held_until <= $1 LIMIT $2", now, sweepPage))
	if err != nil {
		return false, fmt.Errorf("look for held decisions: %w", err)
	}
	for _, a := range held {
		if err := s.close(ctx, a, carryOut); err != nil {
			return false, err
		}
	}
	late, err := collect(s.DB.Query(ctx, `SELECT `+columns+` FROM approvals WHERE closed_at IS NULL AND expires_at <= $1 ORDER BY expires_at, id LIMIT $2`, now, sweepPage))
	if err != nil {
		return false, fmt.Errorf("look for expired requests: %w", err)
	}
	for _, a := range late {
		if err := s.close(ctx, a, expire); err != nil {
			return false, err
		}
	}
	return len(held) == sweepPage || len(late) == sweepPage, s.sleepUntilDue(ctx)
}

const (
	carryOut = `UPDATE approvals SET status = decision, version = version + 1, closed_at = $1 WHERE id = $2 AND status = 'held' AND held_until <= $1 RETURNING ` + columns
	// A decision that is held when the time is over was made in time: carryOut closes it.
	expire = `UPDATE approvals SET status = 'expired', version = version + 1, decision = 'expired', decided_by = 'timer', channel = 'timer', decided_at = $1,
		closed_at = $1 WHERE id = $2 AND status = 'pending' AND expires_at <= $1 RETURNING ` + columns
)

// close makes one of the two ends of time; somebody else may have been faster.
func (s *Service) close(ctx context.Context, a *models.Approval, statement string) error {
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		if err := s.lock(ctx, tx, a); err != nil {
			return err
		}
		now := s.DB.NowMs()
		after, err := first(tx.Query(ctx, statement, now, a.ID))
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.takeEffect(ctx, tx, after, now); err != nil {
			return err
		}
		return s.recordClose(ctx, tx, after, now)
	})
	if err != nil {
		return fmt.Errorf("close the approval request %s: %w", a.ID, err)
	}
	return nil
}

// recordClose names as the actor of a decision whom its hold named.
func (s *Service) recordClose(ctx context.Context, tx *database.Tx, a *models.Approval, now int64) error {
	origin := audit.ByServer()
	if a.Status != models.ApprovalExpired {
		err := tx.QueryRow(ctx, "SELECT actor, actor_kind, channel FROM audit_log WHERE object = $1 AND action = 'approval.held' ORDER BY id DESC LIMIT 1",
			[]any{a.ID}, &origin.Actor, &origin.ActorKind, &origin.Channel)
		if err != nil {
			return fmt.Errorf("find whose decision it was: %w", err)
		}
	}
	return audit.Append(ctx, tx, entry(origin, "approval."+string(a.Status), a, now, value(a.Feedback)))
}

func (s *Service) sleepUntilDue(ctx context.Context) error {
	var held, expires *int64
	err := s.DB.QueryRow(ctx, `SELECT (SELECT min(held_until) FROM approvals WHERE held_until IS NOT NULL AND closed_at IS NULL),
		(SELECT min(expires_at) FROM approvals WHERE closed_at IS NULL)`, nil, &held, &expires)
	if err != nil {
		return fmt.Errorf("look for the next due request: %w", err)
	}
	for _, at := range []*int64{held, expires} {
		if at != nil {
			if d := time.Duration(*at-s.DB.NowMs()) * time.Millisecond; d < time.Second {
				s.due.DueIn(max(d, 10*time.Millisecond))
			}
		}
	}
	return nil
}

// LeftWaiting withdraws the open request of an execution that has left waiting in another way: cancelled, ended, resumed by its agent.
func (s *Service) LeftWaiting(ctx context.Context, tx *database.Tx, row *models.Execution, now int64) error {
	a, err := first(tx.Query(ctx, `UPDATE approvals SET status = 'withdrawn', version = version + 1, closed_at = $1, told_at = $1
		WHERE execution_id = $2 AND closed_at IS NULL RETURNING `+columns, now, row.ID))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.happened(ctx, tx, a, now); err != nil {
		return err
	}
	return audit.Append(ctx, tx, entry(audit.ByServer(), "approval.withdrawn", a, now, "the execution is "+string(row.Status)))
}

// sweepUntold ends executions whose decision no agent took within the grace: somebody who expected an answer must get one.
func (s *Service) sweepUntold(ctx context.Context) (bool, error) {
	untold, err := collect(s.DB.Query(ctx, `SELECT `+columns+` FROM approvals WHERE closed_at IS NOT NULL AND told_at IS NULL AND closed_at <= $1
		ORDER BY closed_at LIMIT $2`, s.DB.NowMs()-s.Grace.Milliseconds(), sweepPage))
	if err != nil {
		return false, fmt.Errorf("look for decisions nobody took: %w", err)
	}
	for _, a := range untold {
		if err := s.giveUp(ctx, a); err != nil {
			return false, err
		}
	}
	return len(untold) == sweepPage, nil
}

func (s *Service) giveUp(ctx context.Context, a *models.Approval) error {
	row, err := s.Executions.Row(ctx, a.ExecutionID)
	if err != nil && !errors.Is(err, execution.ErrNotFound) {
		return err
	}
	// It ended, asked again, or was never resumed: the agent has heard, or there is nobody to tell.
	over := err != nil || row.Status != models.Running || row.Rounds != a.Round
	if !over {
		if over, err = s.reported(ctx, a); err != nil {
			return err
		}
	}
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE approvals SET told_at = $1 WHERE id = $2 AND told_at IS NULL", s.DB.NowMs(), a.ID)
		if err != nil || n == 0 || over {
			return err
		}
		to, code, message := models.Failed, "decision_not_taken", "the decision was made, but no agent came to take it: send the request again"
		if a.Status == models.ApprovalExpired {
			to, code, message = models.Timeout, "approval_expired", "nobody decided in time, and no agent came to hear of it"
		}
		_, err = s.Executions.GiveUp(ctx, tx, a.ExecutionID, row.Attempt, to, code, message)
		if _, ok := errors.AsType[*execution.StateError](err); ok {
			return nil
		}
		return err
	})
}

// reported tells whether the agent has said anything about its execution since the decision: it goes on, so that it knows.
func (s *Service) reported(ctx context.Context, a *models.Approval) (bool, error) {
	var n int
	err := s.DB.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM events WHERE execution_id = $1 AND kind IN ($2, $3) AND at > $4 LIMIT 1) e",
		[]any{a.ExecutionID, event.KindProgress, event.KindNote, *a.ClosedAt}, &n)
	if err != nil {
		return false, fmt.Errorf("look for reports after the decision: %w", err)
	}
	return n > 0, nil
}
