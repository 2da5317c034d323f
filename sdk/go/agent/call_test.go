package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/agentfield/agentfield/sdk/go/agent/agenttest"
)

// caller is an agent whose function "parent" calls "child" and gives what it got.
func caller(t *testing.T, plane *agenttest.Plane, child Func) *Agent {
	t.Helper()
	a := newAgent(t, plane, Config{NodeID: "caller"})
	a.Reasoner("child", child)
	a.Reasoner("parent", func(ctx context.Context, input json.RawMessage) (any, error) {
		var out json.RawMessage
		err := a.Call(ctx, "caller.child", input, &out)
		return out, err
	})
	start(t, a)
	return a
}

func TestCallsCarryTheContextOfTheirExecution(t *testing.T) {
	plane := agenttest.New(t)
	caller(t, plane, func(context.Context, json.RawMessage) (any, error) { return "hello", nil })
	wantAnswer(t, plane.Dispatch(t.Context(), "caller.parent", `{"a":1}`, "exec_p", 1, "X-Run-ID", "run_1", "X-Workflow-ID", "wf_1",
		"X-Session-ID", "s", "X-Actor-ID", "b", "Traceparent", "00-1-2-01"), 200, `"hello"`)
	submit := plane.AwaitRequest("POST", "/api/v1/execute/async/caller.child", 1)
	for name, want := range map[string]string{
		"X-Run-ID": "run_1", "X-Workflow-ID": "wf_1", "X-Parent-Execution-ID": "exec_p", "X-Session-ID": "s", "X-Actor-ID": "b",
		"X-Caller-Agent-ID": "caller", "Traceparent": "00-1-2-01",
	} {
		if got := submit.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got, _ := json.Marshal(submit.Body); string(got) != `{"input":{"a":1}}` {
		t.Errorf("body: %s", got)
	}
	if poll := plane.AwaitRequest("GET", "/api/v1/executions/exec_1", 1); poll.Path != "/api/v1/executions/exec_1?wait=30s" {
		t.Errorf("asked %s", poll.Path)
	}
}

func TestFailedChildIsATypedError(t *testing.T) {
	plane := agenttest.New(t)
	a := caller(t, plane, func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("the model is tired") })
	err := a.Call(t.Context(), "caller.child", nil, nil)
	var failed *CallError
	if !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	if failed.ExecutionID != "exec_1" || failed.Status != "failed" || failed.Message != "the model is tired" || failed.Target != "caller.child" {
		t.Errorf("got %+v", failed)
	}
	wantAnswer(t, plane.Dispatch(t.Context(), "caller.parent", `{}`, "exec_p", 1), 500,
		`{"error":"caller.child (exec_2) ended failed: the model is tired"}`)
}

func TestRefusedCallIsATypedError(t *testing.T) {
	plane := agenttest.New(t)
	a := caller(t, plane, nil)
	var refused *CallError
	if err := a.Call(t.Context(), "nobody.here", nil, nil); !errors.As(err, &refused) {
		t.Fatalf("got %v", err)
	}
	if refused.ExecutionID != "" || refused.HTTPStatus != http.StatusNotFound || refused.Code != "target_not_found" {
		t.Errorf("got %+v", refused)
	}
}

func TestCallOutlivesTheControlPlane(t *testing.T) {
	plane, g := agenttest.New(t), newGate()
	a := caller(t, plane, g.call)
	got := make(chan error, 1)
	var out string
	go func() { got <- a.Call(context.Background(), "caller.child", nil, &out) }()
	within(t, g.begun, "the child")
	plane.AwaitRequest("GET", "/api/v1/executions/exec_1", 1)
	plane.Crash()
	awaitAlone(t, a.ledger.get("exec_1"))
	g.open <- "still here" // reported when the plane is back, since the connection of the child broke as well
	plane.Restart(false)
	if err := within(t, got, "the call"); err != nil || out != "still here" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestCallWaitsWhileTheQueueIsFull(t *testing.T) {
	plane := agenttest.New(t)
	a := caller(t, plane, func(context.Context, json.RawMessage) (any, error) { return "in the end", nil })
	var refusals atomic.Int64
	plane.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/async/") || refusals.Add(1) > 2 {
			return false
		}
		w.Header().Set("Retry-After", "0")
		agenttest.Reply(w, http.StatusTooManyRequests, map[string]string{"error": "Queue full", "code": "agent_queue_full"})
		return true
	})
	var out string
	if err := a.Call(t.Context(), "caller.child", nil, &out); err != nil || out != "in the end" {
		t.Errorf("got %q, %v", out, err)
	}
	first, last := plane.AwaitRequest("POST", "/api/v1/execute/async/", 1), plane.AwaitRequest("POST", "/api/v1/execute/async/", 3)
	if key := first.Header.Get("Idempotency-Key"); key == "" || key != last.Header.Get("Idempotency-Key") {
		t.Error("the same call was sent with different keys")
	}
}

