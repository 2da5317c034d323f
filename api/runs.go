package api

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/desk"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/runs"
)

// runRoutes are the runs themselves, as pages and as JSON.
func (s *Server) runRoutes() []Route {
	return []Route{
		{"GET", "/runs", access.Read, s.listRuns},
		{"GET", "/runs.csv", access.Read, func(c *fiber.Ctx) error { return s.exportRuns(c, csvForm()) }},
		{"GET", "/runs.ndjson", access.Read, func(c *fiber.Ctx) error { return s.exportRuns(c, linesForm()) }},
		{"GET", "/runs.json", access.Read, func(c *fiber.Ctx) error { return s.exportRuns(c, jsonForm()) }},
		{"GET", "/runs/:run", access.Read, s.showRun},
	}
}

// runPages are what their pages ask for beside.
func (s *Server) runPages() []Route {
	return []Route{
		{"GET", "/runs/rows", access.Read, s.runRows},
		{"GET", "/runs/fresh", access.Read, s.freshRuns},
		{"GET", "/runs/:run/lanes", access.Read, s.runLanes},
		{"POST", "/runs/:run/seen", access.Read, s.sawRun},
	}
}

// runFilter reads the query of the list of runs. Unknown parameters are ignored, wrong values are not.
func (s *Server) runFilter(c *fiber.Ctx) (workflow.RunFilter, error) {
	f, err := s.runFilterFrom(func(key string) string { return c.Query(key) })
	if err != nil {
		return f, err
	}
	if f.Query, err = typedFilter(c, filter.Runs()); err != nil {
		return f, err
	}
	f.Limit, err = limitParam(c.Query("limit"))
	return f, err
}

// runFilterFrom reads everything but q and limit.
func (s *Server) runFilterFrom(query func(key string) string) (workflow.RunFilter, error) {
	f := workflow.RunFilter{
		Session: cmp.Or(query("session"), query("session_id")), Actor: cmp.Or(query("actor"), query("actor_id")), Run: query("run"), Cursor: query("cursor"),
	}
	f.Node, f.Function, _ = strings.Cut(cmp.Or(query("target"), query("node")), ".")
	for name, value := range map[string]string{"target": f.Node + f.Function, "session": f.Session, "actor": f.Actor, "run": f.Run} {
		if err := opaque(name, value); err != nil {
			return f, err
		}
	}
	var err error
	if f.Statuses, err = statusesParam(query("status")); err != nil {
		return f, err
	}
	if slices.Equal(f.Statuses, []models.Status{models.Waiting}) {
		f.Statuses, f.Waiting = nil, true // somebody is waited for, whatever else the run does meanwhile
	}
	if f.Since, err = instantParam("since", query("since"), s.Now()); err != nil {
		return f, err
	}
	f.Until, err = instantParam("until", query("until"), s.Now())
	return f, err
}

// statusesParam reads a comma list of statuses.
func statusesParam(list string) ([]models.Status, error) {
	var statuses []models.Status
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		status, ok := models.ParseStatus(word)
		if !ok {
			return nil, badRequest("invalid_status", "%q is not a status: use %s", word, statusWords())
		}
		statuses = append(statuses, status)
	}
	return statuses, nil
}

// runFilterAsWritten is the filter as the address has it: relative times stay relative when the address is shared.
func runFilterAsWritten(c *fiber.Ctx, f workflow.RunFilter) runs.Filter {
	w := runs.Filter{
		Statuses: f.Statuses, Target: c.Query("target", c.Query("node")), Session: f.Session, Actor: f.Actor,
		Since: c.Query("since"), Until: c.Query("until"), Limit: f.Limit, View: c.Query("view"), Select: c.Query("select") == "1", Search: shownSearch(c, filter.Runs()),
	}
	if f.Waiting {
		w.Statuses = []models.Status{models.Waiting}
	}
	return w
}

// listRuns answers GET /runs.
func (s *Server) listRuns(c *fiber.Ctx) error {
	if to, err := s.viewAlone(c, runViews); to != "" || err != nil {
		return orRedirect(c, to, err)
	}
	f, err := s.runFilter(c)
	if err != nil {
		return err
	}
	list, err := s.Workflows.List(c.UserContext(), f)
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return s.runsPage(c, f, list)
	}
	o := newObject(512 * (len(list.Rows) + 1))
	o.key("runs")
	o.b = append(o.b, '[')
	for i, run := range list.Rows {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, runJSON(run, "")...)
	}
	o.b = append(o.b, ']')
	if list.Next == "" {
		o.raw("next_cursor", nil)
	} else {
		o.text("next_cursor", list.Next)
	}
	return sendJSON(c, fiber.StatusOK, o.end())
}

