package api

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/approvals"
	"github.com/agentfield/agentfield/views/layout"
)

// queueFilter reads the query of the queue, as the address has it and as the service takes it.
func queueFilter(c *fiber.Ctx) (approvals.Filter, approval.Filter, error) {
	shown := approvals.Filter{
		State: c.Query("state"), Risk: c.Query("risk"), Node: c.Query("node"), Target: c.Query("target"), Session: c.Query("session"), Actor: c.Query("actor"),
		Run: c.Query("run"), Claimed: c.Query("claimed"), Q: c.Query("q"), Sort: c.Query("sort"), View: c.Query("view"), Cursor: c.Query("cursor"),
		Full: c.Query("full") == "1",
	}
	for name, value := range map[string]string{"node": shown.Node, "target": shown.Target, "session": shown.Session, "actor": shown.Actor, "run": shown.Run, "q": shown.Q} {
		if err := opaque(name, value); err != nil {
			return shown, approval.Filter{}, err
		}
	}
	for name, one := range map[string]struct {
		value   string
		allowed []string
	}{
		"state": {shown.State, []string{"", "pending", "mine", "expiring", "decided"}}, "risk": {shown.Risk, []string{"", "low", "medium", "high"}},
		"claimed": {shown.Claimed, []string{"", "me", "none"}}, "sort": {shown.Sort, []string{"", "expires_at", "-created_at"}},
	} {
		if !slices.Contains(one.allowed, one.value) {
			return shown, approval.Filter{}, badRequest("invalid_parameter", "%s is one of %s", name, strings.Join(one.allowed[1:], ", "))
		}
	}
	limit, err := limitParam(c.Query("limit"))
	if err != nil {
		return shown, approval.Filter{}, err
	}
	f := approval.Filter{
		State: shown.State, Me: principal(c).Name, Risk: shown.Risk, Node: shown.Node, Session: shown.Session, Actor: shown.Actor, Run: shown.Run,
		Claimed: shown.Claimed, Q: shown.Q, Newest: shown.Sort == "-created_at", Cursor: shown.Cursor, Limit: limit,
	}
	if shown.Target != "" {
		f.Node, f.Function, _ = strings.Cut(shown.Target, ".")
	}
	return shown, f, nil
}

// listApprovals is the queue.
func (s *Server) listApprovals(c *fiber.Ctx) error {
	shown, f, err := queueFilter(c)
	if err != nil {
		return err
	}
	page, err := s.Approvals.List(c.UserContext(), f)
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return sendJSON(c, fiber.StatusOK, approvalList(page))
	}
	return s.queuePage(c, shown, page, nil)
}

func approvalList(page approval.Page) []byte {
	o := newObject(1024 * (len(page.Rows) + 1))
	o.key("approvals")
	o.b = append(o.b, '[')
	for i, a := range page.Rows {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, approvalJSON(a)...)
	}
	o.b = append(o.b, ']')
	if page.Next == "" {
		o.raw("next_cursor", nil)
	} else {
		o.text("next_cursor", page.Next)
	}
	return o.end()
}

// showApproval is one request: in the queue beside it for people, with its payload for programs.
func (s *Server) showApproval(c *fiber.Ctx) error {
	ctx := c.UserContext()
	a, err := s.Approvals.Get(ctx, c.Params("id"))
	if wantsJSON(c) {
		if err != nil {
			return err
		}
		body, err := s.Approvals.Body(ctx, a.ID)
		if err != nil {
			return err
		}
		whole := approvalJSON(a)
		o := &object{b: whole[:len(whole)-1]}
		if body.Payload != nil {
			o.raw("payload", body.Payload)
		}
		if body.Form != nil {
			o.raw("form", body.Form)
		}
		return sendJSON(c, fiber.StatusOK, o.end())
	}
	shown, f, filterErr := queueFilter(c)
	if filterErr != nil {
		return filterErr
	}
	page, listErr := s.Approvals.List(ctx, f)
	if listErr != nil {
		return listErr
	}
	if errors.Is(err, approval.ErrNotFound) {
		return s.queuePage(c, shown, page, &opened{missing: c.Params("id")})
	}
	if err != nil {
		return err
	}
	return s.queuePage(c, shown, page, &opened{approval: a})
}

