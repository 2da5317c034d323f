package api_test

import (
	"encoding/csv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// over waits for the end of a bulk job.
func over(t *testing.T, r *apptest.Rig, id string) apptest.Answer {
	t.Helper()
	var job apptest.Answer
	r.Until(t, "the job to end", func() bool {
		job = r.Do(t, http.MethodGet, "/api/v1/bulk/"+id, nil)
		return job.Has("finished_at")
	})
	return job
}

func TestEverythingThatAFilterFindsIsCancelled(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"), apptest.Echo("echo"))
		var ids []string
		for range 3 {
			ids = append(ids, taken(t, r, agent, `{}`).ExecutionID)
		}
		other := r.Execute(t, "demo.echo", `{}`).Text("execution_id")
		begun := scenario{
			ask: "POST /api/v1/bulk", body: `{"action":"cancel","q":"node:demo","reason":"wrong prompt"}`, status: http.StatusAccepted,
			must: map[string]string{"job_id": `^bulk_`, "total": "3", "action": "cancel"},
		}.run(t, r)
		later := taken(t, r, agent, `{}`).ExecutionID
		hasAll(t, over(t, r, begun.Text("job_id")), map[string]string{"status": "done", "done": "3", "skipped": "0", "failed": "0", "stopping": "false"})
		for _, id := range ids {
			hasAll(t, r.Get(t, id), map[string]string{"status": "cancelled", "status_reason": "wrong prompt"})
		}
		hasAll(t, r.Get(t, other), map[string]string{"status": "succeeded"})
		hasAll(t, r.Get(t, later), map[string]string{"status": "running"})
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/audit?action=bulk", nil), map[string]string{
			"entries/0/action": "bulk.started", "entries/0/after/executions": "3", "entries/0/reason": "wrong prompt",
		})
		runAll(t, r, []scenario{
			{name: "nothing to do", ask: "POST /api/v1/bulk", body: `{"action":"cancel","q":"node:nobody"}`, status: 400, must: map[string]string{"code": "invalid_parameter"}},
			{name: "no filter", ask: "POST /api/v1/bulk", body: `{"action":"cancel","q":" "}`, status: 400, must: map[string]string{"code": "invalid_parameter"}},
			{name: "half a filter", ask: "POST /api/v1/bulk", body: `{"action":"cancel","q":"node:demo colour:red"}`, status: 400, must: map[string]string{"code": "invalid_filter", "position": "11"}},
			{name: "another act", ask: "POST /api/v1/bulk", body: `{"action":"delete","q":"node:demo"}`, status: 400, must: map[string]string{"code": "invalid_parameter"}},
			{name: "no such job", ask: "GET /api/v1/bulk/bulk_unknown", status: 404, must: map[string]string{"code": "job_not_found"}},
			{name: "stopping no such job", ask: "POST /api/v1/bulk/bulk_unknown/stop", status: 404, must: map[string]string{"code": "job_not_found"}},
			{name: "stopping what is over", ask: "POST /api/v1/bulk/" + begun.Text("job_id") + "/stop", status: 409, must: map[string]string{"code": "bulk_conflict"}},
		})
	})
}

func TestAGroupOfFailuresIsRunAgainOnceEach(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.JSON("work", 400, `{"error":"no"}`), apptest.JSON("other", 400, `{"error":"other"}`))
		var ids []string
		for range 3 {
			ids = append(ids, r.Execute(t, "demo.work", `{"input":{"n":1}}`).Text("execution_id"))
		}
		r.Execute(t, "demo.other", `{}`)
		q := "target:demo.work status:failed"
		begun := r.Do(t, http.MethodPost, "/api/v1/bulk", map[string]string{"action": "rerun", "q": q})
		id := begun.Text("job_id")
		hasAll(t, over(t, r, id), map[string]string{"status": "done", "done": "3"})
		rows, err := csv.NewReader(strings.NewReader(string(r.Do(t, http.MethodGet, "/api/v1/bulk/"+id+"/items.csv", nil).Body))).ReadAll()
		if err != nil || len(rows) != 4 {
			t.Fatalf("%v, %v", rows, err)
		}
		for _, row := range rows[1:] {
			if !slices.Contains(ids, row[0]) || row[1] != "done" || r.Ended(t, row[3]).Text("target") != "demo.work" {
				t.Errorf("an item is %v", row)
			}
		}
		r.Restart(t)
		if n := r.Store.Value(t, "SELECT count(*) FROM executions WHERE rerun_of IS NOT NULL"); n != "3" {
			t.Errorf("%s were made", n)
		}
	})
}

