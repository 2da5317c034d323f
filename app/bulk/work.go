package bulk

import (
	"context"
	"errors"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

const (
	batch   = 20               // items between two looks at whether the job is to stop
	busyFor = time.Second      // wait when the store or a queue has no room
	away    = 60 * time.Second // longest wait for room
)

// errLost ends work whose lease is somebody else's by now.
var errLost = errors.New("the lease of the job is lost")

// work goes on with a job until it ends, is stopped, or we are.
func (s *Service) work(ctx context.Context, c lease.Claimed) {
	term := s.Replica.Term()
	if term.ID != c.Owner {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(term.Context(), cancel)() //nolint:contextcheck // the term is a second reason to end
	for {
		ended, err := s.some(ctx, c)
		switch {
		case errors.Is(err, errLost):
			return
		case ctx.Err() != nil || errors.Is(err, execution.ErrDraining):
			s.end(context.WithoutCancel(ctx), c, "queued")
			return
		case err != nil:
			s.Log.Error("a bulk job cannot go on; trying again", "job_id", c.ID, "error", err)
			lease.Rest(ctx, busyFor)
		case ended != "":
			s.end(ctx, c, ended)
			return
		}
	}
}

// some works off a few items; ended is the status of a job that has none left, or is to stop.
func (s *Service) some(ctx context.Context, c lease.Claimed) (ended string, err error) {
	job, err := s.Get(ctx, c.ID)
	if err != nil {
		return "", err
	}
	if job.StopAskedAt != nil {
		return "stopped", nil
	}
	var items []models.BulkItem
	if err := s.DB.Gorm(ctx).Where("job_id = ? AND outcome IS NULL", c.ID).Order("position").Limit(batch).Find(&items).Error; err != nil {
		return "", err
	}
	if len(items) == 0 {
		return "done", nil
	}
	for i := range items {
		if err := s.item(ctx, c, job, &items[i]); err != nil {
			return "", err
		}
		if !lease.Rest(ctx, s.Pace) {
			return "", ctx.Err()
		}
	}
	return "", nil
}

// item does one of them. It returns an error when it was not tried, or when nobody can say whether it was: it is then tried again, and a
// second try does no harm.
func (s *Service) item(ctx context.Context, c lease.Claimed, job *models.BulkJob, item *models.BulkItem) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	whole := context.WithoutCancel(ctx) // what was begun is also noted
	outcome, made, err := s.act(whole, job, item.ObjectID)
	var full *execution.QueueFullError
	switch {
	case errors.As(err, &full):
		lease.Rest(ctx, min(max(full.RetryAfter, busyFor), away))
		return nil // the next look finds it again
	case errors.Is(err, execution.ErrBusy):
		lease.Rest(ctx, busyFor)
		return nil
	case errors.Is(err, execution.ErrDraining):
		return err
	}
	detail := ""
	if err != nil {
		detail = err.Error()
	}
	return s.note(whole, c, item, outcome, detail, made)
}

// act is the act itself, with what came of it.
func (s *Service) act(ctx context.Context, job *models.BulkJob, id string) (outcome, made string, err error) {
	switch {
	case job.Action == Rerun && job.List == Runs:
		made, err = s.rerunRun(ctx, job, id)
	case job.Action == Rerun:
		made, err = s.rerun(ctx, job, id)
	case job.List == Runs:
		err = s.cancelRun(ctx, id, job.Reason)
	default:
		_, err = s.Executions.Cancel(ctx, id, job.Reason)
	}
	var state *execution.StateError
	switch {
	case err == nil:
		return Done, made, nil
	case errors.As(err, &state), errors.Is(err, errRunEnded), errors.Is(err, execution.ErrNotFound), errors.Is(err, workflow.ErrNotFound):
		return Skipped, "", err
	}
	return Failed, "", err
}

// rerun repeats an execution, once for each job.
func (s *Service) rerun(ctx context.Context, job *models.BulkJob, id string) (made string, err error) {
	started, err := s.Executions.Rerun(ctx, id, execution.Again{
		Key: &models.IdempotencyKey{Scope: job.ID, Key: id, BodyHash: job.Action}, StartedBy: job.StartedBy,
	})
	if err != nil {
		return "", err
	}
	return started.Row.ID, nil
}

// rerunRun repeats the execution that a run began with; what it called, it calls again.
func (s *Service) rerunRun(ctx context.Context, job *models.BulkJob, id string) (made string, err error) {
	run, err := s.Runs.Run(ctx, id)
	if err != nil {
		return "", err
	}
	return s.rerun(ctx, job, run.RootID)
}

var errRunEnded = errors.New("the run has ended")

// cancelRun ends everything in a run that has not ended.
func (s *Service) cancelRun(ctx context.Context, id, reason string) error {
	members, err := s.Executions.CancelRun(ctx, id, reason)
	if err != nil {
		return err
	}
	ended := 0
	for _, m := range members {
		var state *execution.StateError
		switch {
		case m.Err == nil:
			ended++
		case !errors.As(m.Err, &state): // what ended by itself meanwhile has ended
			return m.Err
		}
	}
	if ended == 0 {
		return errRunEnded
	}
	return nil
}

// note writes down what came of an item, while the job is ours.
func (s *Service) note(ctx context.Context, c lease.Claimed, item *models.BulkItem, outcome, detail, made string) error {
	now := s.DB.NowMs()
	ours := false
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE bulk_jobs SET done = done + $4, skipped = skipped + $5, failed = failed + $6
			WHERE id = $1 AND status = 'running' AND lease_owner = $2 AND attempt = $3`, c.ID, c.Owner, c.Attempt, one(outcome == Done), one(outcome == Skipped), one(outcome == Failed))
		if ours = n == 1; err != nil || !ours {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE bulk_items SET outcome = $3, detail = $4, made = $5, at = $6 WHERE job_id = $1 AND position = $2",
			c.ID, item.Position, outcome, optional(detail), optional(made), now)
		return err
	})
	if err == nil && !ours {
		return errLost
	}
	return err
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// end gives the job its status: the last, or queued for whoever goes on with it.
func (s *Service) end(ctx context.Context, c lease.Claimed, status string) {
	now := s.DB.NowMs()
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		ours, err := s.queue.Settle(ctx, tx, c, status, now)
		if err != nil || !ours || status == "queued" {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE bulk_jobs SET finished_at = $2 WHERE id = $1", c.ID, now)
		return err
	})
	if err != nil {
		s.Log.Error("a bulk job cannot be ended; its lease will pass on", "job_id", c.ID, "error", err)
	}
}
