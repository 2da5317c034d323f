package approval_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// ear is where an agent hears of decisions. It answers with what answer gives.
type ear struct {
	url  string
	mu   sync.Mutex
	says func(n int) (status int, body string)
	got  []heard
	news chan struct{}
}

type heard struct {
	header http.Header
	body   []byte
}

func listen(t *testing.T, says func(n int) (int, string)) *ear {
	t.Helper()
	e := &ear{says: says, news: make(chan struct{}, 100)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.got = append(e.got, heard{r.Header.Clone(), body})
		n := len(e.got)
		e.mu.Unlock()
		status, answer := e.says(n)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
		e.news <- struct{}{}
	}))
	t.Cleanup(server.Close)
	e.url = server.URL + "/webhooks/approval"
	return e
}

// hears waits for the n-th word.
func (e *ear) hears(t *testing.T, n int) heard {
	t.Helper()
	for {
		e.mu.Lock()
		got := slices.Clone(e.got)
		e.mu.Unlock()
		if len(got) >= n {
			return got[n-1]
		}
		select {
		case <-e.news:
		case <-time.After(dbtest.Patience):
			t.Fatalf("the agent has heard %d of %d", len(got), n)
		}
	}
}

func always(status int, body string) func(int) (int, string) {
	return func(int) (int, string) { return status, body }
}

func (r *rig) told(t *testing.T, a *models.Approval) {
	t.Helper()
	dbtest.Eventually(t, "it is noted that the agent was told", func() bool { return r.read(t, a.ID).ToldAt != nil })
}

func TestTheDecisionIsPostedToTheAgent(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		agent := listen(t, always(200, `{"status":"received","resolved":true}`))
		a := r.asked(t, approval.Request{RequestID: "claim", Callback: agent.url, Payload: []byte(`{"amount":7}`), Editable: true})
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Approved, Feedback: "less", Edited: []byte(`{"amount":5}`)})
		r.delivering(t)
		got := agent.hears(t, 1)
		var body map[string]string
		if err := json.Unmarshal(got.body, &body); err != nil {
			t.Fatalf("%s: %v", got.body, err)
		}
		for key, want := range map[string]string{
			"execution_id": a.ExecutionID, "approval_request_id": "claim", "decision": "approved", "new_status": "running", "feedback": "less", "response": `{"amount":5}`, "edited_payload": `{"amount":5}`,
		} {
			if body[key] != want {
				t.Errorf("%s is %q, not %q", key, body[key], want)
			}
		}
		if got.header.Get("X-Execution-ID") != a.ExecutionID || got.header.Get("Idempotency-Key") == "" {
			t.Errorf("headers: %v", got.header)
		}
		r.told(t, a)
		r.clock.advance(2 * grace)
		r.giveUp(t)
		r.wantRow(t, a.ExecutionID, models.Running, "approval_granted")
	})
}

// The agent is down when somebody decides and is back later; the server that took the decision dies before it could tell.
func TestTheDecisionOutlivesAgentAndServer(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		agent := listen(t, func(n int) (int, string) {
			if n <= 2 {
				return 503, "starting"
			}
			return 204, ""
		})
		a := r.asked(t, approval.Request{Callback: agent.url})
		r.decide(t, anna, a.ID, approval.Decision{Word: models.Rejected, Feedback: "no"}) // and dies: nothing of this rig delivers

		next := build(t, r.db, r.clock)
		next.delivering(t)
		for n := 1; n <= 3; n++ {
			agent.hears(t, n)
			if n < 3 {
				if next.read(t, a.ID).ToldAt != nil {
					t.Errorf("an answer of 503 counts as told")
				}
				dbtest.Eventually(t, "the next try is queued", func() bool {
					return next.count(t, "SELECT count(*) FROM notices WHERE execution_id = $1 AND status = 'queued'", a.ExecutionID) == 1
				})
				next.clock.advance(time.Minute)
				next.executions.Wake()
			}
		}
		next.told(t, a)
		if first, last := agent.hears(t, 1), agent.hears(t, 3); string(first.body) != string(last.body) || first.header.Get("Idempotency-Key") != last.header.Get("Idempotency-Key") {
			t.Error("the repeats differ from the first word")
		}
		next.wantRow(t, a.ExecutionID, models.Running, "approval_rejected: no")
	})
}

