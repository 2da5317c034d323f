package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/sdk/go/agent/agenttest"
)

// asker is an agent whose function "ask" pauses with its input as the payload and gives the decision.
func asker(t *testing.T, plane *agenttest.Plane, config Config) *Agent {
	t.Helper()
	a := newAgent(t, plane, config)
	a.Reasoner("ask", func(ctx context.Context, input json.RawMessage) (any, error) {
		return Pause(ctx, PauseRequest{Title: "May I?", Payload: input})
	})
	start(t, a)
	return a
}

func TestPauseAsksAndGivesTheDecision(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{NodeID: "asker"})
	a.Reasoner("ask", func(ctx context.Context, _ json.RawMessage) (any, error) {
		return Pause(ctx, PauseRequest{
			Title: "Pay", Description: "because", Risk: "high", Next: "payments.transfer", Payload: map[string]int{"amount": 3},
			Form: json.RawMessage(`{"type":"object"}`), Editable: true, ExpiresIn: 90 * time.Minute, RequestID: "mine", URL: "https://example.com/1",
			OnReject: "cancel", OnExpire: "resume", Policy: Policy{Approvers: []string{"role:admin"}, Quorum: 2, NoSelfApproval: true},
		})
	})
	start(t, a)
	answer := dispatch(plane, "asker.ask", `{}`, "exec_1", 1)
	asked := plane.AwaitApproval("exec_1", 1)
	got, _ := json.Marshal(asked.Request)
	want := `{"approval_request_id":"mine","approval_request_url":"https://example.com/1","callback_url":"` + a.URL() + `/webhooks/approval",` +
		`"description":"because","editable":true,"expires_in_hours":1.5,"form":{"type":"object"},"next":"payments.transfer",` +
		`"on_expire":"resume","on_reject":"cancel","payload":{"amount":3},"policy":{"approvers":["role:admin"],"no_self_approval":true,"quorum":2},` +
		`"risk":"high","title":"Pay"}`
	if string(got) != want {
		t.Errorf("asked:\n got %s\nwant %s", got, want)
	}
	request := plane.AwaitRequest("POST", "/api/v1/executions/exec_1/request-approval", 1)
	for name, want := range map[string]string{"X-Execution-Token": "1.exec_1", "Idempotency-Key": "", "X-Agent-Node-ID": "asker"} {
		if got := request.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	poll := plane.AwaitRequest("GET", "/api/v1/executions/exec_1/approval-status", 1)
	if poll.Path != "/api/v1/executions/exec_1/approval-status?approval_request_id=mine&wait=30s" {
		t.Errorf("asked %s", poll.Path)
	}
	plane.Decide("mine", RequestChanges, "less", json.RawMessage(`{"amount":2}`))
	wantAnswer(t, within(t, answer, "the answer"), 200,
		`{"status":"request_changes","feedback":"less","response":{"amount":2},"decided_by":"reviewer","approval_request_id":"mine"}`)
}

func TestCallbackIsAHintAndNoDecision(t *testing.T) {
	plane := agenttest.New(t)
	a := asker(t, plane, Config{})
	var questions atomic.Int64
	plane.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.RawQuery, "wait=30s") || questions.Add(1) > 2 {
			return false
		}
		<-r.Context().Done() // the first two questions are never answered
		return true
	})
	answer := dispatch(plane, "tester.ask", `1`, "exec_1", 1)
	asked := plane.AwaitApproval("exec_1", 1)
	status := "/api/v1/executions/exec_1/approval-status"
	plane.AwaitRequest("GET", status, 1)

	forged := asked
	forged.Status = Approved
	wantAnswer(t, plane.Callback(t.Context(), forged), 200, `{"resolved":true,"status":"received"}`)
	plane.AwaitRequest("GET", status, 2) // it has only made the agent ask
	select {
	case got := <-answer:
		t.Fatalf("a forged word decided: %+v", got)
	default:
	}
	plane.Decide(asked.ID, Rejected, "no", nil)
	wantAnswer(t, plane.Callback(t.Context(), plane.AwaitApproval("exec_1", 1)), 200, `{"resolved":true,"status":"received"}`)
	wantAnswer(t, within(t, answer, "the answer"), 200,
		`{"status":"rejected","feedback":"no","decided_by":"reviewer","approval_request_id":"`+asked.ID+`"}`)

	for _, unknown := range []agenttest.Approval{{ID: "other", ExecutionID: "exec_1"}, {ID: asked.ID, ExecutionID: "exec_2"}} {
		unknown.Request = asked.Request
		wantAnswer(t, plane.Callback(t.Context(), unknown), 200, `{"resolved":false,"status":"received"}`)
	}
	response := httptest.NewRecorder()
	a.routes().ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/webhooks/approval", strings.NewReader("no JSON")))
	if response.Code != http.StatusBadRequest {
		t.Errorf("a word that is no JSON: %d", response.Code)
	}
}

