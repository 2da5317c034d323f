package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/models"
)

// executeRequest is the envelope of both execute endpoints (wire.md 3.5, requirements.md 4). Input and context stay bytes.
type executeRequest struct {
	Input          json.RawMessage        `json:"input"`
	Context        json.RawMessage        `json:"context"`
	Webhook        *webhookRequest        `json:"webhook"`
	TimeoutSeconds *float64               `json:"timeout_seconds"`
	Retry          *execution.RetryPolicy `json:"retry"`
	Priority       *int                   `json:"priority"`
	Concurrency    *execution.Concurrency `json:"concurrency"`
}

type webhookRequest struct {
	URL     string            `json:"url"`
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
}

// execute runs a function while its caller waits.
func (s *Server) execute(c *fiber.Ctx) error {
	sub, err := s.submission(c, "sync")
	if err != nil {
		return err
	}
	f, err := s.Executions.Call(c.UserContext(), sub, fromAgent(c))
	if err != nil {
		return err
	}
	idHeaders(c, f.Row, f.Replayed)
	return s.answerCall(c, f)
}

// executeAsync writes an execution down and answers at once.
func (s *Server) executeAsync(c *fiber.Ctx) error {
	sub, err := s.submission(c, "async")
	if err != nil {
		return err
	}
	started, err := s.Executions.Submit(c.UserContext(), sub)
	if err != nil {
		return err
	}
	return s.accepted(c, started)
}

// accepted answers for an execution that has been written down.
func (s *Server) accepted(c *fiber.Ctx, started execution.Started) error {
	row := started.Row
	idHeaders(c, row, started.Replayed)
	page := s.base(c) + "/executions/" + row.ID
	c.Set(fiber.HeaderLocation, "/api/v1/executions/"+row.ID)
	o := newObject(512)
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	o.text("workflow_id", row.Workflow())
	o.text("status", string(row.Status))
	o.text("target", row.Target())
	o.text("type", row.FunctionKind)
	o.instant("created_at", row.CreatedAt)
	o.instant("enqueued_at", row.CreatedAt)
	o.truth("webhook_registered", row.HasWebhook)
	o.maybe("rerun_of", row.RerunOf)
	o.text("ui_url", page)
	return sendJSON(c, fiber.StatusAccepted, o.end())
}

// submission reads everything a request says about the call it wants.
func (s *Server) submission(c *fiber.Ctx, mode string) (execution.Submission, error) {
	nodeID, function, err := node.ParseTarget(c.Params("target"))
	if err != nil {
		return execution.Submission{}, &failure{
			status: fiber.StatusBadRequest, code: "invalid_target", title: "Invalid target", details: "write the target as node.function", category: "internal_error",
		}
	}
	var r executeRequest
	if err := bind(c, &r, false); err != nil {
		return execution.Submission{}, err
	}
	sub := execution.Submission{ID: execution.NewID(), NodeID: nodeID, Function: function, Context: present(r.Context)}
	sub.StartedBy = startedBy(c)
	if sub.Input, err = inputOf(r.Input); err != nil {
		return sub, err
	}
	if err := readIDs(c, &sub); err != nil {
		return sub, err
	}
	if sub.Timeout, err = s.timeoutOf(r.TimeoutSeconds); err != nil {
		return sub, err
	}
	if r.Retry != nil {
		if err := r.Retry.Check(); err != nil {
			return sub, badRequest("retry_invalid", "%s", err)
		}
		sub.Retry = *r.Retry
	}
	if r.Priority != nil && (*r.Priority < 0 || *r.Priority > models.MaxPriority) {
		return sub, badRequest("invalid_parameter", "priority lies between 0, which can wait, and %d, which goes first", models.MaxPriority)
	}
	sub.Priority = r.Priority
	if r.Concurrency != nil {
		if err := r.Concurrency.Check(); err != nil {
			return sub, badRequest("invalid_parameter", "%s", err)
		}
		sub.Along = *r.Concurrency
	}
	if r.Webhook != nil {
		registration, err := s.Webhooks.Prepare(sub.ID, webhook.Spec{URL: r.Webhook.URL, Secret: r.Webhook.Secret, Headers: r.Webhook.Headers})
		if err != nil {
			return sub, err
		}
		sub.Webhook = &registration
	}
	sub.Key, err = idempotencyKey(c, mode)
	return sub, err
}

