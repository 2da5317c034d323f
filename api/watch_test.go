package api_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestHealthIsAnswered(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		healthy := map[string]string{"status": "healthy", "timestamp": instant, "version": some, "checks/storage/status": "healthy", "checks/storage/message": some, "checks/storage/response_time": `^\d+$`}
		runAll(t, r, []scenario{
			{name: "livez", ask: "GET /livez", status: http.StatusOK, says: "ok"},
			{name: "livez by its head", ask: "HEAD /livez", status: http.StatusOK},
			{name: "readyz", ask: "GET /readyz", status: http.StatusOK, must: map[string]string{"status": "ready", "version": some}},
			{name: "healthz", ask: "GET /healthz", status: http.StatusOK, must: map[string]string{"status": "ready"}},
			{name: "health", ask: "GET /health", status: http.StatusOK, must: healthy},
			{name: "health of the API", ask: "GET /api/v1/health", status: http.StatusOK, must: healthy},
		})
	})
}

func TestShutdownFinishesWhatRuns(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		work, release := apptest.Held("work", `"done"`)
		agent := r.Agent(t, "demo", work)
		caller := r.Begin(t, http.MethodPost, "/api/v1/execute/demo.work", `{}`)
		agent.Called(t, "", 1)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			r.Stop(t)
		}()
		for { // until the server has begun to drain
			if ready := r.Do(t, http.MethodGet, "/readyz", nil); ready.Status == http.StatusServiceUnavailable {
				hasAll(t, ready, map[string]string{"code": "draining"})
				break
			}
		}
		late := scenario{ask: "POST /api/v1/execute/async/demo.work", body: `{}`, status: http.StatusServiceUnavailable, must: map[string]string{"code": "draining"}, never: []string{"execution_id"}, row: "none"}.run(t, r)
		if late.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		release()
		if answer := caller.Answer(t); answer.Status != http.StatusOK || answer.Text("result") != "done" {
			t.Errorf("the caller got %d %s", answer.Status, answer.Body)
		}
		<-stopped
	})
}

func TestMetricsMove(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t)
		agent := r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("fail", 500, `{}`), apptest.Hanging("hang"), flaky("flaky", 1, 503))
		r.Execute(t, "demo.echo", `{}`)
		r.Execute(t, "demo.fail", `{}`)
		r.Execute(t, "demo.hang", `{"timeout_seconds":0.05}`)
		r.Execute(t, "demo.flaky", `{"retry":{"max_attempts":2,"backoff":"none"}}`)
		id := r.Submit(t, "demo.hang", `{"webhook":{"url":"`+hook.URL+`"}}`)
		agent.Called(t, id, 1)
		if moved(t, r, "agentfield_executions_in_flight") != 1 {
			t.Error("the call that is open is not counted")
		}
		r.Do(t, http.MethodPost, "/api/v1/executions/"+id+"/cancel", nil)
		r.Until(t, "the webhook is delivered", func() bool { return r.Get(t, id).Len("webhook_events") == 1 })
		for series, want := range map[string]float64{
			"agentfield_executions_accepted_total":                    5,
			`agentfield_executions_ended_total{status="succeeded"}`:   2,
			`agentfield_executions_ended_total{status="failed"}`:      1,
			`agentfield_executions_ended_total{status="timeout"}`:     1,
			`agentfield_executions_ended_total{status="cancelled"}`:   1,
			"agentfield_executions_requeued_total":                    1,
			"agentfield_executions_refused_total":                     0,
			`agentfield_webhook_attempts_total{result="delivered"}`:   1,
			`agentfield_webhook_deliveries_total{status="delivered"}`: 1,
		} {
			if got := moved(t, r, series); got != want {
				t.Errorf("%s is %v, not %v", series, got, want)
			}
		}
		if moved(t, r, `agentfield_loop_last_success_timestamp_seconds{loop="dispatch"}`) == 0 {
			t.Error("no loop tells when it last succeeded")
		}
		overview := r.Do(t, http.MethodGet, "/api/v1/overview", nil)
		hasAll(t, overview, map[string]string{"running": "0", "queued": "0", "pending": "0", "waiting": "0", "failed": "2", "finished_last_minute": "5", "since": instant})
		scenario{ask: "GET /api/v1/overview?since=never", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}}.run(t, r)
	})
}

// moved reads one series of /metrics, -1 when it is not there.
func moved(t *testing.T, r *apptest.Rig, series string) float64 {
	t.Helper()
	answer := r.Do(t, http.MethodGet, "/metrics", nil)
	for line := range strings.Lines(string(answer.Body)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return value
		}
	}
	return -1
}
