package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

// file is a case that several agents work on.
type file struct {
	claim
	Documents []string `json:"documents,omitempty" description:"Addresses of what the customer has sent"`
	Letter    string   `json:"letter,omitempty" description:"What the customer wrote"`
}

type evidence struct {
	Documents []digest `json:"documents"`
	Similar   int      `json:"similar" description:"Claims that look alike"`
}

type outcome struct {
	settlement
	Ticket string `json:"ticket,omitempty"`
}

// cases are the functions that call others: what they do is a run of a dozen executions.
func (c company) cases(a *agent.Agent) {
	agent.Handle(a, "gather_evidence", func(ctx context.Context, in file) (evidence, error) {
		return gather(ctx, a, in)
	}, agent.Description("Has all documents of a case read at once, and similar claims looked up."), agent.Tags("claims"))
	agent.Handle(a, "handle_case", func(ctx context.Context, in file) (outcome, error) {
		return handleCase(ctx, a, in)
	}, agent.Description("Works on a claim from the letter to the decision with the help of other agents."), agent.Tags("claims", "workflow"))
}

// gather lets the documents be read at the same time. One that cannot be read does not end the case.
func gather(ctx context.Context, a *agent.Agent, in file) (evidence, error) {
	found := evidence{Documents: make([]digest, len(in.Documents))}
	failures := make([]error, len(in.Documents))
	var readers sync.WaitGroup
	for i, address := range in.Documents {
		readers.Go(func() {
			failures[i] = a.Call(ctx, "doc-processor.analyze", map[string]string{"document_url": address}, &found.Documents[i])
		})
	}
	var claims statistics
	err := a.Call(ctx, "analytics-agent.process_dataset", map[string]string{"dataset_id": "claims of " + in.Policy}, &claims)
	readers.Wait()
	found.Similar = claims.Outliers
	if err != nil {
		return evidence{}, err
	}
	if unread := errors.Join(failures...); unread != nil {
		agent.Note(ctx, "Not everything could be read: "+unread.Error(), "claims")
	}
	return found, context.Cause(ctx)
}

func handleCase(ctx context.Context, a *agent.Agent, in file) (outcome, error) {
	var felt mood
	if err := a.Call(ctx, "sentiment-agent.analyze", map[string]string{"text": in.Letter}, &felt); err != nil {
		return outcome{}, err
	}
	var found evidence
	if err := a.Call(ctx, "claims-processor.gather_evidence", in, &found); err != nil {
		return outcome{}, err
	}
	agent.Progress(ctx, 0.5, fmt.Sprintf("Read %d documents", len(found.Documents)))
	if err := a.Call(ctx, "unreliable-agent.fail", struct{}{}, nil); err != nil {
		agent.Note(ctx, "The fraud check did not answer, so a person looks: "+err.Error(), "claims", "fraud")
	}
	var ticket struct {
		TicketID string `json:"ticket_id"`
	}
	request := map[string]any{"customer_id": in.Policy, "sentiment": felt.Sentiment, "summary": in.Description}
	if err := a.Call(ctx, "escalation-agent.create_ticket", request, &ticket); err != nil {
		return outcome{}, err
	}
	end := outcome{Ticket: ticket.TicketID}
	return end, a.Call(ctx, "claims-processor.evaluate_claim", in.claim, &end.settlement)
}
