package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestAnExecutionIsPausedAndResumed(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		path := "/api/v1/executions/" + call.ExecutionID
		runAll(t, r, []scenario{
			{name: "resume what runs", ask: "POST " + path + "/resume", status: http.StatusConflict, must: map[string]string{"code": "invalid_state", "status": "running"}},
			{name: "a long reason", ask: "POST " + path + "/pause", body: `{"reason":"` + strings.Repeat("x", 2001) + `"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "pause", ask: "POST " + path + "/pause", body: `{"reason":"look first"}`, status: http.StatusOK, must: map[string]string{
				"execution_id": call.ExecutionID, "previous_status": "running", "status": "paused", "reason": "look first", "paused_at": instant,
			}},
			{name: "twice", ask: "POST " + path + "/pause", status: http.StatusConflict, must: map[string]string{"code": "invalid_state", "status": "paused"}},
			{name: "ask a person", ask: "POST " + path + "/request-approval", body: `{"title":"t"}`, header: []string{"X-Execution-Token", call.Token}, status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
			{name: "its page", ask: "GET " + path, status: http.StatusOK, must: map[string]string{"status": "paused", "status_reason": "look first"}},
		})
		run := r.Get(t, call.ExecutionID).Text("run_id")
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/workflows/"+run+"/dag", nil), map[string]string{"workflow_status": "paused", "run_status": "running", "dag/status": "paused"})
		wantWords(t, pageOf(t, r, "/executions/"+call.ExecutionID), []string{"Paused by an operator", "look first", "/resume"}, []string{"/pause"})
		wantWords(t, pageOf(t, r, "/runs/"+run), []string{"Resume 1 step"}, []string{"Pause run"})
		if got := report(t, r, call, `{"status":"succeeded","result":{"n":1}}`); got.Text("status") != "paused" {
			t.Errorf("the agent reported: %s", got.Body)
		}
		runAll(t, r, []scenario{
			{name: "resume", ask: "POST /api/ui/v1/executions/" + call.ExecutionID + "/resume", status: http.StatusOK, must: map[string]string{
				"execution_id": call.ExecutionID, "previous_status": "paused", "status": "succeeded", "resumed_at": instant,
			}},
			{name: "pause what has ended", ask: "POST /api/ui/v1/executions/" + call.ExecutionID + "/pause", status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
			{name: "cancel what has ended", ask: "POST /api/ui/v1/executions/" + call.ExecutionID + "/cancel", status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
			{name: "pause nothing", ask: "POST /api/v1/executions/exec_unknown/pause", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}},
		})
		hasAll(t, r.Get(t, call.ExecutionID), map[string]string{"status": "succeeded", "result/n": "1"})
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/audit?action=execution", nil), map[string]string{
			"entries/0/action": "execution.resumed", "entries/1/action": "execution.paused", "entries/1/reason": "look first", "entries/1/before/status": "running",
		})
	})
}

func TestACancelReachesTheAgentOfWhatIsPaused(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		runAll(t, r, []scenario{ // as published tools ask
			{name: "pause", ask: "POST /api/ui/v1/executions/" + call.ExecutionID + "/pause", status: http.StatusOK, must: map[string]string{"status": "paused"}},
			{name: "cancel", ask: "POST /api/ui/v1/executions/" + call.ExecutionID + "/cancel", status: http.StatusOK, must: map[string]string{"previous_status": "paused", "status": "cancelled"}},
		})
		agent.Cancelled(t, call.ExecutionID)
	})
}

func TestARunIsPausedAndResumedWhole(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		agent := r.Agent(t, "crew", apptest.Taking("take"))
		var calls []apptest.Call
		for range 3 {
			calls = append(calls, agent.Called(t, r.Submit(t, "crew.take", `{}`, "X-Workflow-ID", "wf_night"), 1))
		}
		report(t, r, calls[0], `{"status":"succeeded"}`)
		hasAll(t, r.Do(t, http.MethodPost, "/api/v1/workflows/wf_night/pause-tree", map[string]string{"reason": "enough"}), map[string]string{
			"workflow_id": "wf_night", "total_nodes": "3", "paused_count": "2", "skipped_count": "1", "error_count": "0", "nodes/0/previous_status": "running",
			"nodes/0/status": "paused", "paused_at": instant,
		})
		run := r.Get(t, calls[1].ExecutionID).Text("run_id")
		wantWords(t, pageOf(t, r, "/runs/"+run), []string{"Resume 2 steps", "2 paused", "status=paused"}, []string{"Pause run", "running or queued"})
		if got := d.form(caller{}, "/runs/"+run+"/resume"); got.status != http.StatusSeeOther || got.location != "/runs/"+run {
			t.Errorf("%d to %s", got.status, got.location)
		}
		wantWords(t, pageOf(t, r, "/runs/"+run), []string{"Pause run"}, []string{"Resume"})
		hasAll(t, r.Do(t, http.MethodPost, "/api/v1/workflows/wf_night/resume-tree", nil), map[string]string{"resumed_count": "0", "skipped_count": "3"})
		scenario{name: "no such run", ask: "POST /api/v1/workflows/wf_unknown/pause-tree", status: http.StatusNotFound, must: map[string]string{"code": "workflow_not_found"}}.run(t, r)
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/audit?action=run", nil), map[string]string{"entries/2/action": "run.paused", "entries/2/reason": "enough", "entries/1/action": "run.resumed"})
	})
}
