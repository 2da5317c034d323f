package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent/agenttest"
)

func TestRedeliveryJoinsTheFunctionThatRuns(t *testing.T) {
	plane, g := agenttest.New(t), newGate()
	a := newAgent(t, plane, Config{})
	a.Reasoner("slow", g.call)
	start(t, a)

	before := dispatch(plane, "tester.slow", `{}`, "exec_1", 1)
	ctx := within(t, g.begun, "the function")
	plane.Crash()
	if answer := within(t, before, "the broken connection"); answer.Err == nil {
		t.Fatalf("the connection did not break: %+v", answer)
	}
	plane.Restart(false)
	after := dispatch(plane, "tester.slow", `{}`, "exec_1", 2)
	r := a.ledger.get("exec_1")
	awaitRun(t, r, "attempt 2 to join", func() bool { return r.attempt == 2 })
	if ctx.Err() != nil {
		t.Fatal("the function's context ended with the connection")
	}
	g.open <- "done"
	wantAnswer(t, within(t, after, "the answer"), 200, `"done"`)
	if n := a.counters.started.Load(); n != 1 {
		t.Errorf("the function ran %d times", n)
	}
	// The answer was sent, but it may have been lost with the plane: the next one who asks gets it as well.
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.slow", `{}`, "exec_1", 3), 200, `"done"`)
	if n := a.counters.started.Load(); n != 1 {
		t.Errorf("the function ran %d times", n)
	}
	if n := plane.Count("POST", "/api/v1/executions/exec_1/status"); n != 0 {
		t.Errorf("an outcome that was answered was also reported %d times", n)
	}
}

// awaitRun waits until a run is as the condition, which runs under its lock, says. There is no signal for it, so it looks often.
func awaitRun(t *testing.T, r *run, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for {
		r.mu.Lock()
		met := condition()
		r.mu.Unlock()
		if met {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited %s in vain for %s", patience, what)
		}
	}
}

// awaitAlone waits until the agent has noticed that nobody is connected any more.
func awaitAlone(t *testing.T, r *run) {
	t.Helper()
	awaitRun(t, r, "the agent to notice the broken connection", func() bool { return r.waiters == 0 })
}

func TestOutcomeIsReportedWhenTheConnectionWasLost(t *testing.T) {
	for name, c := range map[string]struct {
		ends   any
		status string
		check  func(agenttest.Execution) bool
	}{
		"result":  {map[string]int{"n": 1}, "succeeded", func(e agenttest.Execution) bool { return string(e.Result) == `{"n":1}` }},
		"failure": {errors.New("no luck"), "failed", func(e agenttest.Execution) bool { return e.Error == "no luck" }},
	} {
		t.Run(name, func(t *testing.T) {
			plane, g := agenttest.New(t), newGate()
			a := newAgent(t, plane, Config{})
			a.Reasoner("slow", g.call)
			start(t, a)
			answer := dispatch(plane, "tester.slow", `{}`, "exec_1", 1)
			within(t, g.begun, "the function")
			plane.Crash()
			within(t, answer, "the broken connection")
			r := a.ledger.get("exec_1")
			awaitAlone(t, r)
			g.open <- c.ends
			within(t, r.done, "the outcome")
			plane.Restart(false)
			if e := plane.AwaitStatus("exec_1", c.status); !c.check(e) {
				t.Errorf("reported %+v", e)
			}
			report := plane.AwaitRequest("POST", "/api/v1/executions/exec_1/status", 1)
			if got := report.Header.Get("X-Execution-Token"); got != "1.exec_1" {
				t.Errorf("the report's token is %q", got)
			}
		})
	}
}

func TestUnwantedReportIsNotRepeated(t *testing.T) {
	plane, g := agenttest.New(t), newGate()
	a := newAgent(t, plane, Config{})
	a.Reasoner("slow", g.call)
	agent := start(t, a)
	plane.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "exec_1/status") {
			return false
		}
		agenttest.Reply(w, http.StatusConflict, map[string]string{"error": "stale_attempt", "code": "stale_attempt"})
		return true
	})
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		plane.Dispatch(ctx, "tester.slow", `{}`, "exec_1", 1)
		close(gone)
	}()
	within(t, g.begun, "the function")
	hangUp()
	within(t, gone, "the broken connection")
	awaitAlone(t, a.ledger.get("exec_1"))
	g.open <- 1
	plane.AwaitRequest("POST", "/api/v1/executions/exec_1/status", 1)
	if err := agent.stop(); err != nil { // waits for reports
		t.Fatal(err)
	}
	if n := plane.Count("POST", "/api/v1/executions/exec_1/status"); n != 1 {
		t.Errorf("reported %d times", n)
	}
}

func TestOnlyAFailureThatWasSeenRunsAgain(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{})
	a.Reasoner("flaky", func(ctx context.Context, _ json.RawMessage) (any, error) {
		if e, _ := FromContext(ctx); e.Attempt < 3 {
			return nil, Errorf(503, "try %d", e.Attempt)
		}
		return "at last", nil
	})
	start(t, a)
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.flaky", `{}`, "e", 1), 503, `{"error":"try 1"}`)
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.flaky", `{}`, "e", 1), 503, `{"error":"try 1"}`) // the same attempt: the same outcome
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.flaky", `{}`, "e", 2), 503, `{"error":"try 2"}`)
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.flaky", `{}`, "e", 3), 200, `"at last"`)
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.flaky", `{}`, "e", 4), 200, `"at last"`)
	if n := a.counters.started.Load(); n != 3 {
		t.Errorf("the function ran %d times", n)
	}
}

