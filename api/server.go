// Package api is the face of the server: JSON for programs under /api/v1 and pages for people at the root, by the same handlers. Its
// invariant: the mount decides the representation, every route names the right it demands, and services never see a request.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/agentlog"
	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/bulk"
	"github.com/agentfield/agentfield/app/desk"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/memory"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/app/view"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/docs"
)

// Options are the services behind the handlers and what the handlers have to know of the process.
type Options struct {
	Executions *execution.Service
	Nodes      *node.Service
	Webhooks   *webhook.Service
	Approvals  *approval.Service
	Workflows  *workflow.Service
	Desk       *desk.Desk
	Logs       *agentlog.Service
	Memory     *memory.Service
	Hub        *event.Hub
	Access     *access.Service
	Audit      *audit.Reader
	Views      *view.Service
	Bulk       *bulk.Service
	Metrics    *prometheus.Registry
	Log        *slog.Logger
	Now        func() time.Time

	// Check reports what stands in the way of work: an unreachable database, a loop that does not run. nil: ready.
	Check       func(ctx context.Context) error
	Version     string
	PublicURL   string
	BodyLimit   int
	MaxTimeout  time.Duration
	ExportLimit int // rows of one export
	CORSOrigins []string
	// ApprovalSecret is what external hubs sign decisions with; empty: signed decisions are refused.
	ApprovalSecret string
}

// Server answers requests.
type Server struct {
	Options
	app   *fiber.App
	final *lru.Cache[string, []byte] // answers about executions that have ended, for batch-status

	python  sdkArchive
	library func() (*docs.Library, error)
}

// New wires routes and middleware.
func New(o Options) *Server {
	final, err := lru.New[string, []byte](maxKept)
	if err != nil {
		panic(err) // only a size below one is refused
	}
	s := &Server{Options: o, final: final, library: sync.OnceValues(newLibrary)}
	s.app = fiber.New(fiber.Config{
		AppName:               "agentfield",
		DisableStartupMessage: true,
		Immutable:             true, // strings of a request outlive it: fiber would reuse their memory
		StreamRequestBody:     false,
		BodyLimit:             o.BodyLimit,
		ReadBufferSize:        16 << 10,
		ReadTimeout:           60 * time.Second,
		IdleTimeout:           120 * time.Second,
		WriteTimeout:          0, // it would cut streams
		ErrorHandler:          s.fail,
		UnescapePath:          true,
		// Only listed proxies may say who the client is; none are.
		EnableTrustedProxyCheck: true,
	})
	s.app.Use(s.identify, s.logRequest, s.protect, s.recovered, plain)
	if len(o.CORSOrigins) > 0 {
		s.app.Use("/api", cors.New(cors.Config{
			AllowOrigins: strings.Join(o.CORSOrigins, ","), AllowMethods: "GET,POST,PUT,PATCH,DELETE,OPTIONS",
			AllowHeaders: "Origin,Content-Type,Accept,Authorization,X-API-Key,X-Workflow-ID,X-Run-ID,X-Session-ID,X-Actor-ID,Idempotency-Key",
		}))
	}
	s.mount()
	return s
}

// Serve accepts requests until Shutdown.
func (s *Server) Serve(l net.Listener) error { return s.app.Listener(newListener(l)) }

// Shutdown stops accepting and waits for open requests. Close the event hub before: open streams would hold it up.
func (s *Server) Shutdown(ctx context.Context) error { return s.app.ShutdownWithContext(ctx) }

// App is the handler itself, for tests.
func (s *Server) App() *fiber.App { return s.app }

const (
	localRequestID = "request_id"
	localJSON      = "json"
)

// identify gives each request an id, which answers carry and the log names.
func (s *Server) identify(c *fiber.Ctx) error {
	name(c)
	return c.Next()
}

func name(c *fiber.Ctx) {
	id := c.Get("X-Request-ID")
	if id == "" || opaque("X-Request-ID", id) != nil {
		id = "req_" + uuid.NewString()
	}
	c.Locals(localRequestID, id)
	c.Set("X-Request-ID", id)
}

func requestID(c *fiber.Ctx) string {
	id, _ := c.Locals(localRequestID).(string)
	return id
}

// recovered turns a panic into an internal error with its stack in the log.
func (s *Server) recovered(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("a handler panicked", "request_id", requestID(c), "method", c.Method(), "path", c.Path(), "panic", p, "stack", string(debug.Stack()))
			err = errors.New("panic in a handler")
		}
	}()
	return c.Next()
}

// fail writes the answer of every error.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	if requestID(c) == "" { // refused before the first handler: a body over the limit
		name(c)
	}
	f := asFailure(err)
	if f.code == "payload_too_large" && f.maxBytes == 0 {
		f.maxBytes = s.BodyLimit
	}
	if f.executionID == "" && f.code != "execution_not_found" && f.code != "endpoint_not_found" {
		named := *f
		named.executionID = executionOf(c)
		f = &named
	}
	if f.status >= 500 && f.code == "internal_error" {
		s.Log.Error("request failed", "request_id", requestID(c), "method", c.Method(), "path", c.Path(), "execution_id", f.executionID, "error", err)
	}
	if f.retryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, f.retrySeconds())
	}
	if from, ok := c.Context().Conn().(*conn); ok && f.status == fiber.StatusRequestEntityTooLarge {
		from.refused.Store(true)
	}
	if f.category == "concurrency_limit" {
		s.Executions.Refused()
	}
	c.Status(f.status)
	if !wantsJSON(c) {
		return s.failurePage(c, f)
	}
	problem := strings.Contains(c.Get(fiber.HeaderAccept), "application/problem+json")
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	if problem {
		c.Set(fiber.HeaderContentType, "application/problem+json")
	}
	return c.Send(f.json(requestID(c), problem, c.Path()))
}

// wantsJSON: the mount decides, not the Accept header (curl accepts everything).
func wantsJSON(c *fiber.Ctx) bool {
	return c.Locals(localJSON) != nil || strings.HasPrefix(c.Path(), "/api/")
}
