package api_test

import (
	"net/http"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// The example of wire.md 7: a function that was dispatched calls a second one inside the agent, which calls a third.
func TestCallsInsideAnAgentAreInTheGraph(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		run := call.Header.Get("X-Run-ID")
		tell := "POST /api/v1/workflow/executions/events"
		event := func(id, parent, status, more string) string {
			return `{"execution_id":"` + id + `","workflow_id":"` + run + `","run_id":"` + run + `","reasoner_id":"f_` + id + `","type":"reasoner","agent_node_id":"demo","status":"` + status +
				`","parent_execution_id":"` + parent + `","parent_workflow_id":"` + run + `","root_workflow_id":"` + run + `"` + more + `}`
		}
		runAll(t, r, []scenario{
			{name: "second begins", ask: tell, body: event("two", call.ExecutionID, "running", `,"input_data":{"a":1}`), status: http.StatusOK, must: map[string]string{"success": "true", "created": "true", "execution_id": "two", "run_id": run}, never: []string{"updated"}, row: "running"},
			{name: "third begins", ask: tell, body: event("three", "two", "running", ""), status: http.StatusOK, must: map[string]string{"created": "true"}},
			{name: "third ends", ask: tell, body: event("three", "two", "succeeded", `,"result":"text","duration_ms":12`), status: http.StatusOK, must: map[string]string{"updated": "true"}, never: []string{"created"}, row: "succeeded", events: []string{"running", "succeeded"}},
			{name: "second ends", ask: tell, body: event("two", call.ExecutionID, "completed", `,"result":[1]`), status: http.StatusOK, must: map[string]string{"updated": "true"}},
			{name: "after the end", ask: tell, body: event("two", call.ExecutionID, "failed", `,"error":"late"`), status: http.StatusOK, must: map[string]string{"updated": "true"}, row: "succeeded"},
			{name: "by its other name", ask: "POST /api/v1/workflow/executions", body: event("two", call.ExecutionID, "running", ""), status: http.StatusOK, must: map[string]string{"execution_id": "two", "workflow_id": run, "run_id": run}},
			{name: "no id", ask: tell, body: `{"status":"running"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}, row: "none"},
			{name: "no status", ask: tell, body: event("four", "", "jumping", ""), status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}, row: "none"},
			{name: "no id, by its other name", ask: "POST /api/v1/workflow/executions", body: `{}`, status: http.StatusBadRequest, row: "none"},
		})
		report(t, r, call, `{"status":"succeeded"}`)
		graph := r.Do(t, http.MethodGet, "/api/v1/workflows/"+run+"/dag", nil)
		hasAll(t, graph, map[string]string{
			"total_nodes": "3", "max_depth": "2", "workflow_status": "succeeded", "dag/execution_id": call.ExecutionID, "dag/workflow_depth": "0",
			"dag/children/0/execution_id": "two", "dag/children/0/workflow_depth": "1", "dag/children/0/parent_execution_id": call.ExecutionID, "dag/children/0/status": "succeeded",
			"dag/children/0/children/0/execution_id": "three", "dag/children/0/children/0/workflow_depth": "2", "dag/children/0/children/0/parent_execution_id": "two", "dag/children/0/children/0/status": "succeeded",
		})
		if graph.At("dag/parent_execution_id") != nil {
			t.Errorf("the root has a parent: %s", graph.Body)
		}
		hasAll(t, r.Get(t, "two"), map[string]string{"target": "demo.f_two", "result": "[1]", "webhook_registered": "false"})
		if n := r.Store.Value(t, "SELECT count(*) FROM webhook_deliveries"); n != "0" {
			t.Errorf("%s webhooks", n)
		}
		// An execution without an input can be made again with one only.
		scenario{ask: "POST /api/v1/executions/three/rerun", status: http.StatusConflict, must: map[string]string{"code": "input_gone"}, row: "none"}.run(t, r)
	})
}
