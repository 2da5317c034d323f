package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// statusCancelled answers a call whose execution was cancelled: "client closed request".
const statusCancelled = 499

// run is one execution in this process: the function at work, then its outcome until that is forgotten.
type run struct {
	Execution
	agent      *Agent
	function   *function
	input      json.RawMessage
	generation int // failures before this run that the control plane has seen
	ctx        context.Context
	cancel     context.CancelCauseFunc
	done       chan struct{} // closed when outcome is there
	outcome    outcome

	mu      sync.Mutex
	attempt int    // the newest of those that joined
	token   string // of that attempt
	waiters int    // connections that wait for the outcome
	offered bool   // the outcome is on its way over a connection
	taken   bool   // the control plane has the outcome, or wants none
	steps   map[[sha256.Size]byte]int
	pauses  map[string]func() // requests for a decision by id; what to do when there is word of one

	slot slot
}

// ended reports whether the outcome is there.
func (r *run) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// join adds a connection that waits, of a dispatch that may be newer than the last one.
func (r *run) join(attempt int, token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiters++
	if attempt >= r.attempt {
		r.attempt, r.token = attempt, token
	}
}

// repeatable reports whether a dispatch is the next try of a failure that the control plane has seen, rather than a question for it.
func (r *run) repeatable(attempt int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended() && r.outcome.failed() && (r.taken || r.offered) && attempt > r.attempt
}

// offer comes before the outcome is written out: the next attempt may be here before the writer knows that it was delivered.
func (r *run) offer() outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offered = true
	return r.outcome
}

func (r *run) newestToken() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.token
}

func (r *run) isTaken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// step is the key under which a call made by this execution is known. It depends on what is called and how often, not on time or
// goroutines, so that an execution that is repeated after a crash finds the children it has.
func (r *run) step(target string, body []byte) string { return r.key(r.generation, target, body) }

// question is the id of a request for a decision. It is that of every attempt: what people have decided about an execution stands, also
// when it is tried again after a failure.
func (r *run) question(body []byte) string { return "pause_" + r.key(0, "", body) }

func (r *run) key(generation int, target string, body []byte) string {
	call := sha256.Sum256(append([]byte(target+"\n"), body...))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.steps == nil {
		r.steps = map[[sha256.Size]byte]int{}
	}
	r.steps[call]++
	key := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%x\n%d", r.ID, generation, call, r.steps[call]))
	return hex.EncodeToString(key[:16])
}

// begin finds the run that a dispatch belongs to, or starts it. The caller waits for it and must leave it.
func (a *Agent) begin(f *function, e Execution, token string, input json.RawMessage) *run {
	r, fresh := a.ledger.find(e, token, func(generation int) *run {
		r := &run{
			Execution: e, agent: a, function: f, input: input, generation: generation, done: make(chan struct{}),
			attempt: e.Attempt, token: token, waiters: 1,
		}
		r.ctx, r.cancel = context.WithCancelCause(context.WithValue(a.life, contextKey{}, r))
		return r
	})
	if fresh {
		a.counters.started.Add(1)
		a.counters.inFlight.Add(1)
		a.work.Go(func() { a.execute(r) })
	}
	return r
}

// leave takes a waiting connection away; delivered says that it carried the outcome. The last one to leave without it makes us report.
func (a *Agent) leave(r *run, delivered bool) {
	r.mu.Lock()
	r.waiters--
	r.offered = false
	news := delivered && !r.taken
	r.taken = r.taken || delivered
	orphaned := r.waiters == 0 && r.ended() && !r.taken
	r.mu.Unlock()
	if news {
		a.ledger.keep(r)
	}
	if orphaned {
		a.work.Go(func() { a.report(r) })
	}
}

// settled notes that nothing more is to be done about an outcome.
func (a *Agent) settled(r *run) {
	r.mu.Lock()
	news := !r.taken
	r.taken = true
	r.mu.Unlock()
	if news {
		a.ledger.keep(r)
	}
}

// execute runs the function to its end, whatever that is.
func (a *Agent) execute(r *run) {
	o := outcome{status: http.StatusInternalServerError, message: "the function ended its goroutine instead of returning"}
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a function panicked", "execution_id", r.ID, "function", r.Function, "panic", p, "stack", string(debug.Stack()))
			o = outcome{status: http.StatusInternalServerError, message: fmt.Sprintf("panic: %v", p)}
		}
		a.finish(r, o)
	}()
	if !a.slots.begin(r.ctx.Done(), &r.slot) {
		o = cancelledOr(r, o)
		return
	}
	value, err := r.function.call(r.ctx, r.input)
	o = cancelledOr(r, outcomeOf(value, err))
}

// cancelledOr turns a failure that follows from a cancellation into words that say so.
func cancelledOr(r *run, o outcome) outcome {
	if cause := context.Cause(r.ctx); cause != nil && o.failed() {
		o = outcome{status: http.StatusServiceUnavailable, message: cause.Error()}
		if errors.Is(cause, ErrCancelled) {
			o.status = statusCancelled
		}
	}
	return o
}

func (a *Agent) finish(r *run, o outcome) {
	a.slots.end(&r.slot)
	a.counters.ended(o)
	r.mu.Lock()
	r.outcome, r.input = o, nil
	// Who cancelled the execution does not ask for its failure; a result that came all the same is worth telling.
	r.taken = o.status == statusCancelled || r.ID == ""
	orphaned := r.waiters == 0 && !r.taken
	close(r.done)
	r.mu.Unlock()
	r.cancel(nil)
	switch {
	case orphaned:
		a.work.Go(func() { a.report(r) })
	case r.isTaken():
		a.ledger.keep(r)
	}
}

type counters struct {
	started, succeeded, failed atomic.Int64
	inFlight                   atomic.Int64
}

func (c *counters) ended(o outcome) {
	c.inFlight.Add(-1)
	if o.failed() {
		c.failed.Add(1)
	} else {
		c.succeeded.Add(1)
	}
}
