package api

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/bulk"
	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/models"
	bulkview "github.com/agentfield/agentfield/views/bulk"
	"github.com/agentfield/agentfield/views/layout"
)

// bulkRoutes are those of people and programs alike.
func (s *Server) bulkRoutes() []Route {
	return []Route{
		{"POST", "/bulk", access.Execute, s.beginBulk},
		{"GET", "/bulk/:id", access.Read, s.showBulk},
		{"GET", "/bulk/:id/items.csv", access.Read, s.exportBulk},
		{"POST", "/bulk/:id/stop", access.Execute, s.stopBulk},
	}
}

// bulkPages are those of the pages only.
func (s *Server) bulkPages() []Route {
	return []Route{{"GET", "/bulk/new", access.Execute, s.planBulk}}
}

// selected is what a query of a list's address finds. Its place and length do not matter: what is done is done to all of it.
func (s *Server) selected(list string, query url.Values) (bulk.Selection, error) {
	switch list {
	case bulk.Executions:
		f, err := s.filterFrom(query.Get)
		if err == nil {
			f.Query, err = wholeFilter(filter.Executions(), query.Get("q"))
		}
		f.Limit, f.Cursor = 0, ""
		return s.Bulk.OfExecutions(f), err
	case bulk.Runs:
		f, err := s.runFilterFrom(query.Get)
		if err == nil {
			f.Query, err = wholeFilter(filter.Runs(), query.Get("q"))
		}
		return s.Bulk.OfRuns(f), err
	}
	return nil, badRequest("invalid_parameter", "%q is not a list whose rows can be acted upon: use %s or %s", list, bulk.Executions, bulk.Runs)
}

// wholeFilter demands that everything is understood: a part of a filter would find more than the whole.
func wholeFilter(language filter.Language, text string) (filter.Query, error) {
	parsed, problems := language.Parse(text)
	if len(problems) == 0 {
		return parsed, nil
	}
	at := utf8.RuneCountInString(text[:problems[0].At]) + 1
	return parsed, &failure{
		status: fiber.StatusBadRequest, code: "invalid_filter", title: "Invalid filter", position: at,
		details: "at character " + strconv.Itoa(at) + " of q: " + problems[0].Text,
	}
}

// planBulk is the page before many executions or runs are acted upon: what will happen, to which, and which are left out.
func (s *Server) planBulk(c *fiber.Ctx) error {
	if c.Query("chosen") != "" && len(listed(c.Context().QueryArgs(), "id")) == 0 {
		return badRequest("invalid_parameter", "no rows are selected: select some in the list, or act on all that the filter finds")
	}
	list := cmp.Or(c.Query("list"), bulk.Executions)
	return s.planPage(c, list, c.Query("action"), picked(c, list, queryOf(c)), fiber.StatusOK, "")
}

// picked turns rows that were chosen one by one into a filter; without any the filter is that of the list.
func picked(c *fiber.Ctx, list string, query url.Values) url.Values {
	if ids := listed(c.Context().QueryArgs(), "id"); len(ids) > 0 {
		key := "id:"
		if list == bulk.Runs {
			key = "run:"
		}
		return url.Values{"q": {key + strings.Join(ids, ",")}}
	}
	kept := narrowing(query)
	kept.Del("action")
	kept.Del("list")
	return kept
}

func (s *Server) planPage(c *fiber.Ctx, list, action string, query url.Values, status int, problem string) error {
	if action != bulk.Cancel && action != bulk.Rerun {
		return bulk.ErrBadAction
	}
	of, err := s.selected(list, query)
	if err != nil {
		return err
	}
	plan, err := s.Bulk.Plan(c.UserContext(), action, of)
	if err != nil {
		return err
	}
	title := "Cancel many"
	if action == bulk.Rerun {
		title = "Run many again"
	}
	written := readable(query)
	p := bulkview.Plan{
		Frame: s.frame(c, title, list, layout.Crumb{Label: upper(list), Href: strings.TrimSuffix("/"+list+"?"+written, "?")}, layout.Crumb{Label: title}),
		List:  list, Action: action, Query: written, Total: plan.Total, Steps: plan.Steps, Statuses: plan.Statuses, Targets: plan.Targets, Excluded: plan.Excluded, First: shownRows(plan.First),
		Cut: plan.Cut, Limit: bulk.Limit, Problem: problem,
	}
	p.Frame.Live, p.Frame.Assets = false, []string{"lists.css"}
	return page(c, status, bulkview.Before(p))
}

