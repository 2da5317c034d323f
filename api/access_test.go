package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestForeignPagesCannotReachALocalServer(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		port := r.URL[strings.LastIndex(r.URL, ":"):]
		const execute = "POST /api/v1/execute/demo.echo"
		for _, tc := range []struct {
			name, ask string
			header    []string
			status    int
			code      string
		}{
			{"a program", execute, nil, 200, ""},
			{"our own page", execute, []string{"Origin", r.URL, "Sec-Fetch-Site", "same-origin"}, 200, ""},
			{"our own page in an older browser", execute, []string{"Origin", r.URL}, 200, ""},
			{"typed by hand", execute, []string{"Sec-Fetch-Site", "none"}, 200, ""},
			{"another site", execute, []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403, "cross_origin"},
			{"another site in an older browser", execute, []string{"Origin", "https://evil.example"}, 403, "cross_origin"},
			{"another port", execute, []string{"Origin", "http://127.0.0.1:1", "Sec-Fetch-Site", "same-site"}, 403, "cross_origin"},
			{"a sandboxed frame", execute, []string{"Origin", "null"}, 403, "cross_origin"},
			{"another site lies about nothing but the site", execute, []string{"Sec-Fetch-Site", "cross-site"}, 403, "cross_origin"},
			{"an origin on the list", execute, []string{"Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"}, 200, ""},
			{"a rebound name", "GET /api/v1/executions", []string{"Host", "evil.example"}, 403, "host_not_allowed"},
			{"a rebound name that looks like ours", "GET /api/v1/executions", []string{"Host", "localhost.evil.example"}, 403, "host_not_allowed"},
			{"an address of the network", "GET /api/v1/executions", []string{"Host", "192.168.1.7:8080"}, 403, "host_not_allowed"},
			{"localhost", "GET /api/v1/executions", []string{"Host", "localhost" + port}, 200, ""},
			{"a name below localhost", "GET /api/v1/executions", []string{"Host", "agentfield.localhost"}, 200, ""},
			{"IPv6", "GET /api/v1/executions", []string{"Host", "[::1]" + port}, 200, ""},
			{"another site reads", "GET /api/v1/executions", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 200, ""},
			{"another site registers an agent", "POST /api/v1/nodes", []string{"Origin", "https://evil.example"}, 403, "cross_origin"},
			{"another site cancels", "POST /api/v1/executions/x/cancel", []string{"Origin", "https://evil.example"}, 403, "cross_origin"},
			{"a key in the address", "GET /api/v1/executions?api_key=x", nil, 400, "credential_in_url"},
		} {
			s := scenario{name: tc.name, ask: tc.ask, header: tc.header, status: tc.status}
			if strings.HasPrefix(tc.ask, "POST") {
				s.body = `{}`
			}
			if tc.code != "" {
				s.must, s.row = map[string]string{"code": tc.code, "details": some, "request_id": some}, "none"
			}
			answer := s.run(t, r)
			if allowed := answer.Header.Get("Access-Control-Allow-Origin"); allowed != "" && allowed != "https://app.example" {
				t.Errorf("%s: Access-Control-Allow-Origin is %q", tc.name, allowed)
			}
		}
		preflight := r.Do(t, http.MethodOptions, "/api/v1/execute/demo.echo", nil, "Origin", "https://app.example",
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-workflow-id")
		if preflight.Status != http.StatusNoContent || preflight.Header.Get("Access-Control-Allow-Origin") != "https://app.example" ||
			!strings.Contains(preflight.Header.Get("Access-Control-Allow-Headers"), "X-Workflow-ID") {
			t.Errorf("preflight: %d %v", preflight.Status, preflight.Header)
		}
		foreign := r.Do(t, http.MethodOptions, "/api/v1/execute/demo.echo", nil, "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
		if foreign.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight of another site: %v", foreign.Header)
		}
	}, func(c *config.Config) { c.CORSOrigins = []string{"https://app.example"} })
}

