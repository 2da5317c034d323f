package workflow_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

func TestMain(m *testing.M) {
	dbtest.Main(m)
}

const (
	insertRun = `INSERT INTO runs (id, workflow_id, root_id, node_id, function, session_id, status, total, waiting, succeeded, failed, timeout, cancelled,
		roots, worst_root, created_at, finished_at) VALUES ($1, $2, 'x', $3, 'f', $4, $5, 1, $6, 0, 0, 0, 0, 1, 0, $7, $8)`
	insertStep = `INSERT INTO executions (id, run_id, parent_id, node_id, function, function_kind, mode, status, available_at, attempt, failures,
		max_attempts, redeliveries, has_webhook, created_at, started_at, finished_at, input_bytes, result_bytes, rounds)
		VALUES ($1, $2, $3, 'n', 'f', 'reasoner', 'async', $4, 0, $5, 0, 1, 0, $6, $7, $8, $9, 0, 0, $10)`
)

// aRun writes the totals of a run. Its node is n or m, its session s or none.
func aRun(t testing.TB, db *database.DB, i int, status models.Status) string {
	t.Helper()
	id, node, waiting := fmt.Sprintf("run_%03d", i), "n", 0
	var session *string
	if i%3 == 0 {
		s := "s"
		node, session = "m", &s
	}
	if status == models.Waiting || i == 4 {
		waiting = 1
	}
	var finished *int64
	if status.Terminal() {
		at := int64(5000)
		finished = &at
	}
	workflowID := "wf_" + id
	dbtest.Change(t, db, insertRun, id, workflowID, node, session, string(status), waiting, int64(1000+i/2), finished)
	dbtest.Change(t, db, "INSERT INTO run_aliases (workflow_id, run_id) VALUES ($1, $2)", workflowID, id)
	return id
}

func TestARunIsFoundByItsIdAndByItsName(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &workflow.Service{DB: db}
		id := aRun(t, db, 3, models.Waiting)
		for _, name := range []string{id, "wf_" + id} {
			r, err := s.Run(t.Context(), name)
			if err != nil || r.ID != id || r.Workflow() != "wf_"+id || r.Status != models.Waiting || *r.SessionID != "s" || r.Target() != "m.f" {
				t.Errorf("%s: %+v, %v", name, r, err)
			}
		}
		if _, err := s.Run(t.Context(), "run_nobody_knows"); !errors.Is(err, workflow.ErrNotFound) {
			t.Error(err)
		}
	})
}

func names(rows []*models.Run) string {
	var all []string
	for _, r := range rows {
		all = append(all, strings.TrimPrefix(r.ID, "run_0"))
	}
	return strings.Join(all, " ")
}

func TestRunsAreListedNewestFirstAndFiltered(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &workflow.Service{DB: db}
		words := []models.Status{models.Running, models.Waiting, models.Succeeded, models.Failed, models.Running, models.Timeout, models.Cancelled, models.Succeeded}
		for i, status := range words {
			aRun(t, db, i, status)
		}
		for name, c := range map[string]struct {
			f    workflow.RunFilter
			want string
		}{
			"all":              {workflow.RunFilter{}, "07 06 05 04 03 02 01 00"},
			"unhappy":          {workflow.RunFilter{Statuses: []models.Status{models.Failed, models.Timeout, models.Cancelled}}, "06 05 03"},
			"open":             {workflow.RunFilter{Statuses: []models.Status{models.Waiting, models.Queued}}, "04 01 00"},
			"good and running": {workflow.RunFilter{Statuses: []models.Status{models.Succeeded, models.Running}}, "07 04 02 00"},
			"waited for":       {workflow.RunFilter{Waiting: true}, "04 01"},
			"of a node":        {workflow.RunFilter{Node: "m"}, "06 03 00"},
			"of a session":     {workflow.RunFilter{Session: "s", Statuses: []models.Status{models.Failed}}, "03"},
			"by name":          {workflow.RunFilter{Run: "wf_run_005"}, "05"},
			"by id":            {workflow.RunFilter{Run: "run_005"}, "05"},
			"of a time":        {workflow.RunFilter{Since: 1001, Until: 1003}, "05 04 03 02"},
			"of nobody":        {workflow.RunFilter{Actor: "a"}, ""},
		} {
			page, err := s.List(t.Context(), c.f)
			if err != nil || names(page.Rows) != c.want || page.Next != "" || page.Prev != "" {
				t.Errorf("%s: %q, next %q, prev %q, %v", name, names(page.Rows), page.Next, page.Prev, err)
			}
		}
		if _, err := s.List(t.Context(), workflow.RunFilter{Cursor: "x"}); !errors.Is(err, workflow.ErrBadCursor) {
			t.Error(err)
		}
	})
}