func TestCallbackNeedsTheInternalToken(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{InternalToken: "geheim"})
	response := httptest.NewRecorder()
	a.routes().ServeHTTP(response, httptest.NewRequest(http.MethodPost, "/webhooks/approval", strings.NewReader(`{}`)))
	if response.Code != http.StatusUnauthorized {
		t.Errorf("got %d", response.Code)
	}
}

func TestPauseOutlivesTheControlPlane(t *testing.T) {
	plane := agenttest.New(t)
	asker(t, plane, Config{})
	answer := dispatch(plane, "tester.ask", `1`, "exec_1", 1)
	asked := plane.AwaitApproval("exec_1", 1)
	plane.AwaitRequest("GET", "/api/v1/executions/exec_1/approval-status", 1)
	plane.Crash()
	if got := within(t, answer, "the connection to break"); got.Err == nil {
		t.Fatalf("the connection did not break: %+v", got)
	}
	plane.Decide(asked.ID, Approved, "", nil) // stored while the agent could not ask
	plane.Restart(false)
	if e := plane.AwaitStatus("exec_1", "succeeded"); !strings.Contains(string(e.Result), `"approved"`) {
		t.Errorf("reported %s", e.Result)
	}
}

func TestPauseGoesOnThroughFaultsOfTheControlPlane(t *testing.T) {
	plane := agenttest.New(t)
	asker(t, plane, Config{})
	var questions, requests atomic.Int64
	faults := []int{500, 401, 403, 404, 502}
	plane.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		n := int64(0)
		switch {
		case strings.Contains(r.URL.RawQuery, "wait=30s"):
			n = questions.Add(1)
		case strings.HasSuffix(r.URL.Path, "/request-approval"):
			if n = requests.Add(1); n == 2 || n == 3 {
				n = 100
			}
		default:
			return false
		}
		if n > int64(len(faults)) {
			return false
		}
		agenttest.Reply(w, faults[n-1], map[string]string{"error": "a bad moment"})
		return true
	})
	answer := dispatch(plane, "tester.ask", `1`, "exec_1", 1)
	asked := plane.AwaitApproval("exec_1", 1)
	plane.AwaitRequest("GET", "/api/v1/executions/exec_1/approval-status?approval_request_id="+asked.ID+"&wait=30s", len(faults)+1)
	plane.Decide(asked.ID, Expired, "", nil)
	if got := within(t, answer, "the answer"); got.Status != 200 || !strings.Contains(got.Body, `"status":"expired"`) {
		t.Errorf("got %+v", got)
	}
}

// repeated pauses as another process would: in a run of its own.
func repeated(t *testing.T, a *Agent, attempt, generation int, payloads ...string) []string {
	t.Helper()
	r := &run{Execution: Execution{ID: "exec_p", Attempt: attempt}, agent: a, generation: generation, ctx: t.Context()}
	ctx := context.WithValue(t.Context(), contextKey{}, r)
	var words []string
	for _, payload := range payloads {
		d, err := Pause(ctx, PauseRequest{Title: "May I?", Payload: payload})
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, d.Status)
	}
	return words
}