// opened is what the address names, and what the visitor has just tried with it.
type opened struct {
	approval *models.Approval
	missing  string
	status   int
	typed    *approvals.Typed
	conflict bool
	problems map[string]string
}

// queuePage renders the queue with one request open beside it: the named one, else the first.
func (s *Server) queuePage(c *fiber.Ctx, shown approvals.Filter, list approval.Page, open *opened) error {
	ctx := c.UserContext()
	p := approvals.Page{
		Frame: s.frame(c, "Approvals", "approvals", layout.Crumb{Label: "Approvals"}), Me: principal(c).Name, Right: anyRight(person(c)),
		Filter: shown, Next: list.Next, Any: true,
	}
	if err := s.fillQueue(ctx, &p, list); err != nil {
		return err
	}
	if open == nil {
		open = &opened{}
		open.approval = firstToShow(shown, list.Rows)
	} else {
		p.Named, p.Missing = true, open.missing
	}
	if open.approval != nil {
		item, err := s.item(ctx, c, open)
		if err != nil {
			return err
		}
		p.Item = item
	}
	if done := c.Query("done"); done != "" {
		if a, err := s.Approvals.Get(ctx, done); err == nil && a.DecidedBy != nil && *a.DecidedBy == p.Me {
			p.Done = &approvals.Done{Approval: a}
		}
	}
	status := fiber.StatusOK
	switch {
	case open.status != 0:
		status = open.status
	case open.missing != "":
		status = fiber.StatusNotFound
	}
	return page(c, status, approvals.Show(p), "inbox", "queue", "item")
}

// firstToShow is the request that opens by itself: the first that still waits, or among the decided ones the first.
func firstToShow(shown approvals.Filter, rows []*models.Approval) *models.Approval {
	for _, a := range rows {
		if a.Status == models.ApprovalPending || shown.State == approvals.StateDecided {
			return a
		}
	}
	return nil
}

func (s *Server) fillQueue(ctx context.Context, p *approvals.Page, list approval.Page) error {
	counts, err := s.Approvals.Count(ctx, p.Me)
	if err != nil {
		return err
	}
	p.Counts = shownCounts(counts)
	shapes := make([]string, len(list.Rows))
	for i, a := range list.Rows {
		shapes[i] = a.Shape
	}
	alike, err := s.Approvals.Alike(ctx, shapes)
	if err != nil {
		return err
	}
	for _, a := range list.Rows {
		p.Rows = append(p.Rows, approvals.Row{Approval: a, Alike: alike[a.Shape]})
	}
	views, err := s.Views.List(ctx, p.Me, approvalViews)
	if err != nil {
		return err
	}
	for _, v := range views {
		p.Views = append(p.Views, approvals.View{ID: v.ID, Name: v.Name, Query: v.Query})
	}
	if len(list.Rows) > 0 {
		return nil
	}
	if p.Last, err = s.Approvals.LastDecided(ctx); err != nil {
		return err
	}
	p.Any = p.Last != nil || counts.Pending > 0
	p.Target, err = s.Nodes.AnyTarget(ctx)
	return err
}

func shownCounts(c approval.Counts) approvals.Counts {
	return approvals.Counts{Pending: c.Pending, Mine: c.Mine, Expiring: c.Expiring, Overdue: c.Overdue, Limit: approval.CountLimit}
}

func anyRight(who approval.Person) approvals.Right {
	if who.May && !who.Agent {
		return approvals.Right{Allowed: true}
	}
	return approvals.Right{Why: upper(approval.ErrNoRight.Error()) + "."}
}

func rightTo(who approval.Person, a *models.Approval) approvals.Right {
	if err := approval.Allowed(who, a); err != nil {
		return approvals.Right{Why: upper(err.Error()) + "."}
	}
	return approvals.Right{Allowed: true}
}

