package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// The words of a Decision.
const (
	Approved       = "approved"
	Rejected       = "rejected"
	RequestChanges = "request_changes"
	Expired        = "expired" // nobody decided in time
)

// PauseRequest is what people are asked. Only what helps them to decide is needed; say at least the Title.
type PauseRequest struct {
	Title       string // what is to be decided, in a line
	Description string // why
	Risk        string // low, medium or high; may be empty
	Next        string // what happens after an approval, in words
	// Payload is what is proposed, any value that can be written as JSON. It is shown to the reviewer, with what has changed since the
	// last round.
	Payload any
	// Form is a JSON Schema of an object: questions whose answers come back with an approval as Decision.Response.
	Form json.RawMessage
	// Editable lets the reviewer change the payload; the changed one comes back as Decision.EditedPayload.
	Editable bool
	// ExpiresIn is how long people have. 0: as the control plane is configured, 72 hours if it is not.
	ExpiresIn time.Duration
	// RequestID names the request. Empty: it is derived from the execution, what is asked and how often. One of your own must differ
	// between the requests of an execution.
	RequestID string
	// URL of a page of your own on which people decide. Empty: that of the control plane.
	URL string
	// OnReject is resume or cancel: cancel ends the execution with a rejection. Empty: as the control plane is configured.
	OnReject string
	// OnExpire is the same for a request that nobody decided in time.
	OnExpire string
	// Policy says who may decide.
	Policy Policy
}

// Policy of a PauseRequest. The zero value: one reviewer, whoever it is.
type Policy struct {
	// Approvers lists user names, "group:name" and "role:name"; empty: every reviewer.
	Approvers []string `json:"approvers,omitempty"`
	// Quorum is how many approvals are needed; one rejection is always enough. 0 means 1.
	Quorum int `json:"quorum,omitempty"`
	// NoSelfApproval keeps whoever started the execution from deciding about it.
	NoSelfApproval bool `json:"no_self_approval,omitempty"`
}

// Decision is what came of a PauseRequest.
type Decision struct {
	Status   string `json:"status"`   // Approved, Rejected, RequestChanges or Expired
	Feedback string `json:"feedback"` // the reviewer's words; may be empty
	// Response has the answers to the form, else the payload as the reviewer changed it; nil when there is neither.
	Response json.RawMessage `json:"response,omitempty"`
	// EditedPayload is the payload as the reviewer changed it; nil when it was approved as it was proposed.
	EditedPayload json.RawMessage `json:"edited_payload,omitempty"`
	DecidedBy     string          `json:"decided_by"`
	RequestID     string          `json:"approval_request_id"`
}

// ErrNoExecution says that Pause was called outside of an execution: nobody could wait for the decision.
var ErrNoExecution = errors.New("agent: Pause works only inside of an execution")

// PauseError says that the control plane does not ask: something in the request is wrong, or the execution is over.
type PauseError struct {
	HTTPStatus int
	Code       string // the control plane's word for it: invalid_parameter, invalid_state, …; may be empty
	Message    string
}

func (e *PauseError) Error() string { return "people cannot be asked: " + e.Message }

// Pause asks people and waits for their decision, however long that takes: through restarts of the control plane, and with the
// concurrency slot of the execution given to others. Bound the wait with ExpiresIn rather than with ctx: an expiry is a Decision.
//
// If the execution is repeated after a crash, the same request joins the one that is open, or gets the decision that stands. A request
// that proposes something else is another one, so that nobody's approval is taken for what they have not seen.
//
// Errors: ErrNoExecution; *PauseError; ErrCancelled when the execution is cancelled; the cause of ctx.
func Pause(ctx context.Context, request PauseRequest) (Decision, error) {
	r := runOf(ctx)
	if r == nil || r.ID == "" {
		return Decision{}, ErrNoExecution
	}
	p, err := r.pause(request)
	if err != nil {
		return Decision{}, err
	}
	defer r.agent.slots.lend(r.ctx.Done(), &r.slot)()
	if err := p.ask(ctx); err != nil {
		return Decision{}, err
	}
	return p.await(ctx)
}

