package execution

import (
	"context"
	"errors"

	"github.com/agentfield/agentfield/models"
)

// The steps that the background work takes by itself, one at a time, for tests that decide what happens when.

// Taken is an execution that a test has claimed and not yet settled.
type Taken struct{ c *claimed }

// ID names the execution.
func (w Taken) ID() string { return w.c.ID }

// Attempt is the one that was claimed.
func (w Taken) Attempt() int { return w.c.Attempt }

// Token is what the agent is given with this attempt.
func (w Taken) Token(s *Service) string { return s.token(w.c.ID, w.c.Attempt) }

// Take claims up to n executions without calling anybody.
func (s *Service) Take(ctx context.Context, n int) ([]Taken, error) {
	work, err := s.claim(ctx, n)
	taken := make([]Taken, len(work))
	for i, c := range work {
		taken[i] = Taken{c}
	}
	return taken, err
}

// Outcome is how a call may end.
type Outcome int

// The outcomes of a call.
const (
	Answers Outcome = iota
	Fails
	Refuses
	Accepts
	Unreached
	Interrupts
)

// End settles what was taken as if its call had ended so.
func (s *Service) End(w Taken, o Outcome, result string) error {
	out := outcomeOf(o, result)
	out.instance = "an instance"
	return s.settle(w.c, out)
}

func outcomeOf(o Outcome, text string) result {
	switch o {
	case Answers:
		return result{body: []byte(text)}
	case Fails:
		return result{failure: &failure{code: "agent_error", category: "agent_error", message: text, class: onError, status: 500}}
	case Refuses:
		return result{failure: &failure{code: "agent_error", category: "agent_error", message: text, class: onClientError, status: 422}}
	case Accepts:
		return result{accepted: true}
	case Unreached:
		return failed(unreachable("n", errors.New(text)))
	case Interrupts:
		return result{givenUp: errInterrupted}
	}
	panic("unknown outcome")
}

// The background loops, once each.

// Reap takes back the work of dead replicas.
func (s *Service) Reap(ctx context.Context) error { return settled(ctx, s.reap) }

// SweepDeadlines ends what is past its limit.
func (s *Service) SweepDeadlines(ctx context.Context) error { return settled(ctx, s.sweepDeadlines) }

// SweepOrphans settles what lost instances had accepted.
func (s *Service) SweepOrphans(ctx context.Context) error { return settled(ctx, s.sweepOrphans) }

// SweepLocal is one round of what ends calls inside agents.
func (s *Service) SweepLocal(ctx context.Context) error { return settled(ctx, s.sweepLocal) }

// SweepPending moves work between pending and queued.
func (s *Service) SweepPending(ctx context.Context) error { return settled(ctx, s.sweepPending) }

// Measure counts the queues.
func (s *Service) Measure(ctx context.Context) error { return settled(ctx, s.measure) }

// ExpireKeys forgets old idempotency keys.
func (s *Service) ExpireKeys(ctx context.Context) error { return settled(ctx, s.expireKeys) }

func settled(ctx context.Context, step func(context.Context) (bool, error)) error {
	for {
		if again, err := step(ctx); err != nil || !again {
			return err
		}
	}
}

// TimeOut ends an execution as its waiting caller does at the limit.
func (s *Service) TimeOut(ctx context.Context, id string) error {
	_, err := s.transition(ctx, &move{id: id, from: models.Timeout.Before(), to: models.Timeout, failure: timedOut(0), reason: "agent_timeout"})
	return err
}

// TokenOf is the token of any attempt.
func (s *Service) TokenOf(id string, attempt int) string { return s.token(id, attempt) }

// Fenced counts outcomes that were dropped.
func (s *Service) Fenced() int64 { return s.counters.fenced.Load() }

// Waiters counts those who wait in this process.
func (s *Service) Waiters() int { return len(s.waiters.ids()) }

// Open counts the calls this replica has open.
func (s *Service) Open() int { return s.inFlight.count() }

// Fingerprint is the group of an error.
func Fingerprint(code, message string) string { return fingerprint(code, message) }

// Normalised is the text that groups errors.
func Normalised(message string) string { return normalised(message) }
