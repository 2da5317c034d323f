package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent/agenttest"
)

const patience = 10 * time.Second

// running is an agent that serves on a free port.
type running struct {
	*Agent
	stop func() error
}

func newAgent(t *testing.T, plane *agenttest.Plane, config Config) *Agent {
	t.Helper()
	config.ServerURL = plane.URL
	config.NodeID = first(config.NodeID, "tester")
	config.Logger = slog.New(slog.DiscardHandler)
	a, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	a.plane.pause = func(int) time.Duration { return time.Millisecond }
	return a
}

func start(t *testing.T, a *Agent) *running {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, listener) }()
	ended := false
	r := &running{Agent: a, stop: func() error {
		cancel()
		if ended {
			return nil
		}
		ended = true
		return within(t, served, "the agent to stop")
	}}
	t.Cleanup(func() { _ = r.stop() })
	within(t, a.Ready(), "the registration")
	return r
}

func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %s in vain for %s", patience, what)
		panic("unreachable")
	}
}

// gate is a function that says when it begins and ends when it is told to.
type gate struct {
	begun chan context.Context
	open  chan any // a value or an error
}

func newGate() *gate { return &gate{begun: make(chan context.Context, 16), open: make(chan any, 16)} }

func (g *gate) call(ctx context.Context, _ json.RawMessage) (any, error) {
	g.begun <- ctx
	select {
	case v := <-g.open:
		if err, failed := v.(error); failed {
			return nil, err
		}
		return v, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func dispatch(plane *agenttest.Plane, target, input, id string, attempt int, pairs ...string) chan agenttest.Answer {
	answer := make(chan agenttest.Answer, 1)
	go func() { answer <- plane.Dispatch(context.Background(), target, input, id, attempt, pairs...) }()
	return answer
}

func wantAnswer(t *testing.T, got agenttest.Answer, status int, body string) {
	t.Helper()
	if got.Err != nil || got.Status != status || got.Body != body {
		t.Fatalf("answer: got %d %s (%v), want %d %s", got.Status, got.Body, got.Err, status, body)
	}
}

type order struct {
	Item   string   `json:"item" description:"What is wanted"`
	Count  int      `json:"count,omitempty"`
	Speed  string   `json:"speed,omitempty" enum:"slow,fast"`
	Labels []string `json:"labels"`
	Note   *string  `json:"note"`
}

type receipt struct {
	Text string `json:"text"`
}

func TestRegistrationTellsWhoAndWhatTheAgentIs(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{NodeID: "shop", Version: "1.2.3", Tags: []string{"retail"}, MaxConcurrency: 3, APIKey: "key-1"})
	Handle(a, "buy", func(_ context.Context, in order) (receipt, error) { return receipt{in.Item}, nil }, Description("Buys things."), Tags("money"), Idempotent())
	a.Skill("count", func(context.Context, json.RawMessage) (any, error) { return 1, nil })
	start(t, a)

	r := plane.AwaitRequest("POST", "/api/v1/nodes/register", 1)
	if got := r.Header.Get("Authorization"); got != "Bearer key-1" {
		t.Errorf("Authorization is %q", got)
	}
	for key, want := range map[string]any{"id": "shop", "base_url": a.URL(), "version": "1.2.3", "deployment_type": "long_running"} {
		if r.Body[key] != want {
			t.Errorf("%s is %v, want %v", key, r.Body[key], want)
		}
	}
	metadata, _ := json.Marshal(r.Body["metadata"])
	if want := `"custom":{"descriptions":{"buy":"Buys things."},"max_concurrency":3}`; !strings.Contains(string(metadata), want) {
		t.Errorf("metadata is %s and lacks %s", metadata, want)
	}
	if id, _ := r.Body["instance_id"].(string); id == "" {
		t.Error("there is no instance_id")
	}
	reasoner, _ := json.Marshal(r.Body["reasoners"])
	const want = `[{"description":"Buys things.","id":"buy","idempotent":true,"input_schema":{"properties":{` +
		`"count":{"type":"integer"},"item":{"description":"What is wanted","type":"string"},` +
		`"labels":{"items":{"type":"string"},"type":["array","null"]},"note":{"type":["string","null"]},"speed":{"enum":["slow","fast"],"type":"string"}},` +
		`"required":["item","labels"],"type":"object"},` +
		`"output_schema":{"properties":{"text":{"type":"string"}},"required":["text"],"type":"object"},"tags":["money"]}]`
	if string(reasoner) != want {
		t.Errorf("reasoners:\n got %s\nwant %s", reasoner, want)
	}
	if skills, _ := json.Marshal(r.Body["skills"]); string(skills) != `[{"id":"count","tags":[]}]` {
		t.Errorf("skills: %s", skills)
	}
	renewal := plane.AwaitRequest("PATCH", "/api/v1/nodes/shop/status", 1)
	if renewal.Body["phase"] != "ready" || renewal.Body["version"] != "1.2.3" {
		t.Errorf("renewal: %v", renewal.Body)
	}
}

func TestLeaseIsRenewedAndTheAgentRegistersAgainWhenItIsForgotten(t *testing.T) {
	plane := agenttest.New(t)
	start(t, newAgent(t, plane, Config{HeartbeatInterval: time.Millisecond}))
	plane.AwaitRequest("PATCH", "/api/v1/nodes/tester/status", 3)
	if n := plane.Count("POST", "/api/v1/nodes/register"); n != 1 {
		t.Fatalf("registered %d times while the lease was renewed", n)
	}
	plane.Crash()
	plane.Restart(true)
	again := plane.AwaitRequest("POST", "/api/v1/nodes/register", 2)
	if got := again.Header.Get("X-Node-Token"); got != "node_tester" {
		t.Errorf("the node token is %q", got)
	}
	if again.Body["instance_id"] != plane.AwaitRequest("POST", "/api/v1/nodes/register", 1).Body["instance_id"] {
		t.Error("the same process registered as another instance")
	}
}

func TestAgentWaitsForAControlPlaneThatIsNotThereYet(t *testing.T) {
	plane := agenttest.New(t)
	plane.Crash()
	a := newAgent(t, plane, Config{})
	tried := make(chan struct{}, 100)
	a.plane.pause = func(int) time.Duration { tried <- struct{}{}; return time.Millisecond }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- a.Run(ctx) }()
	within(t, tried, "a failed try")
	within(t, tried, "another one")
	plane.Restart(false)
	within(t, a.Ready(), "the registration")
	cancel()
	if err := within(t, served, "the stop"); err != nil {
		t.Error(err)
	}
}