// Forwards and back, with runs that began in the same millisecond on both sides of an edge.
func TestPagesOfRunsMeetWithoutGaps(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &workflow.Service{DB: db}
		for i := range 8 {
			aRun(t, db, i, models.Succeeded)
		}
		var pages []workflow.RunPage
		cursor := ""
		for range 3 {
			page, err := s.List(t.Context(), workflow.RunFilter{Limit: 3, Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, page)
			cursor = page.Next
		}
		got := []string{names(pages[0].Rows), names(pages[1].Rows), names(pages[2].Rows)}
		if !slices.Equal(got, []string{"07 06 05", "04 03 02", "01 00"}) || cursor != "" {
			t.Errorf("pages are %q, then %q", got, cursor)
		}
		back, err := s.List(t.Context(), workflow.RunFilter{Limit: 3, Cursor: pages[2].Prev})
		if err != nil || names(back.Rows) != got[1] || back.Prev == "" || back.Next == "" {
			t.Errorf("back: %q, %v", names(back.Rows), err)
		}
	})
}

func TestStepsComeInTheOrderOfAcceptanceWithTheirSpells(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &workflow.Service{DB: db}
		parent := "exec_a"
		dbtest.Change(t, db, insertStep, "exec_b", "run_1", &parent, "running", 2, false, 20, 25, nil, 1)
		dbtest.Change(t, db, insertStep, "exec_a", "run_1", nil, "succeeded", 1, true, 10, 11, 19, 0)
		dbtest.Change(t, db, insertStep, "exec_c", "run_2", nil, "queued", 0, false, 5, nil, nil, 0)
		for _, e := range []string{
			"'exec_a', 'execution.running', 11", "'exec_b', 'execution.running', 25", "'exec_b', 'execution.note', 26", "'exec_b', 'execution.waiting', 30",
			"'exec_b', 'execution.running', 44",
		} {
			dbtest.Change(t, db, "INSERT INTO events (run_id, node_id, attempt, execution_id, kind, at) VALUES ('run_1', 'n', 1, "+e+")") //nolint:gosec // of our own
		}
		steps, truncated, err := s.Steps(t.Context(), "run_1")
		if err != nil || truncated || len(steps) != 2 || steps[0].ID != "exec_a" || !steps[0].HasWebhook || *steps[1].ParentID != "exec_a" {
			t.Fatalf("%+v, %v", steps, err)
		}
		spells, err := s.Spells(t.Context(), "run_1", steps)
		if err != nil || len(spells) != 1 || fmt.Sprint(spells["exec_b"]) != "[{running 25} {waiting 30} {running 44}]" {
			t.Errorf("%v, %v", spells, err)
		}
		rows := workflow.Timeline(workflow.Build(steps), spells, 60).Rows
		if got := fmt.Sprint(rows[1].Spans); got != "[{queued 10 15} {running 15 20} {waiting 20 34} {running 34 50}]" {
			t.Errorf("its time went to %s", got)
		}
		steps, _, err = s.Steps(t.Context(), "run_2")
		if err != nil || len(steps) != 1 {
			t.Fatal(steps, err)
		}
		if spells, err = s.Spells(t.Context(), "run_2", steps); err != nil || spells != nil {
			t.Errorf("%v, %v", spells, err)
		}
	})
}

// An ended run is read once; when it is called again its graph grows.
func TestTheGraphOfAnEndedRunIsKeptUntilItGoesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &workflow.Service{DB: db}
		id := aRun(t, db, 2, models.Succeeded)
		dbtest.Change(t, db, insertStep, "exec_a", id, nil, "succeeded", 1, false, 10, 11, 5000, 0)
		load := func() workflow.Loaded {
			t.Helper()
			l, err := s.Load(t.Context(), "wf_"+id)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		first := load()
		if again := load(); again.Graph != first.Graph || len(again.Steps) != 1 {
			t.Error("the graph of an ended run was read again")
		}
		dbtest.Change(t, db, insertStep, "exec_b", id, nil, "running", 1, false, 12, 13, nil, 0)
		dbtest.Change(t, db, "UPDATE runs SET total = 2, status = 'running', finished_at = NULL WHERE id = $1", id)
		if l := load(); len(l.Steps) != 2 || l.Run.Status != models.Running || load().Graph != l.Graph {
			t.Errorf("of a run that goes on, %d executions are known", len(l.Steps))
		}
		dbtest.Change(t, db, "UPDATE executions SET status = 'failed', finished_at = 5000 WHERE id = 'exec_b'")
		dbtest.Change(t, db, happened, "exec_b", id)
		dbtest.Change(t, db, "UPDATE runs SET status = 'failed', finished_at = 5000 WHERE id = $1", id)
		if l := load(); l.Graph.Find("exec_b").Status != models.Failed || l.Run.Status != models.Failed {
			t.Errorf("after its second end: %+v", l.Run)
		}
		for i := range 5 { // others push it out, and all are what they are
			other := aRun(t, db, 10+i, models.Succeeded)
			dbtest.Change(t, db, insertStep, "exec_"+other, other, nil, "succeeded", 1, false, 10, 11, 5000, 0)
			if l, err := s.Load(t.Context(), other); err != nil || l.Graph.Nodes[0].ID != "exec_"+other {
				t.Errorf("%s: %+v, %v", other, l.Run, err)
			}
		}
		if l := load(); len(l.Steps) != 2 {
			t.Errorf("%+v", l.Steps)
		}
	})
}
