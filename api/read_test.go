package api_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestLongPollAnswersWithTheEnd(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		work, release := apptest.Held("work", `{"n":1}`)
		agent := r.Agent(t, "demo", work, apptest.Taking("take"))
		id := r.Submit(t, "demo.work", `{}`)
		agent.Called(t, id, 1)
		short := r.Do(t, http.MethodGet, "/api/v1/executions/"+id+"?wait=20ms", nil)
		if short.Text("status") != "running" || short.Header.Get("Retry-After") == "" {
			t.Errorf("when nothing happens: %v %s", short.Header, short.Body)
		}
		polls := make([]*apptest.Pending, 3)
		for i := range polls {
			polls[i] = r.Begin(t, http.MethodGet, "/api/v1/executions/"+id+"?wait=30&status=running", nil)
		}
		release()
		for _, poll := range polls {
			hasAll(t, poll.Answer(t), map[string]string{"status": "succeeded", "result/n": "1"})
		}
		call := taken(t, r, agent, `{}`)
		// Should the question be slower than the report, it waits for the next change, which does not come.
		poll := r.Begin(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"?wait=30s&status=running", nil)
		report(t, r, call, `{"status":"waiting"}`)
		hasAll(t, poll.Answer(t), map[string]string{"status": "waiting"})
		for _, wait := range []string{"soon", "-1s", "NaN", "Inf", "1e400"} {
			scenario{ask: "GET /api/v1/executions/" + id + "?wait=" + wait, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}}.run(t, r)
		}
		scenario{ask: "GET /api/v1/executions/" + id + "?wait=1s&status=jumping", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}}.run(t, r)
		scenario{ask: "GET /api/v1/executions/exec_unknown?wait=30s", status: http.StatusNotFound, must: map[string]string{"error": "execution not found", "code": "execution_not_found"}}.run(t, r)
	})
}

func TestLongPollAnswersWithEveryStatus(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		one := apptest.NewAgent(t, "single", apptest.Taking("take"))
		r.Do(t, http.MethodPost, "/api/v1/nodes", one.Registration(map[string]any{"metadata": map[string]any{"custom": map[string]any{"max_concurrency": 1}}}))
		first := r.Submit(t, "single.take", `{}`)
		call := one.Called(t, first, 1)
		second := r.Submit(t, "single.take", `{}`)
		polls := []*apptest.Pending{
			r.Begin(t, http.MethodGet, "/api/v1/executions/"+second+"?wait=30s&status=queued", nil),
			r.Begin(t, http.MethodGet, "/api/v1/executions/"+second+"?wait=30s&status=queued", nil),
		}
		report(t, r, call, `{"status":"succeeded"}`)
		for _, poll := range polls {
			hasAll(t, poll.Answer(t), map[string]string{"status": "running"})
		}
		// What the caller does not know yet is told at once, what has ended always.
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+second+"?wait=30s&status=queued", nil), map[string]string{"status": "running"})
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+first+"?wait=30s&status=succeeded", nil), map[string]string{"status": "succeeded"})
	})
}

