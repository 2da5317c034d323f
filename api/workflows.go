package api

import (
	"errors"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

// workflowRoutes show runs as graphs. {run} is a run id or the X-Workflow-ID of its calls.
func (s *Server) workflowRoutes() []Route {
	return []Route{
		{"GET", "/workflows/:run/dag", access.Read, s.showDAG},
		{"GET", "/workflows/:run/dag.mmd", access.Read, s.exportMermaid},
		{"GET", "/workflows/:run/dag.svg", access.Read, s.exportSVG},
		{"GET", "/workflows/:run/dag.txt", access.Read, s.exportText},
		{"GET", "/workflows/:run/events", access.Read, s.followRun},
		{"POST", "/workflows/:run/cancel-tree", access.Execute, s.cancelTree},
		{"POST", "/workflows/:run/pause-tree", access.Execute, s.pauseTree},
		{"POST", "/workflows/:run/resume-tree", access.Execute, s.resumeTree},
	}
}

// workflowPages are what the page of a run links to: the same files, and the end of everything in it.
func (s *Server) workflowPages() []Route {
	return []Route{
		{"GET", "/runs/:run/dag.mmd", access.Read, s.exportMermaid},
		{"GET", "/runs/:run/dag.svg", access.Read, s.exportSVG},
		{"GET", "/runs/:run/dag.txt", access.Read, s.exportText},
		{"POST", "/runs/:run/cancel", access.Execute, s.cancelTree},
		{"POST", "/runs/:run/pause", access.Execute, s.pauseTree},
		{"POST", "/runs/:run/resume", access.Execute, s.resumeTree},
	}
}

// Tools are the routes below /api/ui that published SDKs and tools know (wire.md 3.16).
func (s *Server) Tools() []Route {
	return slices.Concat([]Route{
		{"GET", "/v1/workflows/:run/dag", access.Read, s.showDAG},
		{"POST", "/v1/workflows/:run/cancel-tree", access.Execute, s.cancelTree},
		{"GET", "/v2/workflow-runs", access.Read, s.listWorkflowRuns},
		{"GET", "/v2/workflow-runs/:run", access.Read, s.showWorkflowRun},
	}, s.saidTools(), s.pauseTools(), s.detailTools())
}

// graph is a run as it was read for one answer.
type graph struct {
	*workflow.Graph
	run       *models.Run
	steps     []models.Step
	truncated bool
}

func (s *Server) graph(c *fiber.Ctx) (graph, error) {
	l, err := s.Workflows.Load(c.UserContext(), c.Params("run"))
	return graph{l.Graph, l.Run, l.Steps, l.Truncated}, err
}

// showDAG answers with the graph that existing clients read (wire.md 7), whole or lightweight.
func (s *Server) showDAG(c *fiber.Ctx) error {
	g, err := s.graph(c)
	if err != nil {
		return err
	}
	d := dag{graph: g}
	if c.Query("mode") == "lightweight" || c.Query("lightweight") == "true" {
		deliveries, err := s.Workflows.Deliveries(c.UserContext(), g.run.ID, g.steps)
		if err != nil {
			return err
		}
		return sendJSON(c, fiber.StatusOK, d.lightweight(deliveries))
	}
	if d.notes, err = s.Workflows.Notes(c.UserContext(), g.run.ID); err != nil {
		return err
	}
	return sendJSON(c, fiber.StatusOK, d.whole())
}

func (s *Server) exportMermaid(c *fiber.Ctx) error {
	g, err := s.graph(c)
	if err != nil {
		return err
	}
	return attach(c, g.run, "mmd", "text/vnd.mermaid; charset=utf-8", []byte(workflow.Mermaid(g.Graph, s.Now().UnixMilli())))
}

// exportSVG draws what the page of the run draws: the same view, folded in the same way.
func (s *Server) exportSVG(c *fiber.Ctx) error {
	g, err := s.graph(c)
	if err != nil {
		return err
	}
	view, err := viewOf(c)
	if err != nil {
		return err
	}
	return attach(c, g.run, "svg", "image/svg+xml", workflow.SVG(g.Fold(view), "Run "+g.run.Workflow()))
}

func (s *Server) exportText(c *fiber.Ctx) error {
	g, err := s.graph(c)
	if err != nil {
		return err
	}
	spells, err := s.Workflows.Spells(c.UserContext(), g.run.ID, g.steps)
	if err != nil {
		return err
	}
	now := s.Now().UnixMilli()
	return attach(c, g.run, "txt", "text/plain; charset=utf-8", []byte(workflow.Text(g.Graph, g.run, workflow.Explain(g.Graph, spells, now), now)))
}

// attach sends a file about a run. It is shown in place: files of ours run nothing.
func attach(c *fiber.Ctx, run *models.Run, ending, mime string, body []byte) error {
	c.Set(fiber.HeaderContentType, mime)
	c.Set(fiber.HeaderContentDisposition, `inline; filename="`+safeName(run.ID)+"."+ending+`"`)
	return c.Send(body)
}

// viewOf reads what somebody wants to see of a graph.
func viewOf(c *fiber.Ctx) (workflow.View, error) {
	v := workflow.View{
		Focus: c.Query("focus"), Selected: c.Query("node"), Query: c.Query("q"), Open: listParam(c, "open"), Closed: listParam(c, "closed"), Depth: c.QueryInt("depth"),
	}
	for _, word := range listParam(c, "status") {
		status, ok := models.ParseStatus(word)
		if !ok {
			return v, badRequest("invalid_status", "%q is not a status: use %s", word, statusWords())
		}
		v.Statuses = append(v.Statuses, status)
	}
	return v, nil
}

// listParam reads a,b or the parameter given more than once.
func listParam(c *fiber.Ctx, name string) []string {
	var list []string
	for _, value := range c.Context().QueryArgs().PeekMulti(name) {
		list = append(list, strings.FieldsFunc(string(value), func(r rune) bool { return r == ',' })...)
	}
	return list
}

// cancelTree ends everything in a run that has not ended.
func (s *Server) cancelTree(c *fiber.Ctx) error {
	reason, err := cancelReason(c)
	if err != nil {
		return err
	}
	g, err := s.graph(c)
	if failed := asFailure(err); err != nil && failed.code == "workflow_not_found" {
		return &failure{status: fiber.StatusNotFound, code: "workflow_not_found", title: "run " + c.Params("run") + " not found", details: failed.details}
	}
	if err != nil {
		return err
	}
	if err := s.recordRunCancelled(c, g, reason); err != nil { // before anything is done: no end of many without its record
		return err
	}
	done, err := s.Executions.CancelRun(c.UserContext(), g.run.ID, reason)
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return seeOther(c, "/runs/"+g.run.ID)
	}
	return s.answerCancelled(c, g, done)
}

