package api

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/models"
)

// requestApproval takes an agent's request for a decision, in both path forms (wire.md 3.11).
func (s *Server) requestApproval(c *fiber.Ctx) error {
	var r struct {
		RequestID   string          `json:"approval_request_id"`
		URL         string          `json:"approval_request_url"`
		Callback    string          `json:"callback_url"`
		Hours       *float64        `json:"expires_in_hours"`
		Title       string          `json:"title"`
		Description string          `json:"description"`
		Risk        string          `json:"risk"`
		Next        string          `json:"next"`
		Payload     json.RawMessage `json:"payload"`
		Form        json.RawMessage `json:"form"`
		Editable    bool            `json:"editable"`
		OnReject    string          `json:"on_reject"`
		OnExpire    string          `json:"on_expire"`
		Policy      approval.Policy `json:"policy"`
	}
	if err := bind(c, &r, true); err != nil {
		return err
	}
	key := c.Get("Idempotency-Key")
	if err := opaque("Idempotency-Key", key); err != nil {
		return err
	}
	ask := approval.Request{
		Token: c.Get("X-Execution-Token"), Key: key, Node: c.Params("node"), RequestID: r.RequestID, URL: r.URL, Callback: r.Callback, Title: r.Title,
		Description: r.Description, Risk: r.Risk, Next: r.Next, Payload: present(r.Payload), Form: present(r.Form), Editable: r.Editable,
		OnReject: r.OnReject, OnExpire: r.OnExpire, Policy: r.Policy,
	}
	if r.Hours != nil {
		if *r.Hours <= 0 || *r.Hours > 8760 || math.IsNaN(*r.Hours) {
			return badRequest("invalid_parameter", "expires_in_hours must lie above 0 and at most at 8760")
		}
		ask.ExpiresIn = time.Duration(*r.Hours * float64(time.Hour))
	}
	a, err := s.Approvals.Ask(c.UserContext(), c.Params("id"), ask)
	if err != nil {
		return aboutID(err, c.Params("id"))
	}
	o := newObject(256)
	o.text("approval_request_id", a.RequestID)
	o.text("approval_request_url", a.URL)
	o.text("approval_id", a.ID)
	o.text("execution_id", a.ExecutionID)
	o.text("status", string(a.Status))
	o.number("round", int64(a.Round))
	o.instant("expires_at", a.ExpiresAt)
	return sendJSON(c, fiber.StatusOK, o.end())
}

// approvalStatus is what an agent polls; with ?wait=30s it answers as soon as there is a decision.
func (s *Server) approvalStatus(c *fiber.Ctx) error {
	wait, err := waitParam(c.Query("wait"))
	if err != nil {
		return err
	}
	id, requestID := c.Params("id"), c.Query("approval_request_id")
	row, err := s.Executions.Row(c.UserContext(), id)
	if err != nil {
		return err
	}
	if node := c.Params("node"); node != "" && node != row.NodeID {
		return approval.ErrNotYours
	}
	until := s.Now().Add(wait)
	for {
		a, given, err := s.Approvals.Status(c.UserContext(), id, requestID)
		if err != nil {
			return noRequest(err)
		}
		left := until.Sub(s.Now())
		if !a.Status.Open() || left <= 0 || s.Executions.Draining() {
			return sendJSON(c, fiber.StatusOK, statusBody(a, given))
		}
		if err := s.Executions.WaitWhile(c.UserContext(), id, models.Waiting, left); err != nil {
			return err
		}
	}
}

func noRequest(err error) error {
	if errors.Is(err, approval.ErrNotFound) {
		return &failure{status: fiber.StatusNotFound, code: "no_approval_request", title: "no_approval_request", details: "this execution has no such approval request"}
	}
	return err
}

// statusBody: until a decision is in effect the status is pending, held or not (wire.md 3.11, B23).
func statusBody(a *models.Approval, given approval.Given) []byte {
	o := newObject(384)
	status := a.Status
	if status.Open() {
		status = models.ApprovalPending
	}
	o.text("status", string(status))
	o.text("approval_request_id", a.RequestID)
	o.text("approval_id", a.ID)
	o.text("request_url", a.URL)
	o.instant("requested_at", a.CreatedAt)
	o.instant("expires_at", a.ExpiresAt)
	if a.Status.Open() {
		return o.end()
	}
	o.maybe("decision", a.Decision)
	o.text("feedback", text(a.Feedback))
	o.maybe("decided_by", a.DecidedBy)
	if a.DecidedAt != nil {
		o.instant("responded_at", *a.DecidedAt)
	}
	if given.Response != nil {
		o.raw("response", given.Response)
	}
	if given.Edited != nil {
		o.raw("edited_payload", given.Edited)
	}
	return o.end()
}