// startedBy is who a new execution is charged to: nobody in particular where no credentials are demanded, or when an agent asks.
func startedBy(c *fiber.Ctx) string {
	if p := principal(c); p.Kind != access.KindLocal && !p.IsAgent() {
		return p.ID
	}
	return ""
}

// inputOf: a missing input is an empty object; anything but an object is refused.
func inputOf(raw json.RawMessage) ([]byte, error) {
	raw = present(raw)
	if raw == nil {
		return []byte("{}"), nil
	}
	if raw[0] != '{' {
		return nil, invalidJSON("\"input\" must be a JSON object")
	}
	return raw, nil
}

// present is nil for a member that is missing or null.
func present(raw json.RawMessage) []byte {
	trimmed := bytes.TrimSpace(raw)
	if len(trimmed) == 0 || bytes.Equal(trimmed, []byte("null")) {
		return nil
	}
	return bytes.Clone(trimmed)
}

func readIDs(c *fiber.Ctx, sub *execution.Submission) error {
	for _, h := range []struct {
		name string
		into *string
	}{
		{"X-Run-ID", &sub.RunID},
		{"X-Workflow-ID", &sub.WorkflowID},
		{"X-Parent-Execution-ID", &sub.ParentID},
		{"X-Session-ID", &sub.SessionID},
		{"X-Actor-ID", &sub.ActorID},
		{"X-Caller-Agent-ID", &sub.Caller},
		{"X-Agent-Node-ID", &sub.Caller},
	} {
		value := c.Get(h.name)
		if value == "" {
			continue
		}
		if err := opaque(h.name, value); err != nil {
			return err
		}
		*h.into = value
	}
	if trace := c.Get("Traceparent"); validTrace(trace) {
		sub.Trace = trace
	}
	return nil
}

// fromAgent: published SDKs take every 2xx for success, so calls that agents make are answered differently (wire.md B4, B5).
func fromAgent(c *fiber.Ctx) bool {
	return c.Get("X-Parent-Execution-ID") != "" || c.Get("X-Caller-Agent-ID") != "" || c.Get("X-Agent-Node-ID") != ""
}

func (s *Server) timeoutOf(seconds *float64) (time.Duration, error) {
	if seconds == nil {
		return 0, nil
	}
	if *seconds <= 0 || *seconds > s.MaxTimeout.Seconds() {
		return 0, badRequest("invalid_parameter", "timeout_seconds must lie above 0 and at most at %d", int(s.MaxTimeout.Seconds()))
	}
	return max(time.Duration(*seconds*float64(time.Second)), time.Millisecond), nil
}

// idempotencyKey reads the header; two requests are the same when target and body are.
func idempotencyKey(c *fiber.Ctx, mode string) (*models.IdempotencyKey, error) {
	return keyOf(c, c.Get("Idempotency-Key"), "execute "+mode, c.Params("target"), c.Body())
}

// keyOf is an idempotency key of one caller and act; it stands for the object and the body that it came with first.
func keyOf(c *fiber.Ctx, key, act, object string, body []byte) (*models.IdempotencyKey, error) {
	if key == "" {
		return nil, nil //nolint:nilnil // no key is the ordinary case
	}
	if err := opaque("Idempotency-Key", key); err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write([]byte(object + "\n"))
	sum.Write(body)
	return &models.IdempotencyKey{Scope: principal(c).ID + " " + act, Key: key, BodyHash: hex.EncodeToString(sum.Sum(nil))}, nil
}

func idHeaders(c *fiber.Ctx, row *models.Execution, replayed bool) {
	c.Set("X-Execution-ID", row.ID)
	c.Set("X-Run-ID", row.RunID)
	if replayed {
		c.Set("Idempotency-Replayed", "true")
	}
}