func TestListNarrowsAndPages(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("fail", 500, `{"error":"no"}`), apptest.Taking("take"))
		r.Agent(t, "other", apptest.Echo("echo"))
		old := r.Execute(t, "demo.echo", `{}`, "X-Session-ID", "s1").Text("execution_id")
		r.Clock.Advance(time.Hour)
		parent := r.Execute(t, "demo.echo", `{}`, "X-Session-ID", "s1", "X-Actor-ID", "a1", "X-Workflow-ID", "wf").Text("execution_id")
		child := r.Execute(t, "other.echo", `{}`, "X-Parent-Execution-ID", parent).Text("execution_id")
		failed := r.Execute(t, "demo.fail", `{}`, "X-Actor-ID", "a1").Text("execution_id")
		running := taken(t, r, agent, `{}`).ExecutionID

		between := url.QueryEscape(time.Now().Add(30 * time.Minute).UTC().Format(time.RFC3339))
		for query, want := range map[string][]string{
			"":                                  {running, failed, child, parent, old},
			"?status=succeeded":                 {child, parent, old},
			"?status=completed":                 {child, parent, old},
			"?status=FAILED,running":            {running, failed},
			"?node=other":                       {child},
			"?agent=other&function=echo":        {child},
			"?target=demo.echo":                 {parent, old},
			"?reasoner=echo":                    {child, parent, old},
			"?session=s1":                       {parent, old},
			"?session_id=s1&actor_id=a1":        {parent},
			"?actor=a1":                         {failed, parent},
			"?run=wf":                           {child, parent},
			"?parent=" + parent:                 {child},
			"?mode=async":                       {running},
			"?since=30m":                        {running, failed, child, parent},
			"?until=30m":                        {old},
			"?since=1d":                         {running, failed, child, parent, old},
			"?since=" + between:                 {running, failed, child, parent},
			"?until=" + between + "&session=s1": {old},
			"?session=nobody":                   {},
			"?limit=2":                          {running, failed},
		} {
			answer := r.Do(t, http.MethodGet, "/api/v1/executions"+query, nil)
			if got := listed(answer); !slices.Equal(got, want) {
				t.Errorf("%s lists %v, not %v", query, got, want)
			}
			if strings.Contains(string(answer.Body), `"result"`) {
				t.Errorf("%s shows results", query)
			}
		}
		for _, limit := range []int{1, 2, 3, 5} {
			var all []string
			cursor := ""
			for {
				page := r.Do(t, http.MethodGet, "/api/v1/executions?limit="+strconv.Itoa(limit)+"&cursor="+url.QueryEscape(cursor), nil)
				all = append(all, listed(page)...)
				if cursor = page.Text("next_cursor"); cursor == "" {
					break
				}
			}
			if !slices.Equal(all, []string{running, failed, child, parent, old}) {
				t.Errorf("pages of %d give %v", limit, all)
			}
		}
		foreign := base64.RawURLEncoding.EncodeToString([]byte("x9:1:exec"))
		nul := base64.RawURLEncoding.EncodeToString([]byte("x1:1:a\x00b"))
		for query, code := range map[string]string{
			"cursor=abc": "invalid_cursor", "cursor=" + foreign: "invalid_cursor", "cursor=%00": "invalid_cursor", "cursor=" + nul: "invalid_cursor",
			"status=finished": "invalid_status", "status=succeeded,%ff": "invalid_status", "limit=0": "invalid_parameter", "limit=201": "invalid_parameter",
			"limit=x": "invalid_parameter", "since=yesterday": "invalid_parameter", "until=-1h": "invalid_parameter", "mode=batch": "invalid_parameter",
			"node=" + strings.Repeat("n", 256): "invalid_parameter", "session=a%00b": "invalid_parameter", "actor=%ff": "invalid_parameter",
			"function=a%00b": "invalid_parameter", "run=a%0ab": "invalid_parameter", "parent=%00": "invalid_parameter",
		} {
			scenario{name: query, ask: "GET /api/v1/executions?" + query, status: http.StatusBadRequest, must: map[string]string{"code": code}}.run(t, r)
		}
	})
}

func listed(answer apptest.Answer) []string {
	ids := make([]string, max(answer.Len("executions"), 0))
	for i := range ids {
		ids[i] = answer.Text("executions/" + strconv.Itoa(i) + "/execution_id")
	}
	return ids
}

