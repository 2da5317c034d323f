package execution

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// Why a call was given up from our side. Neither is a failure of the agent.
var (
	errEnded       = errors.New("the execution has ended in another way")
	errInterrupted = errors.New("this replica is shutting down")
	// errTimedOut is the end by the execution's own limit: the instance has not answered in time.
	errTimedOut = fmt.Errorf("its limit has passed: %w", errEnded)
	// errSlow ends the call of an idempotent function while there is time left to try another instance.
	errSlow = errors.New("the instance took half of the time that was left")
)

// claimed is an execution that this replica works on in one attempt.
type claimed struct {
	*models.Execution
	owner string
	term  *lease.Term
	input []byte
}

// claim takes up to n due executions and reads their input.
func (s *Service) claim(ctx context.Context, n int) ([]*claimed, error) {
	term := s.Replica.Term()
	rows, err := s.claimRows(ctx, n, term.ID)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	for _, row := range rows {
		s.hand.Take(row.ID)
	}
	inputs, err := s.inputs(ctx, rows)
	if err != nil {
		// The rows are ours and will be read again when their call begins.
		s.Log.Warn("cannot read the inputs of claimed executions at once; reading them one by one", "error", err)
	}
	work := make([]*claimed, len(rows))
	for i, row := range rows {
		work[i] = &claimed{Execution: row, owner: term.ID, term: term, input: inputs[row.ID]}
	}
	return work, nil
}

func (s *Service) nextDue(ctx context.Context) (time.Duration, bool, error) {
	var at *int64
	now := s.DB.NowMs()
	err := s.DB.QueryRow(ctx, `SELECT min(available_at) FROM executions WHERE status = 'queued' AND parked = 1`, nil, &at)
	if err != nil {
		return 0, false, err
	}
	if opens := s.opensAt.Load(); opens > 0 {
		opens = opens/1000 + 1 // us to ms
		if at == nil || opens < *at {
			at = &opens
		}
	}
	if at == nil {
		return 0, false, nil
	}
	return time.Duration(max(*at-now, 0)) * time.Millisecond, true, nil
}

// run calls the agent and settles what came of it. ctx ends when this replica stops waiting for calls.
func (s *Service) run(ctx context.Context, c *claimed) {
	defer s.hand.Drop(c.ID)
	callCtx, done := s.inFlight.begin(ctx, c)
	out := s.call(callCtx, c)
	done()
	if err := s.settle(c, out); err != nil { //nolint:contextcheck // an outcome is written although the call has been given up
		s.Log.Error("cannot record the outcome of a call; it will be dispatched again", "execution_id", c.ID, "attempt", c.Attempt, "error", err)
	}
}

// settle records the outcome of a call. That the row is no longer ours is an ordinary answer: its present owner records its own.
func (s *Service) settle(c *claimed, out result) error {
	if errors.Is(out.givenUp, errEnded) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if out.accepted {
		ours, err := s.release(ctx, c, out.instance)
		if err == nil && !ours {
			s.counters.fenced.Add(1)
		}
		return err
	}
	m := s.settlement(c, out)
	var ours bool
	err := retryBusy(ctx, func() (err error) {
		ours, err = s.transition(ctx, m)
		return err
	})
	if err != nil || ours {
		return err
	}
	s.counters.fenced.Add(1)
	return s.keep(ctx, c, out)
}

// retryBusy tries again while the store is away or saturated: an outcome in hand is worth waiting for. The lease bounds it.
func retryBusy(ctx context.Context, f func() error) error {
	backoff := lease.Backoff{First: 20 * time.Millisecond, Max: 2 * time.Second}
	for n := 1; ; n++ {
		err := f()
		if err == nil || errors.Is(err, errIllegalMove) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(backoff.Delay(n)):
		}
	}
}

var fromRunning = []models.Status{models.Running}

// settlement decides which transition follows from an outcome. The attempt alone is its guard: who was declared dead has lost its
// attempt with its lease, and a call whose lease was given up because a person had to decide still brings the result.
func (s *Service) settlement(c *claimed, out result) *move {
	m := &move{id: c.ID, from: fromRunning, attempt: c.Attempt, instance: optional(out.instance), known: c.Execution}
	policy := parsePolicy(c.RetryPolicy)
	switch {
	case out.givenUp != nil:
		s.interrupted(m, c, policy)
	case out.failure == nil:
		m.to, m.result = models.Succeeded, s.newBody(out.body)
	case out.failure.code == codeNoInstance && c.Mode == "async":
		m.to, m.giveBack, m.reason, m.after = models.Queued, 1, "no healthy instance of "+c.NodeID, time.Second
	case out.failure.code == codeCircuitOpen && c.Mode == "async":
		m.to, m.giveBack, m.reason, m.after = models.Queued, 1, out.failure.message, restingFor()
	case out.repeatable && c.Redeliveries < s.MaxRedeliveries:
		m.to, m.redeliveries, m.kind, m.after = models.Queued, 1, event.KindRedelivered, s.RedeliveryBackoff.Delay(c.Redeliveries+1)
		m.reason = "the instance went away during the call"
	case policy.retries(out.failure.class, c.Failures+1):
		delay := policy.delay(c.Failures + 1)
		m.to, m.failures, m.after, m.failure, m.kind = models.Queued, 1, delay, out.failure, event.KindAttemptFailed
		m.reason = fmt.Sprintf("attempt %d failed: %s", c.Attempt, cut(out.failure.message, 200))
		m.data = map[string]any{"next_attempt_in_ms": delay.Milliseconds()}
	default:
		m.to, m.failures, m.failure, m.reason, m.details = models.Failed, 1, out.failure, out.failure.category, s.newBody(out.details)
	}
	return m
}

