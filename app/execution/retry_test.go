package execution_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// failing answers the given statuses one after the other, and then 200 for ever.
func failing(attempts *atomic.Int64, statuses ...int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		n := int(attempts.Add(1))
		if n <= len(statuses) {
			w.WriteHeader(statuses[n-1])
			_, _ = w.Write([]byte(`{"error":"not this time"}`))
			return
		}
		_, _ = w.Write([]byte(`{"ok":true}`))
	}
}

// changing is an agent whose behaviour a test exchanges.
type changing struct{ agent atomic.Value }

func (c *changing) becomes(agent http.HandlerFunc) { c.agent.Store(agent) }

func (c *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.agent.Load().(http.HandlerFunc)(w, r)
}

func retry(attempts int, on ...string) execution.RetryPolicy {
	return execution.RetryPolicy{MaxAttempts: attempts, On: on, Backoff: execution.RetryBackoff{InitialMs: 1, MaxMs: 1, Factor: 1}}
}

func TestFailsTwiceThenSucceeds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		for _, mode := range []string{"async", "sync"} {
			var attempts atomic.Int64
			r := newRig(t, db, failing(&attempts, 500, 503))
			sub := call(`{}`)
			sub.Retry = retry(3)
			var f execution.Finished
			if mode == "sync" {
				var err error
				if f, err = r.Call(t.Context(), sub, false); err != nil {
					t.Fatal(err)
				}
			} else {
				f = r.finish(t, r.submit(t, sub))
			}
			wantStatus(t, f.Row, models.Succeeded)
			if f.Row.Attempt != 3 || f.Row.Failures != 2 || attempts.Load() != 3 || string(f.Result) != `{"ok":true}` {
				t.Errorf("%s: attempt %d, failures %d, %d calls, %s", mode, f.Row.Attempt, f.Row.Failures, attempts.Load(), f.Result)
			}
			first := map[string]string{"async": "queued running", "sync": "running"}[mode]
			wantKinds(t, r, sub.ID, "["+first+" attempt_failed running attempt_failed running succeeded]")
		}
	})
}

func TestWhatIsTriedAgain(t *testing.T) {
	agent := &changing{}
	r := newRig(t, dbtest.Open(t, database.Config{DataDir: dbtest.Dir(t)}), agent.ServeHTTP)
	for _, c := range []struct {
		name     string
		statuses []int
		policy   execution.RetryPolicy
		calls    int64
		ends     models.Status
		code     int // the last HTTP status of the agent, as recorded
	}{
		{"one attempt is the default", []int{500}, execution.RetryPolicy{}, 1, models.Failed, 500},
		{"attempts run out", []int{500, 500, 500}, retry(2), 2, models.Failed, 500},
		{"a caller's mistake is not tried again", []int{422}, retry(3), 1, models.Failed, 422},
		{"unless asked for", []int{422}, retry(3, "client_error"), 2, models.Succeeded, 0},
		{"429 is not the caller's mistake", []int{429}, retry(3), 2, models.Succeeded, 0},
		{"nor is 408", []int{408}, retry(3), 2, models.Succeeded, 0},
		{"a redirect is a bad response", []int{302}, retry(3), 2, models.Succeeded, 0},
		{"only what is listed", []int{500}, retry(3, "unreachable"), 1, models.Failed, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			var attempts atomic.Int64
			agent.becomes(failing(&attempts, c.statuses...))
			sub := call(`{}`)
			sub.Retry = c.policy
			f := r.finish(t, r.submit(t, sub))
			wantStatus(t, f.Row, c.ends)
			if attempts.Load() != c.calls {
				t.Errorf("%d calls, want %d", attempts.Load(), c.calls)
			}
			if c.code > 0 && (f.Row.ErrorStatus == nil || *f.Row.ErrorStatus != c.code || *f.Row.ErrorMessage != "not this time") {
				t.Errorf("recorded %v %v", f.Row.ErrorStatus, *f.Row.ErrorMessage)
			}
			if c.ends == models.Failed && string(f.Details) != `{"error":"not this time"}` {
				t.Errorf("the details are %s", f.Details)
			}
			if c.ends == models.Succeeded && f.Row.ErrorMessage != nil {
				t.Errorf("a success carries the error %s", *f.Row.ErrorMessage)
			}
		})
	}
}

