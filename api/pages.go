package api

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/a-h/templ"
	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/static"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/errorpage"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/overview"
)

// csp allows what we serve ourselves and nothing inline, nothing evaluated.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// asPage sets what holds for every answer to a browser.
func (s *Server) asPage(c *fiber.Ctx) error {
	c.Locals(localSeq, s.Hub.Newest())                              // before anything is read: what changes in between is told again
	for _, name := range []string{c.Cookies("tz"), c.Query("tz")} { // a shared address wins over what the visitor is used to
		if ctx, ok := components.WithZone(c.UserContext(), name); ok {
			c.SetUserContext(ctx)
		}
	}
	c.Set(fiber.HeaderContentSecurityPolicy, csp)
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	c.Set("Cross-Origin-Opener-Policy", "same-origin")
	c.Set(fiber.HeaderReferrerPolicy, "same-origin")
	return c.Next()
}

const localSeq = "seq"

// seq is the newest event that a page is sure to know.
func seq(c *fiber.Ctx) int64 {
	n, _ := c.Locals(localSeq).(int64)
	return n
}

// page renders a whole page, or of it the fragment that htmx asked for by the id of its target.
func page(c *fiber.Ctx, status int, whole templ.Component, fragments ...string) error {
	c.Vary("HX-Request", "HX-Target")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Status(status)
	target := c.Get("HX-Target")
	target = target[strings.LastIndexByte(target, '#')+1:]
	if c.Get("HX-Request") == "true" && c.Get("HX-History-Restore-Request") != "true" && c.Get("HX-Boosted") != "true" && slices.Contains(fragments, target) {
		return templ.RenderFragments(c.UserContext(), c.Response().BodyWriter(), whole, target)
	}
	return whole.Render(c.UserContext(), c.Response().BodyWriter())
}

func seeOther(c *fiber.Ctx, to string) error { return c.Redirect(to, fiber.StatusSeeOther) }

// frame is what the frame around every page shows.
func (s *Server) frame(c *fiber.Ctx, title, active string, crumbs ...layout.Crumb) layout.Page {
	p := layout.Page{
		Title: title, Active: active, Crumbs: crumbs, Theme: c.Cookies("theme"), Path: c.OriginalURL(), BaseURL: s.base(c),
		Notice: s.notice(c), Version: s.Version, Seq: seq(c), Live: true, Now: s.Now(),
	}
	p.Badges = s.badges(c)
	who := principal(c)
	p.Admin = who.Can(access.Admin)
	if who.Person() {
		p.Person = who.DisplayName
	}
	return p
}

// badges are the numbers beside the navigation. A page can do without them: what fails here is left out.
func (s *Server) badges(c *fiber.Ctx) map[string]layout.Badge {
	if !principal(c).Can(access.Read) {
		return nil
	}
	counts, err := s.Approvals.Count(c.UserContext(), principal(c).Name)
	if err != nil {
		s.Log.Warn("cannot count the approval queue", "request_id", requestID(c), "error", err)
		return nil
	}
	return map[string]layout.Badge{"approvals": {Count: counts.Pending, Urgent: counts.Overdue > 0}}
}

func (s *Server) notice(c *fiber.Ctx) string {
	if s.Access.Open(c.UserContext()) {
		return "Open without sign-in: this server answers only to this machine."
	}
	return ""
}

// failurePage shows an error to a person.
func (s *Server) failurePage(c *fiber.Ctx, f *failure) error {
	c.Set(fiber.HeaderContentSecurityPolicy, csp)
	t := errorpage.Words(f.status, c.OriginalURL())
	if f.status < fiber.StatusInternalServerError && f.code != "endpoint_not_found" {
		t.Text = strings.ToUpper(f.details[:min(1, len(f.details))]) + f.details[min(1, len(f.details)):] + "."
	}
	t.Code, t.RequestID = f.code, requestID(c)
	frame := s.frame(c, t.Title, "")
	frame.Live = false
	return page(c, f.status, errorpage.Show(errorpage.Page{Frame: frame, Trouble: t}))
}

const handful = 6

