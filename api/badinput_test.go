package api_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestBadInputGetsAClearErrorAndLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"), strict())
		invalid := map[string]string{"code": "invalid_json", "error": "Invalid request body", "details": some, "message": some, "request_id": some}
		parameter := map[string]string{"code": "invalid_parameter", "details": some}
		bodies := []struct {
			name, body string
			status     int
			must       map[string]string
		}{
			{"empty", ``, 400, invalid},
			{"white space", " \n ", 400, invalid},
			{"half an object", `{"input":{"name":`, 400, invalid},
			{"two values", `{} {}`, 400, invalid},
			{"a comma too many", `{"input":{},}`, 400, invalid},
			{"single quotes", `{'input':{}}`, 400, invalid},
			{"NaN", `{"input":{"n":NaN}}`, 400, invalid},
			{"an array", `[]`, 400, invalid},
			{"a string", `"hello"`, 400, invalid},
			{"null", `null`, 400, invalid},
			{"a form", `input=hello`, 400, invalid},
			{"input is an array", `{"input":[1]}`, 400, invalid},
			{"input is a text", `{"input":"x"}`, 400, invalid},
			{"input is a number", `{"input":7}`, 400, invalid},
			{"broken UTF-8", "{\"input\":{\"a\":\"\xff\xfe\"}}", 400, invalid},
			{"half a character", "{\"input\":{\"a\":\"\xc3\"}}", 400, invalid},
			{"a NUL byte", "{\"input\":{\"a\":\"x\x00y\"}}", 400, invalid},
			{"65 levels", `{"input":` + strings.Repeat(`{"a":`, 64) + `1` + strings.Repeat(`}`, 64) + `}`, 400, invalid},
			{"100,000 levels", `{"input":{"a":` + strings.Repeat(`[`, 100_000), 400, invalid},
			{"webhook is a list", `{"webhook":[]}`, 400, invalid},
			{"limit as text", `{"timeout_seconds":"10"}`, 400, invalid},
			{"limit of zero", `{"timeout_seconds":0}`, 400, parameter},
			{"limit below zero", `{"timeout_seconds":-1}`, 400, parameter},
			{"limit beyond the limit", `{"timeout_seconds":86401}`, 400, parameter},
			{"limit beyond all bounds", `{"timeout_seconds":1e300}`, 400, parameter},
			{"does not fit the schema", `{"input":{"message":7}}`, 422, map[string]string{"code": "input_invalid", "details": "^.*/message.*$"}},
		}
		for _, mode := range []string{"", "async/"} {
			for _, b := range bodies {
				s := scenario{
					name: mode + b.name, ask: "POST /api/v1/execute/" + mode + "demo.strict", body: b.body, status: b.status, must: b.must,
					never: []string{"execution_id"}, row: "none",
				}
				runAll(t, r, []scenario{s})
			}
		}
		for _, target := range []string{
			"demo", "demo.", ".echo", "demo.echo.more", "a/b.echo", "demo.a%2Fb", "%00.echo", "demo.%00", "%ff.echo", strings.Repeat("n", 256) + ".echo", "demo:task:echo", "%20.echo.",
		} {
			answer := scenario{ask: "POST /api/v1/execute/" + target, body: `{}`, status: refusal(target), row: "none"}.run(t, r)
			if answer.Has("execution_id") || answer.Text("code") == "" {
				t.Errorf("%s: %s", target, answer.Body)
			}
		}
		for _, header := range []string{"X-Session-ID", "X-Actor-ID", "X-Workflow-ID", "X-Run-ID", "X-Parent-Execution-ID", "X-Caller-Agent-ID", "X-Agent-Node-ID"} {
			for name, value := range map[string]string{"long": strings.Repeat("x", 256), "broken UTF-8": "\xff\xfe", "half a character": "ab\xc3"} {
				scenario{
					name: header + " " + name, ask: "POST /api/v1/execute/demo.echo", body: `{}`, header: []string{header, value}, status: http.StatusBadRequest,
					must: map[string]string{"code": "invalid_parameter", "details": "^" + header}, row: "none",
				}.run(t, r)
			}
		}
		if calls := agent.Calls(""); len(calls) != 0 {
			t.Errorf("bad input has reached the agent %d times", len(calls))
		}
		good := r.Execute(t, "demo.echo", `{"input":{"a":"x\u0000y \ud83d\ude00"}}`, "X-Session-ID", strings.Repeat("é", 127)+"x")
		if good.Status != http.StatusOK || good.Text("result/a") != "x\x00y 😀" {
			t.Errorf("an escaped NUL is good JSON: %d %s", good.Status, good.Body)
		}
		if deep := r.Execute(t, "demo.echo", `{"input":`+strings.Repeat(`{"a":`, 63)+`1`+strings.Repeat(`}`, 63)+`}`); deep.Status != http.StatusOK {
			t.Errorf("64 levels: %d %s", deep.Status, deep.Body)
		}
	})
}

// refusal is the status for a target that cannot be: one with a slash is another path.
func refusal(target string) int {
	if strings.Contains(target, "/") || strings.Contains(target, "%2F") {
		return http.StatusNotFound
	}
	return http.StatusBadRequest
}