func upper(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// approvalRows brings rows of the queue up to date.
func (s *Server) approvalRows(c *fiber.Ctx) error {
	ids, err := rowsAsked(c)
	if err != nil {
		return err
	}
	shown, _, err := queueFilter(c)
	if err != nil {
		return err
	}
	found, err := s.Approvals.Rows(c.UserContext(), ids)
	if err != nil {
		return err
	}
	p := approvals.Page{Me: principal(c).Name, Filter: shown}
	p.Frame.Now = s.Now()
	if err := s.fillQueue(c.UserContext(), &p, approval.Page{Rows: found}); err != nil {
		return err
	}
	return page(c, fiber.StatusOK, approvals.Rows(p.Rows, shown, p.Me, s.Now()))
}

// approvalBadge is the number beside the entry of the navigation.
func (s *Server) approvalBadge(c *fiber.Ctx) error {
	return page(c, fiber.StatusOK, layout.BadgeMark("approvals", s.badges(c)["approvals"], true))
}

// freshApprovals counts what has come since a queue was shown.
func (s *Server) freshApprovals(c *fiber.Ctx) error {
	shown, f, err := queueFilter(c)
	if err != nil {
		return err
	}
	at := s.trueAt(c)
	n, more, err := s.Approvals.Newer(c.UserContext(), f, at)
	if err != nil {
		return err
	}
	counts, err := s.Approvals.Count(c.UserContext(), principal(c).Name)
	if err != nil {
		return err
	}
	return page(c, fiber.StatusOK, approvals.FreshPill(approvals.Fresh{Filter: shown, Count: n, More: more, At: at, Counts: shownCounts(counts)}))
}

func (s *Server) saveView(c *fiber.Ctx) error {
	shown, _, err := nextFilter(c)
	if err != nil {
		return err
	}
	shown.View, shown.Cursor = "", ""
	id, err := s.Views.Save(c.UserContext(), principal(c).Name, approvalViews, strings.TrimSpace(plainText(c.FormValue("name"))), shown.Query())
	if err != nil {
		return err
	}
	shown.View = id
	return seeOther(c, shown.Href())
}

func (s *Server) deleteView(c *fiber.Ctx) error {
	if err := s.Views.Delete(c.UserContext(), principal(c).Name, c.Params("id")); err != nil {
		return err
	}
	shown, _, err := nextFilter(c)
	if err != nil {
		return err
	}
	shown.View = ""
	return seeOther(c, shown.Href())
}

// approvalRoutes of people and programs alike.
func (s *Server) approvalRoutes() []Route {
	return []Route{
		{"GET", "/approvals", access.Read, s.listApprovals},
		{"GET", "/approvals/:id", access.Read, s.showApproval},
		{"POST", "/approvals/:id/decide", access.Approve, s.decideByForm},
		{"POST", "/approvals/:id/undo", access.Approve, s.undoDecision},
		{"POST", "/approvals/:id/claim", access.Approve, s.claimApproval},
		{"POST", "/approvals/:id/release", access.Approve, s.releaseApproval},
	}
}

// agentApprovalRoutes are those of agents and of the documented API.
func (s *Server) agentApprovalRoutes() []Route {
	return []Route{
		{"POST", "/executions/:id/request-approval", access.Agent, s.requestApproval},
		{"GET", "/executions/:id/approval-status", access.Read, s.approvalStatus},
		{"POST", "/agents/:node/executions/:id/request-approval", access.Agent, s.requestApproval},
		{"GET", "/agents/:node/executions/:id/approval-status", access.Read, s.approvalStatus},
		{"POST", "/webhooks/approval", access.Approve, s.decideByAPI},
		{"POST", "/webhooks/approval-response", access.Approve, s.decideByAPI},
	}
}

// inboxRoutes are those of the pages only.
func (s *Server) inboxRoutes() []Route {
	return []Route{
		{"GET", "/approvals/rows", access.Read, s.approvalRows},
		{"GET", "/approvals/badge", access.Read, s.approvalBadge},
		{"GET", "/approvals/fresh", access.Read, s.freshApprovals},
		{"GET", "/approvals/bulk", access.Approve, s.bulkForm},
		{"POST", "/approvals/bulk", access.Approve, s.decideTogether},
		{"POST", "/approvals/views", access.Read, s.saveView},
		{"POST", "/approvals/views/:id/delete", access.Read, s.deleteView},
		{"POST", "/approvals/:id/draft", access.Approve, s.saveDraft},
		{"PUT", "/approvals/:id/draft", access.Approve, s.saveDraft},
	}
}
