package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestRunsAreListedAndRead(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "planner", apptest.Echo("plan"))
		r.Agent(t, "writer", apptest.Echo("write"))
		r.Execute(t, "planner.plan", `{"input":{}}`, "X-Workflow-ID", "wf_123", "X-Session-ID", "s", "X-Actor-ID", "me")
		r.Execute(t, "writer.write", `{"input":{}}`, "X-Workflow-ID", "wf_123")
		other := r.Execute(t, "writer.write", `{"input":{}}`).Text("run_id")
		runAll(t, r, []scenario{
			{
				name: "newest first", ask: "GET /api/v1/runs", status: http.StatusOK,
				must: map[string]string{
					"runs/0/run_id": other, "runs/0/total": "1", "runs/1/workflow_id": "wf_123", "runs/1/total": "2", "runs/1/succeeded": "2",
					"runs/1/target": "planner.plan", "runs/1/session_id": "s", "runs/1/actor_id": "me", "runs/1/status": "succeeded",
				},
			},
			{name: "a page", ask: "GET /api/v1/runs?limit=1", status: http.StatusOK, must: map[string]string{"next_cursor": some}, says: other},
			{name: "by target", ask: "GET /api/v1/runs?target=planner.plan", status: http.StatusOK, must: map[string]string{"runs/0/workflow_id": "wf_123"}},
			{name: "by status", ask: "GET /api/v1/runs?status=waiting", status: http.StatusOK, says: `"runs":[]`},
			{name: "no such status", ask: "GET /api/v1/runs?status=fine", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}},
			{name: "no such cursor", ask: "GET /api/v1/runs?cursor=x", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_cursor"}},
			{
				name: "one, by the name its callers gave it", ask: "GET /api/v1/runs/wf_123", status: http.StatusOK,
				must: map[string]string{"run_id": runID, "total": "2", "finished_at": instant, "ui_url": `^http.*/runs/run_.*$`},
			},
			{name: "none", ask: "GET /api/v1/runs/nothing", status: http.StatusNotFound, must: map[string]string{"code": "workflow_not_found"}},
		})
	})
}

func TestPagesOfRunsSayTheSame(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "leaves", apptest.Echo("leaf"))
		targets := strings.Split(strings.Repeat("leaves.leaf ", 8), " ")[:8]
		r.Agent(t, "planner", calling(r, "plan", "planner", targets...))
		run := r.Execute(t, "planner.plan", `{"input":{}}`, "X-Workflow-ID", "wf_1").Text("run_id")
		page := func(address string, says ...string) string {
			t.Helper()
			answer := r.Do(t, http.MethodGet, address, nil)
			if answer.Status != http.StatusOK {
				t.Fatalf("%s was answered %d: %s", address, answer.Status, answer.Body)
			}
			for _, s := range says {
				if !strings.Contains(string(answer.Body), s) {
					t.Errorf("%s does not say %q", address, s)
				}
			}
			return string(answer.Body)
		}
		list := page("/runs", "row-"+run, "9/9", "planner.</a>")
		if n := strings.Count(list, `id="tab-All"`); n != 1 {
			t.Errorf("the list has its tabs %d times", n)
		}
		page("/runs/rows?ids="+run+",nothing", "row-"+run)
		page("/runs/fresh?after="+run, `id="fresh"`)
		page("/runs/"+run, "×8", "9 steps", "2 agents", `role="tree"`)
		page("/runs/"+run+"?view=tree&q=leaf", "8 of 9 steps")
		timeline := page("/runs/"+run+"?view=timeline", `aria-rowcount="9"`, "t-run")
		if n := strings.Count(timeline, `role="row"`); n != 9 {
			t.Errorf("the timeline has %d rows", n)
		}
		page("/runs/"+run+"/lanes", `"planner.plan"`, `"leaves.leaf"`, `"span":`)
		if answer := r.Do(t, http.MethodGet, "/runs/nothing", nil); answer.Status != http.StatusNotFound {
			t.Errorf("an unknown run was answered %d", answer.Status)
		}
		moved := r.Do(t, http.MethodGet, "/runs/wf_1?view=tree", nil)
		if to := moved.Header.Get("Location"); moved.Status != http.StatusFound || to != fmt.Sprintf("/runs/%s?view=tree", run) {
			t.Errorf("the callers' name of the run leads to %d %q", moved.Status, to)
		}
	})
}
