package agent_test

import (
	"context"
	"log/slog"
	"os/signal"
	"syscall"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

type Ticket struct {
	Message string `json:"message" description:"What the customer wrote"`
}

type Decision struct {
	Priority string `json:"priority" enum:"low,normal,high"`
}

// An agent that asks another one before it decides.
func Example() {
	support, err := agent.New(agent.Config{NodeID: "support"})
	if err != nil {
		slog.Error("the agent cannot be made", "error", err)
		return
	}
	agent.Handle(support, "triage", func(ctx context.Context, ticket Ticket) (Decision, error) {
		var mood struct {
			Sentiment string `json:"sentiment"`
		}
		if err := support.Call(ctx, "sentiment-agent.analyze", map[string]string{"text": ticket.Message}, &mood); err != nil {
			return Decision{}, err
		}
		agent.Note(ctx, "the customer sounds "+mood.Sentiment)
		if mood.Sentiment == "frustrated" {
			return Decision{Priority: "high"}, nil
		}
		return Decision{Priority: "normal"}, nil
	}, agent.Description("Decides how urgent a ticket is."))

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := support.Run(ctx); err != nil {
		slog.Error("the agent has stopped", "error", err)
	}
}

type Refund struct {
	Customer string  `json:"customer"`
	Amount   float64 `json:"amount"`
}

// A function that asks people before it does what cannot be undone.
func ExamplePause() {
	refunds, err := agent.New(agent.Config{NodeID: "refunds"})
	if err != nil {
		slog.Error("the agent cannot be made", "error", err)
		return
	}
	agent.Handle(refunds, "refund", func(ctx context.Context, in Refund) (string, error) {
		decision, err := agent.Pause(ctx, agent.PauseRequest{
			Title: "Refund " + in.Customer, Risk: "high", Next: "the money is sent at once", Payload: in, ExpiresIn: 24 * time.Hour,
		})
		if err != nil {
			return "", err
		}
		if decision.Status != agent.Approved {
			return "kept: " + decision.Feedback, nil
		}
		return "sent", nil
	})
}
