package api

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
)

const localPrincipal = "principal"

// protect refuses what a foreign web page may have sent. Where no credentials are demanded nothing else would stop it (ruling C17): the
// Host must be a loopback name, so that no rebound name reaches us, and unsafe requests must come from our own pages or from no page.
func (s *Server) protect(c *fiber.Ctx) error {
	if !s.Access.Open(c.UserContext()) {
		return c.Next()
	}
	if !loopbackName(c.Hostname()) {
		return &failure{
			status: fiber.StatusForbidden, code: "host_not_allowed", title: "forbidden",
			details: "without credentials this server answers only to localhost; send the request to a loopback address, or set AGENTFIELD_API_KEY",
		}
	}
	origin := c.Get(fiber.HeaderOrigin)
	listed := origin != "" && slices.Contains(s.CORSOrigins, origin)
	if safe(c) || listed || s.sameOrigin(c) {
		return c.Next()
	}
	return &failure{
		status: fiber.StatusForbidden, code: "cross_origin", title: "forbidden",
		details: "a request from another web page is refused: list its origin in AGENTFIELD_CORS_ORIGINS to allow it",
	}
}

// safe reports whether a request changes nothing, by its method.
func safe(c *fiber.Ctx) bool {
	switch c.Method() {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions:
		return true
	}
	return false
}

