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
// that calls another, a retry, two with a webhook to the receiver, and one that goes on running. It writes a line about each to out and
// returns when the last one is accepted; ctx bounds it. serverURL is the address of the control plane.
func Play(ctx context.Context, serverURL string, receiver *Receiver, out io.Writer) error {
	p := player{url: strings.TrimRight(serverURL, "/") + "/api/v1/execute/", out: out}
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
	return p.err
}

type object map[string]any

// player makes calls until one goes wrong.
type player struct {
	url string
	out io.Writer
	err error
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
	}
	if err := p.post(ctx, target, body, headers, &answer); err != nil {
		p.err = fmt.Errorf("call %s: %w", strings.TrimPrefix(target, "async/"), err)
		return nil
	}
	said := string(answer.Result)
	if answer.Error != "" {
		said = answer.Error
	}
	line := fmt.Sprintf("  %-33s %-10s %s  %s", strings.TrimPrefix(target, "async/"), answer.Status, answer.ExecutionID, shorten(said, 80))
	p.say(strings.TrimRight(line, " "))
	return answer.Result
}

func (p *player) post(ctx context.Context, target string, body, headers object, answer any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+target, bytes.NewReader(encoded))
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