// pause is one request on its way to a decision.
type pause struct {
	run  *run
	id   string
	body map[string]any
}

func (r *run) pause(request PauseRequest) (*pause, error) {
	body, err := request.body()
	if err != nil {
		return nil, err
	}
	asked, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("agent: the form of %q is not JSON: %w", request.Title, err)
	}
	// The address of the agent changes with a restart and is no part of the question.
	p := &pause{run: r, id: first(request.RequestID, r.question(asked)), body: maps.Clone(body)}
	p.body["approval_request_id"] = p.id
	p.body["callback_url"] = r.agent.url + "/webhooks/approval"
	r.expect(p.id, func() {})
	return p, nil
}

// body is what the control plane gets; what is not said is left out.
func (q PauseRequest) body() (map[string]any, error) {
	body := map[string]any{"title": q.Title}
	for key, text := range map[string]string{
		"description": q.Description, "risk": q.Risk, "next": q.Next, "approval_request_url": q.URL, "on_reject": q.OnReject, "on_expire": q.OnExpire,
	} {
		if text != "" {
			body[key] = text
		}
	}
	if q.Payload != nil {
		payload, err := json.Marshal(q.Payload)
		if err != nil {
			return nil, fmt.Errorf("agent: the payload of %q cannot be written as JSON: %w", q.Title, err)
		}
		body["payload"], body["editable"] = json.RawMessage(payload), q.Editable
	}
	if q.Form != nil {
		body["form"] = q.Form
	}
	if q.ExpiresIn != 0 {
		body["expires_in_hours"] = q.ExpiresIn.Hours()
	}
	if len(q.Policy.Approvers) > 0 || q.Policy.Quorum != 0 || q.Policy.NoSelfApproval {
		body["policy"] = q.Policy
	}
	return body, nil
}

// stalePatience is how long a run whose attempt is behind waits for the newer one to join it.
const stalePatience = time.Minute

// ask puts the request before people, unless it is there already: a request that is sent again after its decision would be a new round.
func (p *pause) ask(ctx context.Context) error {
	began, perhapsThere := time.Now(), p.run.Attempt > 1
	for failures := 1; ; failures++ {
		found, err := false, error(nil)
		if perhapsThere {
			found, err = p.there(ctx)
		}
		if err == nil && !found {
			if err = p.send(ctx); p.final(err, perhapsThere, time.Since(began)) {
				return asPauseError(err)
			}
			perhapsThere = true
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case failures == 1:
			p.run.agent.log.Warn("people are not asked yet", "execution_id", p.run.ID, "error", err)
		}
		if err := p.run.agent.plane.rest(ctx, failures, err); err != nil {
			return err
		}
	}
}

// send carries no Idempotency-Key: net/http would take it as leave to send again by itself what was stored already.
func (p *pause) send(ctx context.Context) error {
	path := executionPath(p.run.ID, "/request-approval")
	return p.run.agent.plane.send(ctx, shortTimeout, http.MethodPost, path, p.run.agent.from(p.run), p.body, nil)
}

// there reports whether the control plane has the request, open or decided.
func (p *pause) there(ctx context.Context) (bool, error) {
	_, err := p.look(ctx, 0)
	if gone(err) {
		return false, nil
	}
	return err == nil, err
}

// final reports whether a refusal is for good. absent says that the request was looked for just before and is not there.
func (p *pause) final(err error, absent bool, since time.Duration) bool {
	answer, ok := errors.AsType[*planeError](err)
	if !ok || passing(err) || answer.Status >= 500 || answer.Status == http.StatusNotFound && answer.Code == "" {
		return false
	}
	switch answer.Code {
	case "invalid_state": // while another request of this execution is open, or its next attempt is on the way, it will pass
		return over(answer.State)
	case "approval_request_id_in_use":
		return absent
	case "stale_attempt":
		return since > stalePatience
	}
	return true
}

func over(status string) bool {
	return status == "succeeded" || status == "failed" || status == "timeout" || status == "cancelled"
}

