package api

import (
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// Runs as published tools read them (wire.md 3.16). Our own list is GET /runs.

const defaultRunPage = 20

// listWorkflowRuns answers GET /api/ui/v2/workflow-runs: pages by number, of the newest runs that match.
func (s *Server) listWorkflowRuns(c *fiber.Ctx) error {
	f, err := s.workflowRunFilter(c)
	if err != nil {
		return err
	}
	page, err := numberParam(c, "page", 1, workflow.Countable)
	if err != nil {
		return err
	}
	size, err := numberParam(c, "page_size", defaultRunPage, 200)
	if err != nil {
		return err
	}
	order := workflow.Order(c.Query("sort_by", "updated_at"))
	if order == "updated_at" {
		order = workflow.ByStart
	}
	if !order.Known() {
		return badRequest("invalid_parameter", "sort_by is updated_at, started_at, status, total_steps, failed_steps or active_executions")
	}
	runs, total, err := s.Workflows.Numbered(c.UserContext(), f, order, c.Query("sort_order") == "asc", page, size)
	if err != nil {
		return err
	}
	shapes, err := s.Workflows.Shapes(c.UserContext(), runs)
	if err != nil {
		return err
	}
	o := newObject(1024 * (len(runs) + 1))
	o.key("runs")
	o.b = append(o.b, '[')
	for i, r := range runs {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, workflowRun(r, shapes[r.ID])...)
	}
	o.b = append(o.b, ']')
	o.number("total_count", int64(total))
	o.number("page", int64(page))
	o.number("page_size", int64(size))
	o.truth("has_more", page*size < total)
	return sendJSON(c, fiber.StatusOK, o.end())
}

func (s *Server) workflowRunFilter(c *fiber.Ctx) (workflow.RunFilter, error) {
	f := workflow.RunFilter{Run: c.Query("run_id"), Session: c.Query("session_id"), Actor: c.Query("actor_id"), Search: c.Query("search")}
	for name, value := range map[string]string{"run_id": f.Run, "session_id": f.Session, "actor_id": f.Actor, "search": f.Search} {
		if err := opaque(name, value); err != nil {
			return f, err
		}
	}
	for _, word := range listParam(c, "status") {
		status, ok := models.ReportedStatus(word)
		if !ok {
			return f, badRequest("invalid_status", "%q is not a status: use %s", word, statusWords())
		}
		f.Statuses = append(f.Statuses, status)
	}
	var err error
	f.Since, err = instantParam("since", c.Query("since"), s.Now())
	return f, err
}

func numberParam(c *fiber.Ctx, name string, otherwise, most int) (int, error) {
	n, err := strconv.Atoi(c.Query(name, strconv.Itoa(otherwise)))
	if err != nil || n < 1 || n > most {
		return 0, badRequest("invalid_parameter", "%s must lie between 1 and %d", name, most)
	}
	return n, nil
}

// workflowRun is one entry of the list. What only the executions tell is left out for large runs.
func workflowRun(r *models.Run, shape workflow.Shape) []byte {
	counts := shape.Counts
	if counts == nil {
		counts = map[models.Status]int{
			models.Running: r.Active(), models.Waiting: r.Waiting, models.Succeeded: r.Succeeded, models.Failed: r.Failed, models.Timeout: r.Timeout,
			models.Cancelled: r.Cancelled,
		}
	}
	o := newObject(1024)
	o.text("workflow_id", r.Workflow())
	o.text("run_id", r.ID)
	o.text("root_execution_id", r.RootID)
	if shape.Root != nil {
		o.text("root_execution_status", string(shape.Root.Status))
		o.maybe("root_error_message", shape.Root.ErrorMessage)
	}
	o.text("status", string(rolledUp(counts)))
	o.text("display_name", r.Function)
	current := shape.Current
	if current == "" {
		current = r.Function
	}
	o.text("current_task", current)
	o.text("root_reasoner", r.Function)
	o.text("agent_id", r.NodeID)
	o.maybe("session_id", r.SessionID)
	o.maybe("actor_id", r.ActorID)
	o.number("total_executions", int64(r.Total))
	if shape.Counts != nil {
		o.number("max_depth", int64(shape.MaxDepth))
	}
	o.number("active_executions", int64(r.Total-r.Ended()))
	o.value("status_counts", allCounts(counts))
	updated := r.CreatedAt
	o.instant("started_at", r.CreatedAt)
	if r.FinishedAt != nil {
		updated = *r.FinishedAt
		o.instant("completed_at", updated)
		o.number("duration_ms", max(updated-r.CreatedAt, 0))
	}
	o.instant("updated_at", updated)
	o.instant("latest_activity", updated)
	o.truth("terminal", r.FinishedAt != nil)
	return o.end()
}