// answerCall turns the outcome of a synchronous call into its answer (requirements.md 1.3, wire.md 3.5).
func (s *Server) answerCall(c *fiber.Ctx, f execution.Finished) error {
	row := f.Row
	switch row.Status {
	case models.Succeeded:
		return sendJSON(c, fiber.StatusOK, callBody(f, nil))
	case models.Waiting:
		d, err := s.detail(c.UserContext(), f)
		if err != nil {
			return err
		}
		return sendJSON(c, fiber.StatusOK, callBody(f, d.approval))
	case models.Failed:
		if text(row.ErrorCategory) == "agent_unreachable" {
			return about(row, &failure{
				status: fiber.StatusBadGateway, code: text(row.ErrorCode), title: "Agent unreachable", details: text(row.ErrorMessage),
				category: text(row.ErrorCategory), state: string(row.Status),
			})
		}
		return sendJSON(c, failedStatus(c, row), callBody(f, nil))
	case models.Timeout:
		return about(row, &failure{
			status: fiber.StatusGatewayTimeout, code: "agent_timeout", title: "Agent timeout", details: text(row.ErrorMessage), category: "agent_timeout",
		})
	case models.Cancelled:
		return about(row, &failure{
			status: fiber.StatusConflict, code: "cancelled", title: "Execution cancelled", details: cancelledDetails(row), state: string(row.Status),
		})
	case models.Pending, models.Queued, models.Running, models.Paused:
	}
	return about(row, &failure{
		status: fiber.StatusServiceUnavailable, code: "draining", title: "Shutting down", state: string(row.Status), retryAfter: 2 * time.Second,
		details: "this server is shutting down; the execution goes on, ask for it under its id",
	})
}

func about(row *models.Execution, f *failure) error {
	f.executionID, f.runID = row.ID, row.RunID
	return f
}

func cancelledDetails(row *models.Execution) string {
	if row.StatusReason != nil {
		return "the execution was cancelled: " + *row.StatusReason
	}
	return "the execution was cancelled"
}

// failedStatus: an agent that ran and failed is 200 for plain callers; what could not be executed is not (ruling C3).
func failedStatus(c *fiber.Ctx, row *models.Execution) int {
	if !fromAgent(c) {
		return fiber.StatusOK
	}
	return statusForAgents(row)
}

// statusForAgents is the agent's own 4xx, else 502 (wire.md B4).
func statusForAgents(row *models.Execution) int {
	if status := row.ErrorStatus; status != nil && *status >= 400 && *status < 500 {
		return *status
	}
	return fiber.StatusBadGateway
}

func callBody(f execution.Finished, asked *models.Approval) []byte {
	row := f.Row
	o := newObject(384 + len(f.Result))
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	o.text("workflow_id", row.Workflow())
	o.text("status", string(row.Status))
	o.raw("result", f.Result)
	if row.Status == models.Failed {
		failureKeys(o, f)
	}
	endKeys(o, row)
	approvalKeys(o, row, asked)
	if row.HasWebhook {
		o.truth("webhook_registered", true)
	}
	return o.end()
}

func failureKeys(o *object, f execution.Finished) {
	row := f.Row
	o.text("error_message", text(row.ErrorMessage))
	o.text("error", text(row.ErrorMessage))
	o.raw("error_details", f.Details)
	o.maybe("error_category", row.ErrorCategory)
	o.maybe("code", row.ErrorCode)
}

// endKeys: the end has two names, one of each documented place (ruling C2).
func endKeys(o *object, row *models.Execution) {
	if d := row.DurationMs(); d != nil {
		o.number("duration_ms", *d)
		o.instant("finished_at", *row.FinishedAt)
		o.instant("completed_at", *row.FinishedAt)
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func sendJSON(c *fiber.Ctx, status int, body []byte) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Status(status).Send(body)
}

// base is the address under which callers reach this server.
func (s *Server) base(c *fiber.Ctx) string {
	if s.PublicURL != "" {
		return s.PublicURL
	}
	return c.BaseURL()
}

// validTrace reports whether a header is one of W3C Trace Context; what is not begins a trace of its own.
func validTrace(header string) bool {
	_, ok := models.ParseTraceparent(header)
	return ok
}
