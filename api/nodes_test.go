package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestNodesRegisterAndAreShown(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		first := apptest.NewAgent(t, "demo", apptest.Echo("echo"), strict())
		metadata := map[string]any{"custom": map[string]any{"descriptions": map[string]any{"echo": "says it again"}}}
		body := first.Registration(map[string]any{
			"team_id": "team", "instance_id": "i-1", "metadata": metadata,
			"communication_config": map[string]any{"protocols": []string{"http"}, "heartbeat_interval": "5s"}, "unknown_field": true,
		})
		registered := map[string]string{
			"success": "true", "node_id": "demo", "message": "Node registered successfully", "resolved_base_url": first.URL, "node_token": some, "instance_id": "^inst_",
		}
		second := apptest.NewAgent(t, "demo", apptest.Echo("echo"), strict())
		runAll(t, r, []scenario{
			{name: "register", ask: "POST /api/v1/nodes/register", body: body, status: http.StatusCreated, must: registered},
			{name: "again by the other path", ask: "POST /api/v1/nodes", body: body, status: http.StatusCreated, must: registered},
			{name: "a second instance", ask: "POST /api/v1/nodes", body: second.Registration(map[string]any{"metadata": metadata}), status: http.StatusCreated, must: map[string]string{"resolved_base_url": second.URL}},
			{name: "get", ask: "GET /api/v1/nodes/demo", status: http.StatusOK, must: map[string]string{
				"id": "demo", "group_id": "demo", "version": "1.0.0", "deployment_type": "long_running", "reasoners/0/id": "echo",
				"reasoners/1/input_schema/required": `["message"]`, "instances/1/base_url": second.URL, "base_url": second.URL, "registered_at": instant, "skills": "[]",
			}},
			{name: "get a version nobody has", ask: "GET /api/v1/nodes/demo?version=9", status: http.StatusNotFound, must: map[string]string{"error": "node not found", "code": "node_not_found"}},
			{name: "heartbeat", ask: "POST /api/v1/nodes/demo/heartbeat", body: `{"status":"ready","instance_id":"i-1"}`, status: http.StatusOK, must: map[string]string{"success": "true", "message": "heartbeat received", "timestamp": instant}},
			{name: "heartbeat without a body", ask: "POST /api/v1/nodes/demo/heartbeat", status: http.StatusOK},
			{name: "lease", ask: "PATCH /api/v1/nodes/demo/status", body: `{"phase":"ready","instance_id":"i-1"}`, status: http.StatusOK, must: map[string]string{"lease_seconds": "300", "next_lease_renewal": instant}},
			{name: "lifecycle", ask: "POST /api/v1/nodes/demo/lifecycle/status", body: `{"lifecycle_status":"ready"}`, status: http.StatusOK, must: map[string]string{"success": "true"}},
			{name: "status", ask: "GET /api/v1/nodes/demo/status", status: http.StatusOK, must: map[string]string{"success": "true", "node_id": "demo", "status/state": "active", "status/lifecycle_status": "ready"}},
			{name: "refresh", ask: "POST /api/v1/nodes/demo/status/refresh", status: http.StatusOK, must: map[string]string{"node_id": "demo", "status/health_status": "active"}},
			{name: "bulk", ask: "POST /api/v1/nodes/status/bulk", body: `{"node_ids":["demo"]}`, status: http.StatusOK, must: map[string]string{"success": "true", "results/demo/state": "active"}},
			{name: "bulk with a stranger", ask: "POST /api/v1/nodes/status/bulk", body: `{"node_ids":["demo","nobody"]}`, status: http.StatusMultiStatus, must: map[string]string{"success": "false", "failed": "1", "errors/0": "nobody: node not found"}},
			{name: "list", ask: "GET /api/v1/nodes", status: http.StatusOK, must: map[string]string{"count": "1", "nodes/0/id": "demo", "filters/health_status": "active"}},
			{name: "list another team", ask: "GET /api/v1/nodes?team_id=nobody&show_all=true", status: http.StatusOK, must: map[string]string{"count": "0", "nodes": "[]"}},
			{name: "discovery", ask: "GET /api/v1/discovery/capabilities?include_input_schema=true", status: http.StatusOK, must: map[string]string{
				"total_agents": "1", "total_reasoners": "2", "capabilities/0/reasoners/0/invocation_target": "demo:echo", "capabilities/0/reasoners/0/description": "says it again",
				"capabilities/0/reasoners/1/input_schema/type": "object", "capabilities/0/skills": "[]", "pagination/has_more": "false",
			}},
			{name: "discovery by glob", ask: "GET /api/v1/discovery/capabilities?reasoner=str*&limit=1", status: http.StatusOK, must: map[string]string{"total_reasoners": "1", "capabilities/0/reasoners/0/id": "strict"}},
			{name: "discovery of nothing", ask: "GET /api/v1/discovery/capabilities?agent=nobody", status: http.StatusOK, must: map[string]string{"capabilities": "[]", "total_agents": "0"}},
			{name: "discovery with a wrong value", ask: "GET /api/v1/discovery/capabilities?limit=many", status: http.StatusBadRequest, must: map[string]string{
				"error": "invalid_parameter", "code": "invalid_parameter", "details/parameter": "limit", "details/provided": "many", "message": some,
			}},
			{name: "shutdown", ask: "POST /api/v1/nodes/demo/shutdown", body: `{"reason":"bye","instance_id":"i-1"}`, status: http.StatusAccepted, must: map[string]string{"lease_seconds": "0", "message": "shutdown acknowledged"}},
		})
		answer := r.Execute(t, "demo.echo", `{"input":{"still":"here"}}`)
		if answer.Text("result/still") != "here" || len(first.Calls("")) != 0 {
			t.Errorf("B37: the other instance should have got it: %s", answer.Body)
		}
	})
}

func TestUnusableRegistrationIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		for name, body := range map[string]string{
			"empty":                   ``,
			"no JSON":                 `{"id":`,
			"a list":                  `[]`,
			"no id":                   `{"base_url":"http://127.0.0.1:1"}`,
			"a dot in the id":         `{"id":"a.b","base_url":"http://127.0.0.1:1"}`,
			"a slash in the id":       `{"id":"a/b","base_url":"http://127.0.0.1:1"}`,
			"a long id":               `{"id":"` + strings.Repeat("x", 256) + `","base_url":"http://127.0.0.1:1"}`,
			"a NUL in the id":         `{"id":"a\u0000b","base_url":"http://127.0.0.1:1"}`,
			"id is a number":          `{"id":7,"base_url":"http://127.0.0.1:1"}`,
			"no address":              `{"id":"n"}`,
			"another scheme":          `{"id":"n","base_url":"ftp://127.0.0.1"}`,
			"credentials":             `{"id":"n","base_url":"http://u:p@127.0.0.1:1"}`,
			"link-local":              `{"id":"n","base_url":"http://169.254.1.1"}`,
			"metadata":                `{"id":"n","base_url":"http://169.254.169.254"}`,
			"metadata by IPv6":        `{"id":"n","base_url":"http://[fd00:ec2::254]"}`,
			"unknown deployment":      `{"id":"n","base_url":"http://127.0.0.1:1","deployment_type":"lambda"}`,
			"a function without id":   `{"id":"n","base_url":"http://127.0.0.1:1","reasoners":[{}]}`,
			"a dot in a function":     `{"id":"n","base_url":"http://127.0.0.1:1","reasoners":[{"id":"a.b"}]}`,
			"a schema that is none":   `{"id":"n","base_url":"http://127.0.0.1:1","reasoners":[{"id":"a","input_schema":{"type":"thing"}}]}`,
			"a remote schema":         `{"id":"n","base_url":"http://127.0.0.1:1","reasoners":[{"id":"a","input_schema":{"$ref":"https://example.com/s.json"}}]}`,
			"a schema from a file":    `{"id":"n","base_url":"http://127.0.0.1:1","reasoners":[{"id":"a","input_schema":{"$ref":"file:///etc/passwd"}}]}`,
			"functions are an object": `{"id":"n","base_url":"http://127.0.0.1:1","reasoners":{"a":{}}}`,
		} {
			answer := scenario{name: name, ask: "POST /api/v1/nodes", body: body, status: http.StatusBadRequest, must: map[string]string{"error": some, "details": some}, row: "none"}.run(t, r)
			if code := answer.Text("code"); code != "invalid_registration" && code != "invalid_json" {
				t.Errorf("%s: %s", name, answer.Body)
			}
		}
		r.Agent(t, "demo", apptest.Echo("echo"))
		runAll(t, r, []scenario{
			{name: "unsupported phase", ask: "PATCH /api/v1/nodes/demo/status", body: `{"phase":"asleep"}`, status: http.StatusBadRequest, must: map[string]string{"error": "unsupported phase: asleep"}, row: "none"},
			{name: "lifecycle", ask: "POST /api/v1/nodes/demo/lifecycle/status", body: `{"lifecycle_status":"asleep"}`, status: http.StatusBadRequest, row: "none"},
			{name: "heartbeat of another shape", ask: "POST /api/v1/nodes/demo/heartbeat", body: `[]`, status: http.StatusBadRequest, row: "none"},
			{name: "heartbeat without JSON", ask: "POST /api/v1/nodes/demo/heartbeat", body: `{`, status: http.StatusBadRequest, row: "none"},
			{name: "health filter", ask: "GET /api/v1/nodes?health_status=sick", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "too many at once", ask: "POST /api/v1/nodes/status/bulk", body: map[string]any{"node_ids": make([]string, 51)}, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "bulk without JSON", ask: "POST /api/v1/nodes/status/bulk", body: `x`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}},
		})
	})
}
