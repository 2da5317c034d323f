package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// trialLimit is the longest a check may take.
const trialLimit = 45 * time.Second

// Trial is one run of one check: its clients and fakes, and what it found. All waits end with its context.
type Trial struct {
	ctx      context.Context
	bench    *Bench
	api      *client.Client
	server   *server.Server // nil on a server that was only named by its URL
	receiver *fake.Receiver

	mu       sync.Mutex
	cleanups []func()
	failures []string
	notes    []string
	skipped  string
}

// stop unwinds a check that cannot go on; what was found is already recorded.
type stop struct{}

func (t *Trial) run(check func(*Trial)) {
	defer t.cleanup()
	defer func() {
		switch r := recover(); r {
		case nil, any(stop{}):
		default:
			t.failures = append(t.failures, fmt.Sprintf("the check itself broke: %v", r))
		}
	}()
	check(t)
}

func (t *Trial) cleanup() {
	for _, undo := range slices.Backward(t.cleanups) {
		undo()
	}
}

func (t *Trial) atEnd(undo func()) { t.cleanups = append(t.cleanups, undo) }

// Failf records what was expected and what came, and goes on.
func (t *Trial) Failf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

// Fatalf records a failure after which the check makes no sense, and ends it.
func (t *Trial) Fatalf(format string, args ...any) {
	t.Failf(format, args...)
	panic(stop{})
}

// Skipf ends the check: this machine or server cannot show the row.
func (t *Trial) Skipf(format string, args ...any) {
	t.skipped = fmt.Sprintf(format, args...)
	panic(stop{})
}

// Notef records a measurement worth printing beside the row.
func (t *Trial) Notef(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// Must ends the check when a request got no answer.
func (t *Trial) Must(err error) {
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// True fails when a condition does not hold; what says what should be so.
func (t *Trial) True(ok bool, what string, args ...any) {
	if !ok {
		t.Failf("expected: "+what, args...)
	}
}

// Status ends the check when an answer has another status.
func (t *Trial) Status(a client.Answer, want int) {
	if a.Status != want {
		t.Fatalf("expected status %d, got %s", want, a)
	}
}

// Is fails when the body has something else at the path. Numbers are compared as float64, as JSON has them.
func (t *Trial) Is(a client.Answer, path string, want any) {
	if n, ok := want.(int); ok {
		want = float64(n)
	}
	got, ok := a.Value(path)
	if !ok {
		t.Failf("expected %s = %v, but the key is missing: %s", path, want, a)
	} else if !reflect.DeepEqual(got, want) {
		t.Failf("expected %s = %#v, got %#v in %s", path, want, got, a)
	}
}

// Has fails when one of the paths is missing in the body.
func (t *Trial) Has(a client.Answer, paths ...string) {
	for _, path := range paths {
		if _, ok := a.Value(path); !ok {
			t.Failf("expected the key %s in %s", path, a)
		}
	}
}

// Lacks fails when one of the paths is there.
func (t *Trial) Lacks(a client.Answer, paths ...string) {
	for _, path := range paths {
		if v, ok := a.Value(path); ok {
			t.Failf("expected no key %s, got %v in %s", path, v, a)
		}
	}
}

// Matches fails when a text of the body does not fit.
func (t *Trial) Matches(a client.Answer, path string, fits func(string) bool, what string) {
	if got := a.Text(path); !fits(got) {
		t.Failf("expected %s to be %s, got %q in %s", path, what, got, a)
	}
}

// Refused checks an error in the documented shape: status, code, texts.
func (t *Trial) Refused(a client.Answer, status int, code string) {
	if a.Status != status {
		t.Failf("expected status %d (%s), got %s", status, code, a)
		return
	}
	t.Is(a, "code", code)
	t.Has(a, "error", "details")
	t.Lacks(a, "execution_id")
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		t.True(a.Header.Get("Retry-After") != "", "a Retry-After header on %d", status)
	}
}

// Agent starts a fake agent with a name of its own and registers it.
func (t *Trial) Agent(extra ...fake.Function) *fake.Agent {
	a := t.Instance("", extra...)
	t.Register(a)
	return a
}

// Instance starts a fake agent without registering it.
func (t *Trial) Instance(id string, extra ...fake.Function) *fake.Agent {
	a, err := fake.NewAgent(id, t.api.Base, extra...)
	t.Must(err)
	t.atEnd(a.Close)
	return a
}

// Register makes an agent known; more fields are laid over its registration.
func (t *Trial) Register(a *fake.Agent, more ...map[string]any) {
	body := a.Registration()
	for _, fields := range more {
		maps.Copy(body, fields)
	}
	answer, err := t.api.Do(t.ctx, http.MethodPost, "/api/v1/nodes/register", body)
	t.Must(err)
	t.Status(answer, http.StatusCreated)
	if t.server == nil { // a foreign server is left as it was found
		t.atEnd(func() { _, _ = t.api.Do(t.ctx, http.MethodPost, "/api/v1/nodes/"+a.ID+"/shutdown", nil) })
	}
}

// Hook is a fresh webhook address. A foreign server that refuses webhooks to loopback cannot be checked with it.
func (t *Trial) Hook(statuses ...int) *fake.Hook {
	if t.server == nil && !t.bench.hooksAllowed {
		t.Skipf("needs AGENTFIELD_WEBHOOK_ALLOWED_HOSTS=127.0.0.1")
	}
	return t.receiver.Hook(statuses...)
}

// Own moves the check to a server of its own with these settings (KEY=value).
func (t *Trial) Own(env ...string) *server.Server {
	store, err := server.NewStore(t.ctx, t.bench.options.PostgresURL)
	t.Must(err)
	t.atEnd(func() { _ = store.Close() })
	return t.OwnOn(store, "data", env...)
}

// OwnOn moves the check to a new server on a given store.
func (t *Trial) OwnOn(store *server.Store, name string, env ...string) *server.Server {
	s, err := server.Start(t.ctx, server.Settings{Binary: t.bench.options.Binary, Store: store, Name: name, Env: env})
	t.Must(err)
	t.atEnd(func() { _ = s.Kill() })
	t.server, t.api = s, client.New(s.URL)
	t.atEnd(t.api.Close)
	return s
}

// Call builds an execution of a function of an agent.
func call(a *fake.Agent, function string, input any) client.Call {
	return client.Call{Target: a.Target(function), Input: input}
}

// fields is a JSON object written in place.
type fields = map[string]any

// Execute calls and waits; the request must be answered, whatever the answer.
func (t *Trial) Execute(c client.Call) client.Answer {
	answer, err := t.api.Execute(t.ctx, c)
	t.Must(err)
	return answer
}

// Submit starts an execution that must be accepted, and remembers that it was.
func (t *Trial) Submit(c client.Call) client.Answer {
	answer := t.TrySubmit(c)
	t.Status(answer, http.StatusAccepted)
	return answer
}

// TrySubmit starts an execution that may be refused.
func (t *Trial) TrySubmit(c client.Call) client.Answer {
	answer, err := t.api.Submit(t.ctx, c)
	t.Must(err)
	if answer.Status == http.StatusAccepted && t.api == t.bench.api {
		t.bench.accept(answer.Text("execution_id"))
	}
	return answer
}

// Start submits and returns the id.
func (t *Trial) Start(c client.Call) string { return t.Submit(c).Text("execution_id") }

// Get reads an execution that must exist.
func (t *Trial) Get(id string) client.Answer {
	answer, err := t.api.Execution(t.ctx, id, 0)
	t.Must(err)
	t.Status(answer, http.StatusOK)
	return answer
}

// End waits for the end of an execution.
func (t *Trial) End(id string) client.Answer {
	answer, err := t.api.End(t.ctx, id)
	t.Must(err)
	return answer
}

// Until polls an execution until it has a status. Ending in another one fails the check.
func (t *Trial) Until(id, status string) client.Answer {
	for {
		answer := t.Get(id)
		got := answer.Text("status")
		if got == status {
			return answer
		}
		if client.Terminal(got) {
			t.Fatalf("expected %s to become %s, but it ended: %s", id, status, answer)
		}
		t.Pause(15 * time.Millisecond)
	}
}

// Report sends a status callback.
func (t *Trial) Report(id string, report fields) client.Answer {
	answer, err := t.api.Report(t.ctx, id, report)
	t.Must(err)
	return answer
}

// Do sends any request.
func (t *Trial) Do(method, path string, body any, headers ...string) client.Answer {
	answer, err := t.api.Do(t.ctx, method, path, body, headers...)
	t.Must(err)
	return answer
}

// Pause waits as a polling client would.
func (t *Trial) Pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
		t.Fatalf("the check took longer than %s", trialLimit)
	}
}

