package conformance

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

// The paths of decisions: the documented one, and the one of existing hubs.
const (
	decisions     = "/api/v1/webhooks/approval"
	decisionsHubs = "/api/v1/webhooks/approval-response"
)

// paused is an execution whose agent has asked for a decision.
type paused struct {
	id, requestID, url string
	token              string // the execution's own
	asked              client.Answer
}

// handed starts an execution that its agent takes and does not report on, and returns its id and token.
func (t *Trial) handed(a *fake.Agent) (id, token string) {
	id = t.Start(call(a, "later", fields{}))
	arrivals := a.AwaitArrivals(t.ctx, id, 1)
	if len(arrivals) == 0 {
		t.Fatalf("expected the call of %s to reach its agent", id)
	}
	return id, arrivals[0].Header.Get("X-Execution-Token")
}

func (t *Trial) ask(id, token string, request any) client.Answer {
	return t.Do(http.MethodPost, "/api/v1/executions/"+id+"/request-approval", request, "X-Execution-Token", token)
}

// pause is what app.pause() does: an execution of the agent asks and waits.
func (t *Trial) pause(a *fake.Agent, request fields) paused {
	id, token := t.handed(a)
	asked := t.ask(id, token, request)
	t.Status(asked, http.StatusOK)
	return paused{id: id, token: token, requestID: asked.Text("approval_request_id"), url: asked.Text("approval_request_url"), asked: asked}
}

func (t *Trial) decide(requestID, decision, feedback string) client.Answer {
	return t.Do(http.MethodPost, decisions, fields{"approval_request_id": requestID, "decision": decision, "feedback": feedback})
}

func (t *Trial) approvalStatus(p paused) client.Answer {
	return t.Do(http.MethodGet, "/api/v1/executions/"+p.id+"/approval-status?approval_request_id="+url.QueryEscape(p.requestID), nil)
}

// ended reports success for an execution and waits for it.
func (t *Trial) ended(p paused) client.Answer {
	t.Status(t.Do(http.MethodPost, "/api/v1/executions/"+p.id+"/status", fields{"status": "succeeded", "result": "went on"}, "X-Execution-Token", p.token), http.StatusOK)
	end := t.End(p.id)
	t.Is(end, "status", "succeeded")
	t.Is(end, "result", "went on")
	return end
}

func pauseAnswersSync(t *Trial) {
	waitingAnswersSync(t)
	a := t.Agent()
	var answer client.Answer
	var answered time.Time
	var caller sync.WaitGroup
	caller.Go(func() {
		answer, _ = t.api.Execute(t.ctx, call(a, "later", fields{}))
		answered = time.Now()
	})
	arrivals := a.AwaitArrivals(t.ctx, "", 1)
	if len(arrivals) == 0 {
		t.Fatalf("expected the call to reach its agent")
	}
	asked := time.Now()
	p := paused{id: arrivals[0].ExecutionID, token: arrivals[0].Header.Get("X-Execution-Token")}
	request := t.ask(p.id, p.token, fields{})
	caller.Wait()
	t.Status(answer, http.StatusOK)
	t.True(answered.Sub(asked) <= time.Second, "an answer at most 1 s after the pause, got %s", answered.Sub(asked))
	t.Is(answer, "status", "waiting")
	t.Is(answer, "waiting_for.type", "approval")
	t.Is(answer, "waiting_for.approval_request_id", request.Text("approval_request_id"))
	t.decide(request.Text("approval_request_id"), "approved", "")
	t.ended(p)
}

func pauseLeadsToWaiting(t *Trial) {
	a := t.Agent()
	t.Within(time.Second, "from the request to the status waiting", func() time.Duration {
		id, token := t.handed(a)
		began := time.Now()
		t.Status(t.ask(id, token, fields{}), http.StatusOK)
		t.Until(id, "waiting")
		return time.Since(began)
	})
}

