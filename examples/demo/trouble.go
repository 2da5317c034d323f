package demo

import (
	"context"
	"fmt"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent"
)

const rateLimited = "LLM API rate limit exceeded"

func (c company) unreliable(a *agent.Agent) {
	type nothing struct{}
	agent.Handle(a, "fail", func(ctx context.Context, _ nothing) (nothing, error) {
		if err := c.sleep(ctx, 300*time.Millisecond); err != nil {
			return nothing{}, err
		}
		return nothing{}, agent.Errorf(429, rateLimited).WithDetails(map[string]any{"model": "demo", "retry_after_seconds": 20})
	}, agent.Description("Always fails."), agent.Tags("trouble"))

	type luck struct {
		Message  string `json:"message"`
		Attempts int    `json:"attempts"`
	}
	agent.Handle(a, "flaky", func(ctx context.Context, _ nothing) (luck, error) {
		if err := c.sleep(ctx, 300*time.Millisecond); err != nil {
			return luck{}, err
		}
		e, _ := agent.FromContext(ctx)
		switch e.Attempt {
		case 1:
			return luck{}, agent.Errorf(429, rateLimited)
		case 2:
			return luck{}, agent.Errorf(504, "the model did not answer in time")
		}
		return luck{"Third time lucky", e.Attempt}, nil
	}, agent.Description("Fails at the first and the second attempt, then succeeds."), agent.Tags("trouble"))
}

func (c company) slow(a *agent.Agent) {
	type request struct {
		Seconds *float64 `json:"seconds,omitempty" description:"How long to sleep, 0 to 86400; default 30"`
	}
	type rest struct {
		SleptSeconds float64 `json:"slept_seconds"`
	}
	agent.Handle(a, "sleep", func(ctx context.Context, in request) (rest, error) {
		seconds := 30.0
		if in.Seconds != nil {
			seconds = *in.Seconds
		}
		if seconds < 0 || seconds > 86_400 {
			return rest{}, agent.Errorf(422, "seconds is %g and must lie between 0 and 86400", seconds)
		}
		const steps = 20
		total := time.Duration(seconds * float64(time.Second))
		for i := range steps {
			if total >= 2*time.Second { // nobody could read it otherwise
				agent.Progress(ctx, float64(i)/steps, fmt.Sprintf("Sleeping, %s to go", (total-total*time.Duration(i)/steps).Round(time.Second)))
			}
			if err := c.sleep(ctx, total/steps); err != nil {
				return rest{}, err
			}
		}
		return rest{seconds}, nil
	}, agent.AsSkill(), agent.Description("Sleeps for a while."), agent.Tags("slow"))
}
