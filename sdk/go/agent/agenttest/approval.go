package agenttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Approval is a request for a decision as the plane has it.
type Approval struct {
	ID, ExecutionID string
	Request         map[string]any // as the agent sent it
	Status          string         // pending until Decide
	Feedback        string
	Response        json.RawMessage
	DecidedBy       string
}

// Approvals lists the requests for decisions, in the order in which they came.
func (p *Plane) Approvals() []Approval {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Approval, 0, len(p.approvals))
	for _, a := range p.approvals {
		list = append(list, *a)
	}
	return list
}

// AwaitApproval waits for the n-th request of an execution (from 1) and returns it.
func (p *Plane) AwaitApproval(executionID string, n int) Approval {
	p.t.Helper()
	var found Approval
	p.Await(fmt.Sprintf("%s asks people, number %d", executionID, n), func() bool {
		seen := 0
		for _, a := range p.approvals {
			if a.ExecutionID == executionID {
				if seen++; seen == n {
					found = *a
					return true
				}
			}
		}
		return false
	})
	return found
}

// Decide decides an open request as a reviewer does. The agent learns of it when it asks; see Callback.
func (p *Plane) Decide(id, status, feedback string, response json.RawMessage) {
	p.t.Helper()
	if !p.decideOpen(id, status, feedback, response) {
		p.t.Errorf("%s is not open", id)
	}
}

func (p *Plane) decideOpen(id, status, feedback string, response json.RawMessage) (decided bool) {
	p.change(func() {
		for _, a := range p.approvals {
			if a.ID == id && a.Status == pending {
				a.Status, a.Feedback, a.Response, a.DecidedBy, decided = status, feedback, response, "reviewer", true
				if e := p.execs[a.ExecutionID]; e != nil && e.Status == "waiting" {
					e.Status = "running"
				}
			}
		}
	})
	return decided
}

// decide is the documented endpoint.
func (p *Plane) decide(w http.ResponseWriter, r *http.Request) {
	var body struct {
		ID       string          `json:"approval_request_id"`
		Decision string          `json:"decision"`
		Feedback string          `json:"feedback"`
		Response json.RawMessage `json:"response"`
	}
	read(r, &body)
	if !p.decideOpen(body.ID, body.Decision, body.Feedback, body.Response) {
		Reply(w, http.StatusNotFound, map[string]any{"error": "approval request not found"})
		return
	}
	Reply(w, http.StatusOK, map[string]any{"status": "processed", "decision": body.Decision})
}

// open is the open request of an execution; nil when there is none. It runs under the lock.
func (p *Plane) open(executionID string) *Approval {
	for _, a := range p.approvals {
		if a.ExecutionID == executionID && a.Status == pending {
			return a
		}
	}
	return nil
}

func (p *Plane) reviewPage(id string) string { return p.URL + "/approvals/" + id }

// Callback posts the word of a decision to the address that the agent gave for it, and returns what the agent said.
func (p *Plane) Callback(ctx context.Context, a Approval) Answer {
	address, _ := a.Request["callback_url"].(string)
	body, _ := json.Marshal(map[string]any{
		"execution_id": a.ExecutionID, "approval_request_id": a.ID, "decision": a.Status, "new_status": "running", "feedback": a.Feedback,
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return Answer{Err: err}
	}
	response, err := p.client.Do(request)
	if err != nil {
		return Answer{Err: err}
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Body: string(bytes.TrimSpace(said)), Err: err}
}

const pending = "pending"

// requestApproval opens a request; as in the control plane, an execution has one open request at a time and none after its end.
func (p *Plane) requestApproval(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	read(r, &body)
	id := r.PathValue("id")
	requestID, _ := body["approval_request_id"].(string)
	state := "running"
	p.change(func() {
		e := p.execs[id]
		if e == nil { // dispatched by the test, not submitted
			e = &Execution{ID: id, Status: state}
			p.execs[id] = e
			p.order = append(p.order, id)
		}
		if state = e.Status; state == "running" {
			e.Status = "waiting"
			p.approvals = append(p.approvals, &Approval{ID: requestID, ExecutionID: id, Request: body, Status: pending})
		}
	})
	if state != "running" {
		Reply(w, http.StatusConflict, map[string]any{"error": "invalid_state", "code": "invalid_state", "details": id + " is " + state, "status": state})
		return
	}
	Reply(w, http.StatusOK, map[string]any{"approval_request_id": requestID, "approval_request_url": p.reviewPage(requestID), "status": pending})
}

// approvalStatus answers when there is a decision or the agent has waited for long enough.
func (p *Plane) approvalStatus(w http.ResponseWriter, r *http.Request) {
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait")) // none: no wait
	limit := time.After(wait)
	for {
		p.mu.Lock()
		a, changed, life := p.approval(r.PathValue("id"), r.URL.Query().Get("approval_request_id")), p.changed, p.life
		p.mu.Unlock()
		if a == nil {
			Reply(w, http.StatusNotFound, map[string]any{"error": "no_approval_request", "code": "no_approval_request"})
			return
		}
		if a.Status != pending || wait == 0 {
			body := map[string]any{"status": a.Status, "feedback": a.Feedback, "decided_by": a.DecidedBy}
			if a.Response != nil {
				body["response"] = a.Response
			}
			Reply(w, http.StatusOK, body)
			return
		}
		select {
		case <-changed:
		case <-limit:
			wait = 0
		case <-r.Context().Done():
			return
		case <-life.Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// approval is a copy of an execution's last request with this id; nil when there is none. It runs under the lock.
func (p *Plane) approval(executionID, id string) *Approval {
	for _, a := range slices.Backward(p.approvals) {
		if a.ExecutionID == executionID && a.ID == id {
			found := *a
			return &found
		}
	}
	return nil
}