// resolved:false says that the process no longer knows the pause; nobody will act on the decision.
func TestADecisionThatNobodyTookEndsTheExecution(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		forgetful := listen(t, always(200, `{"status":"received","resolved":false}`))
		decided := r.asked(t, approval.Request{Callback: forgetful.url})
		expired := r.asked(t, approval.Request{Callback: forgetful.url, ExpiresIn: time.Hour})
		unheard := r.asked(t, approval.Request{})
		asksAgain := r.asked(t, approval.Request{})
		polls := r.asked(t, approval.Request{RequestID: "polled"})
		reports := r.asked(t, approval.Request{})
		r.clock.advance(time.Hour)
		r.sweep(t)
		for _, a := range []*models.Approval{decided, unheard, asksAgain, polls, reports} {
			r.decide(t, anna, a.ID, approve(""))
		}
		r.delivering(t)
		forgetful.hears(t, 2)
		if again := r.ask(t, asksAgain.ExecutionID, approval.Request{}); again.Round != 2 {
			t.Fatalf("round %d", again.Round)
		}
		if _, _, err := r.Status(t.Context(), polls.ExecutionID, "polled"); err != nil {
			t.Fatal(err)
		}
		r.clock.advance(time.Second)
		if _, err := r.executions.Progress(t.Context(), reports.ExecutionID, "", nil, "going on", nil); err != nil {
			t.Fatal(err)
		}
		r.clock.advance(grace - 2*time.Second)
		r.giveUp(t)
		for _, a := range []*models.Approval{decided, unheard, polls, reports} {
			r.wantRow(t, a.ExecutionID, models.Running, "approval_granted")
		}
		r.clock.advance(2 * time.Second)
		r.giveUp(t)
		r.giveUp(t)
		for a, want := range map[*models.Approval]struct {
			status models.Status
			reason string
		}{
			decided: {models.Failed, "decision_not_taken"}, unheard: {models.Failed, "decision_not_taken"}, expired: {models.Timeout, "approval_expired"},
			asksAgain: {models.Waiting, "waiting_for_approval"}, polls: {models.Running, "approval_granted"}, reports: {models.Running, "approval_granted"},
		} {
			r.wantRow(t, a.ExecutionID, want.status, want.reason)
		}
		if row := r.row(t, decided.ExecutionID); row.ErrorMessage == nil || text(row.ErrorCode) != "decision_not_taken" {
			t.Errorf("whoever waits reads %s, %s", text(row.ErrorCode), text(row.ErrorMessage))
		}
		r.wantStatus(t, decided.ID, models.Approved) // the decision itself stands
	})
}

// An agent may report its outcome before it hears of the decision: it is kept, and the decision says what becomes of it.
func TestAnOutcomeThatComesBeforeTheDecision(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		reported := func(end string) *models.Approval {
			a := r.asked(t, approval.Request{OnReject: end})
			if _, err := r.executions.Report(t.Context(), a.ExecutionID, execution.Report{Status: models.Succeeded, Result: []byte(`{"paid":true}`)}); err != nil {
				t.Fatal(err)
			}
			r.wantRow(t, a.ExecutionID, models.Waiting, "waiting_for_approval")
			return a
		}
		applied := reported("resume")
		r.decide(t, anna, applied.ID, approve(""))
		if f, err := r.executions.Get(t.Context(), applied.ExecutionID); err != nil || f.Row.Status != models.Succeeded || string(f.Result) != `{"paid":true}` {
			t.Errorf("after the approval: %+v %s %v", f.Row.Status, f.Result, err)
		}
		if kinds := r.kinds(t, applied.ExecutionID); !slices.Equal(kinds, []string{"waiting", "approval.changed", "report_kept", "running", "succeeded", "approval.changed"}) {
			t.Errorf("events: %v", kinds)
		}
		dropped := reported("cancel")
		r.decide(t, anna, dropped.ID, approval.Decision{Word: models.Rejected})
		if f, err := r.executions.Get(t.Context(), dropped.ExecutionID); err != nil || f.Row.Status != models.Cancelled || f.Result != nil {
			t.Errorf("after the rejection that cancels: %+v %s %v", f.Row.Status, f.Result, err)
		}
		cancelled := reported("resume")
		r.cancel(t, cancelled.ExecutionID)
		if f, err := r.executions.Get(t.Context(), cancelled.ExecutionID); err != nil || f.Row.Status != models.Cancelled || f.Result != nil {
			t.Errorf("after a cancel: %+v %s %v", f.Row.Status, f.Result, err)
		}
	})
}

// Report and decision at the same moment: whichever comes first, the execution ends with what was reported.
func TestOutcomeAndDecisionAtTheSameMoment(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		var together sync.WaitGroup
		var asked []*models.Approval
		for range 30 {
			a := r.asked(t, approval.Request{})
			asked = append(asked, a)
			together.Go(func() {
				if _, err := r.executions.Report(t.Context(), a.ExecutionID, execution.Report{Status: models.Succeeded, Result: []byte(`1`)}); err != nil {
					t.Errorf("report: %v", err)
				}
			})
			together.Go(func() {
				if _, err := r.Decide(t.Context(), anna, a.ID, approve("")); err != nil {
					t.Errorf("decide: %v", err)
				}
			})
		}
		together.Wait()
		for _, a := range asked {
			if f, err := r.executions.Get(t.Context(), a.ExecutionID); err != nil || f.Row.Status != models.Succeeded || string(f.Result) != `1` {
				t.Errorf("%s is %s with %s (%v)", a.ExecutionID, f.Row.Status, f.Result, err)
			}
			r.wantStatus(t, a.ID, models.Approved)
		}
	})
}