func TestBatchStatusIsAMapByID(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("fail", 500, `{"error":"timeout"}`), apptest.Taking("take"), apptest.Hanging("hang"))
		succeeded := r.Execute(t, "demo.echo", `{"input":{"n":1}}`).Text("execution_id")
		failed := r.Execute(t, "demo.fail", `{}`).Text("execution_id")
		late := r.Execute(t, "demo.hang", `{"timeout_seconds":0.05}`).Text("execution_id")
		running := taken(t, r, agent, `{}`).ExecutionID
		ask := map[string]any{"execution_ids": []string{succeeded, running, failed, late, "exec_unknown", succeeded}}
		answer := r.Do(t, http.MethodPost, "/api/v1/executions/batch-status", ask)
		hasAll(t, answer, map[string]string{
			succeeded + "/status": "succeeded", succeeded + "/result/n": "1", succeeded + "/execution_id": succeeded, running + "/status": "running",
			failed + "/status": "failed", failed + "/error": "timeout", late + "/status": "timeout", late + "/error": "^Execution exceeded",
			"exec_unknown/status": "not_found", "exec_unknown/run_id": "", "exec_unknown/webhook_registered": "false",
		})
		many := func(n int) map[string]any {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = "exec_" + strconv.Itoa(i)
			}
			return map[string]any{"execution_ids": ids}
		}
		const path = "POST /api/v1/executions/batch-status"
		if all := (scenario{ask: path, body: many(1000), status: http.StatusOK}).run(t, r); all.Text("exec_999/status") != "not_found" {
			t.Errorf("1,000 ids: %s", all.Body[:200])
		}
		runAll(t, r, []scenario{
			{name: "1,001 ids", ask: path, body: many(1001), status: http.StatusBadRequest, must: map[string]string{"code": "too_many_ids"}},
			{name: "none", ask: path, body: `{"execution_ids":[]}`, status: http.StatusOK, says: "{}"},
			{name: "nothing", ask: path, body: `{}`, status: http.StatusOK, says: "{}"},
			{name: "a number", ask: path, body: `{"execution_ids":[1]}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}},
			{name: "a list", ask: path, body: `["a"]`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}},
			{name: "ids that no database takes", ask: path, body: `{"execution_ids":["a\u0000b","\"}{"]}`, status: http.StatusOK, says: "not_found"},
		})
	})
}

func TestWebhookDeliveryIsTracked(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t, http.StatusInternalServerError, http.StatusOK)
		r.Agent(t, "research-agent", apptest.JSON("deep_analysis", 200, `{"analysis":"Quantum computing enables…","sources":[]}`),
			apptest.JSON("fail", 500, `{"error":"LLM API rate limit exceeded"}`), apptest.Hanging("hang"))
		submit := func(target, more string) apptest.Answer {
			return scenario{
				ask:    "POST /api/v1/execute/async/research-agent." + target,
				body:   `{"input":{"topic":"quantum computing applications"},"context":{"ticket":7},"webhook":{"url":"` + hook.URL + `","secret":"your-webhook-secret-key","headers":{"X-Custom-ID":"request-123"}}` + more + `}`,
				status: http.StatusAccepted, must: map[string]string{"status": "queued", "webhook_registered": "true", "target": "research-agent." + target},
			}.run(t, r)
		}
		id := submit("deep_analysis", "").Text("execution_id")
		first := hook.Got(t, 1)
		if first.Header.Get("X-Custom-ID") != "request-123" || !strings.HasPrefix(first.Header.Get("X-AgentField-Signature"), "sha256=") {
			t.Errorf("headers: %v", first.Header)
		}
		hasAll(t, apptest.Answer{Body: first.Input}, map[string]string{
			"event": "execution.completed", "execution_id": id, "run_id": runID, "status": "succeeded", "result/sources": "[]", "duration_ms": `^\d+$`,
			"context/ticket": "7", "timestamp": instant,
		})
		if second := hook.Got(t, 2); string(second.Input) != string(first.Input) || second.Header.Get("Webhook-Id") != first.Header.Get("Webhook-Id") {
			t.Error("the second attempt is another message")
		}
		r.Until(t, "both attempts are recorded", func() bool { return r.Get(t, id).Len("webhook_events") == 2 })
		hasAll(t, r.Get(t, id), map[string]string{
			"webhook_registered": "true", "webhook_events/0/attempt": "1", "webhook_events/0/http_status": "500", "webhook_events/0/status": "failed",
			"webhook_events/0/timestamp": instant, "webhook_events/1/attempt": "2", "webhook_events/1/http_status": "200", "webhook_events/1/status": "delivered",
			"webhook_events/1/event_type": "execution.completed", "webhook_events/1/execution_id": id,
		})
		again := "POST /api/v1/executions/" + id + "/webhook/retry"
		scenario{ask: again, status: http.StatusAccepted, must: map[string]string{"success": "true", "execution_id": id}}.run(t, r)
		if third := hook.Got(t, 3); string(third.Input) != string(first.Input) {
			t.Error("a manual redelivery sends another message")
		}
		r.Until(t, "the third attempt is recorded", func() bool { return r.Get(t, id).Text("webhook_events/2/attempt") == "3" })

		for i, tc := range []struct{ target, more, status, words string }{
			{"fail", "", "failed", "LLM API rate limit exceeded"}, {"hang", `,"timeout_seconds":0.05`, "timeout", "Execution exceeded 50 ms limit"},
		} {
			submit(tc.target, tc.more)
			hasAll(t, apptest.Answer{Body: hook.Got(t, 4+i).Input}, map[string]string{ // C5
				"event": "execution.failed", "status": tc.status, "error": tc.words, "error_message": tc.words, "timestamp": instant,
			})
		}
		plain := r.Execute(t, "research-agent.deep_analysis", `{}`).Text("execution_id")
		runAll(t, r, []scenario{
			{name: "nothing to send", ask: "POST /api/v1/executions/" + plain + "/webhook/retry", status: http.StatusConflict, must: map[string]string{"code": "invalid_state", "execution_id": plain}, row: "succeeded"},
			{name: "unknown", ask: "POST /api/v1/executions/exec_unknown/webhook/retry", status: http.StatusNotFound, row: "none"},
		})
	}, func(c *config.Config) {
		c.WebhookBackoff, c.WebhookMaxBackoff = 10*time.Millisecond, 20*time.Millisecond
	})
}

func TestUnusableWebhookIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		for _, hook := range []string{
			`{"url":"ftp://x"}`, `{"url":""}`, `{}`, `{"url":"http://"}`, `{"url":"https://user:secret@example.com/"}`, `{"url":"http://10.0.0.1/"}`,
			`{"url":"http://169.254.169.254/latest"}`, `{"url":"http://[::ffff:10.0.0.1]/"}`, `{"url":"http://example.com:0/"}`, `{"url":"//example.com"}`,
			`{"url":"https://example.com/","secret":"` + strings.Repeat("s", 4097) + `"}`, `{"url":"https://example.com/","headers":{"Host":"x"}}`,
			`{"url":"https://example.com/","headers":{"X-AgentField-Signature":"x"}}`, `{"url":"https://example.com/","headers":{"a b":"x"}}`,
			`{"url":"https://example.com/","headers":{"X-A":"a\nb"}}`, `{"url":"https://example.com/","headers":{"X-A":"` + strings.Repeat("v", 513) + `"}}`,
		} {
			for _, mode := range []string{"", "async/"} {
				scenario{
					ask: "POST /api/v1/execute/" + mode + "demo.echo", body: `{"input":{},"webhook":` + hook + `}`, status: http.StatusBadRequest,
					must: map[string]string{"code": "webhook_invalid", "details": some, "error": "Invalid webhook"}, never: []string{"execution_id", "webhook_error"}, row: "none",
				}.run(t, r)
			}
		}
		scenario{ask: "POST /api/v1/execute/demo.echo", body: `{"webhook":"https://example.com"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}, row: "none"}.run(t, r)
	})
}

