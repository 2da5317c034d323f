package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/bulk"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/app/view"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/app/workflow"
)

// Route is one line of the table: what it answers to and which right it demands.
type Route struct {
	Method, Path string
	Scope        access.Scope
	handler      fiber.Handler
}

// Shared are the routes that people and programs have in common: the same handler gives a page at the root and JSON under /api/v1.
func (s *Server) Shared() []Route {
	return slices.Concat([]Route{
		{"GET", "/executions", access.Read, s.listExecutions},
		{"GET", "/executions/:id", access.Read, s.showExecution},
		{"GET", "/executions/:id/input", access.Read, s.downloadInput},
		{"GET", "/executions/:id/result", access.Read, s.downloadResult},
		{"POST", "/executions/:id/cancel", access.Execute, s.cancelExecution},
		{"POST", "/executions/:id/webhook/retry", access.Execute, s.retryWebhook},
	},
		s.aboutRoutes(),
		s.pauseRoutes(),
		s.searchRoutes(),
		s.bulkRoutes(),
		s.runRoutes(),
		s.approvalRoutes(),
		s.nodeRoutes(),
		s.functionRoutes(),
		s.endpointRoutes(),
		s.hostRoutes(),
		s.hookRoutes(),
		s.whoRoutes(),
		s.userRoutes(),
		s.auditRoutes(),
	)
}

// Machine are the routes of /api/v1 for callers and agents only.
func (s *Server) Machine() []Route {
	return slices.Concat([]Route{
		{"GET", "/overview", access.Read, s.overview},
		{"GET", "/failure-groups", access.Read, s.failureGroups},
		{"POST", "/execute/async/:target", access.Execute, s.executeAsync},
		{"POST", "/execute/:target", access.Execute, s.execute},
		{"POST", "/executions/batch-status", access.Read, s.batchStatus},
		{"GET", "/executions/:id/events", access.Read, s.executionEvents},

		{"POST", "/executions/note", access.Agent, s.note},
		{"POST", "/executions/:id/status", access.Agent, s.reportStatus},
		{"POST", "/executions/:id/progress", access.Agent, s.progress},

		{"POST", "/nodes/register", access.Agent, s.registerNode},
		{"POST", "/nodes/register-serverless", access.Agent, s.registerServerless},
		{"POST", "/nodes/status/bulk", access.Read, s.bulkNodeStatus},
		{"POST", "/nodes", access.Agent, s.registerNode},
		{"GET", "/nodes/:id/status", access.Read, s.nodeStatus},
		{"POST", "/nodes/:id/status/refresh", access.Read, s.refreshNode},
		{"PATCH", "/nodes/:id/status", access.Agent, s.renewLease},
		{"POST", "/nodes/:id/heartbeat", access.Agent, s.heartbeat},
		{"POST", "/nodes/:id/lifecycle/status", access.Agent, s.setLifecycle},
		{"POST", "/nodes/:id/shutdown", access.Agent, s.shutdownNode},
		{"POST", "/nodes/:id/actions/ack", access.Agent, s.acknowledgeAction},
		{"POST", "/actions/claim", access.Agent, s.claimActions},
		{"GET", "/discovery/capabilities", access.Read, s.capabilities},
	},
		s.saidRoutes(),
		s.memoryRoutes(),
		s.agentApprovalRoutes(),
		s.workflowRoutes(),
		s.keyAPI(),
		s.legacyRoutes(),
	)
}

// Human are the routes of the pages only.
func (s *Server) Human() []Route {
	return slices.Concat([]Route{
		{"GET", "/", access.Read, s.overview},
		{"GET", "/executions/rows", access.Read, s.executionRows},
		{"GET", "/executions/fresh", access.Read, s.freshExecutions},
		{"GET", "/g", access.Read, s.resolve},
		{"GET", "/g/:id", access.Read, s.resolve},
		{"GET", "/events", access.Read, s.stream},
		{"POST", "/theme", access.Public, s.setTheme},
		{"POST", "/zone", access.Public, s.setZone},
		{"GET", "/static/*", access.Public, s.asset},
		{"GET", "/favicon.ico", access.Public, s.favicon},
	},
		s.aboutPages(),
		s.savedRoutes(),
		s.bulkPages(),
		s.workflowPages(),
		s.runPages(),
		s.functionPages(),
		s.hookPages(),
		s.inboxRoutes(),
		s.signInRoutes(),
		s.keyPages(), s.docsRoutes(),
	)
}