// approvalOutlivesKills: the server is killed between request and decision, and between decision and delivery.
func approvalOutlivesKills(t *Trial) {
	s := t.Own()
	a := t.Agent()
	hook := t.receiver.Hook(http.StatusServiceUnavailable)
	p := t.pause(a, fields{"title": "Pay?", "callback_url": hook.URL})
	t.takenOver(p.id)
	t.Must(s.Kill())
	t.Must(s.Restart(t.ctx))
	t.Is(t.Get(p.id), "status", "waiting")
	t.Is(t.Get(p.id), "waiting_for.approval_request_id", p.requestID)
	t.Status(t.decide(p.requestID, "approved", "fine"), http.StatusOK)
	t.Must(s.Kill())
	hook.SetStatuses(http.StatusOK)
	before := len(hook.Deliveries())
	t.Must(s.Restart(t.ctx))
	got := t.Deliveries(hook, before+1)
	t.told(got[len(got)-1], p, "approved", "fine")
	t.Is(t.approvalStatus(p), "status", "approved")
	t.ended(p)
}

// takenOver waits until the server has noted that the agent answered 202. Killed before, it makes the call again, as with any that was open.
func (t *Trial) takenOver(id string) {
	for {
		events, err := t.api.Events(t.ctx, id)
		t.Must(err)
		if slices.ContainsFunc(events, func(e client.Event) bool { return e.Type == "execution.released" }) {
			return
		}
		t.Pause(10 * time.Millisecond)
	}
}

// told checks what the agent is posted after a decision.
func (t *Trial) told(d fake.Delivery, p paused, decision, feedback string) {
	for name, want := range map[string]string{
		"execution_id": p.id, "approval_request_id": p.requestID, "decision": decision, "feedback": feedback, "new_status": "running",
	} {
		t.True(d.Field(name) == want, "%s %q in what the agent is told, got %s", name, want, d.Body)
	}
}

func waitingForIsAsGiven(t *Trial) {
	p := t.pause(t.Agent(), fields{"approval_request_url": "https://dashboard.example.com/claims/12345", "expires_in_hours": 24})
	got := t.Get(p.id)
	t.Is(got, "status", "waiting")
	t.Is(got, "waiting_for", map[string]any{
		"type": "approval", "approval_request_id": p.requestID, "approval_request_url": "https://dashboard.example.com/claims/12345",
		"expires_at": p.asked.Text("expires_at"),
	})
	t.instant(got, "waiting_for.expires_at")
}

func reviewPageWorks(t *Trial) {
	p := t.pause(t.Agent(), fields{"title": "Pay <b>claim</b> & go?", "payload": fields{"amount": 7}})
	where, err := url.Parse(p.url)
	t.Must(err)
	t.True(strings.HasPrefix(p.url, t.api.Base+"/"), "the address of a page of this server, got %s", p.url)
	page := t.Do(http.MethodGet, where.RequestURI(), nil, "Accept", "text/html")
	t.Status(page, http.StatusOK)
	t.True(strings.Contains(string(page.Body), html.EscapeString("Pay <b>claim</b> & go?")), "the title on the page, as text")
	for range 20 {
		t.Do(http.MethodGet, where.RequestURI(), nil)
		t.Do(http.MethodHead, where.RequestURI(), nil)
	}
	t.Is(t.approvalStatus(p), "status", "pending") // looking decides nothing
}

func reviewersAreNotified(t *Trial) {
	hook := t.receiver.Hook()
	const secret = "a secret of notifications"
	t.Own("AGENTFIELD_NOTIFY_URL="+hook.URL, "AGENTFIELD_NOTIFY_SECRET="+secret, "AGENTFIELD_WEBHOOK_ALLOWED_HOSTS=127.0.0.1")
	a := t.Agent()
	p := t.pause(a, fields{"title": "Pay?"})
	first := t.Deliveries(hook, 1)[0]
	t.True(strings.Contains(string(first.Body), "approval.requested") && strings.Contains(string(first.Body), p.requestID), "word of the request, got %s", first.Body)
	t.decide(p.requestID, "approved", "")
	second := t.Deliveries(hook, 2)[1]
	t.True(strings.Contains(string(second.Body), "approval.decided"), "word of the decision, got %s", second.Body)
	for _, d := range []fake.Delivery{first, second} {
		t.True(fake.Signed(secret, d.Header.Get("X-AgentField-Signature"), d.Body), "a signature that fits, got %v", d.Header)
	}
}

