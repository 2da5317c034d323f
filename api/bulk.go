package api

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/bulk"
	"github.com/agentfield/agentfield/app/execution"
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

// listOf is the list that a query of an address shows. Its place and length do not matter: what is done is done to all of it.
func (s *Server) listOf(query url.Values) (execution.Filter, error) {
	f, err := s.filterFrom(query.Get)
	if err != nil {
		return f, err
	}
	f.Limit, f.Cursor = 0, ""
	parsed, problems := filter.Executions().Parse(query.Get("q"))
	if len(problems) > 0 { // a part of a filter would find more than the whole
		text := query.Get("q")
		at := utf8.RuneCountInString(text[:problems[0].At]) + 1
		return f, &failure{
			status: fiber.StatusBadRequest, code: "invalid_filter", title: "Invalid filter", position: at,
			details: "at character " + strconv.Itoa(at) + " of q: " + problems[0].Text,
		}
	}
	f.Query = parsed
	return f, nil
}

// planBulk is the page before many executions are acted upon: what will happen, to which, and which are left out.
func (s *Server) planBulk(c *fiber.Ctx) error {
	if c.Query("chosen") != "" && len(listed(c.Context().QueryArgs(), "id")) == 0 {
		return badRequest("invalid_parameter", "no rows are selected: select some in the list, or act on all that the filter finds")
	}
	return s.planPage(c, c.Query("action"), picked(c, queryOf(c)), fiber.StatusOK, "")
}

// picked turns rows that were chosen one by one into a filter; without any the filter is that of the list.
func picked(c *fiber.Ctx, query url.Values) url.Values {
	if ids := listed(c.Context().QueryArgs(), "id"); len(ids) > 0 {
		return url.Values{"q": {"id:" + strings.Join(ids, ",")}}
	}
	kept := narrowing(query)
	kept.Del("action")
	return kept
}

func (s *Server) planPage(c *fiber.Ctx, action string, query url.Values, status int, problem string) error {
	if action != bulk.Cancel && action != bulk.Rerun {
		return bulk.ErrBadAction
	}
	f, err := s.listOf(query)
	if err != nil {
		return err
	}
	plan, err := s.Bulk.Plan(c.UserContext(), action, f)
	if err != nil {
		return err
	}
	title := "Cancel many"
	if action == bulk.Rerun {
		title = "Run many again"
	}
	written := readable(query)
	p := bulkview.Plan{
		Frame:  s.frame(c, title, "executions", layout.Crumb{Label: "Executions", Href: strings.TrimSuffix("/executions?"+written, "?")}, layout.Crumb{Label: title}),
		Action: action, Query: written, Total: plan.Total, Statuses: plan.Statuses, Targets: plan.Targets, Excluded: plan.Excluded, First: plan.First,
		Cut: plan.Cut, Limit: bulk.Limit, Problem: problem,
	}
	p.Frame.Live, p.Frame.Assets = false, []string{"lists.css"}
	return page(c, status, bulkview.Before(p))
}

// beginBulk starts a job: from the page with the number that was confirmed, from programs with a filter.
func (s *Server) beginBulk(c *fiber.Ctx) error {
	var r struct {
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
			return badRequest("invalid_parameter", "q is missing: say which executions are meant")
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
		r.Action, r.Reason = c.FormValue("action"), strings.TrimSpace(c.FormValue("reason"))
		if most > bulkview.Typed && strings.ReplaceAll(strings.TrimSpace(c.FormValue("confirm")), ",", "") != strconv.Itoa(most) {
			return s.planPage(c, r.Action, query, fiber.StatusUnprocessableEntity, "Type the number of executions to confirm.")
		}
	}
	if len(r.Reason) > 2000 {
		return badRequest("invalid_parameter", "the reason is longer than 2000 bytes")
	}
	f, err := s.listOf(query)
	if err != nil {
		return err
	}
	id, err := s.Bulk.Begin(c.UserContext(), bulk.Order{
		Action: r.Action, Filter: f, Query: readable(query), Reason: plainText(r.Reason), Most: most, By: origin(c), StartedBy: principal(c).ID,
	})
	if err == bulk.ErrChanged && !wantsJSON(c) { //nolint:errorlint // a sentinel of its own
		return s.planPage(c, r.Action, query, fiber.StatusConflict, upper(err.Error())+".")
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
		Frame: s.frame(c, title, "executions", layout.Crumb{Label: "Executions", Href: strings.TrimSuffix("/executions?"+job.Query, "?")}, layout.Crumb{Label: title}),
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

// exportBulk streams what has come of each execution of a job.
func (s *Server) exportBulk(c *fiber.Ctx) error {
	job, err := s.Bulk.Get(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/csv; charset=utf-8")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+job.Action+"-"+s.Now().UTC().Format("20060102-150405")+`.csv"`)
	return c.SendStream(&itemSheet{ctx: context.WithoutCancel(c.UserContext()), jobs: s.Bulk, id: job.ID})
}

// itemSheet is the items of a job as a text that is made while it is read.
type itemSheet struct {
	ctx  context.Context //nolint:containedctx // a reader has no other way to be told when to stop
	jobs *bulk.Service
	id   string
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
			writeCells(&i.text, "execution_id", "outcome", "detail", "made_execution_id", "at")
		}
		for _, item := range items {
			at := ""
			if item.At != nil {
				at = formatMs(*item.At)
			}
			writeCells(&i.text, item.ExecutionID, text(item.Outcome), cell(text(item.Detail)), text(item.Made), at)
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