// Open are the routes for machines that watch the server.
func (s *Server) Open() []Route {
	return []Route{
		{"GET", "/livez", access.Public, s.live},
		{"GET", "/readyz", access.Public, s.ready},
		{"GET", "/healthz", access.Public, s.ready},
		{"GET", "/health", access.Public, s.health},
		{"GET", "/api/v1/health", access.Public, s.health},
		{"GET", "/api/v1/openapi.yaml", access.Public, s.openAPIFile},
		{"GET", "/sdk/python/agentfield.tar.gz", access.Public, s.pythonSDK},
		{"GET", "/metrics", access.Public, adaptor.HTTPHandler(promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{}))},
	}
}

func (s *Server) mount() {
	s.add(s.app, s.Open())
	v1 := s.app.Group("/api/v1", asJSON)
	s.add(v1, s.Machine())
	s.add(v1, s.Shared())
	s.add(s.app.Group("/api/ui", asJSON), s.Tools())
	s.app.Use("/api", asJSON, notFound)
	pages := s.app.Group("/", s.asPage)
	s.add(pages, s.Human())
	s.add(pages, s.Shared())
	s.app.Use(notFound)
}

// add registers routes; one without a scope is a mistake that must not start.
func (s *Server) add(r fiber.Router, routes []Route) {
	for _, route := range routes {
		if route.Scope == "" {
			panic(fmt.Sprintf("api: %s %s has no scope", route.Method, route.Path))
		}
		handlers := []fiber.Handler{s.demand(route.Scope)}
		if strings.Contains(route.Path, ":") {
			handlers = append(handlers, possible(route.Path))
		}
		handlers = append(handlers, route.handler)
		r.Add(route.Method, route.Path, handlers...)
		if route.Method == fiber.MethodGet && route.Scope == access.Public {
			r.Head(route.Path, handlers...) // balancers and monitors ask this way
		}
	}
}

// possible spares the database ids that nothing can have. PostgreSQL would refuse some of them with an error.
func possible(path string) fiber.Handler {
	return func(c *fiber.Ctx) error {
		wrong := func(name string) bool { return name != "target" && opaque(name, c.Params(name)) != nil }
		if !slices.ContainsFunc(c.Route().Params, wrong) {
			return c.Next()
		}
		switch {
		case strings.HasPrefix(path, "/nodes/"), strings.HasPrefix(path, "/v1/nodes/"):
			return nodeNotFound(node.ErrUnknownNode)
		case strings.HasPrefix(path, "/webhooks/endpoints/"):
			return webhook.ErrNoEndpoint
		case strings.HasPrefix(path, "/webhooks/"):
			return webhook.ErrUnknown
		case strings.HasPrefix(path, "/approvals/"):
			return approval.ErrNotFound
		case strings.HasPrefix(path, "/bulk/"):
			return bulk.ErrNotFound
		case strings.HasPrefix(path, "/views/"):
			return view.ErrNotFound
		case strings.HasPrefix(path, "/workflows/"), strings.HasPrefix(path, "/runs/"), strings.HasPrefix(path, "/v1/workflows/"), strings.HasPrefix(path, "/v2/"):
			return workflow.ErrNotFound
		case strings.HasPrefix(path, "/settings/users/"):
			return access.ErrNoUser
		case strings.HasPrefix(path, "/settings/api-keys/"):
			return access.ErrNoKey
		}
		return execution.ErrNotFound
	}
}

func asJSON(c *fiber.Ctx) error {
	c.Locals(localJSON, true)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	return c.Next()
}

func notFound(c *fiber.Ctx) error {
	return fiber.NewError(fiber.StatusNotFound, c.Method()+" "+c.Path()+" does not exist")
}
