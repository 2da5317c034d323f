package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

// taken submits a call to demo.take and waits until the agent has it.
func taken(t *testing.T, r *apptest.Rig, agent *apptest.Agent, body string) apptest.Call {
	t.Helper()
	return agent.Called(t, r.Submit(t, "demo.take", body), 1)
}

func TestReportTakesEveryAliasAndAnyJSON(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		for status, words := range map[string][]string{
			"succeeded": {"succeeded", "success", "successful", "completed", "complete", "done", "ok", "SUCCEEDED", " Completed "},
			"failed":    {"failed", "error", "failure", "errored"},
			"cancelled": {"cancelled", "canceled", "cancel"},
			"timeout":   {"timeout", "timed_out", "Timeout"},
			"waiting":   {"waiting", "awaiting_approval", "awaiting_human", "approval_pending"},
			"running":   {"running", "in_progress", "processing"},
		} {
			for _, word := range words {
				call := taken(t, r, agent, `{}`)
				answer := report(t, r, call, `{"status":"`+word+`","execution_id":"ignored","reasoner":"ignored","run_id":"ignored"}`)
				if answer.Status != http.StatusOK || answer.Text("status") != status {
					t.Errorf("C1: %q became %d %s", word, answer.Status, answer.Body)
				}
				if stored := r.Store.Status(t, call.ExecutionID); stored != status {
					t.Errorf("%q is stored as %q", word, stored)
				}
			}
		}
		for sent, want := range map[string]string{
			`{"a":{"b":[1,2.50]}}`: `{"a":{"b":[1,2.50]}}`, `[1,"two",null]`: `[1,"two",null]`, `"text"`: "text", `12345678901234567890`: "12345678901234567890",
			`1.0`: "1.0", `true`: "true", `false`: "false", `null`: "", `""`: "", `{}`: "{}", `[]`: "[]",
		} {
			call := taken(t, r, agent, `{}`)
			report(t, r, call, `{"status":"succeeded","result":`+sent+`}`)
			if got := r.Get(t, call.ExecutionID); got.Text("result") != want || !got.Has("result") {
				t.Errorf("S84: the result %s reads %s", sent, got.Body)
			}
		}
		call := taken(t, r, agent, `{}`)
		report(t, r, call, `{"status":"succeeded"}`)
		if got := r.Get(t, call.ExecutionID); !got.Has("result") || got.At("result") != nil {
			t.Errorf("a report without a result: %s", got.Body)
		}
	})
}

func TestReportOfAFailureKeepsItsWords(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		for name, tc := range map[string]struct {
			body string
			must map[string]string
		}{
			"a sentence": {`{"status":"failed","error":"no such file","error_details":{"path":"/x"}}`, map[string]string{
				"error": "no such file", "error_message": "no such file", "error_details/path": "/x", "error_category": "agent_error",
			}},
			"under the other key": {`{"status":"failed","error_message":"boom"}`, map[string]string{"error": "boom"}},
			"an object":           {`{"status":"failed","error":{"type":"E","message":"m"}}`, map[string]string{"error": `{"type":"E","message":"m"}`}},
			"only a reason":       {`{"status":"failed","status_reason":"quota"}`, map[string]string{"error": "quota", "status_reason": "quota"}},
			"nothing at all":      {`{"status":"failed"}`, map[string]string{"error": "the agent reported a failure"}},
			"NUL and half a rune": {"{\"status\":\"failed\",\"error\":\"a\\u0000b\\ud800c\"}", map[string]string{"error": "^ab.c$"}},
			"very long":           {`{"status":"failed","error":"` + strings.Repeat("x", 100_000) + `"}`, map[string]string{"error": "^x+…$"}},
			"a cancel":            {`{"status":"cancelled","status_reason":"user left"}`, map[string]string{"status": "cancelled", "status_reason": "user left"}},
			"a time-out":          {`{"status":"timeout","error":"gave up"}`, map[string]string{"status": "timeout", "error": "gave up", "code": "agent_timeout"}},
		} {
			t.Run(name, func(t *testing.T) {
				call := taken(t, r, agent, `{}`)
				if answer := report(t, r, call, tc.body); answer.Status != http.StatusOK {
					t.Fatalf("%d %s", answer.Status, answer.Body)
				}
				got := r.Get(t, call.ExecutionID)
				hasAll(t, got, tc.must)
				hasAll(t, got, map[string]string{"duration_ms": `^\d+$`, "completed_at": instant})
			})
		}
	})
}