func shownRows(rows []bulk.Row) []bulkview.Row {
	shown := make([]bulkview.Row, len(rows))
	for i, r := range rows {
		shown[i] = bulkview.Row{ID: r.ID, Status: r.Status, NodeID: r.NodeID, Function: r.Function, Why: r.Why, Steps: r.Steps, CreatedAt: r.CreatedAt}
	}
	return shown
}

// beginBulk starts a job: from the page with the number that was confirmed, from programs with a filter.
func (s *Server) beginBulk(c *fiber.Ctx) error {
	var r struct {
		List   string `json:"list"`
		Action string `json:"action"`
		Q      string `json:"q"`
		Reason string `json:"reason"`
	}
	query, most := url.Values{}, 0
	if wantsJSON(c) {
		if err := bind(c, &r, false); err != nil {
			return err
		}
		if strings.TrimSpace(r.Q) == "" {
			return badRequest("invalid_parameter", "q is missing: say which executions or runs are meant")
		}
		query.Set("q", r.Q)
	} else {
		var err error
		if query, err = url.ParseQuery(c.FormValue("next")); err != nil {
			return badRequest("invalid_form", "the filter cannot be read")
		}
		if most, err = strconv.Atoi(c.FormValue("most")); err != nil || most < 1 {
			return badRequest("invalid_form", "the number that was confirmed is missing")
		}
		r.List, r.Action, r.Reason = c.FormValue("list"), c.FormValue("action"), strings.TrimSpace(c.FormValue("reason"))
		if most > bulkview.Typed && strings.ReplaceAll(strings.TrimSpace(c.FormValue("confirm")), ",", "") != strconv.Itoa(most) {
			return s.planPage(c, cmp.Or(r.List, bulk.Executions), r.Action, query, fiber.StatusUnprocessableEntity, "Type the number to confirm.")
		}
	}
	if len(r.Reason) > 2000 {
		return badRequest("invalid_parameter", "the reason is longer than 2000 bytes")
	}
	r.List = cmp.Or(r.List, bulk.Executions)
	of, err := s.selected(r.List, query)
	if err != nil {
		return err
	}
	id, err := s.Bulk.Begin(c.UserContext(), bulk.Order{
		Action: r.Action, Of: of, Query: readable(query), Reason: plainText(r.Reason), Most: most, By: origin(c), StartedBy: principal(c).ID,
	})
	if err == bulk.ErrChanged && !wantsJSON(c) { //nolint:errorlint // a sentinel of its own
		return s.planPage(c, r.List, r.Action, query, fiber.StatusConflict, upper(err.Error())+".")
	}
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return seeOther(c, "/bulk/"+id)
	}
	job, err := s.Bulk.Get(c.UserContext(), id)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderLocation, "/api/v1/bulk/"+id)
	return sendJSON(c, fiber.StatusAccepted, jobJSON(job))
}

const shownItems = 50