// decideRequest holds every form of a decision's body: the documented one, the flat one of existing hubs, and their envelope.
type decideRequest struct {
	RequestID string          `json:"approval_request_id"`
	Alias     string          `json:"requestId"`
	Decision  string          `json:"decision"`
	Feedback  string          `json:"feedback"`
	Response  json.RawMessage `json:"response"`
	Edited    json.RawMessage `json:"edited"`
	Type      string          `json:"type"`
	Data      *struct {
		RequestID string `json:"requestId"`
		Response  struct {
			Decision string `json:"decision"`
			Action   string `json:"action"`
			Feedback string `json:"feedback"`
		} `json:"response"`
	} `json:"data"`
}

func (r decideRequest) flat() (id, word, feedback string) {
	id, word, feedback = r.RequestID, r.Decision, r.Feedback
	if id == "" {
		id = r.Alias
	}
	if r.Data != nil {
		if id == "" {
			id = r.Data.RequestID
		}
		if word == "" {
			word = r.Data.Response.Decision
		}
		if word == "" {
			word = r.Data.Response.Action
		}
		if feedback == "" {
			feedback = r.Data.Response.Feedback
		}
		if word == "" && strings.Contains(r.Type, "expired") {
			word = "expired"
		}
	}
	return id, word, feedback
}

// decideByAPI is the documented endpoint of decisions, and its alias for external hubs (wire.md 3.11; rulings C11, C16).
func (s *Server) decideByAPI(c *fiber.Ctx) error {
	alias := strings.HasSuffix(c.Path(), "approval-response")
	var r decideRequest
	if err := bind(c, &r, false); err != nil {
		return err
	}
	id, word, feedback := r.flat()
	if id == "" || opaque("approval_request_id", id) != nil {
		return badRequest("invalid_parameter", "name the request in approval_request_id")
	}
	if word == "" {
		return badRequest("decision_missing", "decision is missing: send approved, rejected or request_changes")
	}
	decided, ok := approval.ReadDecision(word)
	if !ok {
		return badRequest("decision_invalid", "%q is not a decision: send approved, rejected or request_changes", word)
	}
	done, err := s.Approvals.Decide(c.UserContext(), person(c), id, approval.Decision{
		Word: decided, Feedback: feedback, Response: answersIn(r.Response), Edited: present(r.Edited),
	})
	var late *approval.DecidedError
	switch {
	case errors.As(err, &late) && alias:
		return s.processed(c, late.Approval, true)
	case err != nil:
		return err
	}
	return s.processed(c, done.Approval, done.Repeated)
}

// answersIn takes the answers of a reviewer out of the text in which some hubs send them: agents expect an object (wire.md B23).
func answersIn(raw json.RawMessage) []byte {
	var text string
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &text) == nil && json.Unmarshal([]byte(text), &object) == nil && object != nil {
		return []byte(text)
	}
	return present(raw)
}

// processed answers a decision: what it did, or what stood already.
func (s *Server) processed(c *fiber.Ctx, a *models.Approval, already bool) error {
	row, err := s.Executions.Row(c.UserContext(), a.ExecutionID)
	if err != nil {
		return err
	}
	o := newObject(256)
	if already {
		o.text("status", "already_processed")
	} else {
		o.text("status", "processed")
	}
	o.text("execution_id", a.ExecutionID)
	o.text("approval_request_id", a.RequestID)
	if a.Decision != nil {
		o.text("decision", *a.Decision)
	}
	o.text("approval_status", string(a.Status))
	o.text("new_status", string(row.Status))
	o.text("current_status", string(row.Status))
	if a.Status == models.ApprovalPending {
		o.text("warning", "more approvals are needed before it takes effect")
	}
	return sendJSON(c, fiber.StatusOK, o.end())
}

// person is who acts, in the words of approvals.
func person(c *fiber.Ctx) approval.Person {
	p := principal(c)
	return approval.Person{
		ID: p.ID, Name: p.Name, Role: string(p.Role), Groups: p.Groups, May: p.Can(access.Approve), Agent: p.IsAgent(), Origin: origin(c),
	}
}

// signatureOf is the first of the headers in which approval hubs sign (wire.md 3.11).
func signatureOf(c *fiber.Ctx) string {
	for _, header := range []string{"X-Hax-Signature", "X-Webhook-Signature", "X-Hub-Signature-256"} {
		if value := c.Get(header); value != "" {
			return value
		}
	}
	return ""
}

// byApprovalSecret recognises who signs with the shared approval secret.
func (s *Server) byApprovalSecret(c *fiber.Ctx, signature string) (access.Principal, error) {
	if s.ApprovalSecret == "" {
		return access.Principal{}, &failure{
			status: fiber.StatusServiceUnavailable, code: "approval_secret_missing", title: "approval secret missing", retryAfter: time.Minute,
			details: "a signed decision came, but this server has no approval_webhook_secret to check it with",
		}
	}
	if !approval.Signed(s.ApprovalSecret, signature, c.Body(), s.Now()) {
		return access.Principal{}, &failure{
			status: fiber.StatusUnauthorized, code: "invalid_signature", title: "invalid webhook signature", details: "the signature does not fit the body, or is too old",
		}
	}
	return access.ApprovalSecret(), nil
}

