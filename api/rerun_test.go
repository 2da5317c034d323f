package api_test

import (
	"net/http"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestRerunMakesAnExecutionOfItsOwn(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t)
		agent := r.Agent(t, "demo", strict())
		first := r.Execute(t, "demo.strict", map[string]any{
			"input": map[string]any{"message": "a", "count": 1}, "context": map[string]any{"tenant": 7}, "retry": map[string]any{"max_attempts": 3},
			"webhook": map[string]any{"url": hook.URL},
		}, "X-Session-ID", "s1", "X-Actor-ID", "a1", "X-Workflow-ID", "wf_1")
		id, run := first.Text("execution_id"), first.Text("run_id")
		path := "POST /api/v1/executions/" + id + "/rerun"
		again := scenario{
			ask: path, status: http.StatusAccepted, header: []string{"Idempotency-Key", "k1"}, must: map[string]string{
				"execution_id": execID, "run_id": runID, "target": "demo.strict", "rerun_of": id, "webhook_registered": "false", "ui_url": some,
			},
		}.run(t, r)
		made := again.Text("execution_id")
		if again.Text("run_id") == run || made == id {
			t.Errorf("the rerun is not a run of its own: %s", again.Body)
		}
		ended := r.Ended(t, made)
		hasAll(t, ended, map[string]string{
			"status": "succeeded", "rerun_of": id, "session_id": "s1", "actor_id": "a1", "mode": "async", "max_attempts": "3", "result/message": "a", "webhook_registered": "false",
		})
		if call := agent.Called(t, made, 1); string(call.Input) != `{"count":1,"message":"a"}` {
			t.Errorf("the agent got %s", call.Input)
		}
		if got := r.Store.Value(t, "SELECT context FROM executions WHERE id = $1", made); got != `{"tenant":7}` {
			t.Errorf("its context is %q", got)
		}
		replay := scenario{ask: path, status: http.StatusAccepted, header: []string{"Idempotency-Key", "k1"}, must: map[string]string{"execution_id": made}}.run(t, r)
		if replay.Header.Get("Idempotency-Replayed") != "true" {
			t.Error("the second request with the key is not marked as replayed")
		}
		edited := scenario{
			ask: path, body: `{"input":{"message":"b","count":12345678901234567890}}`, status: http.StatusAccepted, must: map[string]string{"rerun_of": id},
		}.run(t, r)
		hasAll(t, r.Ended(t, edited.Text("execution_id")), map[string]string{"result/message": "b", "result/count": "12345678901234567890"})
		runAll(t, r, []scenario{
			{name: "another body under the key", ask: path, body: `{"input":{"message":"c"}}`, header: []string{"Idempotency-Key", "k1"}, status: http.StatusUnprocessableEntity, must: map[string]string{"code": "idempotency_key_reused"}},
			{name: "against the schema", ask: path, body: `{"input":{"message":1}}`, status: http.StatusUnprocessableEntity, must: map[string]string{"code": "input_invalid"}, row: "none"},
			{name: "not an object", ask: path, body: `{"input":[1]}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}, row: "none"},
			{name: "unknown", ask: "POST /api/v1/executions/exec_unknown/rerun", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}, row: "none"},
		})
		if n := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'execution.rerun'"); n != "0" {
			t.Errorf("%s entries tell of what a program did", n)
		}
	})
}

func TestRerunByAPersonIsOnTheRecord(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		id := r.Execute(t, "demo.echo", `{"input":{"n":1}}`).Text("execution_id")
		post := func(body string) apptest.Answer {
			return r.Do(t, http.MethodPost, "/executions/"+id+"/rerun", body, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
		}
		first, second := post("key=one&input="), post("key=one&input=")
		if first.Status != http.StatusSeeOther || first.Header.Get("Location") != second.Header.Get("Location") || first.Header.Get("Location") == "/executions/"+id {
			t.Fatalf("%d %s, then %s", first.Status, first.Header.Get("Location"), second.Header.Get("Location"))
		}
		if n := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'execution.rerun' AND object = $1", id); n != "1" {
			t.Errorf("%s entries, not one", n)
		}
	})
}
