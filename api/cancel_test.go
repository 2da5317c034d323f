package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestCancelEndsWorkWhereverItStands(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t)
		agent := r.Agent(t, "demo", apptest.Taking("take"), apptest.Hanging("hang"))
		one := apptest.NewAgent(t, "single", apptest.Hanging("hang"))
		limited := one.Registration(map[string]any{"metadata": map[string]any{"custom": map[string]any{"max_concurrency": 1}}})
		r.Do(t, http.MethodPost, "/api/v1/nodes", limited)
		gone := r.Agent(t, "gone", apptest.Echo("echo"))
		r.Do(t, http.MethodPost, "/api/v1/nodes/gone/shutdown", nil)
		submit := func(target string) string {
			return r.Submit(t, target, map[string]any{"webhook": map[string]any{"url": hook.URL}})
		}

		running := submit("demo.hang")
		agent.Called(t, running, 1)
		accepted := submit("demo.take")
		agent.Called(t, accepted, 1)
		waiting := submit("demo.take")
		report(t, r, agent.Called(t, waiting, 1), `{"status":"waiting"}`)
		blocker := r.Submit(t, "single.hang", `{}`)
		one.Called(t, blocker, 1)
		queued := submit("single.hang")
		pending := submit("gone.echo")

		for _, tc := range []struct {
			id, previous string
			told         *apptest.Agent
			events       []string
		}{
			{running, "running", agent, []string{"queued", "running", "cancelled"}},
			{accepted, "running", agent, []string{"queued", "running", "cancelled"}},
			{waiting, "waiting", agent, []string{"queued", "running", "waiting", "cancelled"}},
			{queued, "queued", nil, []string{"queued", "cancelled"}},
			{pending, "pending", nil, []string{"pending", "cancelled"}},
		} {
			t.Run(tc.previous, func(t *testing.T) {
				path := "POST /api/v1/executions/" + tc.id + "/cancel"
				scenario{
					ask: path, body: `{"reason":"not needed any more"}`, status: http.StatusOK, must: map[string]string{
						"execution_id": tc.id, "previous_status": tc.previous, "status": "cancelled", "reason": "not needed any more", "cancelled_at": instant,
						"duration_ms": `^\d+$`,
					}, row: "cancelled",
				}.run(t, r)
				hasAll(t, r.Get(t, tc.id), map[string]string{"status": "cancelled", "status_reason": "not needed any more", "completed_at": instant, "duration_ms": `^\d+$`})
				scenario{name: "again", ask: path, status: http.StatusConflict, must: map[string]string{
					"error": "invalid_state", "code": "invalid_state", "status": "cancelled", "execution_id": tc.id,
				}}.run(t, r)
				if tc.told != nil {
					notice := apptest.Answer{Body: tc.told.Cancelled(t, tc.id).Input}
					hasAll(t, notice, map[string]string{"execution_id": tc.id, "reason": "not needed any more"})
				}
				r.Until(t, "its webhook is delivered", func() bool { return r.Get(t, tc.id).Text("webhook_events/0/http_status") == "200" })
				got := slices.DeleteFunc(r.Events(t, tc.id), func(kind string) bool {
					return slices.Contains([]string{"released", "notice", "webhook.attempted"}, kind)
				})
				if !slices.Equal(got, tc.events) {
					t.Errorf("events: %v, not %v", got, tc.events)
				}
				if n := r.Store.Value(t, "SELECT count(*) FROM webhook_deliveries WHERE execution_id = $1", tc.id); n != "1" {
					t.Errorf("%s webhooks", n)
				}
			})
		}
		for n := range 5 {
			hasAll(t, apptest.Answer{Body: hook.Got(t, n+1).Input}, map[string]string{"event": "execution.failed", "status": "cancelled", "error": some})
		}
		if len(gone.Calls("")) != 0 || len(one.Calls(queued)) != 0 {
			t.Error("work that was cancelled before it began has reached its agent")
		}
	})
}

func TestCancelAnswersTheSyncCaller(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Hanging("hang"))
		caller := r.Begin(t, http.MethodPost, "/api/v1/execute/demo.hang", `{}`)
		id := agent.Called(t, "", 1).ExecutionID
		runAll(t, r, []scenario{
			{name: "unknown", ask: "POST /api/v1/executions/exec_unknown/cancel", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}, row: "none"},
			{name: "no JSON", ask: "POST /api/v1/executions/" + id + "/cancel", body: `{"reason"`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}, row: "none"},
			{name: "a long reason", ask: "POST /api/v1/executions/" + id + "/cancel", body: `{"reason":"` + strings.Repeat("x", 2001) + `"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}, row: "none"},
		})
		cancelled := r.Do(t, http.MethodPost, "/api/v1/executions/"+id+"/cancel", nil)
		if cancelled.Status != http.StatusOK || cancelled.Has("reason") {
			t.Errorf("%d %s", cancelled.Status, cancelled.Body)
		}
		answer := caller.Answer(t)
		hasAll(t, answer, map[string]string{"code": "cancelled", "status": "cancelled", "execution_id": id, "run_id": runID})
		if answer.Status != http.StatusConflict {
			t.Errorf("%d %s", answer.Status, answer.Body)
		}
	})
}
