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

func TestClaimsArePaidOnlyAsPeopleDecide(t *testing.T) {
	const small, large = `{"claim_id":"C-1","amount":640,"policy":"HOME-1","description":"A stone."}`, `{"claim_id":"C-2","amount":18500,"policy":"GOLD-1"}`
	for name, c := range map[string]struct {
		input     string
		decisions []string // word, feedback, response; one line each
		want      string
	}{
		"approved": {small, []string{"approved||"}, `"outcome":"paid","amount":490,"rounds":1,"decided_by":"reviewer","transfer":"TRF-`},
		"edited":   {small, []string{`approved|ok|{"claim_id":"C-1","payee":"The workshop","amount":400}`}, `"outcome":"paid","amount":400,"rounds":1,`},
		"answers":  {large, []string{`approved||{"payee_called":true}`}, `"outcome":"paid","amount":18450,"rounds":1,`},
		"rejected": {small, []string{"rejected|not covered|"}, `{"claim_id":"C-1","outcome":"declined","amount":0,"rounds":1,"decided_by":"reviewer","reason":"not covered"}`},
		"expired":  {small, []string{"expired||"}, `"outcome":"escalated","amount":0,"rounds":1,`},
		"changed":  {small, []string{"request_changes|at most 1,600.50 or 300|", "approved||"}, `"outcome":"paid","amount":441,"rounds":2,`},
		"to a sum": {small, []string{"request_changes|pay 300|", "approved||"}, `"outcome":"paid","amount":300,"rounds":2,`},
		"by share": {small, []string{"request_changes|20 % less|", "request_changes|still too much|", "approved||"}, `"outcome":"paid","amount":352.8,"rounds":3,`},
		"no end": {
			small,
			[]string{"request_changes||", "request_changes||", "request_changes||", "request_changes||", "request_changes||"},
			`"outcome":"escalated","amount":0,"rounds":5,"reason":"no agreement after 5 rounds"`,
		},
		"too much":       {small, []string{`approved||{"amount":5000}`}, `the changed payment cannot be carried out`},
		"below":          {`{"claim_id":"C-3","amount":100}`, nil, `"outcome":"declined","amount":0,"rounds":0,"reason":"the claim is not above the deductible"`},
		"nothing":        {`{"claim_id":"C-4","amount":0}`, nil, `a claim has a claim_id and an amount above 0`},
		"without number": {`{"claim_id":" ","amount":5}`, nil, `a claim has a claim_id`},
	} {
		t.Run(name, func(t *testing.T) {
			plane := agenttest.New(t)
			startAgents(t, plane, awake)
			answer := make(chan agenttest.Answer, 1)
			go func() { answer <- plane.Dispatch(t.Context(), "claims-processor.evaluate_claim", c.input, "exec_1", 1) }()
			for round, decision := range c.decisions {
				words := strings.SplitN(decision, "|", 3)
				var response json.RawMessage
				if words[2] != "" {
					response = json.RawMessage(words[2])
				}
				plane.Decide(plane.AwaitApproval("exec_1", round+1).ID, words[0], words[1], response)
			}
			if got := <-answer; got.Err != nil || !strings.Contains(got.Body, c.want) {
				t.Errorf("\n got %d %s %v\nwant %s", got.Status, got.Body, got.Err, c.want)
			}
		})
	}
}

func TestClaimsAskWhatPeopleNeedToDecide(t *testing.T) {
	plane := agenttest.New(t)
	startAgents(t, plane, awake)
	go plane.Dispatch(t.Context(), "claims-processor.evaluate_claim", `{"claim_id":"C-1","amount":640,"policy":"HOME-1","description":"A stone."}`, "exec_1", 1)
	go plane.Dispatch(t.Context(), "claims-processor.evaluate_claim", `{"claim_id":"C-2","amount":3200}`, "exec_2", 1)
	go plane.Dispatch(t.Context(), "claims-processor.evaluate_claim", `{"claim_id":"C-3","amount":18500}`, "exec_3", 1)
	asked := plane.AwaitApproval("exec_1", 1).Request
	payload, _ := json.Marshal(asked["payload"])
	if string(payload) != `{"amount":490,"claim_id":"C-1","claimed":640,"deductible":150,"method":"instant transfer","payee":"Holder of HOME-1"}` {
		t.Errorf("payload: %s", payload)
	}
	for key, want := range map[string]any{
		"title": "Pay claim C-1: 490.00", "risk": "low", "next": "payments.transfer, then a letter to the customer", "editable": true, "expires_in_hours": 72.0,
	} {
		if asked[key] != want {
			t.Errorf("%s is %v, want %v", key, asked[key], want)
		}
	}
	if medium := plane.AwaitApproval("exec_2", 1).Request; medium["risk"] != "medium" || medium["form"] != nil {
		t.Errorf("medium: %v", medium)
	}
	if high := plane.AwaitApproval("exec_3", 1).Request; high["risk"] != "high" || high["form"] == nil || high["editable"] != false {
		t.Errorf("high: %v", high)
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
	waiting, err := Play(t.Context(), plane.URL, receiver, &out)
	if err != nil {
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
	rounds := map[string]int{}
	for _, e := range plane.Executions() {
		if strings.Contains(string(e.Input), "CLM-2043") {
			plane.AwaitApproval(e.ID, 2) // the one that was asked to change
		}
	}
	for _, a := range plane.Approvals() {
		rounds[a.ExecutionID]++
		plane.AwaitStatus(a.ExecutionID, "waiting")
		if a.ID == waiting && a.Request["risk"] != "low" {
			t.Errorf("the request to try is %v", a.Request)
		}
	}
	if len(rounds) != 4 || len(plane.Approvals()) != 5 || waiting == "" || !strings.Contains(out.String(), plane.URL+"/approvals/"+waiting) {
		t.Errorf("rounds by execution: %v, to try: %q\n%s", rounds, waiting, out.String())
	}
	if len(agents.Nodes()) != 10 || !slices.IsSorted(agents.Nodes()) {
		t.Errorf("nodes: %v", agents.Nodes())
	}
}

func TestPlaySaysWhatWentWrong(t *testing.T) {
	receiver, err := StartReceiver(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = receiver.Stop(context.Background()) })
	_, err = Play(t.Context(), agenttest.New(t).URL, receiver, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "call hello-world.greet: 404") {
		t.Errorf("got %v", err)
	}
}