// rolledUp is the status of a run in the list of the protocol: what is on its way first, paused after everything that went wrong.
func rolledUp(counts map[models.Status]int) models.Status {
	for _, status := range []models.Status{models.Running, models.Waiting, models.Pending, models.Queued} {
		if counts[status] > 0 {
			return models.Running
		}
	}
	for _, status := range []models.Status{models.Failed, models.Timeout, models.Cancelled, models.Paused} {
		if counts[status] > 0 {
			return status
		}
	}
	return models.Succeeded
}

// allCounts has every status, zeros too.
func allCounts(counts map[models.Status]int) map[models.Status]int {
	all := make(map[models.Status]int, len(models.Statuses))
	for _, status := range models.Statuses {
		all[status] = counts[status]
	}
	return all
}

// showWorkflowRun answers GET /api/ui/v2/workflow-runs/{run_id}.
func (s *Server) showWorkflowRun(c *fiber.Ctx) error {
	g, err := s.graph(c)
	if failed := asFailure(err); err != nil && failed.code == "workflow_not_found" {
		return &failure{status: failed.status, code: failed.code, title: "workflow run not found", details: failed.details}
	}
	if err != nil {
		return err
	}
	asked, err := s.Workflows.Asked(c.UserContext(), g.run.ID, g.steps)
	if err != nil {
		return err
	}
	o := newObject(512 * (len(g.Nodes) + 2))
	o.raw("run", g.totals())
	o.key("executions")
	o.b = append(o.b, '[')
	for i, n := range g.Nodes {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		one := object{b: append(o.b, '{')}
		g.member(&one, n, asked)
		o.b = one.end()
	}
	o.b = append(o.b, ']')
	return sendJSON(c, fiber.StatusOK, o.end())
}

func (g graph) totals() []byte {
	r := g.run
	o := newObject(512)
	o.text("run_id", r.ID)
	o.text("root_workflow_id", r.Workflow())
	o.text("root_execution_id", r.RootID)
	o.text("status", string(overall(g.Counts)))
	o.number("total_steps", int64(r.Total))
	o.number("completed_steps", int64(r.Succeeded))
	o.number("failed_steps", int64(r.Failed+r.Timeout))
	o.number("returned_steps", int64(len(g.Nodes)))
	o.value("status_counts", allCounts(g.Counts))
	o.instant("created_at", r.CreatedAt)
	if r.FinishedAt != nil {
		o.instant("completed_at", *r.FinishedAt)
	}
	updated := r.CreatedAt
	for _, n := range g.Nodes {
		updated = max(updated, latest(n))
	}
	o.instant("updated_at", updated)
	return o.end()
}

// latest is the last change of an execution that its row tells of.
func latest(n *workflow.Node) int64 {
	at := n.CreatedAt
	for _, later := range []*int64{n.StartedAt, n.WaitingSince, n.FinishedAt} {
		if later != nil {
			at = max(at, *later)
		}
	}
	return at
}

func (g graph) member(o *object, n *workflow.Node, asked map[string]workflow.Asked) {
	memberKeys(o, g.run, n)
	if n.Parent != nil {
		o.text("parent_workflow_id", g.run.Workflow())
	}
	active, pending := children(n)
	o.number("active_children", active)
	o.number("pending_children", pending)
	if a, ok := asked[n.ID]; ok {
		o.text("approval_request_id", a.RequestID)
		o.text("approval_request_url", a.URL)
		o.text("approval_status", a.Status)
	}
}

// children counts what an execution has called that has not ended, apart from what has not begun.
func children(n *workflow.Node) (active, pending int64) {
	for _, child := range n.Children {
		switch child.Status { //nolint:exhaustive // what has ended is neither
		case models.Pending, models.Queued:
			pending++
		case models.Running, models.Waiting, models.Paused:
			active++
		}
	}
	return active, pending
}