func TestTerminalStatusIsFinal(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		path := "POST /api/v1/executions/" + call.ExecutionID + "/status"
		report(t, r, call, `{"status":"succeeded","result":{"n":1}}`)
		before := r.Get(t, call.ExecutionID)
		token := []string{"X-Execution-Token", call.Token}
		runAll(t, r, []scenario{
			{name: "the same word", ask: path, body: `{"status":"completed","result":{"n":2}}`, header: token, status: http.StatusOK, must: map[string]string{"result/n": "1"}},
			{name: "another word with a token", ask: path, body: `{"status":"failed","error":"late"}`, header: token, status: http.StatusConflict, must: map[string]string{
				"code": "terminal_conflict", "error": "terminal_conflict", "execution_id": call.ExecutionID,
			}},
			{name: "another word without one", ask: path, body: `{"status":"failed","error":"late"}`, status: http.StatusOK, must: map[string]string{"status": "succeeded", "result/n": "1"}},
			{name: "still running", ask: path, body: `{"status":"running"}`, header: token, status: http.StatusOK, must: map[string]string{"status": "succeeded"}},
		})
		if after := r.Get(t, call.ExecutionID); string(after.Body) != string(before.Body) {
			t.Errorf("B26: late reports have changed the record:\n%s\n%s", before.Body, after.Body)
		}
		want := []string{"queued", "running", "succeeded", "late_report", "late_report", "late_report", "late_report"}
		if events := r.Events(t, call.ExecutionID); !slices.Equal(events, want) {
			t.Errorf("events: %v", events)
		}
		history := r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/events", nil)
		if !strings.Contains(string(history.Body), `"error":"late"`) {
			t.Errorf("what the late report said is not kept: %s", history.Body)
		}
	})
}

func TestLateAnswerOfAHeldCallIsKept(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		work, release := apptest.Held("work", `"late"`)
		agent := r.Agent(t, "demo", work)
		id := r.Submit(t, "demo.work", `{}`)
		call := agent.Called(t, id, 1)
		report(t, r, call, `{"status":"succeeded","result":"by report"}`)
		release()
		if got := r.Ended(t, id); got.Text("result") != "by report" {
			t.Errorf("%s", got.Body)
		}
	})
}

func TestReportsAreRefusedWithAReason(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		other, call := taken(t, r, agent, `{}`), taken(t, r, agent, `{}`)
		path := "POST /api/v1/executions/" + call.ExecutionID + "/status"
		token := []string{"X-Execution-Token", call.Token}
		about := map[string]string{"execution_id": call.ExecutionID}
		with := func(code string) map[string]string {
			return map[string]string{"code": code, "execution_id": about["execution_id"]}
		}
		runAll(t, r, []scenario{
			{name: "unknown word", ask: path, body: `{"status":"finished?"}`, header: token, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}, row: "none"},
			{name: "no word", ask: path, body: `{"result":1}`, header: token, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}, row: "none"},
			{name: "no JSON", ask: path, body: `{"status":`, header: token, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}, row: "none"},
			{name: "no body", ask: path, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}, row: "none"},
			{name: "a status of the wrong type", ask: path, body: `{"status":7}`, header: token, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}, row: "none"},
			{name: "back to the queue", ask: path, body: `{"status":"queued"}`, header: token, status: http.StatusConflict, must: with("invalid_state"), row: "none"},
			{name: "paused by an agent", ask: path, body: `{"status":"paused"}`, header: token, status: http.StatusConflict, must: with("invalid_state"), row: "none"},
			{name: "the token of another execution", ask: path, body: `{"status":"succeeded"}`, header: []string{"X-Execution-Token", other.Token}, status: http.StatusUnauthorized, must: with("execution_token_invalid"), row: "none"},
			{name: "no token at all is good on loopback", ask: path, body: `{"status":"running"}`, status: http.StatusOK, must: map[string]string{"status": "running"}, row: "none"},
			{name: "unknown execution", ask: "POST /api/v1/executions/exec_unknown/status", body: `{"status":"succeeded"}`, status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found", "error": "execution not found"}, row: "none"},
			{name: "progress of nothing", ask: "POST /api/v1/executions/" + call.ExecutionID + "/progress", body: `{}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}, row: "none"},
			{name: "progress of an unknown execution", ask: "POST /api/v1/executions/exec_unknown/progress", body: `{"progress":1}`, status: http.StatusNotFound, row: "none"},
			{name: "a note about nothing", ask: "POST /api/v1/executions/note", body: `{"message":"m"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}, row: "none"},
			{name: "a note without words", ask: "POST /api/v1/executions/note?execution_id=" + call.ExecutionID, body: `{"message":""}`, status: http.StatusBadRequest, row: "none"},
			{name: "a note about an unknown execution", ask: "POST /api/v1/executions/note", body: `{"message":"m"}`, header: []string{"X-Execution-ID", "exec_unknown"}, status: http.StatusNotFound, row: "none"},
		})
	})
}