// sameOrigin reports whether a request comes from one of our own pages, or from no page at all.
func (s *Server) sameOrigin(c *fiber.Ctx) bool {
	switch c.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return true
	case "":
		origin := c.Get(fiber.HeaderOrigin)
		if origin == "" {
			return true // not a browser
		}
		u, err := url.Parse(origin)
		return err == nil && (u.Host == c.Hostname() || s.PublicURL != "" && strings.EqualFold(origin, strings.TrimRight(s.PublicURL, "/")))
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

// demand lets a request pass whose principal holds the scope of its route.
func (s *Server) demand(scope access.Scope) fiber.Handler {
	return func(c *fiber.Ctx) error {
		err := s.admit(c, scope)
		if errors.Is(err, access.ErrUnauthorized) && !wantsJSON(c) {
			return s.toSignIn(c)
		}
		if errors.Is(err, access.ErrForbidden) {
			return errors.Join(err, s.recordRefusal(c, scope))
		}
		if err != nil {
			return err
		}
		return c.Next()
	}
}

// recordRefusal keeps that somebody tried what they may not: a person anything that changes something, anybody else a decision.
func (s *Server) recordRefusal(c *fiber.Ctx, scope access.Scope) error {
	if safe(c) || !principal(c).Person() && scope != access.Approve {
		return nil
	}
	return s.Audit.Record(c.UserContext(), audit.Entry{
		Origin: origin(c), At: s.Now().UnixMilli(), Action: "request.refused", ObjectKind: "route", Object: c.Method() + " " + c.Path(),
		Reason: "needs the right to " + string(scope),
	})
}

// admit finds out who acts and whether they may. The browser sends its cookie whoever made it ask, so that every unsafe request of a page
// must come from one of our own, the public ones too: nobody is to be signed in by a stranger's form.
func (s *Server) admit(c *fiber.Ctx, scope access.Scope) error {
	if !wantsJSON(c) && !safe(c) && !s.sameOrigin(c) {
		return &failure{status: fiber.StatusForbidden, code: "cross_origin", title: "forbidden", details: "a request from another web page is refused"}
	}
	if scope == access.Public {
		return nil
	}
	if c.Query("api_key") != "" {
		return badRequest("credential_in_url", "a key in the address ends up in logs: send it as X-API-Key or Authorization: Bearer")
	}
	p, err := s.recognise(c)
	if err != nil {
		return err
	}
	c.Locals(localPrincipal, p)
	return access.Authorise(p, scope)
}

// recognise finds out who acts. Whoever bears the marks of an agent is one, by whatever way the request comes.
func (s *Server) recognise(c *fiber.Ctx) (access.Principal, error) {
	if strings.HasPrefix(c.Path(), "/api/v1/webhooks/approval") {
		if signature := signatureOf(c); signature != "" {
			return s.byApprovalSecret(c, signature)
		}
	}
	p, err := s.known(c)
	if err == nil && marksOfAgent(c) {
		p = p.AsAgent()
	}
	if errors.Is(err, access.ErrUnauthorized) && credential(c) == "" && strings.HasSuffix(c.Path(), "/webhooks/approval-response") {
		return p, &failure{
			status: fiber.StatusUnauthorized, code: "unauthorized", title: "missing webhook signature",
			details: "sign the body with the shared approval secret, or send a credential that may approve",
		}
	}
	return p, err
}

// known: pages know people by their session, the API knows programs by their key, and neither takes what is the other's.
func (s *Server) known(c *fiber.Ctx) (access.Principal, error) {
	ctx := c.UserContext()
	if wantsJSON(c) {
		return s.Access.Authenticate(ctx, credential(c), c.IP())
	}
	if token := s.sessionCookie(c); token != "" {
		p, err := s.Access.Session(ctx, token)
		if !errors.Is(err, access.ErrNoSession) {
			return p, err
		}
	}
	return s.Access.Authenticate(ctx, "", c.IP())
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

// marksOfAgent reports whether an agent made the request, by the headers that agents send (wire.md B4). They take rights away and give
// none: where no credentials are demanded they keep agents from approving.
func marksOfAgent(c *fiber.Ctx) bool {
	return slices.ContainsFunc([]string{"X-Execution-Token", "X-Node-Token", "X-Caller-Agent-ID", "X-Agent-Node-ID", "X-Parent-Execution-ID"},
		func(header string) bool { return c.Get(header) != "" })
}

func principal(c *fiber.Ctx) access.Principal {
	p, _ := c.Locals(localPrincipal).(access.Principal)
	return p
}

// origin is who acts, and from where, for the record.
func origin(c *fiber.Ctx) audit.Origin {
	p := principal(c)
	channel := audit.UI
	if wantsJSON(c) {
		channel = audit.API
	}
	return audit.Origin{Actor: p.ID, ActorKind: string(p.Kind), Channel: channel, IP: c.IP(), RequestID: requestID(c)}
}

// sessionCookieName: the prefix makes browsers refuse the cookie from anybody but this host over HTTPS.
func (s *Server) sessionCookieName() string {
	if s.secure() {
		return "__Host-agentfield"
	}
	return "agentfield"
}

// secure reports whether people reach the server by HTTPS.
func (s *Server) secure() bool { return strings.HasPrefix(s.PublicURL, "https://") }

func (s *Server) sessionCookie(c *fiber.Ctx) string { return c.Cookies(s.sessionCookieName()) }

// setSession gives the browser the id of its session. It has no date: it ends with the browser, or when the server says so.
func (s *Server) setSession(c *fiber.Ctx, token string) {
	c.Cookie(&fiber.Cookie{
		Name: s.sessionCookieName(), Value: token, Path: "/", HTTPOnly: true, Secure: s.secure(), SameSite: fiber.CookieSameSiteLaxMode, SessionOnly: true,
	})
}

func (s *Server) dropSession(c *fiber.Ctx) {
	c.Cookie(&fiber.Cookie{
		Name: s.sessionCookieName(), Path: "/", HTTPOnly: true, Secure: s.secure(), SameSite: fiber.CookieSameSiteLaxMode, MaxAge: -1,
		Expires: s.Now().AddDate(-1, 0, 0),
	})
}

// toSignIn sends somebody to the sign-in page and back to where they were afterwards. What a script asked for gets a plain 401: it would
// take the page for its answer.
func (s *Server) toSignIn(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Vary("HX-Request", "Cookie")
	next := c.OriginalURL()
	if !safe(c) || c.Get("HX-Request") == "true" {
		next = s.cameFrom(c)
	}
	to := "/sign-in"
	if next = afterSignIn(next); next != "/" {
		to += "?next=" + url.QueryEscape(next)
	}
	if c.Get("HX-Request") == "true" {
		c.Set("HX-Redirect", to)
		return c.Status(fiber.StatusUnauthorized).SendString("")
	}
	if dest := c.Get("Sec-Fetch-Dest"); safe(c) && dest != "" && dest != "document" {
		return c.Status(fiber.StatusUnauthorized).SendString(access.ErrUnauthorized.Error())
	}
	return seeOther(c, to)
}

// cameFrom is the page of ours that a request was made on.
func (s *Server) cameFrom(c *fiber.Ctx) string {
	for _, header := range []string{"HX-Current-URL", fiber.HeaderReferer} {
		if u, err := url.Parse(c.Get(header)); err == nil && u.Host != "" && u.Host == c.Hostname() {
			return u.RequestURI()
		}
	}
	return "/"
}

// afterSignIn is where somebody is sent once they are signed in: an address of this server, and not where they have just been.
func afterSignIn(next string) string {
	next = localPath(next)
	if path, _, _ := strings.Cut(next, "?"); strings.HasPrefix(path, "/sign-") {
		return "/"
	}
	return next
}