// runJSON is a run with its totals; its executions are those of the graph.
func runJSON(r *models.Run, base string) []byte {
	o := newObject(512)
	o.text("run_id", r.ID)
	o.text("workflow_id", r.Workflow())
	o.text("status", string(r.Status))
	o.text("root_execution_id", r.RootID)
	o.text("target", r.Target())
	o.maybe("session_id", r.SessionID)
	o.maybe("actor_id", r.ActorID)
	o.number("total", int64(r.Total))
	o.number("active", int64(r.Active()))
	o.number("waiting", int64(r.Waiting))
	o.number("succeeded", int64(r.Succeeded))
	o.number("failed", int64(r.Failed))
	o.number("timeout", int64(r.Timeout))
	o.number("cancelled", int64(r.Cancelled))
	o.instant("created_at", r.CreatedAt)
	if r.FinishedAt != nil {
		o.number("duration_ms", max(*r.FinishedAt-r.CreatedAt, 0))
		o.instant("finished_at", *r.FinishedAt)
	}
	if base != "" {
		o.text("ui_url", base+"/runs/"+r.ID)
	}
	return o.end()
}

// runsPage is the list of runs for people.
func (s *Server) runsPage(c *fiber.Ctx, f workflow.RunFilter, list workflow.RunPage) error {
	ctx := c.UserContext()
	frame := s.frame(c, "Runs", "runs", layout.Crumb{Label: "Runs"})
	frame.Assets = []string{"runs.css", "hints.js"}
	p := runs.ListPage{
		Frame: frame, Filter: runFilterAsWritten(c, f), Rows: list.Rows, Cursor: f.Cursor, Next: list.Next, Prev: list.Prev, Any: true,
	}
	var err error
	if p.Active, p.Waiting, err = s.Workflows.CountOpen(ctx); err != nil {
		return err
	}
	if p.Views, err = s.viewsOf(c, runViews); err != nil {
		return err
	}
	if len(list.Rows) == 0 {
		if p.Any, p.Target, err = s.emptiness(ctx, func(ctx context.Context) (int, error) {
			newest, err := s.Workflows.List(ctx, workflow.RunFilter{Limit: 1})
			return len(newest.Rows), err
		}); err != nil {
			return err
		}
	}
	return page(c, fiber.StatusOK, runs.List(p), "list")
}

// runRows brings rows of the list up to date, by their ids.
func (s *Server) runRows(c *fiber.Ctx) error {
	ids, err := rowsAsked(c)
	if err != nil {
		return err
	}
	rows, err := s.Workflows.Rows(c.UserContext(), ids)
	if err != nil {
		return err
	}
	return page(c, fiber.StatusOK, runs.Rows(rows, s.Now()))
}

// freshRuns counts what is newer than the first row of a list on screen.
func (s *Server) freshRuns(c *fiber.Ctx) error {
	f, err := s.runFilter(c)
	if err != nil {
		return err
	}
	return s.freshRows(c, runFilterAsWritten(c, f).Href(), func(ctx context.Context, after string) (int, bool, error) {
		return s.Workflows.Newer(ctx, f, after)
	})
}

// shownRun is a run with all that its pages are made of.
type shownRun struct {
	graph
	spells workflow.Spells
	view   runs.View
}

// shownRun reads a run in three queries, whatever its size.
func (s *Server) shownRun(c *fiber.Ctx) (shownRun, error) {
	var r shownRun
	var err error
	if r.graph, err = s.graph(c); err != nil {
		return r, err
	}
	if r.spells, err = s.Workflows.Spells(c.UserContext(), r.run.ID, r.steps); err != nil {
		return r, err
	}
	r.view, err = asAsked(c, r.run.ID, len(r.steps))
	return r, err
}

// asAsked is what the address wants to see of a run.
func asAsked(c *fiber.Ctx, run string, steps int) (runs.View, error) {
	w, err := viewOf(c)
	v := runs.View{
		Run: run, Kind: c.Query("view"), Node: w.Selected, Focus: w.Focus, Open: w.Open, Closed: w.Closed, Statuses: w.Statuses,
		Query: strings.TrimSpace(w.Query), Critical: c.Query("crit") == "1", From: max(0, c.QueryInt("from")),
	}
	v.Chosen = slices.Contains([]string{runs.Graph, runs.Timeline, runs.Tree}, v.Kind)
	switch {
	case v.Chosen:
	case steps > runs.GraphUpTo:
		v.Kind = runs.Timeline
	default:
		v.Kind = runs.Graph
	}
	return v, err
}

// showRun answers GET /runs/{run}.
func (s *Server) showRun(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		return s.runPage(c)
	}
	run, err := s.Workflows.Run(c.UserContext(), c.Params("run"))
	if err != nil {
		return err
	}
	return sendJSON(c, fiber.StatusOK, runJSON(run, s.base(c)))
}