// showBulk is how far a job has come.
func (s *Server) showBulk(c *fiber.Ctx) error {
	ctx := c.UserContext()
	job, err := s.Bulk.Get(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	if wantsJSON(c) {
		return sendJSON(c, fiber.StatusOK, jobJSON(job))
	}
	title := "Bulk " + job.Action
	p := bulkview.Progress{
		Frame: s.frame(c, title, job.List, layout.Crumb{Label: upper(job.List), Href: strings.TrimSuffix("/"+job.List+"?"+job.Query, "?")}, layout.Crumb{Label: title}),
		Job:   job, By: job.StartedBy, May: principal(c).Can(access.Execute),
	}
	p.Frame.Assets = []string{"lists.css"}
	for _, outcome := range []string{bulk.Failed, bulk.Skipped} {
		items, err := s.Bulk.Items(ctx, job.ID, outcome, 0, shownItems)
		if err != nil {
			return err
		}
		p.Trouble = append(p.Trouble, items...)
	}
	if p.Made, err = s.Bulk.Items(ctx, job.ID, bulk.Done, 0, shownItems); err != nil {
		return err
	}
	return page(c, fiber.StatusOK, bulkview.Show(p), "bulk")
}

func (s *Server) stopBulk(c *fiber.Ctx) error {
	if err := s.Bulk.Halt(c.UserContext(), c.Params("id"), origin(c)); err != nil {
		return err
	}
	if !wantsJSON(c) {
		return seeOther(c, "/bulk/"+c.Params("id"))
	}
	return s.showBulk(c)
}

func jobJSON(job *models.BulkJob) []byte {
	o := newObject(384)
	o.text("job_id", job.ID)
	o.text("list", job.List)
	o.text("action", job.Action)
	o.text("status", job.Status)
	o.text("filter", job.Query)
	o.number("total", int64(job.Total))
	o.number("done", int64(job.Done))
	o.number("skipped", int64(job.Skipped))
	o.number("failed", int64(job.Failed))
	o.truth("stopping", job.StopAskedAt != nil && !job.Over())
	o.instant("created_at", job.CreatedAt)
	if job.FinishedAt != nil {
		o.instant("finished_at", *job.FinishedAt)
	}
	return o.end()
}

// exportBulk streams what has come of each execution or run of a job.
func (s *Server) exportBulk(c *fiber.Ctx) error {
	job, err := s.Bulk.Get(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+job.Action+"-"+s.Now().UTC().Format("20060102-150405")+`.csv"`)
	return c.SendStream(&itemSheet{ctx: context.WithoutCancel(c.UserContext()), jobs: s.Bulk, id: job.ID, of: strings.TrimSuffix(job.List, "s") + "_id"})
}

// itemSheet is the items of a job as a text that is made while it is read.
type itemSheet struct {
	ctx  context.Context //nolint:containedctx // a reader has no other way to be told when to stop
	jobs *bulk.Service
	id   string
	of   string // the name of the first column
	next int
	text bytes.Buffer
	done bool
}

func (i *itemSheet) Read(p []byte) (int, error) {
	const atOnce = 1000
	for i.text.Len() == 0 {
		if i.done {
			return 0, io.EOF
		}
		items, err := i.jobs.Items(i.ctx, i.id, "", i.next, atOnce)
		if err != nil {
			return 0, err
		}
		if i.next == 0 {
			writeCells(&i.text, i.of, "outcome", "detail", "made_execution_id", "at")
		}
		for _, item := range items {
			at := ""
			if item.At != nil {
				at = formatMs(*item.At)
			}
			writeCells(&i.text, item.ObjectID, text(item.Outcome), cell(text(item.Detail)), text(item.Made), at)
			i.next = item.Position + 1
		}
		i.done = len(items) < atOnce
	}
	return i.text.Read(p)
}

func bulkFailure(err error) *failure {
	switch {
	case err == nil:
		return nil
	case isAny(err, bulk.ErrNotFound):
		return &failure{status: fiber.StatusNotFound, code: "job_not_found", title: "job not found", details: err.Error()}
	case isAny(err, bulk.ErrBadAction, bulk.ErrNothing):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_parameter", title: "Bad request", details: err.Error()}
	case isAny(err, bulk.ErrChanged, bulk.ErrOver):
		return &failure{status: fiber.StatusConflict, code: "bulk_conflict", title: "bulk_conflict", details: err.Error()}
	}
	return nil
}
