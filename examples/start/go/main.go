// Command my-agent is an agent of three functions.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

type person struct {
	Name string `json:"name" description:"Who is greeted"`
}

type greeting struct {
	Greeting string `json:"greeting"`
}

type message struct {
	Message string `json:"message"`
}

type mood struct {
	Mood string `json:"mood" enum:"glad,neutral,frustrated"`
}

type payment struct {
	Customer string  `json:"customer"`
	Amount   float64 `json:"amount"`
}

type outcome struct {
	Sent     bool   `json:"sent"`
	Feedback string `json:"feedback"`
}

func greet(ctx context.Context, in person) (greeting, error) {
	agent.Note(ctx, in.Name+" came by")
	return greeting{"Hello, " + in.Name + "!"}, nil
}

func readMood(_ context.Context, in message) (mood, error) {
	switch text := strings.ToLower(in.Message); {
	case strings.Contains(text, "thank"):
		return mood{"glad"}, nil
	case strings.Contains(text, "again"), strings.Contains(text, "third time"):
		return mood{"frustrated"}, nil
	}
	return mood{"neutral"}, nil
}

func refund(ctx context.Context, in payment) (outcome, error) {
	decision, err := agent.Pause(ctx, agent.PauseRequest{Title: "Refund " + in.Customer + "?", Payload: in})
	return outcome{decision.Status == agent.Approved, decision.Feedback}, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	a, err := agent.New(agent.Config{NodeID: "my-agent"})
	if err != nil {
		return err
	}
	agent.Handle(a, "greet", greet, agent.Description("Greets somebody by name."))
	agent.Handle(a, "read_mood", readMood, agent.Description("Tells the mood of a message, by its words."))
	agent.Handle(a, "refund", refund, agent.Description("Sends money back, after a person has agreed."))
	return a.Run(ctx)
}