func asPauseError(err error) error {
	answer, ok := errors.AsType[*planeError](err)
	switch {
	case !ok:
		return err
	case answer.State == "cancelled":
		return fmt.Errorf("%w: %s", ErrCancelled, answer.Message)
	}
	return &PauseError{HTTPStatus: answer.Status, Code: answer.Code, Message: answer.Message}
}

// gone: the control plane is sure that it does not have this request.
func gone(err error) bool {
	answer, ok := errors.AsType[*planeError](err)
	return ok && answer.Status == http.StatusNotFound && answer.Code != ""
}

// standing is how the control plane says where a request stands.
type standing struct {
	Status    string          `json:"status"`
	Feedback  string          `json:"feedback"`
	Response  json.RawMessage `json:"response"`
	Edited    json.RawMessage `json:"edited_payload"`
	DecidedBy string          `json:"decided_by"`
}

// settled reports whether nothing more will become of the request.
func (s standing) settled() bool { return s.decided() || s.Status == withdrawn }

func (s standing) decided() bool {
	return s.Status == Approved || s.Status == Rejected || s.Status == RequestChanges || s.Status == Expired
}

// withdrawn is the status of a request whose execution ended before anybody decided.
const withdrawn = "withdrawn"

func (p *pause) look(ctx context.Context, wait time.Duration) (standing, error) {
	query := "/approval-status?approval_request_id=" + url.QueryEscape(p.id)
	if wait > 0 {
		query += "&wait=" + wait.String()
	}
	var s standing
	err := p.run.agent.plane.send(ctx, wait+shortTimeout, http.MethodGet, executionPath(p.run.ID, query), p.run.agent.from(p.run), nil, &s)
	return s, err
}

// await asks until there is a decision, the request is gone, or ctx ends.
func (p *pause) await(ctx context.Context) (Decision, error) {
	warned := false
	for turns := 1; ; turns++ {
		began := time.Now()
		s, err := p.turn(ctx, turns)
		switch {
		case ctx.Err() != nil && err != nil:
			return Decision{}, context.Cause(ctx)
		case gone(err):
			return Decision{}, asPauseError(err)
		case err != nil && !warned:
			warned = true
			p.run.agent.log.Warn("a pause waits for the control plane", "execution_id", p.run.ID, "error", err)
		case err == nil:
			warned = false
		}
		if s.decided() {
			return Decision{Status: s.Status, Feedback: s.Feedback, Response: s.Response, EditedPayload: s.Edited, DecidedBy: s.DecidedBy, RequestID: p.id}, nil
		}
		if s.Status == withdrawn {
			return Decision{}, fmt.Errorf("%w: the request was withdrawn", ErrCancelled)
		}
		if err == nil && time.Since(began) >= pollPause {
			turns = 0 // the question was held, as it should be
		}
	}
}

// turn is one question that is held, and a rest after it if it was not answered for good. The callback ends both early: it is only a
// hint, since others may post one too, and the answer to the next question is the decision.
func (p *pause) turn(ctx context.Context, turns int) (standing, error) {
	turn, end := context.WithCancel(ctx)
	defer end()
	p.run.expect(p.id, end)
	began := time.Now()
	s, err := p.look(turn, pollWait)
	if s.settled() || gone(err) {
		return s, err
	}
	if err != nil || time.Since(began) < pollPause {
		_ = p.run.agent.plane.rest(turn, turns, err) // a rest that is cut short is over
	}
	if turn.Err() != nil && ctx.Err() == nil {
		return standing{}, nil
	}
	return s, err
}

// expect notes that the process knows a request, and what a word about it should do.
func (r *run) expect(id string, heard func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pauses == nil {
		r.pauses = map[string]func(){}
	}
	r.pauses[id] = heard
}

// hear reports whether the execution knows the request, and lets it look for the decision.
func (r *run) hear(id string) bool {
	r.mu.Lock()
	heard, known := r.pauses[id]
	r.mu.Unlock()
	if known {
		heard()
	}
	return known
}