func TestPayloadsCanBeDownloadedAsTheyCame(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		big := `{"text":"` + strings.Repeat("abc ", 50_000) + `","n":1.50}`
		r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("fail", 500, `{}`))
		id := r.Execute(t, "demo.echo", `{"input":`+big+`}`).Text("execution_id")
		for _, name := range []string{"input", "result"} {
			got := r.Do(t, http.MethodGet, "/api/v1/executions/"+id+"/"+name, nil)
			if got.Status != http.StatusOK || string(got.Body) != big {
				t.Errorf("%s: %d, %d bytes", name, got.Status, len(got.Body))
			}
			if got.Header.Get("Content-Disposition") != `attachment; filename="`+id+"-"+name+`.json"` {
				t.Errorf("Content-Disposition: %s", got.Header.Get("Content-Disposition"))
			}
		}
		failed := r.Execute(t, "demo.fail", `{}`).Text("execution_id")
		runAll(t, r, []scenario{
			{name: "no result", ask: "GET /api/v1/executions/" + failed + "/result", status: http.StatusNotFound, must: map[string]string{"code": "payload_not_found", "execution_id": failed}},
			{name: "unknown", ask: "GET /api/v1/executions/exec_unknown/input", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}},
		})
	})
}

func TestEventsPage(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		id := r.Submit(t, "demo.echo", `{}`)
		r.Ended(t, id)
		all := r.Do(t, http.MethodGet, "/api/v1/executions/"+id+"/events", nil)
		hasAll(t, all, map[string]string{
			"execution_id": id, "run_id": runID, "status": "succeeded", "has_more": "false", "events/0/type": "execution.queued", "events/0/status": "queued",
			"events/2/type": "execution.succeeded", "events/2/timestamp": instant, "events/2/attempt": "1",
		})
		rest := r.Do(t, http.MethodGet, "/api/v1/executions/"+id+"/events?after="+all.Text("events/0/id"), nil)
		if rest.Len("events") != 2 || rest.Text("events/0/type") != "execution.running" {
			t.Errorf("after the first: %s", rest.Body)
		}
		runAll(t, r, []scenario{
			{name: "foreign", ask: "GET /api/v1/executions/" + id + "/events?after=x", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_cursor"}},
			{name: "unknown", ask: "GET /api/v1/executions/exec_unknown/events", status: http.StatusNotFound},
		})
	})
}
