package demo

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent/agenttest"
)

// awake makes the agents think without taking time.
func awake(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) }

func startAgents(t *testing.T, plane *agenttest.Plane, sleep func(context.Context, time.Duration) error) *Agents {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	agents, err := Start(ctx, plane.URL, Options{Sleep: sleep})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := agents.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return agents
}

func TestFunctionsAnswerAsDocumentedAndAlwaysTheSame(t *testing.T) {
	plane := agenttest.New(t)
	startAgents(t, plane, awake)
	for _, c := range []struct {
		target, input string
		status        int
		want          string // of the whole answer when it begins with {, else a part of it
	}{
		{"hello-world.greet", `{"name":"Alice"}`, 200, `{"greeting":"Hello, Alice!"}`},
		{
			"support-agent.analyze_sentiment", `{"message":"This is the third time I am calling!","conversation_history":[]}`, 200,
			`{"sentiment":"frustrated","confidence":0.92,"recommendation":"escalate"}`,
		},
		{
			"support-agent.analyze_sentiment", `{"message":"This is the third time I am calling about this issue!","conversation_history":[` +
				`{"role":"user","content":"My order never arrived"},{"role":"agent","content":"Let me check that for you"}]}`, 200,
			`{"sentiment":"frustrated","confidence":0.94,"recommendation":"escalate"}`,
		},
		{
			"support-agent.support_analyze_sentiment", `{"message":"This is the third time I am calling!"}`, 200,
			`{"sentiment":"frustrated","confidence":0.92,"recommendation":"escalate"}`,
		},
		{"support-agent.analyze_sentiment", `{"message":"Help!"}`, 200, `{"sentiment":"neutral","confidence":0.7,"recommendation":"reply"}`},
		{"support-agent.analyze_sentiment", `{"message":"Thank you, it works now!"}`, 200, `{"sentiment":"positive","confidence":0.88,"recommendation":"close"}`},
		{
			"support-agent.triage_ticket", `{"ticket_id":12345,"message":"I can't log in"}`, 200,
			`{"ticket_id":12345,"priority":"high","escalate":true,"category":"access","sentiment":"concerned","reason":"the customer cannot use the product"}`,
		},
		{
			"support-agent.triage_ticket", `{"ticket":{"ticket_id":"T-1","message":"Where is my package?"}}`, 200,
			`{"ticket_id":"T-1","priority":"normal","escalate":false,"category":"delivery","sentiment":"neutral","reason":"an ordinary question about delivery"}`,
		},
		{"support-agent.triage_ticket", `{}`, 422, `{"error":"the ticket has no message"}`},
		{"sentiment-agent.analyze", `{"text":"Great, I love it"}`, 200, `{"sentiment":"positive","confidence":0.88,"recommendation":"close"}`},
		{"research-agent.deep_analysis", `{"topic":"quantum computing applications"}`, 200, `"analysis":"Quantum computing applications is best read as`},
		{"research-agent.deep_analysis", `{"topic":" "}`, 422, `{"error":"the topic is empty"}`},
		{"doc-processor.analyze", `{"document_url":"https://example.com/report.pdf"}`, 200, `"summary":"Document contains `},
		{"doc-processor.analyze", `{"document_url":"/etc/passwd"}`, 422, `{"error":"document_url \"/etc/passwd\" is not an http or https address"}`},
		{
			"escalation-agent.create_ticket", `{"customer_id":"user_456","sentiment":{"sentiment":"frustrated"},"priority":"high"}`, 200,
			`"priority":"high","queue":"duty-officer","sla_minutes":15}`,
		},
		{"analytics-agent.process_dataset", `{"dataset_id":"large_dataset"}`, 200, `"rows":50000,"mean":`},
		{"slow-agent.sleep", `{"seconds":2}`, 200, `{"slept_seconds":2}`},
		{"slow-agent.sleep", `{"seconds":-1}`, 422, `{"error":"seconds is -1 and must lie between 0 and 86400"}`},
		{"unreliable-agent.fail", `{}`, 429, `{"error":"LLM API rate limit exceeded","error_details":{"model":"demo","retry_after_seconds":20}}`},
	} {
		first := ""
		for range 2 {
			got := plane.Dispatch(t.Context(), c.target, c.input, "", 1)
			if first == "" {
				first = got.Body
			}
			if got.Body != first {
				t.Errorf("%s answered %s, then %s", c.target, first, got.Body)
			}
			if got.Err != nil || got.Status != c.status || !strings.Contains(got.Body, c.want) || c.want[0] == '{' && got.Body != c.want {
				t.Errorf("%s %s:\n got %d %s %v\nwant %d %s", c.target, c.input, got.Status, got.Body, got.Err, c.status, c.want)
			}
		}
	}
}