func waitingForThereAndNowhereElse(t *Trial) {
	waitingForOnlyWhileWaiting(t)
	p := t.pause(t.Agent(), fields{})
	t.Has(t.Get(p.id), "waiting_for")
	t.decide(p.requestID, "approved", "")
	t.Lacks(t.Get(p.id), "waiting_for")
	t.Lacks(t.ended(p), "waiting_for")
}

// givenRequest is the documented curl, with an id that no other check has.
func givenRequest(t *Trial) {
	a := t.Agent()
	id, _ := t.handed(a)
	requestID := "claim-" + id
	body := "{\n    \"approval_request_id\": \"" + requestID + "\",\n    \"approval_request_url\": \"https://dashboard.example.com/claims/12345\",\n    \"expires_in_hours\": 24\n  }"
	path := "/api/v1/executions/" + id + "/request-approval"
	answer := t.Do(http.MethodPost, path, body)
	t.Status(answer, http.StatusOK)
	t.Is(answer, "approval_request_id", requestID)
	t.Is(answer, "approval_request_url", "https://dashboard.example.com/claims/12345")
	t.Is(answer, "status", "pending")
	t.Is(t.Get(id), "status", "waiting")
	second := t.Do(http.MethodPost, path, fields{"approval_request_id": requestID + "-2"})
	t.Status(second, http.StatusConflict)
	t.Is(second, "error", "invalid_state")
	other, token := t.handed(a)
	used := t.ask(other, token, fields{"approval_request_id": requestID})
	t.Status(used, http.StatusConflict)
	t.Is(used, "code", "approval_request_id_in_use")
	t.Is(t.Get(other), "status", "running")
}

// runtimesNeedTheToken: any program may ask, but for an execution that it was given.
func runtimesNeedTheToken(t *Trial) {
	a := t.Agent()
	id, token := t.handed(a)
	_, others := t.handed(a)
	for _, forged := range []string{"1.00000000000000000000000000000000", "x", others} {
		t.Status(t.ask(id, forged, fields{}), http.StatusUnauthorized)
	}
	t.Is(t.Get(id), "status", "running")
	t.Status(t.ask(id, token, fields{}), http.StatusOK)
	t.Is(t.Get(id), "status", "waiting")
}

func roundsAreReadById(t *Trial) {
	p := t.pause(t.Agent(), fields{})
	t.decide(p.requestID, "request_changes", "smaller")
	second := t.ask(p.id, p.token, fields{})
	t.Status(second, http.StatusOK)
	again := paused{id: p.id, token: p.token, requestID: second.Text("approval_request_id")}
	t.decide(again.requestID, "approved", "fine now")
	for round, want := range map[string][2]string{p.requestID: {"request_changes", "smaller"}, again.requestID: {"approved", "fine now"}} {
		status := t.approvalStatus(paused{id: p.id, requestID: round})
		t.Is(status, "status", want[0])
		t.Is(status, "feedback", want[1])
		t.Has(status, "request_url", "requested_at", "responded_at", "expires_at")
	}
	unknown := t.approvalStatus(paused{id: p.id, requestID: "none"})
	t.Status(unknown, http.StatusNotFound)
	t.Is(unknown, "error", "no_approval_request")
	t.ended(again)
}

func everyStatusIsReadable(t *Trial) {
	a := t.Agent()
	all := map[string]paused{}
	for _, decision := range []string{"approved", "rejected", "request_changes"} {
		p := t.pause(a, fields{})
		t.Is(t.approvalStatus(p), "status", "pending")
		t.decide(p.requestID, decision, "why "+decision)
		all[decision] = p
	}
	all["expired"] = t.expires(a, fields{})
	for status, p := range all {
		t.Is(t.approvalStatus(p), "status", status)
		t.ended(p)
		t.Is(t.approvalStatus(p), "status", status)
	}
}