func TestIDsThatNoDatabaseTakesAreUnknown(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		for _, id := range []string{"%00", "a%00b", "%ff", "%c3", "%0a", strings.Repeat("x", 5000), "'%20OR%201=1--", "%25s", "..", "%E2%80%AE"} {
			for _, ask := range []string{
				"GET /api/v1/executions/" + id, "GET /api/v1/executions/" + id + "/events", "GET /api/v1/executions/" + id + "/input", "GET /api/v1/executions/" + id + "/result",
				"POST /api/v1/executions/" + id + "/cancel", "POST /api/v1/executions/" + id + "/webhook/retry", "POST /api/v1/executions/" + id + "/status",
				"POST /api/v1/executions/" + id + "/progress", "GET /api/v1/nodes/" + id, "GET /api/v1/nodes/" + id + "/status", "POST /api/v1/nodes/" + id + "/heartbeat",
				"PATCH /api/v1/nodes/" + id + "/status", "POST /api/v1/nodes/" + id + "/shutdown", "POST /api/v1/nodes/" + id + "/status/refresh",
				"POST /api/v1/nodes/" + id + "/lifecycle/status",
			} {
				if id == ".." {
					continue // clients resolve it themselves
				}
				var body any
				if strings.HasPrefix(ask, "P") {
					body = `{"status":"succeeded","progress":0.5,"phase":"ready","lifecycle_status":"ready"}`
				}
				answer := scenario{name: ask, ask: ask, body: body, status: http.StatusNotFound, row: "none"}.run(t, r)
				if code := answer.Text("code"); code != "execution_not_found" && code != "node_not_found" {
					t.Errorf("%s: %s", ask, answer.Body)
				}
			}
		}
		for _, ask := range []string{
			"GET /api/v1/nodes?team_id=%00", "GET /api/v1/nodes?group_id=%ff", "GET /api/v1/nodes/demo?version=%00",
			"GET /api/v1/discovery/capabilities?agent=%00", "GET /api/v1/discovery/capabilities?node_ids=demo,%ff",
			"GET /api/v1/discovery/capabilities?tags=%00", "GET /api/v1/discovery/capabilities?reasoner=%ff*",
		} {
			method, path, _ := strings.Cut(ask, " ")
			if answer := r.Do(t, method, path, nil); answer.Status >= 500 {
				t.Errorf("%s: %d %s", ask, answer.Status, answer.Body)
			}
		}
		scenario{ask: "POST /api/v1/nodes/status/bulk", body: `{"node_ids":["demo","a\u0000b"]}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}}.run(t, r)
	})
}

func TestBodyOverTheLimitIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		large := `{"input":{"a":"` + strings.Repeat("x", 600<<10) + `"}}`
		for _, ask := range []string{"POST /api/v1/execute/demo.echo", "POST /api/v1/execute/async/demo.echo", "POST /api/v1/nodes"} {
			scenario{
				name: ask, ask: ask, body: large, status: http.StatusRequestEntityTooLarge,
				must: map[string]string{"code": "payload_too_large", "error": "Payload too large", "details": some, "request_id": some}, row: "none",
			}.run(t, r)
		}
		var bomb bytes.Buffer
		zip := gzip.NewWriter(&bomb)
		if _, err := zip.Write([]byte(large)); err != nil || zip.Close() != nil {
			t.Fatal("cannot compress")
		}
		answer := r.Do(t, http.MethodPost, "/api/v1/execute/demo.echo", bomb.Bytes(), "Content-Encoding", "gzip")
		if answer.Status != http.StatusUnsupportedMediaType || answer.Text("code") != "unsupported_encoding" {
			t.Errorf("a body that grows beyond the limit when it is unpacked: %d %.200s", answer.Status, answer.Body)
		}
	}, func(c *config.Config) { c.BodyLimit = 64 << 10 })
}

func TestFullQueueRefusesWithoutARow(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		for _, id := range []string{"one", "two"} {
			r.Agent(t, id, apptest.Echo("echo"))
			r.Do(t, http.MethodPost, "/api/v1/nodes/"+id+"/shutdown", nil)
		}
		for range 3 {
			r.Submit(t, "one.echo", `{}`)
		}
		full := scenario{
			ask: "POST /api/v1/execute/async/one.echo", body: `{}`, status: http.StatusTooManyRequests,
			must: map[string]string{"code": "agent_queue_full", "error_category": "concurrency_limit"}, never: []string{"execution_id"}, row: "none",
		}.run(t, r)
		if full.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		for { // the server counts all queues together a few times a second
			before := r.Store.Rows(t)
			answer := r.Do(t, http.MethodPost, "/api/v1/execute/async/two.echo", `{}`)
			if answer.Status == http.StatusAccepted {
				continue
			}
			if answer.Text("code") == "agent_queue_full" {
				continue // the node is full before the server has counted
			}
			hasAll(t, answer, map[string]string{"code": "queue_full", "error_category": "concurrency_limit"})
			if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || r.Store.Rows(t) != before {
				t.Errorf("%d %v %s", answer.Status, answer.Header, answer.Body)
			}
			break
		}
		if moved(t, r, "agentfield_executions_refused_total") < 2 {
			t.Error("refusals are not counted")
		}
	}, func(c *config.Config) { c.NodeDepth, c.QueueDepth = 3, 5 })
}