func TestTriageAsksTheSentimentAgentAndTellsItsStory(t *testing.T) {
	plane := agenttest.New(t)
	startAgents(t, plane, awake)
	plane.Dispatch(t.Context(), "support-agent.triage_ticket", `{"message":"I can't log in"}`, "exec_parent", 1, "X-Run-ID", "run_1")
	children := plane.Executions()
	if len(children) != 1 || children[0].Target != "sentiment-agent.analyze" || children[0].Header.Get("X-Parent-Execution-ID") != "exec_parent" ||
		children[0].Header.Get("X-Run-ID") != "run_1" {
		t.Fatalf("children: %+v", children)
	}
	for n, want := range []string{"Reading the ticket", "Triaged as high: the customer cannot use the product"} {
		if got := plane.AwaitRequest("POST", "/api/v1/executions/note", n+1); got.Body["message"] != want {
			t.Errorf("note %d is %v", n+1, got.Body)
		}
	}
}

func TestResearchShowsHowFarItIs(t *testing.T) {
	plane := agenttest.New(t)
	took := make(chan time.Duration, 100)
	startAgents(t, plane, func(ctx context.Context, d time.Duration) error {
		took <- d
		return context.Cause(ctx)
	})
	answer := plane.Dispatch(t.Context(), "research-agent.deep_analysis", `{"topic":"tea"}`, "exec_1", 1)
	var got study
	if err := json.Unmarshal([]byte(answer.Body), &got); err != nil || len(got.Sections) != 7 || len(got.Sources) != 3 {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	last, parts := -1.0, -1
	for n := range 8 {
		body := plane.AwaitRequest("POST", "/api/v1/executions/exec_1/progress", n+1).Body
		fraction, _ := body["progress"].(float64)
		partial, _ := body["partial"].([]any)
		if fraction <= last || fraction >= 1 || len(partial) <= parts || body["message"] == "" {
			t.Errorf("report %d: %v after %v and %d parts", n+1, body, last, parts)
		}
		last, parts = fraction, len(partial)
	}
	close(took)
	total := time.Duration(0)
	for d := range took {
		total += d
	}
	if total != 8*time.Second {
		t.Errorf("it would have taken %s", total)
	}
}

func TestFlakySucceedsAtTheThirdAttempt(t *testing.T) {
	plane := agenttest.New(t)
	startAgents(t, plane, awake)
	for attempt, status := range []int{429, 504, 200} {
		if got := plane.Dispatch(t.Context(), "unreliable-agent.flaky", `{}`, "exec_1", attempt+1); got.Status != status {
			t.Errorf("attempt %d: %d %s, want %d", attempt+1, got.Status, got.Body, status)
		}
	}
}

func TestStartGivesUpWithItsContextAndLeavesNothingRunning(t *testing.T) {
	plane := agenttest.New(t)
	plane.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		agenttest.Reply(w, http.StatusUnauthorized, map[string]string{"error": "unauthorized", "message": "an API key is needed"})
		return true
	})
	if _, err := Start(t.Context(), plane.URL, Options{}); err == nil || !strings.Contains(err.Error(), "an API key is needed") {
		t.Errorf("refused agents: %v", err)
	}
	plane.Intercept(nil)
	plane.Crash()
	cause := errors.New("no patience")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := Start(ctx, plane.URL, Options{}); !errors.Is(err, cause) {
		t.Errorf("without a control plane: %v", err)
	}
}