func TestRepeatedExecutionGetsTheDecisionThatStands(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{})
	start(t, a)
	first := make(chan []string, 1)
	go func() { first <- repeated(t, a, 1, 0, "a", "a") }()
	one := plane.AwaitApproval("exec_p", 1)
	joined := make(chan []string, 1)
	go func() { joined <- repeated(t, a, 2, 0, "a") }() // meets the open request
	plane.AwaitRequest("GET", "/api/v1/executions/exec_p/approval-status?approval_request_id="+one.ID+"&wait=30s", 2)
	plane.Decide(one.ID, RequestChanges, "", nil)
	two := plane.AwaitApproval("exec_p", 2)
	plane.Decide(two.ID, Approved, "", nil)
	if words := within(t, joined, "the one that joined"); words[0] != RequestChanges {
		t.Errorf("got %v", words)
	}
	for _, words := range [][]string{within(t, first, "the first"), repeated(t, a, 2, 0, "a", "a"), repeated(t, a, 3, 1, "a", "a")} {
		if len(words) != 2 || words[0] != RequestChanges || words[1] != Approved {
			t.Errorf("got %v", words)
		}
	}
	if n := len(plane.Approvals()); n != 2 {
		t.Errorf("people were asked %d times", n)
	}
	other := make(chan []string, 1)
	go func() { other <- repeated(t, a, 2, 0, "b") }()
	three := plane.AwaitApproval("exec_p", 3) // what nobody has seen is asked anew
	plane.Decide(three.ID, Rejected, "", nil)
	if words := within(t, other, "the other"); words[0] != Rejected {
		t.Errorf("got %v", words)
	}
}

func TestLostAnswerToARequestAsksNobodyTwice(t *testing.T) {
	plane := agenttest.New(t)
	asker(t, plane, Config{})
	var requests atomic.Int64
	plane.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/request-approval") || requests.Add(1) > 1 {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		again, err := http.NewRequestWithContext(r.Context(), r.Method, plane.URL+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
		}
		response, err := http.DefaultClient.Do(again)
		if err != nil {
			t.Error(err)
		} else {
			_ = response.Body.Close()
		}
		plane.Decide(plane.Approvals()[0].ID, Approved, "quick", nil)
		panic(http.ErrAbortHandler) // it is stored and decided, and the agent never hears that it was
	})
	answer := within(t, dispatch(plane, "tester.ask", `1`, "exec_1", 1), "the answer")
	if answer.Status != 200 || !strings.Contains(answer.Body, `"feedback":"quick"`) || len(plane.Approvals()) != 1 {
		t.Errorf("got %+v and %d requests", answer, len(plane.Approvals()))
	}
}

func TestPauseWaitsForAnotherRequestOfItsExecution(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{})
	a.Reasoner("both", func(ctx context.Context, _ json.RawMessage) (any, error) {
		second := make(chan Decision, 1)
		failed := make(chan error, 1)
		go func() {
			d, err := Pause(ctx, PauseRequest{Title: "Two", RequestID: "two"})
			second <- d
			failed <- err
		}()
		d, err := Pause(ctx, PauseRequest{Title: "One", RequestID: "one"})
		return d.Status + " " + (<-second).Status, errors.Join(err, <-failed)
	})
	start(t, a)
	answer := dispatch(plane, "tester.both", `1`, "exec_1", 1)
	plane.Decide(plane.AwaitApproval("exec_1", 1).ID, Approved, "", nil)
	plane.Decide(plane.AwaitApproval("exec_1", 2).ID, Approved, "", nil)
	wantAnswer(t, within(t, answer, "the answer"), 200, `"approved approved"`)
}

func TestCancelEndsAPause(t *testing.T) {
	for name, end := range map[string]func(*Agent, *agenttest.Plane, string){
		"notice":    func(a *Agent, _ *agenttest.Plane, _ string) { cancel(t, a, "exec_1") },
		"withdrawn": func(_ *Agent, plane *agenttest.Plane, id string) { plane.Decide(id, "withdrawn", "", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			plane := agenttest.New(t)
			a := newAgent(t, plane, Config{})
			got := make(chan error, 1)
			a.Reasoner("ask", func(ctx context.Context, _ json.RawMessage) (any, error) {
				_, err := Pause(ctx, PauseRequest{Title: "May I?"})
				got <- err
				return nil, err
			})
			start(t, a)
			answer := dispatch(plane, "tester.ask", `1`, "exec_1", 1)
			asked := plane.AwaitApproval("exec_1", 1)
			end(a, plane, asked.ID)
			if err := within(t, got, "the pause"); !errors.Is(err, ErrCancelled) {
				t.Errorf("got %v", err)
			}
			within(t, answer, "the answer")
		})
	}
}