// approvalFailure maps the refusals of approvals.
func approvalFailure(err error) *failure {
	var late *approval.DecidedError
	var field *approval.FieldError
	switch {
	case errors.As(err, &late):
		return decidedFailure(late)
	case errors.As(err, &field):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_parameter", title: "Bad request", details: field.Error()}
	case errors.Is(err, approval.ErrNotFound):
		return &failure{status: fiber.StatusNotFound, code: "approval_not_found", title: "approval request not found", details: err.Error()}
	case errors.Is(err, approval.ErrIDInUse):
		return &failure{status: fiber.StatusConflict, code: "approval_request_id_in_use", title: "approval_request_id_in_use", details: err.Error()}
	case errors.Is(err, approval.ErrNotYours):
		return &failure{status: fiber.StatusForbidden, code: "execution_ownership_mismatch", title: "execution_ownership_mismatch", details: err.Error()}
	case errors.Is(err, approval.ErrAgent), errors.Is(err, approval.ErrNoRight), errors.Is(err, approval.ErrNotNamed), errors.Is(err, approval.ErrSelf):
		return &failure{status: fiber.StatusForbidden, code: "approval_forbidden", title: "forbidden", details: err.Error()}
	case errors.Is(err, approval.ErrNothingHeld):
		return &failure{status: fiber.StatusConflict, code: "nothing_held", title: "nothing_held", details: err.Error()}
	case errors.Is(err, approval.ErrBadCursor):
		return &failure{status: fiber.StatusBadRequest, code: "invalid_cursor", title: "Bad request", details: err.Error()}
	}
	return nil
}

// decidedFailure tells the loser who decided, what and when (wire.md B25).
func decidedFailure(late *approval.DecidedError) *failure {
	a := late.Approval
	code := "already_decided"
	if a.Status == models.ApprovalExpired {
		code = "approval_expired"
	}
	if a.Status == models.ApprovalWithdrawn {
		code = "invalid_state"
	}
	o := newObject(384)
	o.text("error", code)
	o.text("message", late.Error())
	o.text("details", late.Error())
	o.text("code", code)
	o.text("approval_request_id", a.RequestID)
	o.text("execution_id", a.ExecutionID)
	o.text("approval_status", string(a.Status))
	o.maybe("decision", a.Decision)
	o.maybe("decided_by", a.DecidedBy)
	if a.DecidedAt != nil {
		o.instant("decided_at", *a.DecidedAt)
	}
	return &failure{status: fiber.StatusConflict, code: code, title: code, details: late.Error(), executionID: a.ExecutionID, body: o.end()}
}

// approvalKeys are what GET says about an execution's requests: waiting_for while it waits, the flat keys as long as there is one.
func approvalKeys(o *object, row *models.Execution, a *models.Approval) {
	if a == nil {
		return
	}
	if row.Status == models.Waiting && a.Status.Open() {
		w := newObject(256)
		w.text("type", "approval")
		w.text("approval_request_id", a.RequestID)
		w.text("approval_request_url", a.URL)
		w.instant("expires_at", a.ExpiresAt)
		o.raw("waiting_for", w.end())
	}
	o.text("approval_request_id", a.RequestID)
	o.text("approval_request_url", a.URL)
	status := a.Status
	if status == models.ApprovalHeld {
		status = models.ApprovalPending
	}
	o.text("approval_status", string(status))
}

// approvalJSON is a request in the reviewers' JSON.
func approvalJSON(a *models.Approval) []byte {
	o := newObject(768)
	o.text("id", a.ID)
	o.text("approval_request_id", a.RequestID)
	o.text("approval_request_url", a.URL)
	o.text("status", string(a.Status))
	o.number("version", int64(a.Version))
	o.text("execution_id", a.ExecutionID)
	o.text("run_id", a.RunID)
	o.text("target", a.NodeID+"."+a.Function)
	o.number("round", int64(a.Round))
	o.text("title", a.Title)
	o.text("description", a.Summary)
	if a.Risk != "" {
		o.text("risk", a.Risk)
	}
	if a.Next != "" {
		o.text("next", a.Next)
	}
	o.number("quorum", int64(a.Quorum))
	o.truth("editable", a.Editable)
	o.maybe("session_id", a.SessionID)
	o.maybe("actor_id", a.ActorID)
	o.instant("requested_at", a.CreatedAt)
	o.instant("expires_at", a.ExpiresAt)
	if a.ClaimedBy != nil && a.ClaimedUntil != nil {
		o.text("claimed_by", *a.ClaimedBy)
		o.instant("claimed_until", *a.ClaimedUntil)
	}
	o.maybe("decision", a.Decision)
	o.maybe("decided_by", a.DecidedBy)
	o.maybe("feedback", a.Feedback)
	if a.DecidedAt != nil {
		o.instant("decided_at", *a.DecidedAt)
	}
	if a.HeldUntil != nil && a.Status == models.ApprovalHeld {
		o.instant("in_effect_at", *a.HeldUntil)
	}
	return o.end()
}
