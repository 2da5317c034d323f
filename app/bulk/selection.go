package bulk

import (
	"context"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// The lists whose rows can be acted upon.
const (
	Executions = "executions"
	Runs       = "runs"
)

// Selection is what a filter of a list finds, the newest first.
type Selection interface {
	List() string
	next(ctx context.Context) ([]Row, error) // none: that was all
	cut() bool                               // the filter finds more than one job takes
}

// Row is an execution or a run, as far as it matters before something is done to it.
type Row struct {
	ID               string
	Status           models.Status
	NodeID, Function string // of a run: where it began
	Why              string // it failed; may be empty
	Steps            int    // executions it stands for
	CreatedAt        int64  // ms
}

// Target is the name callers use: node.function.
func (r Row) Target() string { return r.NodeID + "." + r.Function }

// OfExecutions selects executions.
func (s *Service) OfExecutions(f execution.Filter) Selection {
	return &someExecutions{s.Executions.Export(f, Limit)}
}

type someExecutions struct{ all *execution.Export }

func (someExecutions) List() string { return Executions }

func (x *someExecutions) next(ctx context.Context) ([]Row, error) {
	found, err := x.all.Next(ctx)
	rows := make([]Row, len(found))
	for i, e := range found {
		rows[i] = Row{ID: e.ID, Status: e.Status, NodeID: e.NodeID, Function: e.Function, Steps: 1, CreatedAt: e.CreatedAt}
		if e.ErrorMessage != nil {
			rows[i].Why = *e.ErrorMessage
		}
	}
	return rows, err
}

func (x *someExecutions) cut() bool { return x.all.Cut() }

// OfRuns selects runs.
func (s *Service) OfRuns(f workflow.RunFilter) Selection {
	f.Limit, f.Cursor = runsAtOnce, ""
	return &someRuns{runs: s.Runs, filter: f, left: Limit}
}

const runsAtOnce = 200

type someRuns struct {
	runs   *workflow.Service
	filter workflow.RunFilter
	left   int
	ended  bool
	more   bool
}

func (*someRuns) List() string { return Runs }

func (r *someRuns) next(ctx context.Context) ([]Row, error) {
	if r.ended {
		return nil, nil
	}
	r.filter.Limit = min(runsAtOnce, r.left)
	page, err := r.runs.List(ctx, r.filter)
	if err != nil {
		return nil, err
	}
	r.left -= len(page.Rows)
	r.filter.Cursor = page.Next
	r.ended = page.Next == "" || r.left == 0
	r.more = r.ended && page.Next != ""
	rows := make([]Row, len(page.Rows))
	for i, run := range page.Rows {
		rows[i] = Row{ID: run.ID, Status: run.Status, NodeID: run.NodeID, Function: run.Function, Steps: run.Total, CreatedAt: run.CreatedAt}
	}
	return rows, nil
}

func (r *someRuns) cut() bool { return r.more }