func TestReportOfAnEarlierAttemptIsStale(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		first := taken(t, r, agent, `{"retry":{"max_attempts":2,"backoff":"none"}}`)
		if again := report(t, r, first, `{"status":"failed","error":"try again"}`); again.Status != http.StatusOK || again.Has("completed_at") {
			t.Fatalf("%d %s", again.Status, again.Body)
		}
		second := agent.Called(t, first.ExecutionID, 2)
		if stale := report(t, r, first, `{"status":"succeeded","result":1}`); stale.Status != http.StatusConflict || stale.Text("code") != "stale_attempt" {
			t.Errorf("the first attempt: %d %s", stale.Status, stale.Body)
		}
		if good := report(t, r, second, `{"status":"succeeded","result":2}`); good.Status != http.StatusOK || good.Text("result") != "2" || good.Text("attempt") != "2" {
			t.Errorf("the second attempt: %d %s", good.Status, good.Body)
		}
		want := []string{"queued", "running", "attempt_failed", "running", "succeeded"}
		if events := r.Events(t, first.ExecutionID); !slices.Equal(events, want) {
			t.Errorf("events: %v", events)
		}
	})
}

func TestUnsignedReportsCanBeForbidden(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		runAll(t, r, []scenario{
			{name: "status", ask: "POST /api/v1/executions/" + call.ExecutionID + "/status", body: `{"status":"succeeded"}`, status: http.StatusUnauthorized, must: map[string]string{"code": "execution_token_invalid", "error": "unauthorized"}, row: "none"},
			{name: "progress", ask: "POST /api/v1/executions/" + call.ExecutionID + "/progress", body: `{"progress":1}`, status: http.StatusUnauthorized, row: "none"},
			{name: "note", ask: "POST /api/v1/executions/note", body: `{"message":"m"}`, header: []string{"X-Execution-ID", call.ExecutionID}, status: http.StatusUnauthorized, row: "none"},
		})
		if good := report(t, r, call, `{"status":"succeeded"}`); good.Text("status") != "succeeded" {
			t.Errorf("with the token: %d %s", good.Status, good.Body)
		}
		impostor := apptest.NewAgent(t, "demo", apptest.Echo("take"))
		stolen := r.Do(t, http.MethodPost, "/api/v1/nodes/register", impostor.Registration(nil))
		if stolen.Status != http.StatusForbidden || stolen.Text("code") != "node_token_required" {
			t.Errorf("a node id was taken over: %d %s", stolen.Status, stolen.Body)
		}
		impostor.Register(t, r, "X-Node-Token", agent.Token)
	}, func(c *config.Config) { c.UnsignedAgents = "off" })
}

func TestProgressAndNotesShow(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		progress := "POST /api/v1/executions/" + call.ExecutionID + "/progress"
		token := []string{"X-Execution-Token", call.Token}
		runAll(t, r, []scenario{
			{name: "a fraction", ask: progress, body: `{"progress":0.25,"message":"a quarter"}`, header: token, status: http.StatusOK, must: map[string]string{"success": "true", "status": "running", "execution_id": call.ExecutionID}},
			{name: "per cent", ask: progress, body: `{"progress":50}`, header: token, status: http.StatusOK},
			{name: "with a status", ask: "POST /api/v1/executions/" + call.ExecutionID + "/status", body: `{"status":"running","progress":0.75,"message":"nearly"}`, header: token, status: http.StatusOK, must: map[string]string{"progress": "0.75", "progress_message": "nearly"}},
			{name: "a partial result", ask: progress, body: `{"partial":{"so":"far"}}`, header: token, status: http.StatusOK},
			{name: "a note", ask: "POST /api/v1/executions/note", body: `{"message":"found it","tags":["a","b"],"timestamp":1.5}`, header: append([]string{"X-Execution-ID", call.ExecutionID}, token...), status: http.StatusOK, must: map[string]string{
				"success": "true", "note/message": "found it", "note/tags": `["a","b"]`, "note/timestamp": instant, "message": "Note added successfully",
			}},
			{name: "a note by query", ask: "POST /api/v1/executions/note?execution_id=" + call.ExecutionID, body: `{"message":"too"}`, status: http.StatusOK},
		})
		hasAll(t, r.Get(t, call.ExecutionID), map[string]string{"progress": "0.75", "progress_message": "nearly", "status": "running"})
		report(t, r, call, `{"status":"succeeded"}`)
		scenario{ask: progress, body: `{"progress":1}`, header: token, status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}, row: "none"}.run(t, r)
		want := []string{"queued", "running", "progress", "progress", "progress", "progress", "note", "note", "succeeded"}
		if events := r.Events(t, call.ExecutionID); !slices.Equal(events, want) {
			t.Errorf("events: %v", events)
		}
		if n := r.Store.Value(t, "SELECT count(*) FROM execution_payloads WHERE execution_id = $1 AND kind = 3", call.ExecutionID); n != "1" {
			t.Errorf("%s partial results are kept", n)
		}
	})
}
