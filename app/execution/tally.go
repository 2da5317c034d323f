package execution

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// The totals of a run are written in the transaction of the moves they count, once per run and batch. Only entering and leaving waiting
// and the ends are counted: what is left of the total is on its way.

// tally is what a batch adds to one run.
type tally struct {
	first     *models.Execution // of the batch, when there are new ones
	added     int
	roots     int
	waiting   int
	succeeded int
	failed    int
	timeout   int
	cancelled int
	worst     int
	at        int64 // ms
}

type tallies map[string]*tally

func (t tallies) of(run string) *tally {
	if t[run] == nil {
		t[run] = &tally{}
	}
	return t[run]
}

// born counts a new execution.
func (t tallies) born(row *models.Execution) {
	n := t.of(row.RunID)
	n.added++
	if row.ParentID == nil {
		n.roots++
	}
	if n.first == nil {
		n.first = row
	}
}

// moved counts a move that was made. row.WaitingSince is as it was before the move.
func (t tallies) moved(m *move, now int64) {
	entered, left := m.to == models.Waiting, m.to != models.Waiting && m.row.WaitingSince != nil
	if !m.to.Terminal() && !entered && !left {
		return
	}
	n := t.of(m.row.RunID)
	n.at = now
	if entered {
		n.waiting++
	}
	if left {
		n.waiting--
	}
	worst := 0
	switch m.to { //nolint:exhaustive // the others do not end
	case models.Succeeded:
		n.succeeded++
	case models.Cancelled:
		n.cancelled++
		worst = 1
	case models.Timeout:
		n.timeout++
		worst = 2
	case models.Failed:
		n.failed++
		worst = 3
	}
	if m.row.ParentID == nil {
		n.worst = max(n.worst, worst)
	}
}

// sorted lists the runs in one order for everybody: who takes rows in another would wait for each other in a circle.
func (t tallies) sorted() []string { return slices.Sorted(maps.Keys(t)) }

