package api

import (
	"errors"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// pauseRoutes hold executions back and let them go on (wire.md 3.10).
func (s *Server) pauseRoutes() []Route {
	return []Route{
		{"POST", "/executions/:id/pause", access.Execute, s.pauseExecution},
		{"POST", "/executions/:id/resume", access.Execute, s.resumeExecution},
	}
}

// pauseTools are the same under the addresses that published tools know.
func (s *Server) pauseTools() []Route {
	return []Route{
		{"POST", "/v1/executions/:id/cancel", access.Execute, s.cancelExecution},
		{"POST", "/v1/executions/:id/pause", access.Execute, s.pauseExecution},
		{"POST", "/v1/executions/:id/resume", access.Execute, s.resumeExecution},
	}
}

func (s *Server) pauseExecution(c *fiber.Ctx) error {
	reason, err := cancelReason(c)
	if err != nil {
		return err
	}
	by := origin(c)
	done, err := s.Executions.Pause(c.UserContext(), c.Params("id"), reason, &by)
	if err != nil {
		return err
	}
	return s.answerMoved(c, done, "paused_at", s.Now().UnixMilli())
}

func (s *Server) resumeExecution(c *fiber.Ctx) error {
	by := origin(c)
	done, err := s.Executions.Unpause(c.UserContext(), c.Params("id"), &by)
	if err != nil {
		return err
	}
	return s.answerMoved(c, done, "resumed_at", s.Now().UnixMilli())
}

// answerMoved tells what an operator's act has led to, and when (ms): with the facts, or with the page of the execution.
func (s *Server) answerMoved(c *fiber.Ctx, done execution.Moved, when string, at int64) error {
	row := done.Row
	if !wantsJSON(c) {
		return seeOther(c, "/executions/"+row.ID)
	}
	o := newObject(256)
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	o.text("previous_status", string(done.Previous))
	o.text("status", string(row.Status))
	o.maybe("reason", row.StatusReason)
	o.instant(when, at)
	endKeys(o, row)
	return sendJSON(c, fiber.StatusOK, o.end())
}

// pauseTree holds back everything in a run that is on its way; resumeTree lets it go on.
func (s *Server) pauseTree(c *fiber.Ctx) error {
	reason, err := cancelReason(c)
	if err != nil {
		return err
	}
	return s.actOnTree(c, "paused", reason, func(run string) ([]execution.Member, error) {
		return s.Executions.PauseRun(c.UserContext(), run, reason)
	})
}

func (s *Server) resumeTree(c *fiber.Ctx) error {
	return s.actOnTree(c, "resumed", "", func(run string) ([]execution.Member, error) {
		return s.Executions.UnpauseRun(c.UserContext(), run)
	})
}

func (s *Server) actOnTree(c *fiber.Ctx, done, reason string, act func(run string) ([]execution.Member, error)) error {
	run, err := s.Workflows.Run(c.UserContext(), c.Params("run"))
	if err != nil {
		return err
	}
	err = s.Audit.Record(c.UserContext(), audit.Entry{
		Origin: origin(c), At: s.Now().UnixMilli(), Action: "run." + done, ObjectKind: "run", Object: run.ID, Reason: reason,
		Before: map[string]any{"status": run.Status, "executions": run.Total},
	})
	if err != nil { // before anything is done: no act on many without its record
		return err
	}
	members, err := act(run.ID)
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return seeOther(c, "/runs/"+run.ID)
	}
	return s.answerTree(c, run, done, members)
}

// answerTree tells of each execution that was acted on what became of it.
func (s *Server) answerTree(c *fiber.Ctx, run *models.Run, done string, members []execution.Member) error {
	type node struct {
		ExecutionID string        `json:"execution_id"`
		Previous    models.Status `json:"previous_status"`
		Status      models.Status `json:"status"`
		SkipReason  string        `json:"skip_reason,omitempty"`
	}
	nodes, moved, failed := make([]node, len(members)), 0, 0
	for i, m := range members {
		nodes[i] = node{ExecutionID: m.ID, Previous: m.Previous, Status: m.Status}
		var state *execution.StateError
		switch {
		case m.Err == nil:
			moved++
		case errors.As(m.Err, &state):
			nodes[i].SkipReason = "moved_on"
		default:
			nodes[i].SkipReason, failed = asFailure(m.Err).details, failed+1
		}
	}
	o := newObject(256 + 160*len(nodes))
	o.text("run_id", run.ID)
	o.text("workflow_id", run.Workflow())
	o.number("total_nodes", int64(run.Total))
	o.number(done+"_count", int64(moved))
	o.number("skipped_count", int64(run.Total-moved-failed))
	o.number("error_count", int64(failed))
	o.value("nodes", nodes)
	o.instant(done+"_at", s.Now().UnixMilli())
	return sendJSON(c, fiber.StatusOK, o.end())
}