// overviewPage is the first page.
func (s *Server) overviewPage(c *fiber.Ctx, sum execution.Summary) error {
	ctx := c.UserContext()
	within := c.Query("since", "24h")
	since, err := instantParam("since", within, s.Now())
	if err != nil {
		return err
	}
	p := overview.Page{Frame: s.frame(c, "Overview", "overview"), Counts: overview.Counts{
		Running: sum.Running, Queued: sum.Queued, Pending: sum.Pending, Waiting: sum.Waiting, Failed: sum.Failed, FailedWithin: within,
		OldestQueuedAt: sum.OldestQueuedAt, FinishedLastMinute: sum.FinishedLastMinute, Limit: execution.CountLimit,
	}}
	failed, err := s.Executions.List(ctx, execution.Filter{Statuses: []models.Status{models.Failed, models.Timeout}, Since: since, Limit: handful})
	if err != nil {
		return err
	}
	recent, err := s.Executions.List(ctx, execution.Filter{Limit: 10})
	if err != nil {
		return err
	}
	latest, err := s.Workflows.List(ctx, workflow.RunFilter{Limit: handful})
	if err != nil {
		return err
	}
	if p.Counts.Webhooks, p.Counts.MoreWebhooks, err = s.Webhooks.Newer(ctx, webhook.Filter{State: webhook.Failed, Since: since}, ""); err != nil {
		return err
	}
	p.Failures, p.Recent, p.Runs, p.Since = failed.Rows, recent.Rows, latest.Rows, since
	if len(failed.Rows) > 0 {
		groups, _, err := s.Executions.FailureGroups(ctx, since, shownGroups)
		if err != nil {
			return err
		}
		for _, g := range groups {
			p.Groups = append(p.Groups, overview.Group{
				ID: g.Group, NodeID: g.NodeID, Function: g.Function, Count: g.Count, First: g.First, Last: g.Last, Message: g.Message,
			})
		}
	}
	if p.Start, err = s.start(ctx, len(recent.Rows) > 0); err != nil {
		return err
	}
	return page(c, fiber.StatusOK, overview.Show(p), "overview")
}

// start tells how far a new server has come.
func (s *Server) start(ctx context.Context, executed bool) (overview.Start, error) {
	start := overview.Start{Executed: executed}
	if executed {
		return start, nil
	}
	stats, err := s.Nodes.Stats(ctx)
	if err != nil {
		return start, err
	}
	start.Nodes = stats.Nodes
	start.Target, err = s.Nodes.AnyTarget(ctx)
	return start, err
}

// listPage is the list of executions.
func (s *Server) listPage(c *fiber.Ctx, f execution.Filter, list execution.Page) error {
	ctx := c.UserContext()
	p := executions.ListPage{
		Frame: s.frame(c, "Executions", "executions", layout.Crumb{Label: "Executions"}), Filter: asWritten(c, f), Rows: list.Rows,
		Cursor: f.Cursor, Next: list.Next, Prev: list.Prev, Any: true,
	}
	p.Frame.Assets = []string{"hints.js"}
	sum, err := s.Executions.Active(ctx)
	if err != nil {
		return err
	}
	p.Active, p.Waiting = sum.Pending+sum.Queued+sum.Running, sum.Waiting
	if p.Views, err = s.viewsOf(c, executionViews); err != nil {
		return err
	}
	if p.Views.Current == nil {
		p.Filter.View = ""
	}
	if len(list.Rows) == 0 {
		if p.Any, p.Target, err = s.emptiness(ctx, func(ctx context.Context) (int, error) {
			newest, err := s.Executions.List(ctx, execution.Filter{Limit: 1})
			return len(newest.Rows), err
		}); err != nil {
			return err
		}
	}
	return page(c, fiber.StatusOK, executions.List(p), "list")
}

// asWritten is the filter as the address has it: relative times stay relative when the address is shared.
func asWritten(c *fiber.Ctx, f execution.Filter) executions.Filter {
	w := executions.Filter{
		Statuses: f.Statuses, Node: f.Node, Session: f.Session, Actor: f.Actor, Run: f.Run, Parent: f.Parent, Mode: f.Mode,
		Since: c.Query("since"), Until: c.Query("until"), Limit: f.Limit, Search: shownSearch(c, filter.Executions()), View: c.Query("view"), Select: c.Query("select") == "1",
	}
	if f.Function != "" {
		w.Node, w.Target = "", f.Node+"."+f.Function
	}
	return w
}