// Deliveries waits for n webhooks at a hook; fewer are a failure that ends the check.
func (t *Trial) Deliveries(h *fake.Hook, n int) []fake.Delivery {
	got := h.Wait(t.ctx, n)
	if len(got) < n {
		t.Fatalf("expected %d webhook deliveries, got %d", n, len(got))
	}
	return got
}

// rounds is how often a time is measured before it counts as too long. Other programs share the machine: one slow round may show them,
// three slow rounds show the server.
const rounds = 3

// Within measures a time until one round is below the limit, and notes it.
func (t *Trial) Within(limit time.Duration, what string, measure func() time.Duration) {
	var took []string
	for range rounds {
		d := measure()
		took = append(took, report.Ms(d)+" ms")
		if d <= limit {
			t.Notef("%s %s", what, strings.Join(took, ", then "))
			return
		}
	}
	t.Failf("expected %s of at most %s ms, got %s", what, report.Ms(limit), strings.Join(took, ", then "))
}

// Together runs a function n times at once and waits. A run that ends the check only ends itself.
func (t *Trial) Together(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			defer func() {
				if r := recover(); r != nil && r != any(stop{}) {
					t.Failf("the check itself broke: %v", r)
				}
			}()
			do(i)
		})
	}
	all.Wait()
	if t.failed() {
		panic(stop{})
	}
}

// Pool runs do(0…n-1) with a number of workers.
func (t *Trial) Pool(workers, n int, do func(i int)) {
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	t.Together(workers, func(int) {
		for i := range next {
			do(i)
		}
	})
}

func (t *Trial) failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures) > 0
}

// verdict is the outcome in one word, and why.
func (t *Trial) verdict() (string, string) {
	switch {
	case len(t.failures) > 0:
		return failed, strings.Join(t.failures, "\n")
	case t.skipped != "":
		return skipped, t.skipped
	case errors.Is(t.ctx.Err(), context.DeadlineExceeded):
		return failed, fmt.Sprintf("the check took longer than %s", trialLimit)
	}
	return passed, strings.Join(t.notes, "; ")
}