// runPage shows one run. An id that its callers gave leads to the id that is ours.
func (s *Server) runPage(c *fiber.Ctx) error {
	r, err := s.shownRun(c)
	if err != nil {
		return err
	}
	if r.run.ID != c.Params("run") {
		return c.Redirect(r.view.Href(), fiber.StatusFound)
	}
	frame := s.frame(c, r.run.Target(), "runs", layout.Crumb{Label: "Runs", Href: "/runs"}, layout.Crumb{Label: r.run.Target()})
	frame.Assets = []string{"runs.css", "graph.js", "timeline.js", "seen.js"}
	p := runs.ShowPage{
		Frame: frame, Run: r.run, View: r.view, Agents: r.agents(), Depth: r.MaxDepth, Total: len(r.Nodes), Truncated: r.truncated,
		Story: workflow.Explain(r.Graph, r.spells, s.Now().UnixMilli()), CanCancel: principal(c).Can(access.Execute),
	}
	seen, err := s.cameBack(c, desk.Run, r.run.ID)
	if err != nil {
		return err
	}
	if seen != nil {
		p.News = workflow.News(r.Graph, seen.SeenAt)
	}
	p.Paused = r.Counts[models.Paused]
	p.Pausable = r.Counts[models.Pending] + r.Counts[models.Queued] + r.Counts[models.Running]
	s.drawRun(&p, r)
	if p.Chosen, err = s.chosenStep(c, r, p.Picture); err != nil {
		return err
	}
	return page(c, fiber.StatusOK, runs.Show(p), "run")
}

func (r shownRun) agents() int {
	names := map[string]struct{}{}
	for _, n := range r.Nodes {
		names[n.NodeID] = struct{}{}
	}
	return len(names)
}

// drawRun makes the one drawing that the page shows.
func (s *Server) drawRun(p *runs.ShowPage, r shownRun) {
	switch r.view.Kind {
	case runs.Timeline:
		rows, matches := r.rows(s.Now().UnixMilli())
		p.Matches = matches
		p.Clock = &runs.Clock{Total: len(rows.rows), From: rows.from, Span: rows.span, Version: p.Frame.Seq, Virtual: len(rows.rows) > attachUpTo}
		size := attachUpTo
		if p.Clock.Virtual {
			size = runs.LanesPerPage
		}
		p.View.From = r.firstRow(rows.rows, size)
		p.Clock.Rows = pageOf(rows.rows, p.View.From, size)
	case runs.Tree:
		rows, matches := r.rows(s.Now().UnixMilli())
		p.Matches = matches
		p.View.From = r.firstRow(rows.rows, runs.RowsPerPage)
		p.Outline = &runs.Outline{Total: len(rows.rows), Rows: pageOf(rows.rows, p.View.From, runs.RowsPerPage)}
	default:
		v := r.view
		p.Picture = r.Fold(workflow.View{
			Focus: v.Focus, Selected: v.Node, Query: v.Query, Statuses: v.Statuses, Open: v.Open, Closed: v.Closed,
		})
		p.Matches = p.Picture.Matches
	}
}

// attachUpTo is the largest timeline that is on the page as a whole.
const attachUpTo = 1000

// firstRow is where a page of rows begins: where the address says, else with the page that has the chosen step.
func (r shownRun) firstRow(rows []runs.Row, size int) int {
	if r.view.From > 0 || r.view.Node == "" {
		return min(r.view.From, max(0, len(rows)-1)/size*size)
	}
	at := slices.IndexFunc(rows, func(row runs.Row) bool { return row.Step.ID == r.view.Node })
	return max(at, 0) / size * size
}

func pageOf(rows []runs.Row, from, size int) []runs.Row {
	from = min(from, len(rows))
	return rows[from:min(from+size, len(rows))]
}

// clockRows are the rows of a timeline or a tree with the clock they are measured by.
type clockRows struct {
	rows       []runs.Row
	from, span int64
}

// rows are the steps that the filter finds, each parent before what it called.
func (r shownRun) rows(now int64) (clockRows, int) {
	clock := workflow.Timeline(r.Graph, r.spells, now)
	out := clockRows{rows: make([]runs.Row, 0, len(r.Nodes)), from: clock.From, span: clock.Span}
	path := r.path()
	found := r.Matches(r.view.Query, r.view.Statuses)
	within := r.Find(r.view.Focus)
	base := 0
	if within != nil {
		base = within.Depth
	}
	r.Walk(func(n *workflow.Node) {
		if found != nil && !found[n.Index] || within != nil && !below(n, within) {
			return
		}
		row := clock.Rows[n.Index]
		out.rows = append(out.rows, runs.Row{
			Step: n.Step, Level: n.Depth - base + 1, Calls: len(n.Children), Spans: row.Spans, Crit: r.view.Critical && row.Critical, Path: path[n.ID],
		})
	})
	return out, len(out.rows)
}

