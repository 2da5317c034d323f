package api

import (
	"bytes"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// detailTools are one execution as published tools read it, and its webhook sent again (wire.md 3.16, section 6).
func (s *Server) detailTools() []Route {
	return []Route{
		{"GET", "/v1/executions/:id/details", access.Read, s.executionDetails},
		{"POST", "/v1/executions/:id/webhook/retry", access.Execute, s.retryWebhook},
	}
}

// executionDetails tells all of an execution at once, its input and its notes too.
func (s *Server) executionDetails(c *fiber.Ctx) error {
	ctx := c.UserContext()
	f, err := s.Executions.Get(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	d, err := s.detail(ctx, f)
	if err != nil {
		return err
	}
	input, err := s.Executions.PayloadOrNil(ctx, f.Row.ID, models.PayloadInput)
	if err != nil {
		return err
	}
	notes, err := s.Executions.Notes(ctx, f.Row.ID, nil)
	if err != nil {
		return err
	}
	return sendJSON(c, fiber.StatusOK, detailsBody(d, input, notes))
}

func detailsBody(d detail, input []byte, notes []execution.Noted) []byte {
	row := d.Row
	o := newObject(1024 + len(input) + len(d.Result))
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	o.text("workflow_id", row.Workflow())
	o.maybe("session_id", row.SessionID)
	o.maybe("actor_id", row.ActorID)
	o.text("agent_node_id", row.NodeID)
	o.text("reasoner_id", row.Function)
	o.maybe("parent_execution_id", row.ParentID)
	if row.ParentID != nil {
		o.text("parent_workflow_id", row.Workflow())
	}
	o.raw("input_data", enveloped(input))
	o.raw("output_data", d.Result)
	o.number("input_size", row.InputBytes)
	o.number("output_size", row.ResultBytes)
	o.text("status", string(row.Status))
	o.maybe("status_reason", row.StatusReason)
	if row.StartedAt != nil {
		o.instant("started_at", *row.StartedAt)
	} else {
		o.instant("started_at", row.CreatedAt)
	}
	endKeys(o, row)
	o.maybe("error_message", row.ErrorMessage)
	o.number("retry_count", int64(max(row.Attempt-1, 0)))
	list := make([]noteJSON, len(notes))
	for i, n := range notes {
		list[i] = asNoteJSON(n)
	}
	o.value("notes", list)
	o.number("notes_count", int64(len(list)))
	o.truth("webhook_registered", row.HasWebhook)
	if row.HasWebhook {
		o.value("webhook_events", webhookEvents(d.attempts, d.deliveries))
	}
	approvalKeys(o, row, d.approval)
	return o.end()
}

// enveloped is an input as it was sent: inside of {"input": …}. null where it was never told.
func enveloped(input []byte) []byte {
	if input == nil {
		return nil
	}
	return bytes.Join([][]byte{[]byte(`{"input":`), input, []byte("}")}, nil)
}
