// Package bulk does one thing to everything that a filter of executions, or of runs, found: a job writes its items down when it begins and works them
// off one by one. Its invariant: an item has its effect once, whatever restarts in between, and what came after the job began is none of
// its business.
package bulk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// What can be done to many.
const (
	Cancel = "cancel"
	Rerun  = "rerun"
)

// The ways an item ends.
const (
	Done    = "done"
	Skipped = "skipped" // it had become something that the act does not fit
	Failed  = "failed"
)

// Limit is how many executions, or runs, one job takes.
const Limit = 10_000

// What callers may be told.
var (
	ErrNotFound  = errors.New("there is no bulk job with this id")
	ErrBadAction = errors.New("what is done to many is cancel or rerun")
	ErrNothing   = errors.New("the filter finds nothing that this can be done to")
	ErrChanged   = errors.New("the filter finds more than what was confirmed: look again and confirm")
	ErrOver      = errors.New("the job has ended: there is nothing to stop")
)

// Options are the parts.
type Options struct {
	DB         *database.DB
	Replica    *lease.Replica
	Executions *execution.Service
	Runs       *workflow.Service
	Log        *slog.Logger
	Pace       time.Duration // between two items of a job, so that a large one leaves room for others
}

// Service plans jobs and works them off.
type Service struct {
	Options
	queue  *lease.Queue
	worker *lease.Worker[lease.Claimed]
	reaper *lease.Loop
}

const (
	slots = 2
	poll  = time.Second
)

// New returns a service at rest.
func New(o Options) *Service {
	s := &Service{Options: o, queue: lease.NewQueue(o.DB, o.Replica, "bulk_jobs")}
	s.worker = &lease.Worker[lease.Claimed]{
		Name: "bulk jobs", Slots: slots, Poll: poll, Claim: s.queue.Claim, Run: s.work, NextDue: s.queue.NextDue, Log: o.Log,
	}
	s.reaper = &lease.Loop{Name: "bulk jobs of dead replicas", Every: o.Replica.TTL() / 4, Do: s.reap, Log: o.Log}
	return s
}

// Start begins to work.
func (s *Service) Start() {
	s.worker.Start()
	s.reaper.Start()
}

// Stop claims nothing more; jobs under way go back into the queue after the item at hand.
func (s *Service) Stop() {
	s.reaper.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.worker.Drain(ctx)
}

// Wake says that there may be a job.
func (s *Service) Wake() { s.worker.Wake() }

// Loops are the background loops, for supervision.
func (s *Service) Loops() []*lease.Loop { return []*lease.Loop{s.worker.Loop(), s.reaper} }

func (s *Service) reap(ctx context.Context) (bool, error) {
	n, err := s.queue.Reap(ctx)
	if n > 0 {
		s.Wake()
	}
	return false, err
}

// Plan is what a job would do.
type Plan struct {
	Total    int // executions or runs that it is done to
	Steps    int // executions among them: those of the runs
	Statuses map[models.Status]int
	Targets  map[string]int
	Excluded map[string]int // reason → how many the filter finds besides
	First    []Row
	Cut      bool // the filter finds more than one job takes
	ids      []string
}

const shownFirst = 20

// Plan looks at what a filter finds, without doing anything.
func (s *Service) Plan(ctx context.Context, action string, of Selection) (Plan, error) {
	p := Plan{Statuses: map[models.Status]int{}, Targets: map[string]int{}, Excluded: map[string]int{}}
	if action != Cancel && action != Rerun {
		return p, ErrBadAction
	}
	for {
		rows, err := of.next(ctx)
		if err != nil {
			return p, err
		}
		if len(rows) == 0 {
			p.Cut = of.cut()
			return p, nil
		}
		for _, row := range rows {
			p.add(action, row)
		}
	}
}

func (p *Plan) add(action string, row Row) {
	if reason := unfit(action, row); reason != "" {
		p.Excluded[reason]++
		return
	}
	p.Total++
	p.Steps += row.Steps
	p.Statuses[row.Status]++
	p.Targets[row.Target()]++
	p.ids = append(p.ids, row.ID)
	if len(p.First) < shownFirst {
		p.First = append(p.First, row)
	}
}

// unfit says why something cannot be done to an execution or a run; "" when it can.
func unfit(action string, row Row) string {
	switch {
	case action == Cancel && row.Status.Terminal():
		return "already ended"
	case action == Rerun && !row.Status.Terminal():
		return "not ended yet"
	}
	return ""
}

// Order is what somebody asked for.
type Order struct {
	Action    string
	Of        Selection
	Query     string // its filter as the address has it
	Reason    string
	Most      int // what was confirmed; 0: nobody was asked
	By        audit.Origin
	StartedBy string
}