// executionRows brings rows of a list up to date, by their ids.
func (s *Server) executionRows(c *fiber.Ctx) error {
	ids, err := rowsAsked(c)
	if err != nil {
		return err
	}
	rows, err := s.Executions.Rows(c.UserContext(), ids)
	if err != nil {
		return err
	}
	return page(c, fiber.StatusOK, executions.Rows(rows, s.Now()))
}

// freshExecutions counts what is newer than the first row of a list on screen.
func (s *Server) freshExecutions(c *fiber.Ctx) error {
	f, err := s.filterOf(c)
	if err != nil {
		return err
	}
	return s.freshRows(c, asWritten(c, f).Href(), func(ctx context.Context, after string) (int, bool, error) {
		return s.Executions.Newer(ctx, f, after)
	})
}

// resolve leads from an id, or the beginning of one, to its page: /g/{id}, and /g?id= for the search box.
func (s *Server) resolve(c *fiber.Ctx) error {
	id := strings.TrimSpace(c.Params("id", c.Query("id")))
	if err := opaque("id", id); err != nil {
		return err
	}
	if id == "" {
		return c.Redirect("/executions", fiber.StatusFound)
	}
	found, err := s.Executions.Resolve(c.UserContext(), id)
	if err != nil {
		return err
	}
	switch {
	case found.ExecutionID != "":
		return c.Redirect("/executions/"+url.PathEscape(found.ExecutionID), fiber.StatusFound)
	case found.RunID != "":
		return c.Redirect("/runs/"+url.PathEscape(found.RunID), fiber.StatusFound)
	case found.NodeID != "":
		return c.Redirect("/executions?node="+url.QueryEscape(found.NodeID), fiber.StatusFound)
	case found.SessionID != "":
		return c.Redirect("/executions?session="+url.QueryEscape(found.SessionID), fiber.StatusFound)
	}
	return &failure{
		status: fiber.StatusNotFound, code: "not_found", title: "Nothing found",
		details: "no execution, run, session or node has the id " + components.FirstLine(id) + ", nor one that begins like this",
	}
}

// setTheme keeps the choice in a cookie, so that the first byte of each page has it.
func (s *Server) setTheme(c *fiber.Ctx) error {
	theme := c.FormValue("theme")
	if theme != layout.Light && theme != layout.Dark {
		theme = ""
	}
	c.Cookie(&fiber.Cookie{Name: "theme", Value: theme, Path: "/", MaxAge: 365 * 24 * 3600, SameSite: "Lax"})
	return seeOther(c, localPath(c.FormValue("next", "/")))
}

// setZone keeps the zone in which times are written.
func (s *Server) setZone(c *fiber.Ctx) error {
	name := c.FormValue("tz")
	if name == "" {
		name = strings.TrimSpace(c.FormValue("place"))
	}
	if _, ok := components.WithZone(c.UserContext(), name); !ok {
		return badRequest("invalid_parameter", "%q is no time zone: write local, utc or a name such as Europe/Berlin", components.FirstLine(name))
	}
	c.Cookie(&fiber.Cookie{Name: "tz", Value: name, Path: "/", MaxAge: 365 * 24 * 3600, SameSite: "Lax"})
	return seeOther(c, localPath(c.FormValue("next", "/")))
}

// localPath keeps a redirect on this server.
func localPath(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, "\\") {
		return "/"
	}
	return to
}

// asset serves an embedded file; one that was asked for with its version may be kept for ever.
func (s *Server) asset(c *fiber.Ctx) error {
	name := c.Params("*")
	body, contentType, ok := static.Open(name)
	if !ok {
		return notFound(c)
	}
	c.Set(fiber.HeaderContentType, contentType)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	if v := c.Query("v"); v != "" && v == static.Version(name) {
		c.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
	}
	return c.Send(body)
}

func (s *Server) favicon(c *fiber.Ctx) error {
	return c.Redirect(static.URL("favicon.svg"), fiber.StatusFound)
}