func TestReceiverChecksSignatures(t *testing.T) {
	arrived := make(chan Delivery, 2)
	receiver, err := StartReceiver(t.Context(), func(d Delivery) { arrived <- d })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := receiver.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	body := `{"event":"execution.completed","execution_id":"exec_1","status":"succeeded"}`
	mac := hmac.New(sha256.New, []byte(receiver.Secret()))
	mac.Write([]byte(body))
	signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	for _, c := range []struct {
		body   string
		status int
		good   bool
	}{{body, 200, true}, {body + " ", 401, false}} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, receiver.URL(), strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-AgentField-Signature", signature)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if d := <-arrived; response.StatusCode != c.status || d.Verified != c.good || d.ExecutionID != "exec_1" || d.Event != "execution.completed" {
			t.Errorf("%d, %+v", response.StatusCode, d)
		}
	}
	if list := receiver.Received(); len(list) != 2 || !list[0].Verified || string(list[0].Body) != body {
		t.Errorf("kept %+v", list)
	}
}

func TestPlayLeavesSomethingToLookAt(t *testing.T) {
	plane := agenttest.New(t)
	// The research and the sleeper go on until the agents are stopped.
	agents := startAgents(t, plane, func(ctx context.Context, d time.Duration) error {
		if d < time.Second {
			return context.Cause(ctx)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	receiver, err := StartReceiver(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = receiver.Stop(context.Background()) })
	var out bytes.Buffer
	if err := Play(t.Context(), plane.URL, receiver, &out); err != nil {
		t.Fatal(err)
	}
	played := map[string]agenttest.Execution{}
	for _, e := range plane.Executions() {
		played[e.Target] = e
	}
	for target, status := range map[string]string{
		"hello-world.greet": "succeeded", "support-agent.analyze_sentiment": "succeeded", "escalation-agent.create_ticket": "succeeded",
		"support-agent.triage_ticket": "succeeded", "sentiment-agent.analyze": "succeeded", "unreliable-agent.fail": "failed",
		"unreliable-agent.flaky": "succeeded", "research-agent.deep_analysis": "running", "slow-agent.sleep": "running",
	} {
		e := plane.AwaitStatus(played[target].ID, status)
		if target == "unreliable-agent.flaky" && e.Attempts != 3 {
			t.Errorf("the flaky one had %d attempts", e.Attempts)
		}
		if target != "sentiment-agent.analyze" && !strings.Contains(out.String(), e.ID) {
			t.Errorf("no line tells of %s:\n%s", target, out.String())
		}
	}
	for _, target := range []string{"support-agent.analyze_sentiment", "escalation-agent.create_ticket"} {
		if got := played[target].Header.Get("X-Workflow-ID"); got != "wf_customer_support_001" {
			t.Errorf("%s has the workflow %q", target, got)
		}
	}
	submit := plane.AwaitRequest("POST", "/api/v1/execute/async/research-agent.deep_analysis", 1)
	if hook, _ := submit.Body["webhook"].(map[string]any); hook["url"] != receiver.URL() || hook["secret"] != receiver.Secret() {
		t.Errorf("the webhook is %v", submit.Body["webhook"])
	}
	if len(agents.Nodes()) != 9 || !slices.IsSorted(agents.Nodes()) {
		t.Errorf("nodes: %v", agents.Nodes())
	}
}

func TestPlaySaysWhatWentWrong(t *testing.T) {
	receiver, err := StartReceiver(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = receiver.Stop(context.Background()) })
	err = Play(t.Context(), agenttest.New(t).URL, receiver, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "call hello-world.greet: 404") {
		t.Errorf("got %v", err)
	}
}
