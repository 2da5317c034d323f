package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Play runs a few executions, so that there is something to look at: one that succeeds, one that fails, a workflow of two calls, an agent
// that calls another, a retry, a run of a dozen executions, two with a webhook to the receiver, one that goes on running, and some that wait for a person, one of them
// in its second round. It writes a line about each to out and returns when the last one is accepted; ctx bounds it. serverURL is the
// address of the control plane; waiting is the approval_request_id of one that waits.
func Play(ctx context.Context, serverURL string, receiver *Receiver, out io.Writer) (waiting string, err error) {
	p := player{url: strings.TrimRight(serverURL, "/") + "/api/v1/", out: out}
	webhook := object{"url": receiver.URL(), "secret": receiver.Secret(), "headers": object{"X-Custom-ID": "request-123"}}
	story := object{"X-Workflow-ID": "wf_customer_support_001", "X-Session-ID": "session_user_456", "X-Actor-ID": "user_456"}
	const complaint = "This is the third time I am calling about this issue!"

	p.say("Waiting for each answer:")
	p.run(ctx, "hello-world.greet", object{"input": object{"name": "Alice"}}, nil)
	felt := p.run(ctx, "support-agent.analyze_sentiment", object{"input": object{
		"message": complaint,
		"conversation_history": []object{
			{"role": "user", "content": "My order never arrived"}, {"role": "agent", "content": "Let me check that for you"},
		},
	}}, story)
	p.run(ctx, "escalation-agent.create_ticket", object{"input": object{"customer_id": "user_456", "sentiment": felt, "priority": "high"}}, story)
	p.run(ctx, "support-agent.triage_ticket", object{"input": object{"ticket_id": 12345, "message": "I can't log in"}}, nil)
	p.run(ctx, "unreliable-agent.fail", object{"input": object{}}, nil)

	p.say("In the background:")
	p.run(ctx, "async/unreliable-agent.flaky", object{"input": object{}, "retry": object{"max_attempts": 3}}, nil)
	p.run(ctx, "async/doc-processor.analyze", object{"input": object{"document_url": "https://example.com/report.pdf"}, "webhook": webhook}, nil)
	p.run(ctx, "async/research-agent.deep_analysis", object{"input": object{"topic": "quantum computing applications"}, "webhook": webhook}, nil)
	p.run(ctx, "async/slow-agent.sleep", object{"input": object{"seconds": 600}}, nil)

	p.say("Together, as one run:")
	p.play(ctx)

	p.say("Waiting for you:")
	p.claim(ctx, "CLM-2044", 18_500, "GOLD-1187", "Fire in the workshop; the expert's report is attached to the file.")
	again := p.claim(ctx, "CLM-2043", 3200, "HOME-5521", "Water damage in the kitchen after a burst pipe.")
	p.claim(ctx, "CLM-2042", 700, "HOME-9034", "A stone broke the windscreen.")
	waiting = p.claim(ctx, "CLM-2041", 640, "HOME-3310", "The bicycle was stolen at the station.")
	p.decide(ctx, again, "request_changes", "The second workshop asks for 2,600 only: pay at most that.")
	return waiting, p.err
}

// Workflow is the name of the run of a dozen executions that Play begins.
const Workflow = "wf_claim_2047"

// play makes a run of several agents: a triage, a call that is tried three times, and a case in which one call fails and a person decides.
func (p *player) play(ctx context.Context) {
	headers := object{"X-Workflow-ID": Workflow, "X-Session-ID": "session_claim_2047", "X-Actor-ID": "user_9034"}
	const letter = "A tree fell on the greenhouse, and this is the second time I am writing about it."
	p.run(ctx, "support-agent.triage_ticket", object{"input": object{"ticket_id": 2047, "message": letter}}, headers)
	p.run(ctx, "async/unreliable-agent.flaky", object{"input": object{}, "retry": object{"max_attempts": 3}}, headers)
	p.run(ctx, "async/claims-processor.handle_case", object{"input": object{
		"claim_id": "CLM-2047", "amount": 4800, "policy": "HOME-9034", "description": "A tree fell on the greenhouse.", "letter": letter,
		"documents": []string{"https://example.com/photos.pdf", "https://example.com/estimate.pdf", "https://example.com/weather-report.pdf"},
	}}, headers)
}

// claim lets a claim be evaluated until it waits for a person, and returns the id of its request.
func (p *player) claim(ctx context.Context, id string, amount float64, policy, story string) string {
	p.run(ctx, "claims-processor.evaluate_claim", object{"input": object{
		"claim_id": id, "amount": amount, "policy": policy, "description": story,
	}}, nil)
	return p.asked
}

// decide decides as a reviewer's program would.
func (p *player) decide(ctx context.Context, requestID, decision, feedback string) {
	if p.err != nil {
		return
	}
	body := object{"approval_request_id": requestID, "decision": decision, "feedback": feedback}
	if err := p.post(ctx, "webhooks/approval", body, nil, &object{}); err != nil {
		p.err = fmt.Errorf("decide about %s: %w", requestID, err)
		return
	}
	p.say(fmt.Sprintf("  one of them is asked to change its proposal: %s", feedback))
}

type object map[string]any

// player makes calls until one goes wrong.
type player struct {
	url   string
	out   io.Writer
	err   error
	asked string // the approval_request_id of the last run, if it waits
}

func (p *player) say(line string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.out, line)
	}
}

// run makes one call, writes a line about it and returns its result. A failed execution is an answer like another.
func (p *player) run(ctx context.Context, target string, body, headers object) json.RawMessage {
	if p.err != nil {
		return nil
	}
	var answer struct {
		ExecutionID string          `json:"execution_id"`
		Status      string          `json:"status"`
		Result      json.RawMessage `json:"result"`
		Error       string          `json:"error"`
		WaitingFor  struct {
			RequestID string `json:"approval_request_id"`
			URL       string `json:"approval_request_url"`
		} `json:"waiting_for"`
	}
	if err := p.post(ctx, "execute/"+target, body, headers, &answer); err != nil {
		p.err = fmt.Errorf("call %s: %w", strings.TrimPrefix(target, "async/"), err)
		return nil
	}
	said := string(answer.Result)
	switch {
	case answer.Error != "":
		said = answer.Error
	case answer.WaitingFor.URL != "":
		said = answer.WaitingFor.URL
	}
	p.asked = answer.WaitingFor.RequestID
	line := fmt.Sprintf("  %-33s %-10s %s  %s", strings.TrimPrefix(target, "async/"), answer.Status, answer.ExecutionID, shorten(said, 80))
	p.say(strings.TrimRight(line, " "))
	return answer.Result
}

func (p *player) post(ctx context.Context, path string, body, headers object, answer any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		request.Header.Set(name, fmt.Sprint(value))
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return errors.New(response.Status + ": " + shorten(string(text), 300))
	}
	return json.Unmarshal(text, answer)
}

func shorten(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit-1]) + "…"
}