const (
	insertJob = `INSERT INTO bulk_jobs (id, list, action, query, reason, origin, started_by, total, done, skipped, failed, status, available_at, attempt, max_attempts, created_at)
		VALUES ($1, $9, $2, $3, $4, $5, $6, $7, 0, 0, 0, 'queued', $8, 0, 1000000, $8)`
	itemsAtOnce = 500
)

// Begin writes a job down with all of its items and the entry for the record. It starts by itself.
func (s *Service) Begin(ctx context.Context, o Order) (string, error) {
	plan, err := s.Plan(ctx, o.Action, o.Of)
	switch {
	case err != nil:
		return "", err
	case plan.Total == 0:
		return "", ErrNothing
	case o.Most > 0 && plan.Total > o.Most:
		return "", ErrChanged
	}
	by, err := json.Marshal(o.By)
	if err != nil {
		return "", fmt.Errorf("write who asked: %w", err)
	}
	id := "bulk_" + strings.ReplaceAll(uuid.Must(uuid.NewV7()).String(), "-", "")
	now := s.DB.NowMs()
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		if _, err := tx.Exec(ctx, insertJob, id, o.Action, o.Query, o.Reason, string(by), o.StartedBy, plan.Total, now, o.Of.List()); err != nil {
			return err
		}
		if err := insertItems(ctx, tx, id, plan.ids); err != nil {
			return err
		}
		tx.AfterCommit(s.Wake)
		return audit.Append(ctx, tx, audit.Entry{
			Origin: o.By, At: now, Action: "bulk.started", ObjectKind: "bulk", Object: id, Reason: o.Reason,
			After: map[string]any{"action": o.Action, "filter": o.Query, o.Of.List(): plan.Total},
		})
	})
	if err != nil {
		return "", fmt.Errorf("begin a bulk job: %w", err)
	}
	return id, nil
}

func insertItems(ctx context.Context, tx *database.Tx, job string, ids []string) error {
	for at := 0; at < len(ids); at += itemsAtOnce {
		part, err := json.Marshal(ids[at:min(at+itemsAtOnce, len(ids))])
		if err != nil {
			return err
		}
		statement := `INSERT INTO bulk_items (job_id, position, object_id) SELECT $1, $2 + key, value FROM json_each($3)`
		if tx.Postgres() {
			statement = `INSERT INTO bulk_items (job_id, position, object_id) SELECT $1, $2::int + n::int - 1, v FROM jsonb_array_elements_text($3::jsonb) WITH ORDINALITY AS t(v, n)`
		}
		if _, err := tx.Exec(ctx, statement, job, at, string(part)); err != nil {
			return err
		}
	}
	return nil
}

// Get reads a job; ErrNotFound when there is none.
func (s *Service) Get(ctx context.Context, id string) (*models.BulkJob, error) {
	var jobs []models.BulkJob
	if err := s.DB.Gorm(ctx).Where("id = ?", id).Limit(1).Find(&jobs).Error; err != nil {
		return nil, fmt.Errorf("read a bulk job: %w", err)
	}
	if len(jobs) == 0 {
		return nil, ErrNotFound
	}
	return &jobs[0], nil
}

// Recent lists the latest jobs.
func (s *Service) Recent(ctx context.Context, limit int) ([]models.BulkJob, error) {
	var jobs []models.BulkJob
	if err := s.DB.Gorm(ctx).Order("created_at DESC, id DESC").Limit(limit).Find(&jobs).Error; err != nil {
		return nil, fmt.Errorf("list bulk jobs: %w", err)
	}
	return jobs, nil
}

// Items lists what has come of a job, from a position on. outcome narrows to one; "" takes all.
func (s *Service) Items(ctx context.Context, id, outcome string, from, limit int) ([]models.BulkItem, error) {
	q := s.DB.Gorm(ctx).Where("job_id = ? AND position >= ?", id, from)
	if outcome != "" {
		q = q.Where("outcome = ?", outcome)
	}
	var items []models.BulkItem
	if err := q.Order("position").Limit(limit).Find(&items).Error; err != nil {
		return nil, fmt.Errorf("list the items of a bulk job: %w", err)
	}
	return items, nil
}

// Halt asks a job to stop after the item at hand. What is done stays done.
func (s *Service) Halt(ctx context.Context, id string, by audit.Origin) error {
	now := s.DB.NowMs()
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE bulk_jobs SET stop_asked_at = $2 WHERE id = $1 AND finished_at IS NULL AND stop_asked_at IS NULL", id, now)
		if err != nil || n == 0 {
			return err
		}
		tx.AfterCommit(s.Wake)
		return audit.Append(ctx, tx, audit.Entry{Origin: by, At: now, Action: "bulk.stopped", ObjectKind: "bulk", Object: id})
	})
	if err != nil {
		return fmt.Errorf("stop a bulk job: %w", err)
	}
	job, err := s.Get(ctx, id)
	if err == nil && job.Over() && job.StopAskedAt == nil {
		return ErrOver
	}
	return err
}
