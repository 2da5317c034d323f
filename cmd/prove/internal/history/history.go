// Package history judges what became of executions. Its one invariant: a verdict is drawn only from what was seen from outside — answers,
// arrivals at agents and webhooks — never from what the server says about itself in sum.
package history

import (
	"fmt"
	"slices"
	"time"
)

// Delivery is one webhook that arrived.
type Delivery struct {
	ID     string // webhook-id
	Event  string
	Status string
	At     time.Time
}

// Execution is all that was seen of one submitted piece of work.
type Execution struct {
	Key        string // of the submission: the same work must not get two ids
	IDs        []string
	Found      bool
	Status     string
	EndedAt    time.Time // when the agent had done the work first, by our own clock; zero if it was never called
	Terminals  int       // terminal events in its history
	Calls      int       // arrivals at the agent
	Runs       int       // times the agent really began the work
	HasWebhook bool
	Deliveries []Delivery
}

// Verdict counts what must not happen.
type Verdict struct {
	Executions      int
	Lost            int // accepted, and not to be found
	Stuck           int // not ended in time
	Doubled         int // one submission, several executions
	DoubleTerminal  int // more or less than one terminal event
	NeverCalled     int // succeeded without the agent
	MissingWebhooks int
	FalseWebhooks   int // another status or event than the execution has
	EarlyWebhooks   int // sent before the end
	ForeignIDs      int // webhook-id changed between attempts
	Problems        []string
}

// Good reports whether nothing happened that must not.
func (v Verdict) Good() bool {
	return v.Lost+v.Stuck+v.Doubled+v.DoubleTerminal+v.NeverCalled+v.MissingWebhooks+v.FalseWebhooks+v.EarlyWebhooks+v.ForeignIDs == 0
}

var terminal = []string{"succeeded", "failed", "timeout", "cancelled"}

// Judge looks at every execution.
func Judge(executions []Execution) Verdict {
	v := Verdict{Executions: len(executions)}
	for _, e := range executions {
		v.judge(e)
	}
	return v
}

func (v *Verdict) judge(e Execution) {
	if len(e.IDs) > 1 {
		v.blame(&v.Doubled, e, "one submission became %v", e.IDs)
	}
	if !e.Found {
		v.blame(&v.Lost, e, "accepted and not to be found")
		return
	}
	if !slices.Contains(terminal, e.Status) {
		v.blame(&v.Stuck, e, "still %s", e.Status)
		return
	}
	if e.Terminals != 1 {
		v.blame(&v.DoubleTerminal, e, "%d terminal events", e.Terminals)
	}
	if e.Status == "succeeded" && e.Calls == 0 {
		v.blame(&v.NeverCalled, e, "succeeded, but the agent was never called")
	}
	if e.HasWebhook {
		v.judgeWebhooks(e)
	}
}

func (v *Verdict) judgeWebhooks(e Execution) {
	if len(e.Deliveries) == 0 {
		v.blame(&v.MissingWebhooks, e, "no webhook")
	}
	event := "execution.failed"
	if e.Status == "succeeded" {
		event = "execution.completed"
	}
	for _, d := range e.Deliveries {
		if d.Status != e.Status || d.Event != event {
			v.blame(&v.FalseWebhooks, e, "it is %s, a webhook said %s %s", e.Status, d.Event, d.Status)
		}
		if d.At.Before(e.EndedAt) {
			v.blame(&v.EarlyWebhooks, e, "a webhook came %s before the agent was done", e.EndedAt.Sub(d.At))
		}
		if d.ID != e.Deliveries[0].ID || d.ID == "" {
			v.blame(&v.ForeignIDs, e, "webhook-ids %q and %q", e.Deliveries[0].ID, d.ID)
		}
	}
}

// problemsShown is how many problems are told in words; the rest is in the counts.
const problemsShown = 20

func (v *Verdict) blame(count *int, e Execution, format string, args ...any) {
	*count++
	if len(v.Problems) < problemsShown {
		v.Problems = append(v.Problems, fmt.Sprintf("%s %v: ", e.Key, e.IDs)+fmt.Sprintf(format, args...))
	}
}
