// Package api is the face of the server: JSON for programs under /api/v1 and pages for people at the root, by the same handlers. Its
// invariant: the mount decides the representation, every route names the right it demands, and services never see a request.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/app/webhook"
)

// Options are the services behind the handlers and what the handlers have to know of the process.
type Options struct {
	Executions *execution.Service
	Nodes      *node.Service
	Webhooks   *webhook.Service
	Hub        *event.Hub
	Gate       *access.Gate
	Metrics    *prometheus.Registry
	Log        *slog.Logger
	Now        func() time.Time

	// Check reports what stands in the way of work: an unreachable database, a loop that does not run. nil: ready.
	Check       func(ctx context.Context) error
	Version     string
	PublicURL   string
	BodyLimit   int
	MaxTimeout  time.Duration
	CORSOrigins []string
	Loopback    bool // without credentials: then requests must name a loopback host and come from our own pages
}

// Server answers requests.
type Server struct {
	Options
	app *fiber.App
}

// New wires routes and middleware.
func New(o Options) *Server {
	s := &Server{Options: o}
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
	s.app.Use(s.identify, s.protect, s.recovered)
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
func (s *Server) Serve(l net.Listener) error { return s.app.Listener(l) }

// Shutdown stops accepting and waits for open requests. Close the event hub before: open streams would hold it up.
func (s *Server) Shutdown(ctx context.Context) error { return s.app.ShutdownWithContext(ctx) }

// App is the handler itself, for tests.
func (s *Server) App() *fiber.App { return s.app }

const (
	localRequestID = "request_id"
	localPrincipal = "principal"
	localJSON      = "json"
)

// identify gives each request an id, which answers carry and the log names.
func (s *Server) identify(c *fiber.Ctx) error {
	id := c.Get("X-Request-ID")
	if id == "" || opaque("X-Request-ID", id) != nil {
		id = "req_" + uuid.NewString()
	}
	c.Locals(localRequestID, id)
	c.Set("X-Request-ID", id)
	return c.Next()
}

func requestID(c *fiber.Ctx) string {
	id, _ := c.Locals(localRequestID).(string)
	return id
}

// recovered turns a panic into an internal error with its stack in the log.
func (s *Server) recovered(c *fiber.Ctx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.Log.Error("a handler panicked", "request_id", requestID(c), "method", c.Method(), "path", c.Path(), "panic", p)
			err = errors.New("panic in a handler")
		}
	}()
	return c.Next()
}

// protect refuses what a foreign web page may have sent. Where no credentials are demanded nothing else would stop it (ruling C17): the
// Host must be a loopback name, so that no rebound name reaches us, and unsafe requests must come from our own pages or from no page.
func (s *Server) protect(c *fiber.Ctx) error {
	if !s.Loopback {
		return c.Next()
	}
	if !loopbackName(c.Hostname()) {
		return &failure{
			status: fiber.StatusForbidden, code: "host_not_allowed", title: "forbidden",
			details: "without credentials this server answers only to localhost; send the request to a loopback address, or set AGENTFIELD_API_KEY",
		}
	}
	switch c.Method() {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions:
		return c.Next()
	}
	if s.sameOrigin(c) {
		return c.Next()
	}
	return &failure{
		status: fiber.StatusForbidden, code: "cross_origin", title: "forbidden",
		details: "a request from another web page is refused: list its origin in AGENTFIELD_CORS_ORIGINS to allow it",
	}
}

func (s *Server) sameOrigin(c *fiber.Ctx) bool {
	origin := c.Get(fiber.HeaderOrigin)
	if origin != "" && slices.Contains(s.CORSOrigins, origin) {
		return true
	}
	switch c.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		if origin == "" {
			return true // not a browser
		}
		u, err := url.Parse(origin)
		return err == nil && u.Host == c.Hostname()
	}
	return false
}

func loopbackName(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// credential is the key a request carries.
func credential(c *fiber.Ctx) string {
	if key := c.Get("X-API-Key"); key != "" {
		return key
	}
	if bearer, ok := strings.CutPrefix(c.Get(fiber.HeaderAuthorization), "Bearer "); ok {
		return strings.TrimSpace(bearer)
	}
	return ""
}

// demand lets a request pass whose principal holds the scope of its route.
func (s *Server) demand(scope access.Scope) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if scope == access.Public {
			return c.Next()
		}
		if c.Query("api_key") != "" {
			return badRequest("credential_in_url", "a key in the address ends up in logs: send it as X-API-Key or Authorization: Bearer")
		}
		p, err := s.Gate.Recognise(credential(c))
		if err != nil {
			return err
		}
		c.Locals(localPrincipal, p)
		if err := access.Authorise(p, scope); err != nil {
			return err
		}
		return c.Next()
	}
}

func principal(c *fiber.Ctx) access.Principal {
	p, _ := c.Locals(localPrincipal).(access.Principal)
	return p
}

// fail writes the answer of every error.
func (s *Server) fail(c *fiber.Ctx, err error) error {
	f := asFailure(err)
	if f.status >= 500 && f.code == "internal_error" {
		s.Log.Error("request failed", "request_id", requestID(c), "method", c.Method(), "path", c.Path(), "execution_id", f.executionID, "error", err)
	}
	if f.retryAfter > 0 {
		c.Set(fiber.HeaderRetryAfter, f.retrySeconds())
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