func TestPausingFunctionsGiveTheirSlotAway(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{MaxConcurrency: 1})
	a.Reasoner("ask", func(ctx context.Context, _ json.RawMessage) (any, error) {
		d, err := Pause(ctx, PauseRequest{Title: "May I?"})
		return d.Status, err
	})
	a.Reasoner("quick", func(context.Context, json.RawMessage) (any, error) { return "done", nil })
	start(t, a)
	one, two := dispatch(plane, "tester.ask", `1`, "exec_1", 1), dispatch(plane, "tester.ask", `1`, "exec_2", 1)
	first, second := plane.AwaitApproval("exec_1", 1), plane.AwaitApproval("exec_2", 1)
	wantAnswer(t, within(t, dispatch(plane, "tester.quick", `1`, "exec_3", 1), "a third function"), 200, `"done"`)
	plane.Decide(first.ID, Approved, "", nil)
	plane.Decide(second.ID, Approved, "", nil)
	wantAnswer(t, within(t, one, "the first"), 200, `"approved"`)
	wantAnswer(t, within(t, two, "the second"), 200, `"approved"`)
}

func TestRefusedPause(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{})
	start(t, a)
	refuse := func(times int64, status int, body map[string]string) (Decision, error) {
		var n atomic.Int64
		plane.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/request-approval") || n.Add(1) > times {
				return false
			}
			agenttest.Reply(w, status, body)
			return true
		})
		r := &run{Execution: Execution{ID: "exec_" + body["details"]}, agent: a, ctx: t.Context()}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), contextKey{}, r), patience)
		defer cancel()
		return Pause(ctx, PauseRequest{Title: "May I?"})
	}
	var refused *PauseError
	if _, err := refuse(1, 400, map[string]string{"code": "invalid_parameter", "details": "risk"}); !errors.As(err, &refused) ||
		refused.HTTPStatus != 400 || refused.Code != "invalid_parameter" || refused.Error() != "people cannot be asked: risk" {
		t.Errorf("a bad request: %v", err)
	}
	if _, err := refuse(2, 409, map[string]string{"code": "approval_request_id_in_use", "details": "used"}); !errors.As(err, &refused) || refused.Code != "approval_request_id_in_use" {
		t.Errorf("an id of another execution: %v", err)
	}
	if _, err := refuse(1, 409, map[string]string{"code": "invalid_state", "status": "timeout", "details": "over"}); !errors.As(err, &refused) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := refuse(1, 409, map[string]string{"code": "invalid_state", "status": "cancelled", "details": "cancelled"}); !errors.Is(err, ErrCancelled) {
		t.Errorf("after a cancel: %v", err)
	}
	for _, passing := range []map[string]string{
		{"code": "stale_attempt", "details": "stale"}, {"code": "invalid_state", "status": "queued", "details": "behind"},
	} {
		got := make(chan error, 1)
		go func() {
			d, err := refuse(1, 409, passing)
			if d.Status != Approved && err == nil {
				err = errors.New("decided " + d.Status)
			}
			got <- err
		}()
		plane.Decide(plane.AwaitApproval("exec_"+passing["details"], 1).ID, Approved, "", nil)
		if err := within(t, got, "the pause"); err != nil {
			t.Errorf("%v: %v", passing, err)
		}
	}
	superseded := &planeError{Status: 409, Code: "stale_attempt"}
	if p := (&pause{}); p.final(superseded, true, time.Second) || !p.final(superseded, true, 2*stalePatience) {
		t.Error("an attempt that is behind must wait for the newer one to join it, and not for ever")
	}
	if _, err := Pause(t.Context(), PauseRequest{Title: "May I?"}); !errors.Is(err, ErrNoExecution) {
		t.Errorf("outside of an execution: %v", err)
	}
	r := &run{Execution: Execution{ID: "exec_1"}, agent: a, ctx: t.Context()}
	ctx := context.WithValue(t.Context(), contextKey{}, r)
	for _, bad := range []PauseRequest{{Payload: func() {}}, {Form: json.RawMessage("{")}} {
		if _, err := Pause(ctx, bad); err == nil {
			t.Errorf("%+v was asked", bad)
		}
	}
}