// restingFor is how long a call waits for breakers to close: not all at the same moment, and seldom enough that a long queue behind an
// open breaker costs next to nothing.
func restingFor() time.Duration { return 5*time.Second + rand.N(5*time.Second) } //nolint:gosec // jitter

// interrupted puts a call back that only our own end has interrupted: with the same id and a higher attempt the agent can join the two.
func (s *Service) interrupted(m *move, c *claimed, policy RetryPolicy) {
	m.redeliveries = 1
	if !policy.survivesReplicaLoss() || c.Redeliveries >= s.MaxRedeliveries {
		m.to, m.failure, m.reason = models.Failed, replicaLost, "replica_lost"
		return
	}
	m.to, m.kind, m.reason = models.Queued, event.KindRedelivered, "the control plane was restarted during the call"
}

var replicaLost = &failure{
	code: "replica_lost", category: "internal_error",
	message: "the control plane was lost during the call, and the request asked not to repeat it (or it was lost too often)",
}

// keep holds on to an outcome that cannot be applied: until the decision if the execution waits for one (wire.md 3.9) or until it is resumed, else in the
// event log.
func (s *Service) keep(ctx context.Context, c *claimed, out result) error {
	row, err := s.Row(ctx, c.ID)
	if err != nil {
		return err
	}
	if out.givenUp != nil {
		return nil //nolint:nilerr // we broke it off: the agent has not said anything
	}
	if (row.Status == models.Waiting || row.Status == models.Paused) && row.Attempt == c.Attempt {
		kept := keptOutcome{Result: out.body, Details: out.details, Repeatable: out.repeatable}
		if f := out.failure; f != nil {
			kept.Failed, kept.Code, kept.Category, kept.Class, kept.Error = true, f.code, f.category, f.class, f.message
		}
		return s.keepOutcome(ctx, row, kept)
	}
	return s.keepLate(ctx, row, out)
}

// keepLate keeps a result that came after the end in the event log; it changes nothing.
func (s *Service) keepLate(ctx context.Context, e *models.Execution, out result) error {
	data := map[string]any{"source": "call"}
	if out.failure != nil {
		data["error"] = cut(out.failure.message, 1024)
	} else {
		data["result"] = cut(string(out.body), 4096)
	}
	return s.appendEvent(ctx, e, event.KindLateReport, data)
}

// inFlight are the calls this replica has open.
type inFlight struct {
	mu          sync.Mutex
	calls       map[string]*openCall
	interrupted bool // no call may go on
}

type openCall struct {
	attempt  int
	instance string
	slot     context.Context //nolint:containedctx // names the worker's slot that the call occupies
	cancel   context.CancelCauseFunc
}

func (f *inFlight) begin(ctx context.Context, c *claimed) (callCtx context.Context, done func()) {
	callCtx, cancel := context.WithCancelCause(ctx)
	stopTerm := context.AfterFunc(c.term.Context(), func() { cancel(errEnded) })
	open := &openCall{attempt: c.Attempt, slot: ctx, cancel: cancel}
	f.mu.Lock()
	if f.calls == nil {
		f.calls = map[string]*openCall{}
	}
	f.calls[c.ID] = open
	if f.interrupted {
		cancel(errInterrupted)
	}
	f.mu.Unlock()
	return callCtx, func() {
		stopTerm()
		cancel(nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.calls[c.ID] == open {
			delete(f.calls, c.ID)
		}
	}
}

// at notes which instance has the call, for a cancel notice.
func (f *inFlight) at(id, instance string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if open := f.calls[id]; open != nil {
		open.instance = instance
	}
}

func (f *inFlight) instance(id string) *string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if open := f.calls[id]; open != nil && open.instance != "" {
		return &open.instance
	}
	return nil
}

func (f *inFlight) stop(id string, cause error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if open := f.calls[id]; open != nil {
		open.cancel(cause)
	}
}

// free gives back the slot of a call whose execution waits for a person: the agent may hold the connection for days.
func (f *inFlight) free(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if open := f.calls[id]; open != nil {
		lease.FreeSlot(open.slot)
	}
}

func (f *inFlight) interruptAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interrupted = true
	for _, open := range f.calls {
		open.cancel(errInterrupted)
	}
}

func (f *inFlight) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}
