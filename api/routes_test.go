package api_test

import (
	"log/slog"
	"regexp"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentfield/agentfield/api"
	"github.com/agentfield/agentfield/app/access"
)

// table is a server that only shows its routes: none of them is called.
func table() *api.Server {
	return api.New(api.Options{Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), BodyLimit: 1 << 20})
}

func TestEveryRouteNamesTheRightItDemands(t *testing.T) {
	t.Parallel()
	s := table()
	public := []string{
		"GET /livez", "GET /readyz", "GET /healthz", "GET /health", "GET /metrics", "GET /api/v1/health", "GET /api/v1/openapi.yaml", "GET /sdk/python/agentfield.tar.gz",
		"POST /theme", "POST /zone", "GET /static/*", "GET /favicon.ico", "GET /sign-in", "POST /sign-in", "POST /sign-in/first", "POST /sign-out",
		"GET /docs", "GET /docs/:page", "GET /llms.txt",
	}
	for _, route := range slices.Concat(s.Shared(), s.Machine(), s.Human(), s.Tools(), s.Open()) {
		name := route.Method + " " + route.Path
		switch {
		case route.Scope == access.Public && !slices.Contains(public, name):
			t.Errorf("%s is open to everybody and not on the list of what may be", name)
		case route.Scope != access.Public && !slices.Contains(access.Scopes(), route.Scope):
			t.Errorf("%s demands %q, which nobody can hold", name, route.Scope)
		case route.Method != "GET" && route.Scope == access.Read && !reads(name):
			t.Errorf("%s changes something and demands no more than reading", name)
		}
	}
}

// reads: questions that do not fit into an address, and what people change about nothing but their own view and their own access.
func reads(name string) bool {
	return slices.Contains([]string{
		"POST /executions/batch-status", "POST /nodes/status/bulk", "POST /nodes/:id/status/refresh", "POST /approvals/views", "POST /approvals/views/:id/delete",
		"POST /views", "POST /views/:id/delete",
		"POST /settings/profile/password", "POST /settings/profile/sign-out-everywhere", "POST /settings/api-keys", "POST /settings/api-keys/:key/revoke",
		"POST /executions/:id/seen", "POST /runs/:run/seen",
	}, name)
}

// twins are the pages that have no JSON route of the same path, with the one that tells the same (D6). What is not a page stands for itself.
func twins() map[string]string {
	return map[string]string{
		"GET /":                     "GET /overview",
		"GET /bulk/new":             "GET /executions",
		"GET /executions/rows":      "GET /executions",
		"GET /executions/fresh":     "GET /executions",
		"GET /runs/rows":            "GET /runs",
		"GET /runs/fresh":           "GET /runs",
		"GET /runs/:run/lanes":      "GET /workflows/:run/dag",
		"GET /webhooks/rows":        "GET /webhooks",
		"GET /webhooks/fresh":       "GET /webhooks",
		"GET /webhooks/redeliver":   "POST /webhooks/redeliver",
		"GET /webhooks/stop":        "POST /webhooks/stop",
		"GET /approvals/rows":       "GET /approvals",
		"GET /approvals/fresh":      "GET /approvals",
		"GET /approvals/badge":      "GET /approvals",
		"GET /approvals/bulk":       "GET /approvals",
		"POST /approvals/bulk":      "POST /approvals/:id/decide",
		"GET /settings":             "GET /settings/profile",
		"GET /executions/compare":   "GET /executions/:id",
		"GET /executions/:id/rerun": "POST /executions/:id/rerun",
		"GET /runs/:run/dag.mmd":    "GET /workflows/:run/dag.mmd",
		"GET /runs/:run/dag.svg":    "GET /workflows/:run/dag.svg",
		"GET /runs/:run/dag.txt":    "GET /workflows/:run/dag.txt",
		"POST /runs/:run/cancel":    "POST /workflows/:run/cancel-tree",
		"POST /runs/:run/pause":     "POST /workflows/:run/pause-tree",
		"POST /runs/:run/resume":    "POST /workflows/:run/resume-tree",
		"GET /g":                    "GET /executions",
		"GET /g/:id":                "GET /executions/:id",
		"GET /events":               "GET /executions/:id/events",

		"GET /reasoners":              "GET /discovery/capabilities",
		"POST /reasoners/:target/try": "POST /execute/:target",
	}
}

// ownAffairs are what people do about their own sessions and views: a program has neither.
func ownAffairs(name string) bool {
	return slices.Contains([]string{
		"POST /views", "POST /views/:id/delete", "POST /approvals/views", "POST /approvals/views/:id/delete", "POST /approvals/:id/draft", "PUT /approvals/:id/draft",
		"POST /settings/profile/password", "POST /settings/profile/sign-out-everywhere", "POST /executions/:id/rerun/draft", "POST /reasoners/:target/try/draft", "POST /executions/:id/seen", "POST /runs/:run/seen",
	}, name)
}

func TestEveryPageHasAJSONTwin(t *testing.T) {
	t.Parallel()
	s := table()
	machine := map[string]bool{}
	for _, route := range slices.Concat(s.Machine(), s.Shared()) {
		machine[route.Method+" "+route.Path] = true
	}
	for _, route := range s.Human() {
		name := route.Method + " " + route.Path
		if route.Scope == access.Public || ownAffairs(name) {
			continue // files, and what belongs to a browser
		}
		twin := name
		if other, ok := twins()[name]; ok {
			twin = other
		}
		if !machine[twin] {
			t.Errorf("D6: the page %s has no JSON twin: mount its handler in Shared(), or name the twin", name)
		}
	}
}

func TestOpenAPIHasTheRoutesOfTheTable(t *testing.T) {
	t.Parallel()
	s, doc := table(), loadContract(t).doc
	scopes := map[string]string{}
	parameter := regexp.MustCompile(`:(\w+)`)
	add := func(prefix string, routes []api.Route) {
		for _, route := range routes {
			scopes[route.Method+" "+prefix+parameter.ReplaceAllString(route.Path, "{$1}")] = string(route.Scope)
		}
	}
	add("/api/v1", s.Shared())
	add("/api/v1", s.Machine())
	add("", s.Open())
	add("/api/ui", s.Tools())
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			name := method + " " + path
			described[name] = true
			scope, exists := scopes[name]
			if !exists {
				t.Errorf("openapi.yaml has %s, which the server does not", name)
				continue
			}
			if said := operation.Extensions["x-scope"]; said != scope {
				t.Errorf("%s demands %q, and openapi.yaml says %v", name, scope, said)
			}
			if operation.Summary == "" || operation.OperationID == "" || len(operation.Tags) != 1 {
				t.Errorf("%s has no summary, no operationId or no tag", name)
			}
			for _, match := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				if operation.Parameters.GetByInAndName("path", match[1]) == nil {
					t.Errorf("%s does not describe %s", name, match[1])
				}
			}
		}
	}
	for name := range scopes {
		if !described[name] {
			t.Errorf("the server has %s, which openapi.yaml does not describe", name)
		}
	}
}