// expires is a request that nobody decides within a second.
func (t *Trial) expires(a *fake.Agent, request fields) paused {
	request["expires_in_hours"] = 1.1 / 3600
	p := t.pause(a, request)
	answer := t.Do(http.MethodGet, "/api/v1/executions/"+p.id+"/approval-status?wait=10s", nil)
	t.Is(answer, "status", "expired")
	return p
}

// givenDecision is the documented curl, and what existing hubs send to the alias.
func givenDecision(t *Trial) {
	a := t.Agent()
	for path, body := range map[string]string{
		decisions:     "{\n    \"approval_request_id\": \"ID\",\n    \"decision\": \"approved\",\n    \"feedback\": \"Claim verified against policy\"\n  }",
		decisionsHubs: `{"requestId":"ID","decision":"approve","feedback":"Claim verified against policy"}`,
	} {
		p := t.pause(a, fields{})
		answer := t.Do(http.MethodPost, path, strings.Replace(body, "ID", p.requestID, 1))
		t.Status(answer, http.StatusOK)
		t.Is(answer, "status", "processed")
		t.Is(answer, "execution_id", p.id)
		t.Is(answer, "decision", "approved")
		t.Is(answer, "new_status", "running")
		repeat := t.Do(http.MethodPost, path, strings.Replace(body, "ID", p.requestID, 1))
		t.Status(repeat, http.StatusOK)
		t.Is(repeat, "status", "already_processed")
	}
	p := t.pause(a, fields{})
	envelope := fields{"id": "evt_1", "type": "request.completed", "createdAt": "2026-01-15T10:00:00Z", "data": fields{
		"requestId": p.requestID, "response": fields{"action": "reject", "feedback": "no"},
	}}
	t.Is(t.Do(http.MethodPost, decisionsHubs, envelope), "decision", "rejected")
	for _, bad := range []fields{{"decision": "approved"}, {"approval_request_id": "x"}, {"approval_request_id": "x", "decision": "perhaps"}} {
		t.Status(t.Do(http.MethodPost, decisions, bad), http.StatusBadRequest)
	}
	t.Status(t.decide("no-such-request", "approved", ""), http.StatusNotFound)
	byAgent := t.Do(http.MethodPost, decisions, fields{"approval_request_id": t.pause(a, fields{}).requestID, "decision": "approved"}, "X-Execution-Token", p.token)
	t.Status(byAgent, http.StatusForbidden)
}

func everyDecisionResumes(t *Trial) {
	a := t.Agent()
	for _, decision := range []string{"approved", "rejected", "request_changes"} {
		p := t.pause(a, fields{})
		t.Is(t.decide(p.requestID, decision, "because"), "new_status", "running")
		t.Is(t.Get(p.id), "status", "running")
		t.ended(p)
	}
	p := t.pause(a, fields{"on_reject": "cancel"})
	t.Is(t.decide(p.requestID, "rejected", "too dear"), "new_status", "cancelled")
	t.Is(t.End(p.id), "status", "cancelled")
}

// agentIsToldLater: the agent cannot be reached when somebody decides, and comes back; another one polls.
func agentIsToldLater(t *Trial) {
	a := t.Agent()
	hook := t.receiver.Hook(http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusOK)
	p := t.pause(a, fields{"callback_url": hook.URL})
	t.decide(p.requestID, "approved", "Claim verified against policy")
	for _, d := range t.Deliveries(hook, 3) {
		t.told(d, p, "approved", "Claim verified against policy")
	}
	t.ended(p)
	polls := t.pause(a, fields{"form": json.RawMessage(`{"type":"object","properties":{"account":{"type":"string"}}}`)})
	var answer client.Answer
	var poll sync.WaitGroup
	poll.Go(func() {
		answer, _ = t.api.Do(t.ctx, http.MethodGet, "/api/v1/executions/"+polls.id+"/approval-status?wait=20s", nil)
	})
	t.Do(http.MethodPost, decisions, fields{"approval_request_id": polls.requestID, "decision": "approved", "feedback": "go", "response": fields{"account": "4711"}})
	poll.Wait()
	t.Is(answer, "status", "approved")
	t.Is(answer, "feedback", "go")
	t.Is(answer, "response.account", "4711")
	t.True(answer.Took < 5*time.Second, "the poll to answer on the decision, it took %s", answer.Took)
	t.ended(polls)
}

