package api

import (
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// The calls as clients made them before /execute: an envelope of its own around the same engine (wire.md 3.7).

func (s *Server) legacyRoutes() []Route {
	return []Route{
		{"POST", "/reasoners/:target", access.Execute, s.invoke},
		{"POST", "/skills/:target", access.Execute, s.invoke},
	}
}

// invoke runs a function while its caller waits, to its end: these clients know no other answer.
func (s *Server) invoke(c *fiber.Ctx) error {
	sub, err := s.submission(c, "legacy")
	if err != nil {
		return err
	}
	if sub.Headers, err = scopingHeaders(c); err != nil {
		return err
	}
	if s.Nodes.Gone(sub.NodeID) {
		return offline(sub.NodeID, "all of it has said that it stops: start it again")
	}
	f, err := s.Executions.Call(c.UserContext(), sub, true)
	if err != nil {
		return err
	}
	invokeHeaders(c, f)
	return s.answerInvoke(c, f)
}

// scopingHeaders go to the agent unchanged; those that place a call in its run have members of their own.
func scopingHeaders(c *fiber.Ctx) (map[string]string, error) {
	passed := map[string]string{}
	for _, name := range []string{
		"X-Parent-Workflow-ID", "X-Root-Workflow-ID", "X-Workflow-Name", "X-Workflow-Tags", "X-Caller-DID", "X-Target-DID", "X-Agent-Node-DID",
	} {
		value := c.Get(name)
		if value == "" {
			continue
		}
		if err := opaque(name, value); err != nil {
			return nil, err
		}
		passed[name] = value
	}
	return passed, nil
}

func offline(nodeID, why string) *failure {
	return &failure{
		status: fiber.StatusServiceUnavailable, code: "agent_offline", title: "agent node '" + nodeID + "' is offline", details: why,
		category: "agent_unreachable",
	}
}

func invokeHeaders(c *fiber.Ctx, f execution.Finished) {
	idHeaders(c, f.Row, f.Replayed)
	c.Set("X-Workflow-ID", f.Row.Workflow())
	c.Set("X-AgentField-Request-ID", requestID(c))
	c.Set("X-Agent-Node-ID", f.Row.NodeID)
	c.Set("X-Duration-MS", strconv.FormatInt(took(f.Row), 10))
}

// took is never 0, which these clients take for missing.
func took(row *models.Execution) int64 {
	if d := row.DurationMs(); d != nil {
		return max(*d, 1)
	}
	return 1
}

// answerInvoke: a result in its envelope, everything else as a calling agent gets it from /execute.
func (s *Server) answerInvoke(c *fiber.Ctx, f execution.Finished) error {
	row := f.Row
	switch {
	case row.Status == models.Succeeded:
		o := newObject(256 + len(f.Result))
		o.raw("result", f.Result)
		o.text("node_id", row.NodeID)
		o.number("duration_ms", took(row))
		o.instant("timestamp", *row.FinishedAt)
		return sendJSON(c, fiber.StatusOK, o.end())
	case row.Status == models.Failed && text(row.ErrorCode) == "agent_unreachable":
		return about(row, offline(row.NodeID, text(row.ErrorMessage)))
	case row.Status == models.Failed && text(row.ErrorCategory) != "agent_unreachable":
		return sendJSON(c, statusForAgents(row), callBody(f, nil))
	}
	return s.answerCall(c, f)
}