func TestKeyIsDemandedWhereOneIsConfigured(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := apptest.NewAgent(t, "demo", apptest.Echo("echo"))
		agent.Register(t, r, "X-API-Key", "s3cret-key")
		const execute = "POST /api/v1/execute/demo.echo"
		refused := map[string]string{"error": "unauthorized", "code": "unauthorized", "message": some, "details": some, "request_id": some}
		runAll(t, r, []scenario{
			{name: "none", ask: execute, body: `{}`, status: http.StatusUnauthorized, must: refused, row: "none"},
			{name: "a wrong one", ask: execute, body: `{}`, header: []string{"X-API-Key", "s3cret"}, status: http.StatusUnauthorized, must: refused, row: "none"},
			{name: "another scheme", ask: execute, body: `{}`, header: []string{"Authorization", "Basic s3cret-key"}, status: http.StatusUnauthorized, must: refused, row: "none"},
			{name: "as X-API-Key", ask: execute, body: `{}`, header: []string{"X-API-Key", "s3cret-key"}, status: http.StatusOK, row: "succeeded"},
			{name: "as bearer token", ask: execute, body: `{}`, header: []string{"Authorization", "Bearer s3cret-key"}, status: http.StatusOK, row: "succeeded"},
			{name: "B33 in the address", ask: "GET /api/v1/executions?api_key=s3cret-key", status: http.StatusBadRequest, must: map[string]string{"code": "credential_in_url"}},
			{name: "reading", ask: "GET /api/v1/executions", status: http.StatusUnauthorized, must: refused},
			{name: "registering", ask: "POST /api/v1/nodes", body: agent.Registration(nil), status: http.StatusUnauthorized, must: refused, row: "none"},
			{name: "with a key any host will do", ask: "GET /api/v1/executions", header: []string{"Host", "agents.example", "X-API-Key", "s3cret-key"}, status: http.StatusOK},
			{name: "health needs none", ask: "GET /api/v1/health", status: http.StatusOK},
			{name: "readiness needs none", ask: "GET /readyz", status: http.StatusOK},
			{name: "the description needs none", ask: "GET /api/v1/openapi.yaml", status: http.StatusOK, says: "openapi: 3.1"},
			{name: "neither does the SDK", ask: "GET /sdk/python/agentfield.tar.gz", status: http.StatusOK, says: "\x1f\x8b"},
			{name: "what does not exist", ask: "GET /api/v1/nothing", status: http.StatusNotFound, must: map[string]string{"code": "endpoint_not_found"}},
		})
	}, func(c *config.Config) { c.APIKey = "s3cret-key" })
}

func TestErrorsHaveOneShape(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		runAll(t, r, []scenario{
			{
				name: "an unknown route", ask: "GET /api/v1/nothing", status: http.StatusNotFound, must: map[string]string{
					"error": "endpoint_not_found", "code": "endpoint_not_found", "message": "GET /api/v1/nothing does not exist", "details": "GET /api/v1/nothing does not exist", "request_id": some,
				},
			},
			{name: "an unknown method", ask: "DELETE /api/v1/executions", status: http.StatusNotFound, must: map[string]string{"code": "endpoint_not_found", "message": "DELETE /api/v1/executions does not exist"}},
			{name: "outside v1", ask: "POST /api/v9/x", status: http.StatusNotFound, must: map[string]string{"code": "endpoint_not_found"}},
			{name: "a request id of the caller", ask: "GET /api/v1/executions/exec_unknown", header: []string{"X-Request-ID", "mine-1"}, status: http.StatusNotFound, must: map[string]string{
				"error": "execution not found", "message": some, "details": some, "code": "execution_not_found", "request_id": "mine-1",
			}},
			{name: "a request id that is none", ask: "GET /api/v1/executions/exec_unknown", header: []string{"X-Request-ID", strings.Repeat("x", 256)}, status: http.StatusNotFound, must: map[string]string{"request_id": "^req_"}},
		})
		problem := r.Do(t, http.MethodGet, "/api/v1/executions/exec_unknown", nil, "Accept", "application/problem+json")
		if media := problem.Header.Get("Content-Type"); media != "application/problem+json" {
			t.Errorf("media type %q", media)
		}
		hasAll(t, problem, map[string]string{
			"type": "^about:blank|^http", "title": "execution not found", "status": "404", "detail": some, "instance": "/api/v1/executions/exec_unknown",
			"error": "execution not found", "code": "execution_not_found", "request_id": some,
		})
		plain := r.Do(t, http.MethodGet, "/api/v1/executions/exec_unknown", nil)
		if media := plain.Header.Get("Content-Type"); media != "application/json" || plain.Has("detail") || plain.Header.Get("X-Request-ID") != plain.Text("request_id") {
			t.Errorf("%v %s", plain.Header, plain.Body)
		}
		if plain.Header.Get("Cache-Control") != "no-store" || plain.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers: %v", plain.Header)
		}
	})
}