func TestCancelEndsTheFunctionsContext(t *testing.T) {
	plane, g := agenttest.New(t), newGate()
	a := newAgent(t, plane, Config{})
	a.Reasoner("slow", g.call)
	start(t, a)
	answer := dispatch(plane, "tester.slow", `{}`, "exec_1", 1)
	ctx := within(t, g.begun, "the function")
	if got := cancel(t, a, "exec_1"); got != `{"cancelled":true,"execution_id":"exec_1"}` {
		t.Errorf("cancel said %s", got)
	}
	wantAnswer(t, within(t, answer, "the answer"), 499, `{"error":"cancelled by the control plane: changed my mind"}`)
	if !errors.Is(context.Cause(ctx), ErrCancelled) {
		t.Errorf("the context ended with %v", context.Cause(ctx))
	}
	for _, id := range []string{"exec_1", "exec_unknown"} {
		if got := cancel(t, a, id); got != `{"cancelled":false,"execution_id":"`+id+`","reason":"execution_not_active"}` {
			t.Errorf("cancel of %s said %s", id, got)
		}
	}
}

func cancel(t *testing.T, a *Agent, id string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL()+"/_internal/executions/"+id+"/cancel",
		strings.NewReader(`{"reason":"changed my mind"}`))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var body json.RawMessage
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%d, %v", response.StatusCode, err)
	}
	return string(body)
}

func TestStopFinishesWhatRuns(t *testing.T) {
	plane, g := agenttest.New(t), newGate()
	a := newAgent(t, plane, Config{Version: "9"})
	a.Reasoner("slow", g.call)
	agent := start(t, a)
	answer := dispatch(plane, "tester.slow", `{}`, "exec_1", 1)
	ctx := within(t, g.begun, "the function")
	stopped := make(chan error, 1)
	go func() { stopped <- agent.stop() }()
	notice := plane.AwaitRequest("POST", "/api/v1/nodes/tester/shutdown", 1)
	if notice.Body["reason"] != "shutdown" || notice.Body["version"] != "9" {
		t.Errorf("notice: %v", notice.Body)
	}
	if ctx.Err() != nil {
		t.Error("the function was cancelled")
	}
	g.open <- "finished"
	wantAnswer(t, within(t, answer, "the answer"), 200, `"finished"`)
	if err := within(t, stopped, "the stop"); err != nil {
		t.Error(err)
	}
	if answer := plane.Dispatch(t.Context(), "tester.slow", `{}`, "exec_2", 1); answer.Err == nil {
		t.Errorf("a stopped agent took work: %+v", answer)
	}
}

func TestStopCancelsWhatDoesNotEnd(t *testing.T) {
	plane, g := agenttest.New(t), newGate()
	a := newAgent(t, plane, Config{StopTimeout: time.Millisecond})
	a.Reasoner("slow", g.call)
	agent := start(t, a)
	answer := dispatch(plane, "tester.slow", `{}`, "exec_1", 1)
	ctx := within(t, g.begun, "the function")
	if err := agent.stop(); err != nil {
		t.Error(err)
	}
	wantAnswer(t, within(t, answer, "the answer"), 503, `{"error":"the agent is stopping"}`)
	if !errors.Is(context.Cause(ctx), ErrStopping) {
		t.Errorf("the context ended with %v", context.Cause(ctx))
	}
}

func TestMaxConcurrencyBoundsWhatRuns(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{MaxConcurrency: 2})
	var now, most atomic.Int64
	arrived, leave := make(chan struct{}, 10), make(chan struct{})
	a.Reasoner("busy", func(context.Context, json.RawMessage) (any, error) {
		most.Store(max(most.Load(), now.Add(1)))
		arrived <- struct{}{}
		<-leave
		now.Add(-1)
		return nil, nil
	})
	start(t, a)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() { plane.Dispatch(context.Background(), "tester.busy", `{}`, "e"+string(rune('0'+i)), 1) })
	}
	for range 6 {
		within(t, arrived, "a function")
		leave <- struct{}{}
	}
	all.Wait()
	if most.Load() > 2 {
		t.Errorf("%d ran at once", most.Load())
	}
}

func TestWaitingForACallGivesThePlaceToOthers(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{MaxConcurrency: 1})
	type depth struct {
		N int `json:"n"`
	}
	Handle(a, "down", func(ctx context.Context, in depth) (depth, error) {
		if in.N == 0 {
			return in, nil
		}
		var out depth
		err := a.Call(ctx, "tester.down", depth{in.N - 1}, &out)
		return depth{out.N + 1}, err
	})
	start(t, a)
	wantAnswer(t, within(t, dispatch(plane, "tester.down", `{"n":4}`, "e", 1), "the answer"), 200, `{"n":4}`)
}

func TestKeptOutcomesAreBounded(t *testing.T) {
	var l ledger
	add := func(id string, size int) {
		r, fresh := l.find(Execution{ID: id, Attempt: 1}, "", func(int) *run {
			return &run{Execution: Execution{ID: id}, done: make(chan struct{}), outcome: outcome{result: make([]byte, size)}}
		})
		if !fresh {
			t.Fatalf("%s was there already", id)
		}
		l.keep(r)
	}
	add("small", 1)
	add("large", keepBytes/2)
	add("larger", keepBytes/2)
	if l.get("small") != nil || l.get("large") != nil || l.get("larger") == nil {
		t.Error("the oldest outcomes were not forgotten first")
	}
	l.kept[0].since = time.Now().Add(-keepFor - time.Second)
	add("new", 1)
	if l.get("larger") != nil || l.get("new") == nil || len(l.runs) != 1 {
		t.Error("an outcome was kept for too long")
	}
}