func TestABulkJobOutlivesTheServerAndCanBeStopped(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Taking("take"))
		const many = 400
		for range many {
			r.Submit(t, "demo.take", `{}`)
		}
		job := r.Do(t, http.MethodPost, "/api/v1/bulk", map[string]string{"action": "cancel", "q": "node:demo"}).Text("job_id")
		r.Until(t, "the first to be cancelled", func() bool { return r.Do(t, http.MethodGet, "/api/v1/bulk/"+job, nil).Text("done") != "0" })
		r.Restart(t)
		stopped := r.Do(t, http.MethodPost, "/api/v1/bulk/"+job+"/stop", nil)
		if stopped.Status != http.StatusOK {
			t.Fatalf("to stop the job was answered %s", stopped.Body)
		}
		end := over(t, r, job)
		done, _ := strconv.Atoi(end.Text("done"))
		cancelled := r.Store.Value(t, "SELECT count(*) FROM executions WHERE status = 'cancelled'")
		if end.Text("status") != "stopped" || done == 0 || done == many || cancelled != strconv.Itoa(done) {
			t.Errorf("stopped: %s, %s are cancelled", end.Body, cancelled)
		}
	})
}

func TestManyAreActedUponAfterALook(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		agent := r.Agent(t, "crew", apptest.Taking("take"), apptest.Echo("echo"))
		id := agent.Called(t, r.Submit(t, "crew.take", `{}`), 1).ExecutionID
		ended := r.Execute(t, "crew.echo", `{}`).Text("execution_id")
		before := d.page("/bulk/new?action=cancel&q=node:crew")
		for _, want := range []string{"Cancel 1 execution", "1 execution already ended", "This cannot be undone.", id} {
			if !strings.Contains(before.body, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
		if chosen := d.page("/bulk/new?action=rerun&chosen=1&id=" + ended); !strings.Contains(chosen.body, "Run 1 execution again") {
			t.Error("the selected row is not what is run again")
		}
		if none := d.page("/bulk/new?action=rerun&chosen=1"); none.status != http.StatusBadRequest {
			t.Errorf("nothing selected: %d", none.status)
		}
		if got := d.form(caller{}, "/bulk", "action", "cancel", "next", "q=node:crew"); got.status != http.StatusBadRequest {
			t.Errorf("without the number that was confirmed: %d", got.status)
		}
		second := agent.Called(t, r.Submit(t, "crew.take", `{}`), 1).ExecutionID
		if got := d.form(caller{}, "/bulk", "action", "cancel", "next", "q=node:crew", "most", "1"); got.status != http.StatusConflict || !strings.Contains(got.body, "Cancel 2 executions") {
			t.Errorf("more than was confirmed: %d", got.status)
		}
		hasAll(t, r.Get(t, second), map[string]string{"status": "running"})
		if got := d.form(caller{}, "/bulk", "action", "cancel", "next", "q=node:crew", "most", "101", "confirm", "yes"); got.status != http.StatusUnprocessableEntity {
			t.Errorf("many without typing the number: %d", got.status)
		}
		begun := d.form(caller{}, "/bulk", "action", "cancel", "next", "q=node:crew", "most", "2", "reason", "enough")
		if begun.status != http.StatusSeeOther || !strings.HasPrefix(begun.location, "/bulk/bulk_") {
			t.Fatalf("begun: %d to %s", begun.status, begun.location)
		}
		over(t, r, strings.TrimPrefix(begun.location, "/bulk/"))
		if shown := d.page(begun.location); !strings.Contains(shown.body, "Done.") || !strings.Contains(shown.body, "“enough”") {
			t.Error("the page of the job does not say that it is done")
		}
	})
}

