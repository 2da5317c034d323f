// Package workflow shows what really happened in a run: its executions as a graph, a timeline and words, read in few queries at any
// size. Its invariant: it only reads. Whatever parents agents claim, everything is shown once and no picture takes more than linear time.
package workflow

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// What callers may be told.
var (
	ErrNotFound  = errors.New("workflow not found")
	ErrBadCursor = database.ErrBadCursor
)

// MaxSteps is how many executions of one run are read at once.
const MaxSteps = 10_000

// Service reads runs.
type Service struct {
	DB     *database.DB
	recent recent
	log    position
}

const (
	runColumns = `id, workflow_id, root_id, node_id, function, session_id, actor_id, status, total, waiting, succeeded, failed, timeout, cancelled,
		roots, worst_root, created_at, finished_at`
	whichRun  = ` FROM runs WHERE id = coalesce((SELECT id FROM runs WHERE id = $1), (SELECT run_id FROM run_aliases WHERE workflow_id = $1))`
	selectRun = `SELECT ` + runColumns + whichRun
)

// Run reads a run by its own id or by the name that its callers gave it; ErrNotFound when neither is known.
func (s *Service) Run(ctx context.Context, id string) (*models.Run, error) {
	return s.run(ctx, selectRun, id)
}

func (s *Service) run(ctx context.Context, query, id string, more ...any) (*models.Run, error) {
	r := &models.Run{}
	err := s.DB.QueryRow(ctx, query, []any{id}, append([]any{
		&r.ID, &r.WorkflowID, &r.RootID, &r.NodeID, &r.Function, &r.SessionID, &r.ActorID, &r.Status,
		&r.Total, &r.Waiting, &r.Succeeded, &r.Failed, &r.Timeout, &r.Cancelled, &r.Roots, &r.WorstRoot, &r.CreatedAt, &r.FinishedAt,
	}, more...)...)
	if errors.Is(err, database.ErrNoRows) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read the run %q: %w", id, err)
	}
	return r, nil
}

const (
	stepColumns = `id, parent_id, node_id, function, function_kind, status, status_reason, attempt, rounds, has_webhook, created_at, started_at,
		finished_at, waiting_since, error_message, progress, session_id, actor_id`
	selectSteps = `SELECT ` + stepColumns + ` FROM executions WHERE run_id = $1 ORDER BY created_at, id LIMIT $2`
)

// Steps reads the executions of a run in the order in which they were accepted, at most MaxSteps of them; truncated says that there
// are more.
func (s *Service) Steps(ctx context.Context, runID string) (steps []models.Step, truncated bool, err error) {
	rows, err := s.DB.Query(ctx, selectSteps, runID, MaxSteps+1)
	if err != nil {
		return nil, false, fmt.Errorf("read the executions of the run %q: %w", runID, err)
	}
	defer rows.Close()
	for rows.Next() {
		if len(steps) == MaxSteps {
			truncated = true
			continue
		}
		x, err := scanStep(rows)
		if err != nil {
			return nil, false, fmt.Errorf("read an execution of the run %q: %w", runID, err)
		}
		steps = append(steps, x)
	}
	return steps, truncated, rows.Err()
}

func scanStep(rows database.Rows) (models.Step, error) {
	var x models.Step
	var status string // a named type would be read by reflection
	err := rows.Scan(&x.ID, &x.ParentID, &x.NodeID, &x.Function, &x.FunctionKind, &status, &x.StatusReason, &x.Attempt, &x.Rounds, &x.HasWebhook,
		&x.CreatedAt, &x.StartedAt, &x.FinishedAt, &x.WaitingSince, &x.ErrorMessage, &x.Progress, &x.SessionID, &x.ActorID)
	x.Status = models.Status(status)
	return x, err
}

// Spells is how executions have spent their time, by execution id, for those where the row alone does not tell.
type Spells map[string][]Spell

// Spell is the entry into a status.
type Spell struct {
	Status models.Status
	At     int64 // ms
}

const selectSpells = `SELECT e.execution_id, e.kind, e.at FROM executions x JOIN events e ON e.execution_id = x.id
	WHERE x.run_id = $1 AND (x.rounds > 0 OR x.attempt > 1 OR x.status = 'paused')
	AND e.kind IN ('execution.queued', 'execution.running', 'execution.waiting', 'execution.paused') ORDER BY e.id LIMIT 50000`

// Spells reads when executions that waited for people or ran more than once did so, in one query; none at all if nobody waited or
// was tried again.
func (s *Service) Spells(ctx context.Context, runID string, steps []models.Step) (Spells, error) {
	if !interrupted(steps) {
		return nil, nil
	}
	rows, err := s.DB.Query(ctx, selectSpells, runID)
	if err != nil {
		return nil, fmt.Errorf("read how the executions of the run %q spent their time: %w", runID, err)
	}
	defer rows.Close()
	spells := Spells{}
	for rows.Next() {
		var id, kind string
		var at int64
		if err := rows.Scan(&id, &kind, &at); err != nil {
			return nil, fmt.Errorf("read how an execution of the run %q spent its time: %w", runID, err)
		}
		spells[id] = append(spells[id], Spell{Status: models.Status(kind[len("execution."):]), At: at})
	}
	return spells, rows.Err()
}

func interrupted(steps []models.Step) bool {
	for i := range steps {
		if x := &steps[i]; x.Rounds > 0 || x.Attempt > 1 || x.Status == models.Paused {
			return true
		}
	}
	return false
}