func TestRefusedRegistrationEndsTheAgent(t *testing.T) {
	plane := agenttest.New(t)
	plane.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		agenttest.Reply(w, http.StatusForbidden, map[string]string{"error": "forbidden_tags", "message": "the tag root is not for you"})
		return true
	})
	err := newAgent(t, plane, Config{}).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the tag root is not for you") {
		t.Fatalf("got %v", err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for name, config := range map[string]Config{
		"no name": {}, "dots": {NodeID: "a.b"}, "no address": {NodeID: "a", ServerURL: "localhost"}, "negative": {NodeID: "a", MaxConcurrency: -1},
	} {
		if _, err := New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	t.Setenv("AGENTFIELD_SERVER", "http://plane:1234/")
	t.Setenv("AGENT_LISTEN_ADDR", "127.0.0.1:7")
	a, err := New(Config{NodeID: "a"})
	if err != nil || a.plane.url != "http://plane:1234" || a.config.ListenAddr != "127.0.0.1:7" {
		t.Errorf("got %v, %+v", err, a.config)
	}
}

func TestFunctionsSeeTheirExecution(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{NodeID: "echo"})
	a.Reasoner("who", func(ctx context.Context, _ json.RawMessage) (any, error) {
		e, ok := FromContext(ctx)
		if !ok {
			return nil, errors.New("there is no execution in the context")
		}
		return e, nil
	})
	start(t, a)
	answer := plane.Dispatch(t.Context(), "echo.who", `{}`, "exec_1", 2, "X-Run-ID", "run_1", "X-Workflow-ID", "wf_1", "X-Parent-Execution-ID", "exec_0",
		"X-Session-ID", "s", "X-Actor-ID", "b", "X-Caller-Agent-ID", "c", "Traceparent", "00-1-2-01")
	var got Execution
	if err := json.Unmarshal([]byte(answer.Body), &got); err != nil {
		t.Fatal(err)
	}
	want := Execution{
		ID: "exec_1", RunID: "run_1", WorkflowID: "wf_1", ParentID: "exec_0", SessionID: "s", ActorID: "b", CallerNodeID: "c",
		Traceparent: "00-1-2-01", Attempt: 2, NodeID: "echo", Function: "who",
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAnswers(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{MaxInputBytes: 64})
	Handle(a, "typed", func(_ context.Context, in order) (receipt, error) { return receipt{in.Item}, nil })
	a.Reasoner("list", func(context.Context, json.RawMessage) (any, error) { return []int{1, 2}, nil })
	a.Reasoner("nothing", func(context.Context, json.RawMessage) (any, error) { return nil, nil })
	a.Reasoner("plain", func(context.Context, json.RawMessage) (any, error) { return nil, io.ErrUnexpectedEOF })
	a.Reasoner("own", func(context.Context, json.RawMessage) (any, error) {
		return nil, Errorf(404, "no such order: %w", io.EOF).WithDetails(map[string]int{"order": 7})
	})
	a.Reasoner("panics", func(context.Context, json.RawMessage) (any, error) { panic("out of paper") })
	a.Reasoner("unwritable", func(context.Context, json.RawMessage) (any, error) { return make(chan int), nil })
	start(t, a)
	for _, c := range []struct {
		function, input string
		status          int
		body            string
	}{
		{"typed", `{"item":"pen","labels":[],"unknown":1}`, 200, `{"text":"pen"}`},
		{"typed", `{"item":7}`, 422, `{"error":"the input does not fit typed: json: cannot unmarshal number into Go struct field order.item of type string"}`},
		{"typed", `{"item":`, 400, `{"error":"the input is not JSON"}`},
		{"typed", `{"item":"` + strings.Repeat("x", 64) + `"}`, 413, `{"error":"the input is larger than 64 bytes"}`},
		{"typed", ``, 200, `{"text":""}`},
		{"list", `{}`, 200, `[1,2]`},
		{"nothing", `{}`, 200, `null`},
		{"plain", `{}`, 500, `{"error":"unexpected EOF"}`},
		{"own", `{}`, 404, `{"error":"no such order: EOF","error_details":{"order":7}}`},
		{"panics", `{}`, 500, `{"error":"panic: out of paper"}`},
		{"unwritable", `{}`, 500, `{"error":"the result cannot be written as JSON: json: unsupported type: chan int"}`},
		{"missing", `{}`, 404, `{"error":"tester has no reasoner \"missing\""}`},
	} {
		t.Run(c.function, func(t *testing.T) {
			wantAnswer(t, plane.Dispatch(t.Context(), "tester."+c.function, c.input, "", 1), c.status, c.body)
		})
	}
}

func TestHealthStatusAndMetrics(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{Version: "2"})
	a.Reasoner("good", func(context.Context, json.RawMessage) (any, error) { return 1, nil })
	a.Reasoner("bad", func(context.Context, json.RawMessage) (any, error) { return nil, io.EOF })
	start(t, a)
	plane.Dispatch(t.Context(), "tester.good", `{}`, "e1", 1)
	plane.Dispatch(t.Context(), "tester.bad", `{}`, "e2", 1)
	for path, wants := range map[string][]string{
		"/health": {`"status":"ok"`},
		"/status": {`"status":"running"`, `"node_id":"tester"`, `"version":"2"`},
		"/metrics": {
			"agent_executions_started_total{node=\"tester\"} 2\n", "agent_executions_succeeded_total{node=\"tester\"} 1\n",
			"agent_executions_failed_total{node=\"tester\"} 1\n", "agent_executions_in_flight{node=\"tester\"} 0\n",
		},
	} {
		body := get(t, a.URL()+path)
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %s:\n%s", path, want, body)
			}
		}
	}
}

func get(t *testing.T, address string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", address, response.StatusCode, err)
	}
	return string(body)
}

func TestInternalTokenIsDemanded(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{InternalToken: "secret"})
	a.Reasoner("f", func(context.Context, json.RawMessage) (any, error) { return 1, nil })
	start(t, a)
	if got := plane.Dispatch(t.Context(), "tester.f", `{}`, "e1", 1); got.Status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", got.Status)
	}
	wantAnswer(t, plane.Dispatch(t.Context(), "tester.f", `{}`, "e1", 1, "Authorization", "Bearer secret"), 200, "1")
}

func TestRegisteringAFunctionTwiceIsAWiringMistake(t *testing.T) {
	a := newAgent(t, agenttest.New(t), Config{})
	a.Reasoner("f", nil)
	for _, name := range []string{"f", "a.b", ""} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", name)
				}
			}()
			a.Reasoner(name, nil)
		}()
	}
}
