package api

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// localEvent is what an agent tells of a call inside itself (wire.md 3.12). Fields that senders add are ignored.
type localEvent struct {
	ExecutionID  string          `json:"execution_id"`
	WorkflowID   string          `json:"workflow_id"`
	RunID        string          `json:"run_id"`
	ReasonerID   string          `json:"reasoner_id"`
	Type         string          `json:"type"`
	NodeID       string          `json:"agent_node_id"`
	Status       string          `json:"status"`
	StatusReason string          `json:"status_reason"`
	ParentID     string          `json:"parent_execution_id"`
	Input        json.RawMessage `json:"input_data"`
	Result       json.RawMessage `json:"result"`
	Error        json.RawMessage `json:"error"`
	DurationMs   *float64        `json:"duration_ms"`
}

// observed reads what the body tells.
func (s *Server) observed(c *fiber.Ctx) (execution.Local, error) {
	var e localEvent
	if err := bind(c, &e, false); err != nil {
		return execution.Local{}, err
	}
	for _, id := range []struct {
		name  string
		into  *string
		given string
	}{
		{"execution_id", &e.ExecutionID, c.Get("X-Execution-ID")},
		{"workflow_id", &e.WorkflowID, ""},
		{"run_id", &e.RunID, ""},
		{"reasoner_id", &e.ReasonerID, "local"},
		{"agent_node_id", &e.NodeID, c.Get("X-Agent-Node-ID", "unknown")},
		{"parent_execution_id", &e.ParentID, ""},
	} {
		if *id.into == "" {
			*id.into = id.given
		}
		if err := opaque(id.name, *id.into); err != nil {
			return execution.Local{}, err
		}
	}
	if e.ExecutionID == "" {
		return execution.Local{}, badRequest("invalid_parameter", "execution_id is missing")
	}
	l := execution.Local{
		Token: c.Get("X-Execution-Token"), ID: e.ExecutionID, RunID: e.RunID, WorkflowID: e.WorkflowID, ParentID: e.ParentID, NodeID: e.NodeID,
		Function: e.ReasonerID, Kind: "reasoner", Status: models.Running, Reason: clip(e.StatusReason), Input: present(e.Input),
		Error: clip(errorWords(e.Error, "")), Result: present(e.Result),
	}
	if strings.EqualFold(e.Type, "skill") {
		l.Kind = "skill"
	}
	if e.DurationMs != nil && *e.DurationMs > 0 {
		l.Took = time.Duration(min(*e.DurationMs, 30*24*3.6e6)) * time.Millisecond
	}
	if e.Status != "" {
		status, ok := models.ReportedStatus(e.Status)
		if !ok {
			return l, badRequest("invalid_status", "%q is not a status: use %s", strings.ToValidUTF8(e.Status, ""), statusWords())
		}
		l.Status = status
	}
	return l, nil
}

// workflowEvent takes the word of a call inside an agent, while it runs or when it has ended.
func (s *Server) workflowEvent(c *fiber.Ctx) error {
	l, err := s.observed(c)
	if err != nil {
		return err
	}
	row, created, err := s.Executions.Observe(c.UserContext(), l)
	if err != nil {
		return aboutID(err, l.ID)
	}
	o := newObject(128)
	o.truth("success", true)
	if created {
		o.truth("created", true)
	} else {
		o.truth("updated", true)
	}
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	return sendJSON(c, fiber.StatusOK, o.end())
}

// workflowExecution takes the same under its other name, answered with the ids.
func (s *Server) workflowExecution(c *fiber.Ctx) error {
	l, err := s.observed(c)
	if err != nil {
		return err
	}
	row, _, err := s.Executions.Observe(c.UserContext(), l)
	if err != nil {
		return aboutID(err, l.ID)
	}
	o := newObject(128)
	o.text("execution_id", row.ID)
	o.text("workflow_id", row.Workflow())
	o.text("run_id", row.RunID)
	return sendJSON(c, fiber.StatusOK, o.end())
}