func TestEveryRunThatAFilterFindsIsCancelledWhole(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Taking("take"), apptest.Echo("echo"))
		for i := range 6 { // three runs of two executions
			r.Submit(t, "demo.take", `{}`, "X-Workflow-ID", "wf_"+strconv.Itoa(i/2))
		}
		other := r.Execute(t, "demo.echo", `{}`).Text("run_id")
		begun := scenario{
			ask: "POST /api/v1/bulk", body: `{"list":"runs","action":"cancel","q":"node:demo steps:>1 -run:wf_2","reason":"wrong prompt"}`, status: http.StatusAccepted,
			must: map[string]string{"job_id": `^bulk_`, "list": "runs", "total": "2", "action": "cancel"},
		}.run(t, r)
		hasAll(t, over(t, r, begun.Text("job_id")), map[string]string{"status": "done", "done": "2", "skipped": "0", "failed": "0"})
		for run, status := range map[string]string{"wf_0": "cancelled", "wf_1": "cancelled", "wf_2": "running", other: "succeeded"} {
			hasAll(t, r.Do(t, http.MethodGet, "/api/v1/runs/"+run, nil), map[string]string{"status": status})
		}
		if n := r.Store.Value(t, "SELECT count(*) FROM executions WHERE status = 'cancelled' AND status_reason = 'wrong prompt'"); n != "4" {
			t.Errorf("%s executions were cancelled", n)
		}
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/audit?action=bulk", nil), map[string]string{"entries/0/action": "bulk.started", "entries/0/after/runs": "2"})

		again := r.Do(t, http.MethodPost, "/api/v1/bulk", map[string]string{"list": "runs", "action": "rerun", "q": "status:cancelled"}).Text("job_id")
		hasAll(t, over(t, r, again), map[string]string{"status": "done", "done": "2"})
		if n := r.Store.Value(t, "SELECT count(*) FROM executions x JOIN runs r ON r.root_id = x.rerun_of WHERE x.run_id <> r.id"); n != "2" {
			t.Errorf("%s runs were made again", n)
		}
		rows := string(r.Do(t, http.MethodGet, "/api/v1/bulk/"+again+"/items.csv", nil).Body)
		if !strings.HasPrefix(rows, "run_id,") || strings.Count(rows, "\n") != 3 {
			t.Errorf("the items are\n%s", rows)
		}
		runAll(t, r, []scenario{
			{name: "half a filter", ask: "POST /api/v1/bulk", body: `{"list":"runs","action":"cancel","q":"node:demo colour:red"}`, status: 400, must: map[string]string{"code": "invalid_filter", "position": "11"}},
			{name: "another list", ask: "POST /api/v1/bulk", body: `{"list":"nodes","action":"cancel","q":"node:demo"}`, status: 400, must: map[string]string{"code": "invalid_parameter"}},
			{name: "none on its way", ask: "POST /api/v1/bulk", body: `{"list":"runs","action":"cancel","q":"status:succeeded"}`, status: 400, must: map[string]string{"code": "invalid_parameter"}},
		})
	})
}

func TestManyRunsAreActedUponAfterALook(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		r.Agent(t, "crew", apptest.Taking("take"), apptest.Echo("echo"))
		r.Submit(t, "crew.take", `{}`, "X-Workflow-ID", "wf_night")
		r.Submit(t, "crew.take", `{}`, "X-Workflow-ID", "wf_night")
		ended := r.Execute(t, "crew.echo", `{}`).Text("run_id")
		list := d.page("/runs?q=node:crew")
		for _, want := range []string{`href="/bulk/new?list=runs&amp;action=cancel&amp;q=node:crew"`, `href="/runs?q=node:crew&amp;select=1"`} {
			if !strings.Contains(list.body, want) {
				t.Errorf("the list of runs has no %s", want)
			}
		}
		if choosing := d.page("/runs?q=node:crew&select=1"); !strings.Contains(choosing.body, `type="checkbox" name="id" value="`+ended+`"`) {
			t.Error("no row can be selected")
		}
		before := d.page("/bulk/new?list=runs&action=cancel&q=node:crew")
		for _, want := range []string{"Cancel 1 run", "1 run already ended", "Together they have 2 executions.", "This cannot be undone."} {
			if !strings.Contains(before.body, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
		if chosen := d.page("/bulk/new?list=runs&action=rerun&chosen=1&id=" + ended); !strings.Contains(chosen.body, "Repeat 1 run") {
			t.Error("the selected row is not what is run again")
		}
		begun := d.form(caller{}, "/bulk", "list", "runs", "action", "cancel", "next", "q=node:crew", "most", "1")
		if begun.status != http.StatusSeeOther {
			t.Fatalf("begun: %d to %s", begun.status, begun.location)
		}
		over(t, r, strings.TrimPrefix(begun.location, "/bulk/"))
		if shown := d.page(begun.location); !strings.Contains(shown.body, "Cancel 1 run") || !strings.Contains(shown.body, "Done.") || !strings.Contains(shown.body, `href="/runs?q=node:crew"`) {
			t.Error("the page of the job does not say that it is done")
		}
	})
}