func TestTheFormsOfABackoff(t *testing.T) {
	for text, want := range map[string]execution.RetryBackoff{
		`"exponential"`:                    {},
		`"fixed"`:                          {Factor: 1},
		`"none"`:                           {InitialMs: 1, MaxMs: 1, Factor: 1},
		`"250ms"`:                          {InitialMs: 250},
		`"2s"`:                             {InitialMs: 2000},
		`{"initial_ms":5,"max_ms":7}`:      {InitialMs: 5, MaxMs: 7},
		`{"initial_ms":5,"factor":1.5}`:    {InitialMs: 5, Factor: 1.5},
		`{"initial_ms":0,"max_ms":100000}`: {MaxMs: 100000},
	} {
		var p execution.RetryPolicy
		if err := json.Unmarshal([]byte(`{"max_attempts":3,"backoff":`+text+`}`), &p); err != nil || p.Backoff != want || p.Check() != nil {
			t.Errorf("%s is %+v, %v, %v", text, p.Backoff, err, p.Check())
		}
	}
	for _, text := range []string{`{"backoff":"soon"}`, `{"backoff":"-2s"}`, `{"backoff":7}`} {
		var p execution.RetryPolicy
		if err := json.Unmarshal([]byte(text), &p); err == nil {
			t.Errorf("%s was accepted as %+v", text, p)
		}
	}
	for _, p := range []execution.RetryPolicy{
		{MaxAttempts: 21},
		{MaxAttempts: -1},
		{On: []string{"everything"}},
		{Backoff: execution.RetryBackoff{InitialMs: -1}},
		{Backoff: execution.RetryBackoff{MaxMs: 86_400_001}},
		{Backoff: execution.RetryBackoff{Factor: 11}},
	} {
		if p.Check() == nil {
			t.Errorf("%+v passes", p)
		}
	}
}

// A retry waits for its pause: it is not due before, and it is due after.
func TestARetryWaitsForItsPause(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		sub := call(`{}`)
		sub.Retry = execution.RetryPolicy{MaxAttempts: 4, Backoff: execution.RetryBackoff{InitialMs: 60_000, MaxMs: 600_000}}
		id := r.submit(t, sub)
		for _, pause := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
			r.end(t, r.take(t, 1)[0], execution.Fails, "no")
			row := r.row(t, id)
			wantStatus(t, row, models.Queued)
			waits := time.Duration(row.AvailableAt-db.NowMs()) * time.Millisecond
			if waits < pause*85/100 || waits > pause*115/100 {
				t.Errorf("the pause is %s, want about %s", waits, pause)
			}
			r.take(t, 0)
			c.advance(waits + time.Second)
		}
		r.end(t, r.take(t, 1)[0], execution.Fails, "no")
		wantStatus(t, r.row(t, id), models.Failed)
	})
}

func TestAnAgentThatAnswersNonsense(t *testing.T) {
	cases := []struct {
		name      string
		agent     http.HandlerFunc
		ends      models.Status
		category  string
		result    string
		inMessage string
	}{
		{"JSON that is none", answering("application/json", "{oops"), models.Failed, "bad_response", "", "claims to be JSON"},
		{"text", answering("text/plain", "hello"), models.Succeeded, "", `"hello"`, ""},
		{"nothing", answering("application/json", ""), models.Succeeded, "", "null", ""},
		{"no UTF-8", answering("text/plain", "\xff\xfe"), models.Failed, "bad_response", "", "neither JSON nor UTF-8"},
		{"too much", answering("text/plain", strings.Repeat("x", 1<<20+1)), models.Failed, "bad_response", "", "larger than"},
		{"as much as allowed", answering("application/json", `"`+strings.Repeat("x", 1<<20-2)+`"`), models.Succeeded, "", `"` + strings.Repeat("x", 1<<20-2) + `"`, ""},
		{"a redirect", http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP, models.Failed, "bad_response", "", "redirect"},
		{"an error with NUL and no UTF-8", refusing("a\x00b\xffc"), models.Failed, "agent_error", "", "ab\uFFFDc"},
		{"a closed connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, models.Failed, "bad_response", "", "closed before"},
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			panic(http.ErrAbortHandler)
		}, models.Failed, "bad_response", "", "closed before"},
	}
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		agent := &changing{}
		r := newRig(t, db, agent.ServeHTTP, func(o *execution.Options) {
			o.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		})
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				agent.becomes(c.agent)
				f, err := r.Call(t.Context(), call(`{}`), false)
				if err != nil {
					t.Fatal(err)
				}
				wantStatus(t, f.Row, c.ends)
				if string(f.Result) != c.result {
					t.Errorf("the result is %.100q", f.Result)
				}
				if c.ends == models.Succeeded {
					return
				}
				if *f.Row.ErrorCategory != c.category || !strings.Contains(*f.Row.ErrorMessage, c.inMessage) {
					t.Errorf("%s: %q", *f.Row.ErrorCategory, *f.Row.ErrorMessage)
				}
			})
		}
	})
}

