package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/approvals"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/values"
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

const shownOfRun = 20

// item gathers everything that helps to decide one request.
func (s *Server) item(ctx context.Context, c *fiber.Ctx, open *opened) (*approvals.Item, error) {
	a := open.approval
	who := person(c)
	item := &approvals.Item{
		Approval: a, Right: rightTo(who, a), Policy: approval.Words(a), Consequences: consequences(a), Hold: s.holdOf(a),
		Typed: open.typed, Conflict: open.conflict, Problems: open.problems,
	}
	if own := s.base(c) + "/approvals/" + a.ID; a.URL != own && !strings.HasSuffix(a.URL, "/approvals/"+a.ID) {
		item.Page = a.URL
	}
	body, err := s.Approvals.Body(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	item.Payload, item.Form, item.Edited = body.Payload, body.Form, body.Edited
	if item.Payload == nil {
		if item.Input, err = s.Executions.PayloadOrNil(ctx, a.ExecutionID, models.PayloadInput); err != nil {
			return nil, err
		}
	}
	if err := s.fillRounds(ctx, item); err != nil {
		return nil, err
	}
	if err := s.fillRun(ctx, item); err != nil {
		return nil, err
	}
	if item.Votes, err = s.Approvals.Votes(ctx, a.ID); err != nil {
		return nil, err
	}
	similar, err := s.Approvals.SimilarTo(ctx, a)
	if err != nil {
		return nil, err
	}
	item.Similar = approvals.Similar{
		Approved: similar.Counts[models.Approved], Rejected: similar.Counts[models.Rejected], ChangesRequested: similar.Counts[models.ChangesRequested],
		Expired: similar.Counts[models.ApprovalExpired], Recent: similar.Recent,
	}
	item.Draft, err = s.Desk.Draft(ctx, who.Name, "approval", a.ID)
	return item, err
}

func (s *Server) fillRounds(ctx context.Context, item *approvals.Item) error {
	if item.Approval.Round <= 1 {
		return nil
	}
	rounds, err := s.Approvals.OfExecution(ctx, item.Approval.ExecutionID)
	if err != nil {
		return err
	}
	for _, r := range rounds {
		if r.Round >= item.Approval.Round {
			continue
		}
		body, err := s.Approvals.Body(ctx, r.ID)
		if err != nil {
			return err
		}
		item.Rounds = append(item.Rounds, approvals.Round{Approval: r, Payload: body.Payload})
		item.Before = body.Payload
	}
	return nil
}

func (s *Server) fillRun(ctx context.Context, item *approvals.Item) error {
	row, err := s.Executions.Row(ctx, item.Approval.ExecutionID)
	if errors.Is(err, execution.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	item.Execution = row
	run, err := s.Executions.List(ctx, execution.Filter{Run: row.RunID, Limit: shownOfRun + 1})
	if err != nil {
		return err
	}
	item.Run = run.Rows
	if len(item.Run) > shownOfRun {
		item.MoreRun, item.Run = 1, item.Run[:shownOfRun]
	}
	return nil
}

// holdOf is how long a decision is held, in seconds: not at all when it would run out meanwhile.
func (s *Server) holdOf(a *models.Approval) int {
	if a.ExpiresAt-s.Now().UnixMilli() >= time.Minute.Milliseconds() {
		return int(s.Approvals.Hold.Seconds())
	}
	return 0
}

// consequences say what each button really does here.
func consequences(a *models.Approval) approvals.Consequences {
	words := approvals.Consequences{
		Approve: "The agent continues now.", RequestChanges: "The agent continues with your words and is expected to ask again.",
		Reject: "The agent is told no and decides how to end.",
	}
	if a.Quorum > 1 {
		words.Approve = "Counts as one of " + strconv.Itoa(a.Quorum) + " approvals; the agent continues when all are there."
	}
	if a.OnReject == "cancel" {
		words.Reject = "The execution is cancelled."
	}
	return words
}

// approvalRows brings rows of the queue up to date.
func (s *Server) approvalRows(c *fiber.Ctx) error {
	ids := possibleIDs(c.Query("ids"))
	if len(ids) > maxRows {
		return badRequest("too_many_ids", "at most %d rows can be asked for at once", maxRows)
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
	at, err := strconv.ParseInt(c.Query("at"), 10, 64)
	if err != nil {
		at = s.Now().UnixMilli()
	}
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

// decideByForm takes a decision from the dashboard.
func (s *Server) decideByForm(c *fiber.Ctx) error {
	ctx := c.UserContext()
	if wantsJSON(c) {
		return s.decideOne(c)
	}
	typed := approvals.ReadForm(formOf(c))
	typed.Feedback = strings.ReplaceAll(typed.Feedback, "\r\n", "\n")
	word, ok := approval.ReadDecision(typed.Decision)
	if !ok || word == models.ApprovalExpired {
		return badRequest("decision_invalid", "choose approve, request changes or reject")
	}
	version, err := versionOf(c, "version")
	if err != nil {
		return err
	}
	if _, _, err := nextFilter(c); err != nil { // before anything is decided
		return err
	}
	a, err := s.Approvals.Get(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	response, problems, err := s.responseOf(ctx, a, typed)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return s.refill(c, &opened{approval: a, typed: &typed, problems: problems, status: fiber.StatusUnprocessableEntity})
	}
	edited, err := s.editedOf(ctx, a, typed)
	if err != nil {
		return err
	}
	done, err := s.Approvals.Decide(ctx, person(c), a.ID, approval.Decision{
		Word: word, Feedback: strings.TrimSpace(typed.Feedback), Response: response, Edited: edited, Version: version,
		Hold: c.FormValue("hold") == "1", FeedbackRequired: true,
	})
	if err != nil {
		return s.notDecided(c, err, a, &typed)
	}
	if err := s.Desk.SaveDraft(ctx, person(c).Name, "approval", a.ID, ""); err != nil {
		return err
	}
	return s.onward(c, done.Approval)
}

// versionOf is what the visitor has seen: a decision without it could be about something else.
func versionOf(c *fiber.Ctx, name string) (int, error) {
	version, err := strconv.Atoi(c.FormValue(name))
	if err != nil || version < 1 {
		return 0, badRequest("invalid_parameter", "%s is missing", name)
	}
	return version, nil
}

func bytesOf(text string) []byte {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	return []byte(text)
}

// editedOf is the proposal as the reviewer changed it; nil when it is still the same, because a browser without JavaScript sends it always.
func (s *Server) editedOf(ctx context.Context, a *models.Approval, typed approvals.Typed) ([]byte, error) {
	edited := bytesOf(typed.Edited)
	if edited == nil {
		return nil, nil
	}
	body, err := s.Approvals.Body(ctx, a.ID)
	if err != nil || values.Same(body.Payload, edited) {
		return nil, err
	}
	return edited, nil
}

// formOf is a form as it was sent.
func formOf(c *fiber.Ctx) url.Values {
	values := url.Values{}
	c.Request().PostArgs().VisitAll(func(key, value []byte) { values.Add(string(key), string(value)) })
	return values
}

// responseOf turns the fields of a form into the JSON that the agent gets, or says by field what is wrong.
func (s *Server) responseOf(ctx context.Context, a *models.Approval, typed approvals.Typed) ([]byte, map[string]string, error) {
	if !a.HasForm {
		return bytesOf(typed.Response), nil, nil
	}
	body, err := s.Approvals.Body(ctx, a.ID)
	if err != nil {
		return nil, nil, err
	}
	response, problems := approvals.Answers(body.Form, typed)
	return response, problems, nil
}

// notDecided shows why a decision was refused, with everything that was typed.
func (s *Server) notDecided(c *fiber.Ctx, err error, a *models.Approval, typed *approvals.Typed) error {
	open := &opened{approval: a, typed: typed}
	var late *approval.DecidedError
	var field *approval.FieldError
	switch {
	case errors.As(err, &late):
		open.approval, open.conflict, open.status = late.Approval, true, fiber.StatusConflict
	case errors.As(err, &field):
		open.problems, open.status = map[string]string{field.Field: upper(field.Message) + "."}, fiber.StatusUnprocessableEntity
	default:
		return err
	}
	return s.refill(c, open)
}

// refill shows a request again with what was typed.
func (s *Server) refill(c *fiber.Ctx, open *opened) error {
	shown, f, err := nextFilter(c)
	if err != nil {
		return err
	}
	list, err := s.Approvals.List(c.UserContext(), f)
	if err != nil {
		return err
	}
	return s.queuePage(c, shown, list, open)
}

// nextFilter is the filter of the list the visitor came from, from the form's field "next".
func nextFilter(c *fiber.Ctx) (approvals.Filter, approval.Filter, error) {
	query, err := url.ParseQuery(c.FormValue("next"))
	if err != nil {
		query = url.Values{}
	}
	c.Request().URI().SetQueryString(query.Encode())
	return queueFilter(c)
}

// onward leads to the next request of the list the visitor came from: the one the page names, else the first one after it. The decision
// is made: whatever is wrong with the list, the answer is not an error.
func (s *Server) onward(c *fiber.Ctx, decided *models.Approval) error {
	then := c.FormValue("then")
	shown, f, err := nextFilter(c)
	if err != nil {
		return err
	}
	to := shown.Href()
	next, err := s.nextOf(c.UserContext(), f, decided, then)
	if err != nil {
		s.Log.Warn("cannot find the next request for approval", "error", err)
	} else if next != "" {
		to = shown.Item(next)
	}
	separator := "?"
	if strings.Contains(to, "?") {
		separator = "&"
	}
	return seeOther(c, to+separator+"done="+url.QueryEscape(decided.ID))
}

func (s *Server) nextOf(ctx context.Context, f approval.Filter, decided *models.Approval, then string) (string, error) {
	if then != "" && opaque("then", then) == nil {
		a, err := s.Approvals.Get(ctx, then)
		if err == nil && a.Status == models.ApprovalPending {
			return a.ID, nil
		}
		if err != nil && !errors.Is(err, approval.ErrNotFound) {
			return "", err
		}
	}
	list, err := s.Approvals.List(ctx, f)
	if err != nil {
		return "", err
	}
	first := ""
	for _, a := range list.Rows {
		if a.ID == decided.ID || a.Status != models.ApprovalPending {
			continue
		}
		if after(f, a, decided) {
			return a.ID, nil
		}
		if first == "" {
			first = a.ID
		}
	}
	return first, nil
}

// after reports whether a stands below b in a list.
func after(f approval.Filter, a, b *models.Approval) bool {
	if f.Newest {
		return a.CreatedAt < b.CreatedAt || a.CreatedAt == b.CreatedAt && a.ID < b.ID
	}
	return a.ExpiresAt > b.ExpiresAt || a.ExpiresAt == b.ExpiresAt && a.ID > b.ID
}

// decideOne is the JSON twin: a decision on one request by its id.
func (s *Server) decideOne(c *fiber.Ctx) error {
	var r struct {
		Decision string          `json:"decision"`
		Feedback string          `json:"feedback"`
		Response json.RawMessage `json:"response"`
		Edited   json.RawMessage `json:"edited"`
		Version  int             `json:"version"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	word, ok := approval.ReadDecision(r.Decision)
	if !ok {
		return badRequest("decision_invalid", "decision is approved, rejected or request_changes")
	}
	done, err := s.Approvals.Decide(c.UserContext(), person(c), c.Params("id"), approval.Decision{
		Word: word, Feedback: r.Feedback, Response: present(r.Response), Edited: present(r.Edited), Version: r.Version,
	})
	if err != nil {
		return err
	}
	return s.processed(c, done.Approval, done.Repeated)
}

// undoDecision withdraws a decision that is not in effect yet.
func (s *Server) undoDecision(c *fiber.Ctx) error {
	before, err := s.Approvals.Get(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	a, err := s.Approvals.Undo(c.UserContext(), person(c), before.ID)
	if err != nil {
		return err
	}
	// What was written is in the box again.
	if text := (approvals.Typed{Feedback: text(before.Feedback)}).Draft(); text != "" {
		if err := s.Desk.SaveDraft(c.UserContext(), principal(c).Name, "approval", a.ID, text); err != nil {
			return err
		}
	}
	return s.backTo(c, a)
}

func (s *Server) claimApproval(c *fiber.Ctx) error {
	a, err := s.Approvals.Claim(c.UserContext(), person(c), c.Params("id"))
	if err != nil {
		return err
	}
	return s.backTo(c, a)
}

func (s *Server) releaseApproval(c *fiber.Ctx) error {
	a, err := s.Approvals.Release(c.UserContext(), person(c), c.Params("id"))
	if err != nil {
		return err
	}
	return s.backTo(c, a)
}

// backTo answers an act on a request with the request.
func (s *Server) backTo(c *fiber.Ctx, a *models.Approval) error {
	if wantsJSON(c) {
		return sendJSON(c, fiber.StatusOK, approvalJSON(a))
	}
	shown, _, err := nextFilter(c)
	if err != nil {
		return err
	}
	return seeOther(c, shown.Item(a.ID))
}

// saveDraft keeps what somebody types; also sent by the browser while the page goes away.
func (s *Server) saveDraft(c *fiber.Ctx) error {
	a, err := s.Approvals.Get(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	if err := s.Desk.SaveDraft(c.UserContext(), principal(c).Name, "approval", a.ID, plainText(c.FormValue("text"))); err != nil {
		return err
	}
	if c.FormValue("discard") == "1" {
		return s.backTo(c, a)
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// plainText is what both databases can store of a text.
func plainText(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
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

// bulkForm is the page before several requests are decided together.
func (s *Server) bulkForm(c *fiber.Ctx) error {
	shown, _, err := queueFilter(c)
	if err != nil {
		return err
	}
	return s.bulkPage(c, shown, listed(c.Context().QueryArgs(), "ids"), fiber.StatusOK, "", "")
}

// listed are the ids of a field that may come several times, each with a comma list.
func listed(args *fasthttp.Args, key string) []string {
	var ids []string
	for _, value := range args.PeekMulti(key) {
		ids = append(ids, possibleIDs(string(value))...)
	}
	return ids
}

// possibleIDs are those of a comma list that something can have.
func possibleIDs(list string) []string {
	ids := strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
	return slices.DeleteFunc(ids, func(id string) bool { return opaque("id", id) != nil })
}

func (s *Server) bulkPage(c *fiber.Ctx, shown approvals.Filter, ids []string, status int, feedback, problem string) error {
	p := approvals.Bulk{
		Frame: s.frame(c, "Decide together", "approvals", layout.Crumb{Label: "Approvals", Href: shown.Href()}, layout.Crumb{Label: "Decide together"}),
		Me:    principal(c).Name, Filter: shown, Right: anyRight(person(c)), Hold: int(s.Approvals.Hold.Seconds()), Feedback: feedback, Problem: problem,
		Consequences: approvals.Consequences{
			Approve: "Each agent continues now.", RequestChanges: "Each agent continues with your words and is expected to ask again.", Reject: "Each agent is told no.",
		},
	}
	if err := s.sortOut(c, &p, ids); err != nil {
		return err
	}
	return page(c, status, approvals.BulkPage(p))
}

// sortOut separates what can be decided together from what has to be looked at by itself.
func (s *Server) sortOut(c *fiber.Ctx, p *approvals.Bulk, ids []string) error {
	if len(ids) > approvals.BulkLimit {
		return badRequest("too_many_ids", "at most %d requests can be decided together", approvals.BulkLimit)
	}
	found, err := s.Approvals.Rows(c.UserContext(), ids)
	if err != nil {
		return err
	}
	for _, a := range found {
		if why := alone(person(c), a); why != "" {
			p.Excluded = append(p.Excluded, approvals.Excluded{Approval: a, Reason: why})
			continue
		}
		body, err := s.Approvals.Body(c.UserContext(), a.ID)
		if err != nil {
			return err
		}
		p.Items = append(p.Items, approvals.BulkItem{Approval: a, Payload: body.Payload})
	}
	return nil
}

// alone says why a request has to be decided by itself; "" when it has not.
func alone(who approval.Person, a *models.Approval) string {
	switch {
	case !a.Status.Open():
		return "It is decided already."
	case a.Status == models.ApprovalHeld:
		return "A decision about it takes effect in a moment."
	case a.Risk == "high":
		return "High risk: decide it by itself."
	case a.Quorum > 1:
		return "It needs several reviewers: decide it by itself."
	case a.HasForm:
		return "It asks questions: decide it by itself."
	}
	if right := rightTo(who, a); !right.Allowed {
		return right.Why
	}
	return ""
}

// decideTogether records one decision for several requests, each by itself.
func (s *Server) decideTogether(c *fiber.Ctx) error {
	ctx := c.UserContext()
	shown, _, err := nextFilter(c)
	if err != nil {
		return err
	}
	ids := listed(c.Request().PostArgs(), "ids")
	word, ok := approval.ReadDecision(c.FormValue("decision"))
	if !ok || word == models.ApprovalExpired {
		return badRequest("decision_invalid", "choose approve, request changes or reject")
	}
	feedback := strings.TrimSpace(c.FormValue("feedback"))
	if word != models.Approved && feedback == "" {
		return s.bulkPage(c, shown, ids, fiber.StatusUnprocessableEntity, feedback, "Say why: each agent gets these words.")
	}
	var p approvals.Bulk
	if err := s.sortOut(c, &p, ids); err != nil {
		return err
	}
	result := approvals.BulkDone{
		Frame: s.frame(c, "Decided together", "approvals", layout.Crumb{Label: "Approvals", Href: shown.Href()}, layout.Crumb{Label: "Decided together"}),
		Me:    principal(c).Name, Filter: shown, Decision: word,
	}
	seen := make([]int, len(p.Items))
	for i, item := range p.Items {
		if seen[i], err = versionOf(c, "version."+item.Approval.ID); err != nil {
			return err // nothing is decided yet
		}
	}
	for i, item := range p.Items {
		done, err := s.Approvals.Decide(ctx, person(c), item.Approval.ID, approval.Decision{
			Word: word, Feedback: feedback, Version: seen[i], Hold: c.FormValue("hold") == "1", FeedbackRequired: true,
		})
		result.Results = append(result.Results, resultOf(item.Approval, done, err))
	}
	for _, e := range p.Excluded {
		result.Results = append(result.Results, approvals.Result{Approval: e.Approval, Text: e.Reason})
	}
	return page(c, fiber.StatusOK, approvals.BulkResult(result))
}

func resultOf(before *models.Approval, done approval.Outcome, err error) approvals.Result {
	if err == nil {
		text := "Decided."
		if done.Approval.Status == models.ApprovalHeld {
			text = "Takes effect in a moment; it can still be withdrawn."
		}
		return approvals.Result{Approval: done.Approval, OK: true, Text: text}
	}
	if late, ok := errors.AsType[*approval.DecidedError](err); ok {
		return approvals.Result{Approval: late.Approval, Text: upper(late.Error()) + "."}
	}
	f := asFailure(err)
	return approvals.Result{Approval: before, Text: upper(f.details) + "."}
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