func (s *Server) recordRunCancelled(c *fiber.Ctx, g graph, reason string) error {
	open := len(g.steps) - g.ended()
	return s.Audit.Record(c.UserContext(), audit.Entry{
		Origin: origin(c), At: s.Now().UnixMilli(), Action: "run.cancelled", ObjectKind: "run", Object: g.run.ID, Reason: reason,
		Before: map[string]any{"status": g.run.Status, "executions": g.run.Total, "open": open},
	})
}

func (g graph) ended() int {
	n := 0
	for status, count := range g.Counts {
		if status.Terminal() {
			n += count
		}
	}
	return n
}

// answerCancelled tells of every execution of the run what became of it, also of those that were called meanwhile.
func (s *Server) answerCancelled(c *fiber.Ctx, before graph, done []execution.Member) error {
	members := make(map[string]execution.Member, len(done))
	for _, m := range done {
		members[m.ID] = m
	}
	g, err := s.graph(c)
	if err != nil {
		return err
	}
	nodes := make([]cancelledNode, len(g.Nodes))
	counts := map[string]int{}
	for i, n := range g.Nodes {
		nodes[i] = cancelledNode{ExecutionID: n.ID, NodeID: n.NodeID, Function: n.Function, Depth: n.Depth, Previous: n.Status, Status: n.Status}
		m, moved := members[n.ID]
		counts[nodes[i].became(m, moved)]++
	}
	o := newObject(256 + 200*len(nodes))
	o.text("run_id", before.run.ID)
	o.text("workflow_id", before.run.Workflow())
	o.number("total_nodes", int64(len(nodes)))
	o.number("cancelled_count", int64(counts["cancelled"]))
	o.number("skipped_count", int64(counts["skipped"]))
	o.number("error_count", int64(counts["error"]))
	o.value("nodes", nodes)
	o.instant("cancelled_at", s.Now().UnixMilli())
	return sendJSON(c, fiber.StatusOK, o.end())
}

type cancelledNode struct {
	ExecutionID string        `json:"execution_id"`
	NodeID      string        `json:"agent_node_id"`
	Function    string        `json:"reasoner_id"`
	Depth       int           `json:"workflow_depth"`
	Previous    models.Status `json:"previous_status"`
	Status      models.Status `json:"status"`
	SkipReason  string        `json:"skip_reason,omitempty"`
}

// became fills in what was done to the execution and names what it counts as.
func (n *cancelledNode) became(m execution.Member, moved bool) string {
	if !moved {
		n.SkipReason = "terminal"
		return "skipped"
	}
	n.Previous, n.Status = m.Previous, m.Status
	var state *execution.StateError
	switch {
	case m.Err == nil:
		return "cancelled"
	case errors.As(m.Err, &state):
		n.SkipReason = "raced_to_terminal"
		return "skipped"
	}
	n.SkipReason = asFailure(m.Err).details
	return "error"
}