func answering(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write([]byte(body))
	}
}

func refusing(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, http.StatusInternalServerError) }
}

// A dead address is passed over for a living one, which alone sees the request; with none left the call waits or fails.
func TestADeadInstanceIsPassedOver(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, nil)
		r.nodes.set("http://127.0.0.1:1", serve(t, echo))
		f, err := r.Call(t.Context(), call(`{"a":1}`), false)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, f.Row, models.Succeeded)
		if f.Row.Attempt != 1 || f.Row.Failures != 0 {
			t.Errorf("attempt %d, failures %d", f.Row.Attempt, f.Row.Failures)
		}
	})
}

// What an instance fails goes to the next one when the function may see it twice, in the same attempt; a caller's mistake does not.
func TestAnIdempotentFunctionIsPassedOnByAnInstanceThatFails(t *testing.T) {
	broken := func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = c.Close()
		}
	}
	wrong := func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":"no such ticket"}`, http.StatusUnprocessableEntity)
	}
	for name, c := range map[string]struct {
		first      http.HandlerFunc
		idempotent bool
		want       models.Status
		rerouted   int
	}{
		"it answers 500":          {refusing("broken"), true, models.Succeeded, 1},
		"it breaks off":           {broken, true, models.Succeeded, 1},
		"it answers nonsense":     {answering("application/json", "{"), true, models.Succeeded, 1},
		"the caller is wrong":     {wrong, true, models.Failed, 0},
		"it may not be called so": {refusing("broken"), false, models.Failed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, db *database.DB) {
				r := newRig(t, db, nil)
				r.nodes.idempotent = c.idempotent
				r.nodes.set(serve(t, c.first), serve(t, echo))
				f, err := r.Call(t.Context(), call(`{"a":1}`), false)
				if err != nil {
					t.Fatal(err)
				}
				wantStatus(t, f.Row, c.want)
				if f.Row.Attempt != 1 {
					t.Errorf("attempt %d", f.Row.Attempt)
				}
				if n := dbtest.Count(t, db, "SELECT count(*) FROM events WHERE kind = 'execution.rerouted'"); n != c.rerouted {
					t.Errorf("%d notes of it", n)
				}
			})
		})
	}
}

// An instance that hangs gets half of the time that is left, so that another one has the rest.
func TestAnIdempotentFunctionDoesNotWaitForAnInstanceThatHangs(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 1)
		r := newRig(t, db, nil)
		r.nodes.idempotent = true
		r.nodes.set(serve(t, holding(calls, nil)), serve(t, echo))
		sub := call(`{"a":1}`)
		sub.Timeout = 2 * time.Second
		f, err := r.Call(t.Context(), sub, false)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, f.Row, models.Succeeded)
		dbtest.Soon(t, calls)
	})
}

// When the last instance goes away in the middle, the execution is not lost: it waits for one to come back.
func TestAnIdempotentFunctionSurvivesTheEndOfItsOnlyInstance(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var calls atomic.Int32
		r := newRig(t, db, func(w http.ResponseWriter, q *http.Request) {
			if calls.Add(1) > 1 {
				echo(w, q)
			} else if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = c.Close()
			}
		})
		r.nodes.idempotent = true
		id := r.submit(t, call(`{"a":1}`))
		row := r.finish(t, id).Row
		wantStatus(t, row, models.Succeeded)
		if row.Attempt != 2 || row.Failures != 0 || row.Redeliveries != 1 {
			t.Errorf("attempt %d, failures %d, redeliveries %d", row.Attempt, row.Failures, row.Redeliveries)
		}
	})
}

// While breakers are open, work waits instead of failing; a sync caller is told at once.
func TestWorkWaitsBehindOpenBreakers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		r.nodes.resting.Store(true)
		id := r.submit(t, call(`{}`))
		dbtest.Eventually(t, "it is back in the queue", func() bool {
			row := r.row(t, id)
			return row.Status == models.Queued && row.AvailableAt > row.CreatedAt+4000
		})
		if row := r.row(t, id); row.Attempt != 0 || row.Failures != 0 {
			t.Errorf("attempt %d, failures %d", row.Attempt, row.Failures)
		}
		f, err := r.Call(t.Context(), call(`{}`), false)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, f.Row, models.Failed)
		if *f.Row.ErrorCode != "circuit_open" {
			t.Errorf("%s: %s", *f.Row.ErrorCode, *f.Row.ErrorMessage)
		}
	})
}

