package execution_test

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func local(id, parent string, status models.Status) execution.Local {
	return execution.Local{ID: id, ParentID: parent, NodeID: "n", Function: "inner", Kind: "reasoner", Status: status}
}

func (r *rig) observe(t *testing.T, l execution.Local) (*models.Execution, bool) {
	t.Helper()
	row, created, err := r.Observe(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	return row, created
}

func TestCallsInsideAnAgentBelongToTheRun(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		sub := call(`{}`)
		sub.SessionID = "s1"
		root := r.submit(t, sub)
		r.becomes(t, root, models.Running)
		if _, created := r.observe(t, local("in_1", root, models.Running)); !created {
			t.Error("the first word did not create it")
		}
		inner := local("in_2", "in_1", models.Running)
		inner.Input, inner.RunID = []byte(`{"deep":true}`), r.row(t, root).RunID
		r.observe(t, inner)
		inner.Status, inner.Result = models.Succeeded, []byte(`[1.0]`)
		if _, created := r.observe(t, inner); created {
			t.Error("the second word created it again")
		}
		r.observe(t, local("in_1", root, models.Succeeded))
		if _, err := r.Report(t.Context(), root, execution.Report{Status: models.Succeeded}); err != nil {
			t.Fatal(err)
		}
		for id, parent := range map[string]string{"in_1": root, "in_2": "in_1"} {
			row := r.row(t, id)
			wantStatus(t, row, models.Succeeded)
			if row.RunID != r.row(t, root).RunID || row.ParentID == nil || *row.ParentID != parent || row.SessionID == nil || *row.SessionID != "s1" || !row.Local {
				t.Errorf("%s: %+v", id, row)
			}
		}
		if r.row(t, root).ParentID != nil {
			t.Error("the root has a parent")
		}
		f, err := r.Get(t.Context(), "in_2")
		if err != nil || string(f.Result) != "[1.0]" {
			t.Errorf("%s %v", f.Result, err)
		}
		wantKinds(t, r, "in_2", "[running succeeded]")
		if n := dbtest.Count(t, db, "SELECT total FROM runs WHERE id = $1 AND status = 'succeeded'", r.row(t, root).RunID); n != 3 {
			t.Errorf("the run has %d executions", n)
		}
	})
}

func TestTheWordsOfAnAgentComeInAnyOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		// The end comes first, the one above later, and the one above that last of all.
		late := local("c", "b", models.Failed)
		late.WorkflowID, late.Error, late.Took = "wf_1", "no luck", 2*time.Second
		row, _ := r.observe(t, late)
		if ended := r.row(t, "c"); ended.Status != models.Failed || *ended.ErrorMessage != "no luck" || *ended.DurationMs() < 2000 {
			t.Errorf("%+v", ended)
		}
		for range 2 { // the same again, and another word after the end
			late.Status = models.Succeeded
			r.observe(t, late)
		}
		wantStatus(t, r.row(t, "c"), models.Failed)
		orphan := local("b", "", models.Running)
		orphan.WorkflowID = "wf_1"
		r.observe(t, orphan)
		orphan.ParentID = "a"
		r.observe(t, orphan)
		if n := dbtest.Count(t, db, "SELECT count(*) FROM events WHERE kind = 'execution.adopted' AND execution_id = 'b' AND run_id = $1", row.RunID); n != 1 {
			t.Errorf("the event log knows of %d parents that came late", n) // pictures of the run follow it
		}
		if b := r.row(t, "b"); b.ParentID == nil || *b.ParentID != "a" || b.RunID != row.RunID || b.Workflow() != "wf_1" {
			t.Errorf("%+v", b)
		}
		top := local("a", "", models.Running)
		top.WorkflowID = "wf_1"
		r.observe(t, top)
		self := local("a", "a", models.Succeeded)
		r.observe(t, self)
		r.observe(t, local("b", "x", models.Succeeded))
		if a, b := r.row(t, "a"), r.row(t, "b"); a.ParentID != nil || *b.ParentID != "a" || a.Status != models.Succeeded || b.Status != models.Succeeded {
			t.Errorf("%+v %+v", a, b)
		}
		alone, _ := r.observe(t, local("z", "", models.Succeeded))
		if alone.RunID != "z" {
			t.Errorf("the run of what stands alone is %s", alone.RunID)
		}
	})
}

func TestManyTellOfTheSameCallAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		var tellers sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 16 {
			tellers.Go(func() {
				l := local("same", "above", models.Running)
				l.RunID = "run_1"
				_, created, err := r.Observe(t.Context(), l)
				if err != nil {
					t.Error(err)
				}
				if created {
					mu.Lock()
					made++
					mu.Unlock()
				}
			})
		}
		tellers.Wait()
		if made != 1 {
			t.Errorf("it was created %d times", made)
		}
		wantKinds(t, r, "same", "[running]")
	})
}

func TestWhatWasDispatchedIsNotMovedByEvents(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		id := r.submit(t, call(`{}`))
		r.becomes(t, id, models.Running)
		for _, status := range []models.Status{models.Failed, models.Succeeded, models.Cancelled} {
			r.observe(t, local(id, "forged", status))
		}
		if row := r.row(t, id); row.Status != models.Running || row.ParentID != nil {
			t.Errorf("%+v", row)
		}
	})
}

func TestCallsInsideAnAgentTakeNoPlaceOfItsCap(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls, answer := make(chan *http.Request, 2), make(chan struct{}, 2)
		r := build(t, db, settings{agent: holding(calls, answer), cap: 2})
		first := r.submit(t, call(`{}`))
		dbtest.Soon(t, calls)
		for _, id := range []string{"in_1", "in_2", "in_3"} {
			r.observe(t, local(id, first, models.Running))
		}
		r.submit(t, call(`{}`))
		dbtest.Soon(t, calls)
		close(answer)
	})
}

func TestTimeWithAPersonIsCountedForCallersThatAreHeardOfLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		sub := call(`{}`)
		sub.Timeout = time.Hour
		root := r.submit(t, sub)
		r.becomes(t, root, models.Running)
		r.observe(t, local("asks", "between", models.Running))
		r.observe(t, local("asks", "between", models.Waiting))
		if r.row(t, root).Holds != 0 {
			t.Fatal("the root waits for somebody it does not know of")
		}
		r.observe(t, local("between", root, models.Running))
		if a, b := r.row(t, root), r.row(t, "between"); a.Holds != 1 || b.Holds != 1 || a.DeadlineAt != nil {
			t.Errorf("while it waits: %d and %d holds, deadline %v", a.Holds, b.Holds, a.DeadlineAt)
		}
		r.observe(t, local("asks", "between", models.Running))
		if a, b := r.row(t, root), r.row(t, "between"); a.Holds != 0 || b.Holds != 0 || a.DeadlineAt == nil {
			t.Errorf("afterwards: %d and %d holds, deadline %v", a.Holds, b.Holds, a.DeadlineAt)
		}
	})
}

func TestACallThatNobodyTellsOfAnyMoreIsGivenUp(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := newRig(t, db, accepts)
		root := r.submit(t, call(`{}`))
		r.becomes(t, root, models.Running)
		r.observe(t, local("lost", root, models.Running))
		elsewhere := local("gone", "", models.Running)
		elsewhere.NodeID = "nobody"
		r.observe(t, elsewhere)
		if _, err := r.Report(t.Context(), root, execution.Report{Status: models.Succeeded}); err != nil {
			t.Fatal(err)
		}
		if err := r.SweepLocal(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, "lost"), models.Running)
		c.advance(2 * time.Minute)
		if err := r.SweepLocal(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, "lost"), models.Cancelled)
		wantStatus(t, r.row(t, "gone"), models.Cancelled)
	})
}

func TestCallsInsideAnAgentAreVouchedForByTheTokenAbove(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts, func(o *execution.Options) { o.AllowUnsigned = false })
		root := r.submit(t, call(`{}`))
		r.becomes(t, root, models.Running)
		token := r.TokenOf(root, 1)
		tell := func(id, parent, token string) error {
			l := local(id, parent, models.Running)
			l.Token = token
			_, _, err := r.Observe(t.Context(), l)
			return err
		}
		if err := errors.Join(tell("in_1", root, token), tell("in_2", "in_1", token), tell("in_3", "in_2", token)); err != nil {
			t.Error(err)
		}
		for _, refused := range []error{tell("x", root, ""), tell("x", root, "1.00"), tell("x", "", token), tell("x", "unknown", token)} {
			if !errors.Is(refused, execution.ErrBadToken) {
				t.Errorf("without the right: %v", refused)
			}
		}
		rows, err := db.Query(t.Context(), "SELECT id FROM executions WHERE local ORDER BY id")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var ids []string
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if !slices.Equal(ids, []string{"in_1", "in_2", "in_3"}) {
			t.Errorf("%v", ids)
		}
	})
}