func below(n, top *workflow.Node) bool {
	for ; n != nil; n = n.Parent {
		if n == top {
			return true
		}
	}
	return false
}

// path are the steps on the way to what went wrong, or to what the run waits for.
func (r shownRun) path() map[string]bool {
	ids := workflow.BlockedBy(r.Graph)
	if r.run.FinishedAt != nil {
		ids = workflow.Failure(r.Graph)
	}
	set := make(map[string]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// chosenStep is what the panel shows of the step that the address names; nil when it names none of this run.
func (s *Server) chosenStep(c *fiber.Ctx, r shownRun, picture *models.Picture) (*runs.Chosen, error) {
	n := r.Find(r.view.Node)
	if n == nil {
		return nil, nil //nolint:nilnil // there is no panel then
	}
	f, err := s.Executions.Get(c.UserContext(), n.ID)
	if errors.Is(err, execution.ErrNotFound) {
		return nil, nil //nolint:nilnil // retention was quicker
	}
	if err != nil {
		return nil, err
	}
	chosen := &runs.Chosen{Deep: len(n.Children) > 0}
	if chosen.Page, err = s.peek(c.UserContext(), f); err != nil {
		return nil, err
	}
	chosen.Page.Frame = layout.Page{Now: s.Now(), BaseURL: s.base(c)}
	if picture != nil {
		if i := slices.IndexFunc(picture.Items, func(i models.Item) bool { return i.ID == n.ID }); i >= 0 {
			chosen.Item = &picture.Items[i]
		}
	}
	return chosen, nil
}

// peek is an execution as panels show it.
func (s *Server) peek(ctx context.Context, f execution.Finished) (executions.ShowPage, error) {
	row := f.Row
	p := executions.ShowPage{Execution: row, Result: f.Result, Details: f.Details}
	var err error
	if p.History, err = s.Executions.History(ctx, row.ID, 0, shownEvents); err != nil {
		return p, err
	}
	if p.Facts, err = s.facts(ctx, row, p.History); err != nil {
		return p, err
	}
	if p.Input, err = s.Executions.PayloadOrNil(ctx, row.ID, models.PayloadInput); err != nil {
		return p, err
	}
	p.Partial, err = s.Executions.PayloadOrNil(ctx, row.ID, models.PayloadPartial)
	return p, err
}

// The marks of a row for the script, as bits.
const (
	markCritical = 1
	markPath     = 2
)

// runLanes are all rows of a timeline for the script that draws those in sight, in a form without words that repeat.
func (s *Server) runLanes(c *fiber.Ctx) error {
	r, err := s.shownRun(c)
	if err != nil {
		return err
	}
	now := s.Now()
	rows, _ := r.rows(now.UnixMilli())
	o := newObject(64*len(rows.rows) + 1024)
	o.number("span", max(rows.span, 1))
	targets, index := []string{}, map[string]int{}
	statuses, order := make([]map[string]string, len(models.Statuses)), map[models.Status]int{}
	for i, status := range models.Statuses {
		look := components.LookOf(status)
		statuses[i] = map[string]string{"class": look.Family + " is-" + string(status), "icon": look.Icon, "label": look.Label}
		order[status] = i
	}
	o.key("rows")
	o.b = append(o.b, '[')
	for i, row := range rows.rows {
		target := row.Step.Target()
		if _, known := index[target]; !known {
			index[target] = len(targets)
			targets = append(targets, target)
		}
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = appendLane(o.b, row, index[target], order[row.Step.Status], runs.StepTook(row.Step, now))
	}
	o.b = append(o.b, ']')
	o.value("targets", targets)
	o.value("statuses", statuses)
	return sendJSON(c, fiber.StatusOK, o.end())
}

// appendLane writes a row as static/src/timeline.ts reads it.
func appendLane(b []byte, row runs.Row, target, status int, took string) []byte {
	marks := 0
	if row.Crit {
		marks |= markCritical
	}
	if row.Path {
		marks |= markPath
	}
	b = append(appendText(append(b, '['), row.Step.ID), ',')
	for _, n := range []int{target, status, row.Level, marks} {
		b = append(strconv.AppendInt(b, int64(n), 10), ',')
	}
	b = appendText(b, took)
	for _, span := range row.Spans {
		for _, n := range []int64{spanCode(span.Kind), span.From, span.To - span.From} {
			b = strconv.AppendInt(append(b, ','), n, 10)
		}
	}
	return append(b, ']')
}

func spanCode(k models.SpanKind) int64 {
	return int64(slices.Index([]models.SpanKind{models.SpanQueued, models.SpanRunning, models.SpanWaiting, models.SpanPaused}, k))
}