const (
	runColumns = `id, workflow_id, root_id, node_id, function, session_id, actor_id, status, total, waiting, succeeded, failed, timeout,
		cancelled, roots, worst_root, created_at`
	runGrows = ` ON CONFLICT (id) DO UPDATE SET total = runs.total + excluded.total, roots = runs.roots + excluded.roots,
		workflow_id = coalesce(runs.workflow_id, excluded.workflow_id), status = 'running', finished_at = NULL`
	insertRun = `INSERT INTO runs (` + runColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'running', $8, 0, 0, 0, 0, 0, $9, 0, $10)` + runGrows
	insertRuns = `INSERT INTO runs (` + runColumns + `)
		SELECT v.id, v.workflow, v.root, v.node, v.function, v.session, v.actor, 'running', v.total, 0, 0, 0, 0, 0, v.roots, 0, v.created
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[], $9::int[], $10::bigint[])
			AS v(id, workflow, root, node, function, session, actor, total, roots, created)` + runGrows
)

// The status of a run (docs/state-machine.md): while anything is on its way running, while only people are waited for waiting, then as
// its roots ended, the worst of them. A run none of whose executions is a root ends as the worst of all.
const (
	updateRun = `UPDATE runs SET waiting = waiting + $2, succeeded = succeeded + $3, failed = failed + $4, timeout = timeout + $5,
		cancelled = cancelled + $6, worst_root = CASE WHEN worst_root > $7 THEN worst_root ELSE $7 END,
		finished_at = CASE WHEN total <= succeeded + failed + timeout + cancelled + $3 + $4 + $5 + $6 THEN $8 END,
		status = CASE WHEN total > succeeded + failed + timeout + cancelled + waiting + $2 + $3 + $4 + $5 + $6 THEN 'running'
			WHEN waiting + $2 > 0 THEN 'waiting'
			WHEN worst_root = 3 OR $7 = 3 OR (roots = 0 AND failed + $4 > 0) THEN 'failed'
			WHEN worst_root = 2 OR $7 = 2 OR (roots = 0 AND timeout + $5 > 0) THEN 'timeout'
			WHEN worst_root = 1 OR $7 = 1 OR (roots = 0 AND cancelled + $6 > 0) THEN 'cancelled'
			ELSE 'succeeded' END
		WHERE id = $1`
	lockRuns   = `SELECT id FROM runs WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE`
	updateRuns = `UPDATE runs r SET waiting = r.waiting + v.waiting, succeeded = r.succeeded + v.succeeded, failed = r.failed + v.failed,
		timeout = r.timeout + v.timeout, cancelled = r.cancelled + v.cancelled, worst_root = greatest(r.worst_root, v.worst),
		finished_at = CASE WHEN r.total <= r.succeeded + r.failed + r.timeout + r.cancelled + v.succeeded + v.failed + v.timeout + v.cancelled THEN v.at END,
		status = CASE WHEN r.total > r.succeeded + r.failed + r.timeout + r.cancelled + r.waiting
				+ v.waiting + v.succeeded + v.failed + v.timeout + v.cancelled THEN 'running'
			WHEN r.waiting + v.waiting > 0 THEN 'waiting'
			WHEN greatest(r.worst_root, v.worst) = 3 OR (r.roots = 0 AND r.failed + v.failed > 0) THEN 'failed'
			WHEN greatest(r.worst_root, v.worst) = 2 OR (r.roots = 0 AND r.timeout + v.timeout > 0) THEN 'timeout'
			WHEN greatest(r.worst_root, v.worst) = 1 OR (r.roots = 0 AND r.cancelled + v.cancelled > 0) THEN 'cancelled'
			ELSE 'succeeded' END
		FROM unnest($1::text[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[], $7::int[], $8::bigint[])
			AS v(id, waiting, succeeded, failed, timeout, cancelled, worst, at)
		WHERE r.id = v.id`
)

// begin writes the runs of new executions.
func (t tallies) begin(ctx context.Context, tx *database.Tx) error {
	ids := t.sorted()
	var err error
	if tx.Postgres() {
		err = t.beginBatch(ctx, tx, ids)
	} else {
		err = t.beginEach(ctx, tx, ids)
	}
	if err != nil {
		return fmt.Errorf("count new executions in their runs: %w", err)
	}
	return nil
}

func (t tallies) beginEach(ctx context.Context, tx *database.Tx, ids []string) error {
	for _, id := range ids {
		n, e := t[id], t[id].first
		_, err := tx.Exec(ctx, insertRun, id, e.WorkflowID, e.ID, e.NodeID, e.Function, e.SessionID, e.ActorID, n.added, n.roots, e.CreatedAt)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t tallies) beginBatch(ctx context.Context, tx *database.Tx, ids []string) error {
	size := len(ids)
	roots, nodes, functions := make([]string, size), make([]string, size), make([]string, size)
	workflows, sessions, actors := make([]*string, size), make([]*string, size), make([]*string, size)
	added, newRoots, created := make([]int, size), make([]int, size), make([]int64, size)
	for i, id := range ids {
		n, e := t[id], t[id].first
		workflows[i], roots[i], nodes[i], functions[i], sessions[i], actors[i] = e.WorkflowID, e.ID, e.NodeID, e.Function, e.SessionID, e.ActorID
		added[i], newRoots[i], created[i] = n.added, n.roots, e.CreatedAt
	}
	_, err := tx.Exec(ctx, insertRuns, ids, workflows, roots, nodes, functions, sessions, actors, added, newRoots, created)
	return err
}

// write adds the moves of a batch to their runs.
func (t tallies) write(ctx context.Context, tx *database.Tx) error {
	ids := t.sorted()
	if len(ids) == 0 {
		return nil
	}
	var err error
	if tx.Postgres() {
		err = t.writeBatch(ctx, tx, ids)
	} else {
		err = t.writeEach(ctx, tx, ids)
	}
	if err != nil {
		return fmt.Errorf("count moves in their runs: %w", err)
	}
	return nil
}

func (t tallies) writeEach(ctx context.Context, tx *database.Tx, ids []string) error {
	for _, id := range ids {
		n := t[id]
		_, err := tx.Exec(ctx, updateRun, id, n.waiting, n.succeeded, n.failed, n.timeout, n.cancelled, n.worst, n.at)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t tallies) writeBatch(ctx context.Context, tx *database.Tx, ids []string) error {
	size := len(ids)
	ints := func() []int { return make([]int, size) }
	waiting, succeeded, failed, timeout, cancelled, worst, at := ints(), ints(), ints(), ints(), ints(), ints(), make([]int64, size)
	for i, id := range ids {
		n := t[id]
		waiting[i], succeeded[i], failed[i], timeout[i], cancelled[i], worst[i], at[i] = n.waiting, n.succeeded, n.failed, n.timeout, n.cancelled, n.worst, n.at
	}
	if size > 1 {
		if _, err := tx.Exec(ctx, lockRuns, ids); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, updateRuns, ids, waiting, succeeded, failed, timeout, cancelled, worst, at)
	return err
}