// formsDecide is what a reviewer's browser sends without JavaScript.
func formsDecide(t *Trial) {
	a := t.Agent()
	for _, decision := range []string{"approved", "rejected", "request_changes"} {
		p := t.pause(a, fields{"title": "Pay?"})
		id := p.asked.Text("approval_id")
		send := func(feedback string) client.Answer {
			form := url.Values{"decision": {decision}, "feedback": {feedback}, "version": {"1"}}.Encode()
			return t.Do(http.MethodPost, "/approvals/"+id+"/decide", form, "Content-Type", "application/x-www-form-urlencoded", "Origin", t.api.Base, "Sec-Fetch-Site", "same-origin")
		}
		if decision != "approved" {
			t.Status(send(""), http.StatusUnprocessableEntity)
		}
		done := send("said in the browser")
		t.Status(done, http.StatusSeeOther)
		t.True(strings.HasPrefix(done.Header.Get("Location"), "/approvals"), "the way back to the queue, got %s", done.Header.Get("Location"))
		status := t.approvalStatus(p)
		t.Is(status, "status", decision)
		t.Is(status, "feedback", "said in the browser")
		t.ended(p)
	}
}

func approvalsExpire(t *Trial) {
	a := t.Agent()
	hook := t.receiver.Hook()
	p := t.expires(a, fields{"callback_url": hook.URL})
	t.told(t.Deliveries(hook, 1)[0], p, "expired", "")
	t.Is(t.Get(p.id), "status", "running")
	late := t.decide(p.requestID, "approved", "")
	t.Status(late, http.StatusConflict)
	t.Is(late, "code", "approval_expired")
	t.ended(p)
	ends := t.expires(a, fields{"on_expire": "cancel"})
	t.Is(t.End(ends.id), "status", "cancelled")
}

// raceOfDecisions lets approve, reject and cancel meet a thousand times. One wins, and the others are told who and when.
func raceOfDecisions(t *Trial) {
	const races = 1000
	a := t.Agent()
	var mu sync.Mutex
	won := map[string]int{}
	began := time.Now()
	t.Pool(24, races, func(int) {
		p := t.pause(a, fields{})
		answers := make([]client.Answer, 3)
		t.Together(3, func(i int) {
			switch i {
			case 0:
				answers[i] = t.decide(p.requestID, "approved", "")
			case 1:
				answers[i] = t.decide(p.requestID, "rejected", "")
			case 2:
				answers[i] = t.Do(http.MethodPost, "/api/v1/executions/"+p.id+"/cancel", fields{})
			}
		})
		winner := t.oneWon(p, answers)
		mu.Lock()
		won[winner]++
		mu.Unlock()
	})
	t.Notef("%d races in %s s: %v", races, report.Ms(time.Since(began)/1000), won)
}

func (t *Trial) oneWon(p paused, answers []client.Answer) string {
	status := t.approvalStatus(p)
	stands := status.Text("status")
	for i, decision := range []string{"approved", "rejected"} {
		answer := answers[i]
		if stands == decision {
			t.True(answer.Status == http.StatusOK, "200 for the decision that stands (%s), got %s", stands, answer)
			continue
		}
		t.True(answer.Status == http.StatusConflict, "409 for a decision that lost to %s, got %s", stands, answer)
		if stands != "withdrawn" && answer.Text("code") == "already_decided" {
			t.Is(answer, "decision", stands)
			t.Is(answer, "decided_by", status.Text("decided_by"))
			t.Is(answer, "decided_at", status.Text("responded_at"))
		}
	}
	switch stands {
	case "approved", "rejected":
	case "withdrawn":
		t.True(answers[2].Status < 300, "the cancel to have won, got %s", answers[2])
		t.Is(t.Get(p.id), "status", "cancelled")
	default:
		t.Failf("expected one of the three to win, got %s", status)
	}
	return stands
}