func TestASyncCallToANodeWithoutInstanceFails(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		for _, urls := range [][]string{nil, {"http://127.0.0.1:1"}} {
			r := newRig(t, db, nil)
			r.nodes.set(urls...)
			f, err := r.Call(t.Context(), call(`{}`), false)
			if err != nil {
				t.Fatal(err)
			}
			wantStatus(t, f.Row, models.Failed)
			if *f.Row.ErrorCode != "agent_unreachable" || *f.Row.ErrorCategory != "agent_unreachable" {
				t.Errorf("%s, %s", *f.Row.ErrorCode, *f.Row.ErrorCategory)
			}
		}
	})
}

// The same with a cap, where the call takes its turn in the queue: it must not become pending and wait for its limit.
func TestASyncCallToACappedNodeWithoutInstanceFails(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{cap: 1, still: true})
		ended := make(chan execution.Finished, 1)
		sub := call(`{}`)
		go func() {
			f, err := r.Call(context.Background(), sub, false)
			if err != nil {
				t.Error(err)
			}
			ended <- f
		}()
		dbtest.Eventually(t, "it is written down", func() bool { return dbtest.Count(t, db, "SELECT count(*) FROM executions") == 1 })
		if err := r.SweepPending(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.end(t, r.take(t, 1)[0], execution.Unreached, "nobody there")
		wantStatus(t, dbtest.Soon(t, ended).Row, models.Failed)
	})
}

func TestHeadersTellTheAgentWhatItWorksOn(t *testing.T) {
	db := dbtest.Open(t, database.Config{DataDir: dbtest.Dir(t)})
	calls := make(chan *http.Request, 1)
	r := newRig(t, db, func(w http.ResponseWriter, request *http.Request) {
		calls <- request
		echo(w, request)
	}, func(o *execution.Options) { o.InternalToken = "internal" })
	parent := r.submit(t, call(`{}`))
	<-calls
	sub := call(`{}`)
	sub.ParentID, sub.SessionID, sub.ActorID, sub.Caller, sub.WorkflowID = parent, "s", "a", "other", "wf"
	sub.Trace = "00-" + strings.Repeat("ab", 16) + "-" + strings.Repeat("cd", 8) + "-01"
	f := r.finish(t, r.submit(t, sub))
	h := (<-calls).Header
	for name, want := range map[string]string{
		"X-Execution-ID": sub.ID, "X-Run-ID": f.Row.RunID, "X-Workflow-ID": "wf", "X-Parent-Execution-ID": parent, "X-Session-ID": "s",
		"X-Actor-ID": "a", "X-Caller-Agent-ID": "other", "X-Attempt": "1", "Idempotency-Key": sub.ID, "Authorization": "Bearer internal",
		"X-Execution-Token": r.TokenOf(sub.ID, 1), "Content-Type": "application/json",
	} {
		if h.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, h.Get(name), want)
		}
	}
	if trace := h.Get("Traceparent"); trace[3:35] != strings.Repeat("ab", 16) || trace == sub.Trace {
		t.Errorf("the trace is %s", trace)
	}
}

// The connection was good for one call and breaks during the next. The agent has seen that one, and only the policy may repeat it.
func TestACallThatBreaksIsNotSentAgainBehindOurBack(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var calls atomic.Int64
		r := newRig(t, db, func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Idempotency-Key") != q.Header.Get("X-Execution-ID") {
				t.Error("the agent is not told what makes the call the same")
			}
			if calls.Add(1) > 1 {
				panic(http.ErrAbortHandler)
			}
			echo(w, q)
		})
		wantStatus(t, r.finish(t, r.submit(t, call(`{}`))).Row, models.Succeeded)
		f := r.finish(t, r.submit(t, call(`{}`)))
		wantStatus(t, f.Row, models.Failed)
		if calls.Load() != 2 || f.Row.Attempt != 1 || *f.Row.ErrorCode != "agent_disconnected" {
			t.Errorf("the agent saw %d calls for attempt %d: %v", calls.Load(), f.Row.Attempt, *f.Row.ErrorCode)
		}
	})
}