func TestRepeatedParentFindsItsChildren(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{NodeID: "caller"})
	var children atomic.Int64
	a.Reasoner("child", func(context.Context, json.RawMessage) (any, error) { return children.Add(1), nil })
	family := func(ctx context.Context) (sum []int, err error) {
		for _, input := range []string{"a", "a", "b"} {
			var n int
			if err := a.Call(ctx, "caller.child", map[string]string{"x": input}, &n); err != nil {
				return nil, err
			}
			sum = append(sum, n)
		}
		return sum, nil
	}
	start(t, a)
	repeat := func(generation int) []int {
		r := &run{Execution: Execution{ID: "exec_p"}, agent: a, generation: generation, ctx: t.Context()}
		sum, err := family(context.WithValue(t.Context(), contextKey{}, r))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	if first := repeat(0); !slices.Equal(first, []int{1, 2, 3}) {
		t.Fatalf("three calls gave %v", first)
	}
	if again := repeat(0); !slices.Equal(again, []int{1, 2, 3}) { // as another process would, after a crash
		t.Errorf("the repeated parent got %v", again)
	}
	if retry := repeat(1); !slices.Equal(retry, []int{4, 5, 6}) { // after a failure that was seen: a new try has new children
		t.Errorf("the next try got %v", retry)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	plane, g := agenttest.New(t), newGate()
	a := caller(t, plane, g.call)
	answer := dispatch(plane, "caller.parent", `{}`, "exec_p", 1)
	within(t, g.begun, "the child")
	cancel(t, a, "exec_p")
	wantAnswer(t, within(t, answer, "the answer"), 499, `{"error":"cancelled by the control plane: changed my mind"}`)
	g.open <- nil
	plane.AwaitStatus("exec_1", "succeeded")
}

func TestNotesAndProgressBelongToTheExecution(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{})
	a.Reasoner("talks", func(ctx context.Context, _ json.RawMessage) (any, error) {
		Note(ctx, "half way", "status", "info")
		Progress(ctx, 0.5, "reading")
		Partial(ctx, 0.75, "writing", []int{1})
		Log(ctx, "warn", "slow", map[string]any{"ms": 4200})
		return nil, nil
	})
	start(t, a)
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.talks", `{}`, "exec_1", 4, "X-Run-ID", "run_1"), 200, "null")
	note := plane.AwaitRequest("POST", "/api/v1/executions/note", 1)
	if got, _ := json.Marshal(note.Body); string(got) != `{"message":"half way","tags":["status","info"]}` {
		t.Errorf("note: %s", got)
	}
	for name, want := range map[string]string{"X-Execution-ID": "exec_1", "X-Execution-Token": "4.exec_1", "X-Run-ID": "run_1", "X-Agent-Node-ID": "tester"} {
		if got := note.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for n, want := range []string{`{"message":"reading","progress":0.5}`, `{"message":"writing","partial":[1],"progress":0.75}`} {
		progress := plane.AwaitRequest("POST", "/api/v1/executions/exec_1/progress", n+1)
		if got, _ := json.Marshal(progress.Body); string(got) != want {
			t.Errorf("progress: %s, want %s", got, want)
		}
	}
	var line struct {
		Message, Level, Source string
		NodeID                 string `json:"agent_node_id"`
		ID                     string `json:"execution_id"`
		Attributes             map[string]int
	}
	logged, _ := json.Marshal(plane.AwaitRequest("POST", "/api/v1/executions/exec_1/logs", 1).Body)
	if err := json.Unmarshal(logged, &line); err != nil || line.Message != "slow" || line.Level != "warn" || line.NodeID != "tester" || line.ID != "exec_1" || line.Attributes["ms"] != 4200 {
		t.Errorf("log: %s", logged)
	}
	Log(t.Context(), "info", "nobody listens", nil)
	Note(t.Context(), "nobody listens") // outside of an execution: nothing happens
	Progress(t.Context(), 1, "")
}

func TestPassing(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("connection refused"), true},
		{&planeError{Status: 503, Code: "draining", RetryAfter: 1}, true},
		{&planeError{Status: 503}, true},
		{&planeError{Status: 503, Code: "agent_pending_approval"}, false},
		{&planeError{Status: 502}, true},
		{&planeError{Status: 404}, false},
		{&planeError{Status: 200}, false},
	} {
		if got := passing(c.err); got != c.want {
			t.Errorf("passing(%v) = %v", c.err, got)
		}
	}
}
