package api_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

// pausing is an agent whose function leaves everything to the test.
func pausing(t *testing.T, r *apptest.Rig) *apptest.Agent {
	t.Helper()
	return r.Agent(t, "demo", apptest.Taking("take"))
}

// asking is a fresh execution whose agent asks with a body, and the answer to it.
func asking(t *testing.T, r *apptest.Rig, agent *apptest.Agent, body string) (apptest.Call, apptest.Answer) {
	t.Helper()
	call := taken(t, r, agent, `{}`)
	answer := ask(t, r, call, body)
	if answer.Status != http.StatusOK {
		t.Fatalf("ask with %s: %d %s", body, answer.Status, answer.Body)
	}
	return call, answer
}

func ask(t *testing.T, r *apptest.Rig, call apptest.Call, body string, headers ...string) apptest.Answer {
	t.Helper()
	return r.Do(t, http.MethodPost, "/api/v1/executions/"+call.ExecutionID+"/request-approval", body, append(headers, "X-Execution-Token", call.Token)...)
}

const canonical, alias = "/api/v1/webhooks/approval", "/api/v1/webhooks/approval-response"

// acts are the audit entries about a request.
func acts(t *testing.T, r *apptest.Rig, approvalID string) string {
	t.Helper()
	list := "group_concat(action, ' ')"
	if strings.Contains(t.Name(), "/postgres") {
		list = "string_agg(action, ' ')"
	}
	return r.Store.Value(t, "SELECT "+list+" FROM (SELECT substr(action, 10) AS action FROM audit_log WHERE object = $1 ORDER BY id) a", approvalID)
}

// The three curls of the documentation, word for word, with the bodies that they are answered with.
func TestDocumentedApprovalFlow(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		call := taken(t, r, agent, `{}`)
		of := "/api/v1/executions/" + call.ExecutionID
		asked := scenario{
			ask: "POST " + of + "/request-approval", header: []string{"Content-Type", "application/json"}, status: http.StatusOK,
			body: "{\n    \"approval_request_id\": \"claim-12345\",\n    \"approval_request_url\": \"https://dashboard.example.com/claims/12345\",\n    \"expires_in_hours\": 24\n  }",
			must: map[string]string{"approval_request_id": "claim-12345", "approval_request_url": "https://dashboard.example.com/claims/12345", "status": "pending", "expires_at": instant},
			row:  "waiting", events: []string{"queued", "running", "waiting"},
		}.run(t, r)
		got := r.Get(t, call.ExecutionID)
		want := fmt.Sprintf(`{"approval_request_id":"claim-12345","approval_request_url":"https://dashboard.example.com/claims/12345","expires_at":%q,"type":"approval"}`, asked.Text("expires_at"))
		if got.Text("waiting_for") != want {
			t.Errorf("S56: waiting_for is %s, not %s", got.Text("waiting_for"), want)
		}
		hasAll(t, got, map[string]string{"status": "waiting", "approval_status": "pending", "approval_request_id": "claim-12345", "approval_request_url": "https://dashboard.example.com/claims/12345"})
		scenario{
			ask: "GET " + of + "/approval-status?approval_request_id=claim-12345", status: http.StatusOK,
			must: map[string]string{"status": "pending", "request_url": "https://dashboard.example.com/claims/12345", "requested_at": instant, "expires_at": instant}, never: []string{"responded_at", "decision", "response"},
		}.run(t, r)
		scenario{
			ask: "POST " + canonical, header: []string{"Content-Type", "application/json"}, status: http.StatusOK,
			body: "{\n    \"approval_request_id\": \"claim-12345\",\n    \"decision\": \"approved\",\n    \"feedback\": \"Claim verified against policy\"\n  }",
			must: map[string]string{"status": "processed", "execution_id": call.ExecutionID, "decision": "approved", "new_status": "running"},
			row:  "running", events: []string{"queued", "running", "waiting", "running"}, never: []string{"warning"},
		}.run(t, r)
		scenario{
			ask: "GET " + of + "/approval-status?approval_request_id=claim-12345", status: http.StatusOK,
			must: map[string]string{"status": "approved", "decision": "approved", "feedback": "Claim verified against policy", "decided_by": "local", "responded_at": instant}, never: []string{"response"},
		}.run(t, r)
		after := r.Get(t, call.ExecutionID)
		hasAll(t, after, map[string]string{"status": "running", "approval_status": "approved", "approval_request_id": "claim-12345"})
		if after.Has("waiting_for") {
			t.Errorf("S59: %s", after.Body)
		}
		report(t, r, call, `{"status":"succeeded","result":{"paid":true}}`)
		ended := r.Ended(t, call.ExecutionID)
		hasAll(t, ended, map[string]string{"status": "succeeded", "result/paid": "true", "approval_status": "approved"})
		if ended.Has("waiting_for") {
			t.Errorf("S59: %s", ended.Body)
		}
		if got := acts(t, r, asked.Text("approval_id")); got != "approved" {
			t.Errorf("the audit log says %q", got)
		}
	})
}

func TestWaitingForIsThereOnlyWhileWaiting(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		for decision, left := range map[string]string{"rejected": "running", "request_changes": "running", "cancel the execution": "cancelled"} {
			call, asked := asking(t, r, agent, `{"title":"Pay?"}`)
			if !r.Get(t, call.ExecutionID).Has("waiting_for") {
				t.Error("no waiting_for while it waits")
			}
			status := decision
			if left == "cancelled" {
				status = "withdrawn"
				r.Do(t, http.MethodPost, "/api/v1/executions/"+call.ExecutionID+"/cancel", `{}`)
			} else {
				r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"`+asked.Text("approval_request_id")+`","decision":"`+decision+`","feedback":"no"}`)
			}
			got := r.Get(t, call.ExecutionID)
			if hasAll(t, got, map[string]string{"status": left, "approval_status": status}); got.Has("waiting_for") {
				t.Errorf("%s: %s", decision, got.Body)
			}
			batch := r.Do(t, http.MethodPost, "/api/v1/executions/batch-status", `{"execution_ids":["`+call.ExecutionID+`"]}`)
			if strings.Contains(string(batch.Body), "waiting_for") {
				t.Errorf("%s", batch.Body)
			}
		}
	})
}

func TestSyncCallerHearsOfTheRequestAtOnce(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		plain := r.Begin(t, http.MethodPost, "/api/v1/execute/demo.take", `{}`)
		call := agent.Called(t, "", 1)
		ask(t, r, call, `{"approval_request_id":"claim-1","approval_request_url":"https://claims.example/1"}`)
		answer := plain.Answer(t)
		hasAll(t, answer, map[string]string{
			"status": "waiting", "execution_id": call.ExecutionID, "waiting_for/type": "approval", "waiting_for/approval_request_id": "claim-1",
			"waiting_for/approval_request_url": "https://claims.example/1", "waiting_for/expires_at": instant, "result": "",
		})
		if answer.Status != http.StatusOK {
			t.Errorf("C10: %d", answer.Status)
		}
	})
}

func TestEveryFormOfADecision(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		for body, want := range map[string]string{
			`{"approval_request_id":"ID","decision":"approved"}`:                                                                                                  "approved",
			`{"requestId":"ID","decision":"approve","feedback":"x","timestamp":"2026-01-15T10:00:00Z"}`:                                                           "approved",
			`{"requestId":"ID","decision":"deny","feedback":"x"}`:                                                                                                 "rejected",
			`{"requestId":"ID","decision":"Continue"}`:                                                                                                            "approved",
			`{"approval_request_id":"ID","decision":"request_changes","feedback":"x"}`:                                                                            "request_changes",
			`{"id":"evt_1","type":"request.completed","createdAt":"2026-01-15T10:00:00Z","data":{"requestId":"ID","response":{"decision":"confirm"}}}`:            "approved",
			`{"id":"evt_1","type":"request.completed","createdAt":"2026-01-15T10:00:00Z","data":{"requestId":"ID","response":{"action":"abort","feedback":"x"}}}`: "rejected",
			`{"id":"evt_1","type":"request.expired","data":{"requestId":"ID","response":{}}}`:                                                                     "expired",
			`{"requestId":"ID","decision":"expired"}`:                                                                                                             "expired",
		} {
			for _, path := range []string{canonical, alias} {
				call, asked := asking(t, r, agent, `{}`)
				answer := r.Do(t, http.MethodPost, path, strings.ReplaceAll(body, "ID", asked.Text("approval_request_id")))
				if answer.Status != http.StatusOK {
					t.Errorf("%s to %s: %d %s", body, path, answer.Status, answer.Body)
					continue
				}
				hasAll(t, answer, map[string]string{"status": "processed", "decision": want, "new_status": "running", "execution_id": call.ExecutionID})
				feedback := ""
				if strings.Contains(body, `"x"`) {
					feedback = "x"
				}
				hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status", nil), map[string]string{"status": want, "feedback": feedback})
				if got := acts(t, r, asked.Text("approval_id")); got != want {
					t.Errorf("the audit log says %q, not %q", got, want)
				}
			}
		}
	})
}

func TestBadDecisionsChangeNothing(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		_, asked := asking(t, r, agent, `{"approval_request_id":"claim"}`)
		decide := "/api/v1/approvals/" + asked.Text("approval_id") + "/decide"
		for name, tc := range map[string]struct {
			path, body string
			status     int
			code       string
		}{
			"no JSON":               {canonical, `{`, 400, "invalid_json"},
			"a list":                {canonical, `[]`, 400, "invalid_json"},
			"nothing":               {canonical, ``, 400, ""},
			"no id":                 {canonical, `{"decision":"approved"}`, 400, "invalid_parameter"},
			"an id with NUL":        {canonical, `{"approval_request_id":"a\u0000","decision":"approved"}`, 400, "invalid_parameter"},
			"an endless id":         {canonical, `{"approval_request_id":"` + strings.Repeat("a", 300) + `","decision":"approved"}`, 400, "invalid_parameter"},
			"no decision":           {canonical, `{"approval_request_id":"claim"}`, 400, "decision_missing"},
			"an empty decision":     {alias, `{"requestId":"claim","decision":""}`, 400, "decision_missing"},
			"null":                  {canonical, `{"approval_request_id":"claim","decision":null}`, 400, "decision_missing"},
			"an envelope of none":   {alias, `{"type":"request.completed","data":{"requestId":"claim","response":{}}}`, 400, "decision_missing"},
			"a word that is none":   {canonical, `{"approval_request_id":"claim","decision":"yes"}`, 400, "decision_invalid"},
			"true":                  {canonical, `{"approval_request_id":"claim","decision":true}`, 400, "invalid_json"},
			"pending":               {canonical, `{"approval_request_id":"claim","decision":"pending"}`, 400, "decision_invalid"},
			"much feedback":         {canonical, `{"approval_request_id":"claim","decision":"approved","feedback":"` + strings.Repeat("x", 17<<10) + `"}`, 400, "invalid_parameter"},
			"NUL in the feedback":   {canonical, `{"approval_request_id":"claim","decision":"approved","feedback":"a\u0000b"}`, 400, "invalid_parameter"},
			"an edit of what isn't": {canonical, `{"approval_request_id":"claim","decision":"approved","edited":{}}`, 400, "invalid_parameter"},
			"an unknown request":    {canonical, `{"approval_request_id":"other","decision":"approved"}`, 404, "approval_not_found"},
			"an unknown, alias":     {alias, `{"requestId":"other","decision":"approved"}`, 404, "approval_not_found"},
			"by id, no decision":    {decide, `{}`, 400, "decision_invalid"},
			"by id, an old version": {decide, `{"decision":"approved","version":7}`, 409, "already_decided"},
		} {
			answer := r.Do(t, http.MethodPost, tc.path, tc.body)
			if answer.Status != tc.status || tc.code != "" && answer.Text("code") != tc.code || !answer.Has("error") {
				t.Errorf("%s: %d %s, not %d %s", name, answer.Status, answer.Body, tc.status, tc.code)
			}
		}
		if got := r.Do(t, http.MethodGet, "/api/v1/approvals/claim", nil); got.Text("status") != "pending" || got.Text("version") != "1" {
			t.Errorf("the request is %s", got.Body)
		}
	})
}

func TestBadRequestsForApproval(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		other, _ := asking(t, r, agent, `{"approval_request_id":"open"}`)
		call := taken(t, r, agent, `{}`)
		before := r.Store.Rows(t)
		for name, tc := range map[string]struct {
			path, body string
			header     []string
			status     int
			code       string
		}{
			"an id that is open elsewhere": {"", `{"approval_request_id":"open"}`, nil, 409, "approval_request_id_in_use"},
			"no JSON":                      {"", `{`, nil, 400, "invalid_json"},
			"a list":                       {"", `[]`, nil, 400, "invalid_json"},
			"an id that is a number":       {"", `{"approval_request_id":7}`, nil, 400, "invalid_json"},
			"no hours":                     {"", `{"expires_in_hours":0}`, nil, 400, "invalid_parameter"},
			"too many hours":               {"", `{"expires_in_hours":9000}`, nil, 400, "invalid_parameter"},
			"hours before now":             {"", `{"expires_in_hours":-1}`, nil, 400, "invalid_parameter"},
			"a script for a page":          {"", `{"approval_request_url":"javascript:alert(1)"}`, nil, 400, "invalid_parameter"},
			"a callback to the metadata":   {"", `{"callback_url":"http://169.254.169.254/latest"}`, nil, 400, "invalid_parameter"},
			"a callback to a file":         {"", `{"callback_url":"file:///etc/passwd"}`, nil, 400, "invalid_parameter"},
			"a risk that is none":          {"", `{"risk":"huge"}`, nil, 400, "invalid_parameter"},
			"an end that is none":          {"", `{"on_reject":"fail"}`, nil, 400, "invalid_parameter"},
			"a quorum of none":             {"", `{"policy":{"quorum":-1}}`, nil, 400, "invalid_parameter"},
			"a form that is none":          {"", `{"form":{"type":"nothing"}}`, nil, 400, "invalid_parameter"},
			"a forged token":               {"", `{}`, []string{"X-Execution-Token", "1.00000000000000000000000000000000"}, 401, "execution_token_invalid"},
			"the token of another":         {"", `{}`, []string{"X-Execution-Token", other.Token}, 401, "execution_token_invalid"},
			"as another node":              {"/api/v1/agents/other/executions/ID/request-approval", `{}`, nil, 403, "execution_ownership_mismatch"},
			"an unknown execution":         {"/api/v1/executions/exec_unknown/request-approval", `{}`, nil, 404, "execution_not_found"},
			"one that waits":               {"/api/v1/executions/" + other.ExecutionID + "/request-approval", `{}`, nil, 409, "invalid_state"},
			"an endless key":               {"", `{}`, []string{"Idempotency-Key", strings.Repeat("k", 300)}, 400, "invalid_parameter"},
		} {
			path := tc.path
			if path == "" {
				path = "/api/v1/executions/ID/request-approval"
			}
			answer := r.Do(t, http.MethodPost, strings.ReplaceAll(path, "ID", call.ExecutionID), tc.body, tc.header...)
			if answer.Status != tc.status || answer.Text("code") != tc.code {
				t.Errorf("%s: %d %s, not %d %s", name, answer.Status, answer.Body, tc.status, tc.code)
			}
		}
		if after := r.Store.Rows(t); after != before {
			t.Errorf("refused requests left rows:\n%s\n%s", before, after)
		}
		if n := r.Store.Value(t, "SELECT count(*) FROM approvals"); n != "1" || r.Store.Status(t, call.ExecutionID) != "running" {
			t.Errorf("%s requests are stored; the execution is %s", n, r.Store.Status(t, call.ExecutionID))
		}
	})
}

func TestARequestWithAKeyIsMadeOnce(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		call := taken(t, r, pausing(t, r), `{}`)
		first := ask(t, r, call, `{"title":"Pay?"}`, "Idempotency-Key", "step-1")
		again := ask(t, r, call, `{"title":"Pay?"}`, "Idempotency-Key", "step-1")
		if first.Status != http.StatusOK || again.Status != http.StatusOK || string(first.Body) != string(again.Body) {
			t.Errorf("%d %s\n%d %s", first.Status, first.Body, again.Status, again.Body)
		}
		if other := ask(t, r, call, `{"title":"Pay?"}`, "Idempotency-Key", "step-2"); other.Status != http.StatusConflict || other.Text("error") != "invalid_state" {
			t.Errorf("another key while one is open: %d %s", other.Status, other.Body)
		}
	})
}

func TestWhoIsLateLearnsWhoAndWhen(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		call, asked := asking(t, r, agent, `{"approval_request_id":"claim"}`)
		approve := `{"approval_request_id":"claim","decision":"approved","feedback":"fine"}`
		r.Do(t, http.MethodPost, canonical, approve)
		when := r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status", nil).Text("responded_at")
		stands := map[string]string{
			"error": "already_decided", "code": "already_decided", "decision": "approved", "approval_status": "approved", "decided_by": "local", "decided_at": when,
			"approval_request_id": "claim", "execution_id": call.ExecutionID, "message": "already decided by local", "details": some,
		}
		stands["message"] = "^already decided by local at "
		runAll(t, r, []scenario{
			{name: "the same again", ask: "POST " + canonical, body: approve, status: 200, must: map[string]string{"status": "already_processed", "current_status": "running", "approval_status": "approved"}},
			{name: "the same again by the alias", ask: "POST " + alias, body: approve, status: 200, must: map[string]string{"status": "already_processed"}},
			{name: "another", ask: "POST " + canonical, body: `{"approval_request_id":"claim","decision":"rejected"}`, status: 409, must: stands},
			{name: "another by its id", ask: "POST /api/v1/approvals/" + asked.Text("approval_id") + "/decide", body: `{"decision":"request_changes"}`, status: 409, must: stands},
			{name: "another by the alias", ask: "POST " + alias, body: `{"requestId":"claim","decision":"rejected"}`, status: 200, must: map[string]string{
				"status": "already_processed", "approval_status": "approved", "decision": "approved", "execution_id": call.ExecutionID, "current_status": "running",
			}},
		})
		report(t, r, call, `{"status":"succeeded"}`)
		if got := acts(t, r, asked.Text("approval_id")); got != "approved refused refused refused" {
			t.Errorf("the audit log says %q", got)
		}

		gone, asked := asking(t, r, agent, `{"approval_request_id":"gone"}`)
		r.Do(t, http.MethodPost, "/api/v1/executions/"+gone.ExecutionID+"/cancel", `{}`)
		runAll(t, r, []scenario{
			{name: "after the end", ask: "POST " + canonical, body: `{"approval_request_id":"gone","decision":"approved"}`, status: 409, must: map[string]string{
				"error": "invalid_state", "code": "invalid_state", "approval_status": "withdrawn", "execution_id": gone.ExecutionID,
			}},
			{name: "after the end by the alias", ask: "POST " + alias, body: `{"requestId":"gone","decision":"approved"}`, status: 200, must: map[string]string{
				"status": "already_processed", "approval_status": "withdrawn", "current_status": "cancelled",
			}},
		})
		if got := acts(t, r, asked.Text("approval_id")); got != "withdrawn refused refused" {
			t.Errorf("the audit log says %q", got)
		}

		short, asked := asking(t, r, agent, `{"approval_request_id":"short","expires_in_hours":1}`)
		r.Clock.Advance(61 * time.Minute)
		scenario{ask: "POST " + canonical, body: `{"approval_request_id":"short","decision":"approved"}`, status: 409, must: map[string]string{
			"error": "approval_expired", "code": "approval_expired", "approval_status": "expired", "decision": "expired", "decided_by": "timer", "decided_at": instant,
		}}.run(t, r)
		hasAll(t, r.Get(t, short.ExecutionID), map[string]string{"status": "running", "approval_status": "expired"})
		if got := acts(t, r, asked.Text("approval_id")); got != "expired refused" {
			t.Errorf("S69: the audit log says %q", got)
		}
	})
}

// signed is a body with a signature in one of the forms.
func signed(form, secret, body string, at time.Time) string {
	sum := func(text string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(text))
		return hex.EncodeToString(mac.Sum(nil))
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	switch form {
	case "stamped":
		return "t=" + stamp + ",v1=" + sum(stamp+"."+body)
	case "prefixed":
		return "sha256=" + sum(body)
	}
	return sum(body)
}

func TestSignedDecisions(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := apptest.NewAgent(t, "demo", apptest.Taking("take"))
		agent.Register(t, r, "X-API-Key", "k3y")
		key := []string{"X-API-Key", "k3y"}
		pause := func() string {
			answer := r.Do(t, http.MethodPost, "/api/v1/execute/async/demo.take", `{}`, key...)
			call := agent.Called(t, answer.Text("execution_id"), 1)
			return ask(t, r, call, `{}`, key...).Text("approval_request_id")
		}
		const secret = "an approval secret"
		for _, header := range []string{"X-Hax-Signature", "X-Webhook-Signature", "X-Hub-Signature-256"} {
			for _, form := range []string{"stamped", "prefixed", "bare"} {
				for _, path := range []string{canonical, alias} {
					id := pause()
					body := `{"requestId":"` + id + `","decision":"approved"}`
					answer := r.Do(t, http.MethodPost, path, body, header, signed(form, secret, body, r.Clock.Now()))
					if answer.Status != http.StatusOK || answer.Text("status") != "processed" {
						t.Errorf("%s, %s, %s: %d %s", header, form, path, answer.Status, answer.Body)
					}
				}
			}
		}
		id := pause()
		body := `{"requestId":"` + id + `","decision":"approved"}`
		for name, tc := range map[string]struct{ signature, body string }{
			"of another secret":     {signed("prefixed", "guess", body, r.Clock.Now()), body},
			"of another body":       {signed("prefixed", secret, body, r.Clock.Now()), strings.Replace(body, "approved", "rejected", 1)},
			"of an hour ago":        {signed("stamped", secret, body, r.Clock.Now().Add(-time.Hour)), body},
			"of tomorrow":           {signed("stamped", secret, body, r.Clock.Now().Add(24*time.Hour)), body},
			"with another time":     {strings.Replace(signed("stamped", secret, body, r.Clock.Now()), "t=1", "t=2", 1), body},
			"cut":                   {signed("bare", secret, body, r.Clock.Now())[:32], body},
			"of nothing":            {"sha256=", body},
			"that is none":          {"x", body},
			"with the empty secret": {signed("bare", "", body, r.Clock.Now()), body},
		} {
			for _, path := range []string{canonical, alias} {
				answer := r.Do(t, http.MethodPost, path, tc.body, "X-Webhook-Signature", tc.signature)
				if answer.Status != http.StatusUnauthorized || answer.Text("code") != "invalid_signature" {
					t.Errorf("a signature %s: %d %s", name, answer.Status, answer.Body)
				}
			}
		}
		// Without a signature only a credential that may approve decides; the shared key is that of agents, too.
		runAll(t, r, []scenario{
			{name: "nothing at all", ask: "POST " + canonical, body: body, status: 401, must: map[string]string{"code": "unauthorized"}},
			{name: "B19 nothing at the alias", ask: "POST " + alias, body: body, status: 401, must: map[string]string{"error": "missing webhook signature"}},
			{name: "the shared key", ask: "POST " + canonical, body: body, header: key, status: 403, must: map[string]string{"code": "forbidden"}},
			{name: "the shared key at the alias", ask: "POST " + alias, body: body, header: key, status: 403, must: map[string]string{"code": "forbidden"}},
			{name: "a signature opens nothing else", ask: "GET /api/v1/approvals", header: []string{"X-Webhook-Signature", signed("bare", secret, "", r.Clock.Now())}, status: 401},
		})
		if got := r.Do(t, http.MethodGet, "/api/v1/approvals/"+id, nil, key...); got.Text("status") != "pending" {
			t.Errorf("after all this: %s", got.Body)
		}
		if who := r.Store.Value(t, "SELECT max(actor) FROM audit_log WHERE action = 'approval.approved'"); who != "approval secret" {
			t.Errorf("B19: the audit log names %q", who)
		}
	}, func(c *config.Config) { c.ApprovalWebhookSecret, c.APIKey = "an approval secret", "k3y" })
}

func TestSignedDecisionWithoutASecretIsRefused(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		_, asked := asking(t, r, pausing(t, r), `{}`)
		body := `{"requestId":"` + asked.Text("approval_request_id") + `","decision":"approved"}`
		for _, header := range []string{"X-Hax-Signature", "X-Webhook-Signature", "X-Hub-Signature-256"} {
			for _, path := range []string{canonical, alias} {
				answer := r.Do(t, http.MethodPost, path, body, header, signed("bare", "", body, r.Clock.Now()))
				if answer.Status != http.StatusServiceUnavailable || answer.Text("code") != "approval_secret_missing" {
					t.Errorf("%s: %d %s", header, answer.Status, answer.Body)
				}
			}
		}
		scenario{ask: "GET /api/v1/approvals/" + asked.Text("approval_id"), status: 200, must: map[string]string{"status": "pending"}}.run(t, r)
	})
}

// marks are the headers by which agents are known where no credential is demanded.
var marks = []string{"X-Execution-Token", "X-Node-Token", "X-Caller-Agent-ID", "X-Agent-Node-ID", "X-Parent-Execution-ID"}

func TestAgentsNeverDecide(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		call, asked := asking(t, r, agent, `{"approval_request_id":"claim","policy":{"approvers":["local","demo"]}}`)
		id := asked.Text("approval_id")
		d := newDoor(t, r.URL)
		for _, mark := range marks {
			value := "demo"
			if mark == "X-Execution-Token" {
				value = call.Token
			}
			for _, path := range []string{canonical, alias, "/api/v1/approvals/" + id + "/decide", "/api/v1/approvals/" + id + "/undo", "/api/v1/approvals/" + id + "/claim"} {
				answer := r.Do(t, http.MethodPost, path, `{"approval_request_id":"claim","decision":"approved"}`, mark, value)
				if answer.Status != http.StatusForbidden || answer.Text("code") != "forbidden" {
					t.Errorf("%s with %s: %d %s", path, mark, answer.Status, answer.Body)
				}
			}
			for path, form := range map[string]string{
				"/approvals/" + id + "/decide": "decision=approved&version=1", "/approvals/bulk": "decision=approved&ids=" + id, "/approvals/" + id + "/claim": "", "/approvals/" + id + "/draft": "text=x",
			} {
				if got := d.ask(caller{}, http.MethodPost, path, form, "Sec-Fetch-Site", "same-origin", mark, value); got.status != http.StatusForbidden {
					t.Errorf("the form %s with %s: %d", path, mark, got.status)
				}
			}
		}
		scenario{ask: "GET /api/v1/approvals/claim", status: 200, must: map[string]string{"status": "pending", "version": "1", "claimed_by": ""}}.run(t, r)
		if r.Store.Status(t, call.ExecutionID) != "waiting" {
			t.Error("an agent has decided")
		}
	})
}

func TestOnlyWhoMayApproveDecides(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		call, asked := asking(t, r, agent, `{"approval_request_id":"claim"}`)
		id := asked.Text("approval_id")
		d := newDoor(t, r.URL)
		body := `{"approval_request_id":"claim","decision":"approved"}`
		refused := 0
		for _, who := range d.everybody() {
			may := slices.Contains(who.scopes, "approve")
			if may {
				continue
			}
			if who.key != "" {
				refused += 2
			}
			if who.cookie != "" {
				refused += 2
			}
			want := http.StatusForbidden
			if who.key == "" {
				want = http.StatusUnauthorized
			}
			for _, path := range []string{canonical, "/api/v1/approvals/" + id + "/decide"} {
				if got := d.ask(who, http.MethodPost, path, body); got.status != want {
					t.Errorf("%s at %s: %d %s", who.name, path, got.status, got.body)
				}
			}
			if who.cookie == "" {
				continue
			}
			for path, form := range map[string][]string{
				"/approvals/" + id + "/decide": {"decision", "approved", "version", "1"}, "/approvals/bulk": {"decision", "approved", "ids", id},
			} {
				if got := d.form(who, path, form...); got.status != http.StatusForbidden {
					t.Errorf("%s sends the form %s: %d", who.name, path, got.status)
				}
			}
		}
		if r.Store.Status(t, call.ExecutionID) != "waiting" {
			t.Error("somebody without the right has decided")
		}
		if kept := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'request.refused'"); kept != strconv.Itoa(refused) {
			t.Errorf("%s of %d refusals are in the audit log", kept, refused)
		}
	})
}

func TestStatusAnswersOnTheDecision(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		for _, of := range []string{"/api/v1/executions/", "/api/v1/agents/demo/executions/"} {
			call, asked := asking(t, r, agent, `{}`)
			poll := r.Begin(t, http.MethodGet, of+call.ExecutionID+"/approval-status?wait=25s&approval_request_id="+asked.Text("approval_request_id"), nil)
			// A poll that waits must not hide the state from others.
			hasAll(t, r.Do(t, http.MethodGet, of+call.ExecutionID+"/approval-status", nil), map[string]string{"status": "pending"})
			r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"`+asked.Text("approval_request_id")+`","decision":"rejected","feedback":"no"}`)
			hasAll(t, poll.Answer(t), map[string]string{"status": "rejected", "feedback": "no"})
			if told := r.Store.Value(t, "SELECT told_at FROM approvals WHERE id = $1", asked.Text("approval_id")); told == "" {
				t.Error("the agent has read it and does not count as told")
			}
		}
		runAll(t, r, []scenario{
			{name: "no request", ask: "GET /api/v1/executions/" + taken(t, r, agent, `{}`).ExecutionID + "/approval-status", status: 404, must: map[string]string{"error": "no_approval_request"}},
			{name: "no execution", ask: "GET /api/v1/executions/exec_unknown/approval-status", status: 404, must: map[string]string{"code": "execution_not_found"}},
			{name: "no time", ask: "GET /api/v1/executions/exec_unknown/approval-status?wait=soon", status: 400, must: map[string]string{"code": "invalid_parameter"}},
		})
	})
}

func TestResponseIsAnObjectForAgents(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		form := `{"form":{"type":"object","required":["account"],"properties":{"account":{"type":"string"}}}}`
		call, asked := asking(t, r, agent, form)
		id := asked.Text("approval_request_id")
		show := r.Do(t, http.MethodGet, "/api/v1/approvals/"+id, nil)
		if show.Text("form/required") != `["account"]` || show.Has("payload") {
			t.Errorf("a form without a payload: %s", show.Body)
		}
		scenario{ask: "POST " + canonical, body: `{"approval_request_id":"` + id + `","decision":"approved","response":{"account":7}}`, status: 400, must: map[string]string{"code": "invalid_parameter", "details": "^answer.account: "}}.run(t, r)
		r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"`+id+`","decision":"approved","response":{"account":"4711"}}`)
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status", nil), map[string]string{"response/account": "4711"})

		call, asked = asking(t, r, agent, `{"payload":{"amount":7},"editable":true}`)
		id = asked.Text("approval_request_id")
		if show := r.Do(t, http.MethodGet, "/api/v1/approvals/"+id, nil); show.Text("payload/amount") != "7" || show.Has("form") {
			t.Errorf("a payload without a form: %s", show.Body)
		}
		r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"`+id+`","decision":"approved","edited":{"amount":5}}`)
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status", nil), map[string]string{"response/amount": "5", "edited_payload/amount": "5", "status": "approved"})

		call, asked = asking(t, r, agent, form[:len(form)-1]+`,"payload":{"amount":7},"editable":true}`)
		id = asked.Text("approval_request_id")
		r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"`+id+`","decision":"approved","edited":{"amount":5},"response":{"account":"4711"}}`)
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status", nil), map[string]string{"response/account": "4711", "edited_payload/amount": "5"})
	})
}

// Mail scanners and link previews open everything: nothing may come of it.
func TestLookingDecidesNothing(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		_, asked := asking(t, r, pausing(t, r), `{"approval_request_id":"claim"}`)
		id := asked.Text("approval_id")
		d := newDoor(t, r.URL)
		for i := range 50 {
			agent := []string{"Mozilla/5.0", "Slackbot-LinkExpanding 1.0", "BingPreview/1.0b"}[i%3]
			for _, path := range []string{
				"/approvals/" + id, "/approvals/claim", "/approvals/" + id + "/decide?decision=approved", "/approvals/" + id + "?decision=approved&hold=0", "/approvals/bulk?ids=" + id + "&decision=approved",
				canonical + "?approval_request_id=claim&decision=approved", alias + "?requestId=claim&decision=approved",
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					if i > 2 && method == http.MethodHead {
						continue
					}
					d.ask(caller{}, method, path, "", "User-Agent", agent, "Sec-Purpose", "prefetch", "Purpose", "prefetch")
				}
			}
		}
		scenario{ask: "GET /api/v1/approvals/claim", status: 200, must: map[string]string{"status": "pending", "version": "1", "claimed_by": ""}}.run(t, r)
		if got := acts(t, r, id); got != "" {
			t.Errorf("the audit log says %q", got)
		}
	})
}

// The paused time counts neither for the child that waits nor for those above it; the connection of a calling agent stays open all along.
func TestADayOfThoughtUnderLimitsOfTwoHours(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		limit := `{"timeout_seconds":7200}`
		top := taken(t, r, agent, limit)
		under := func(parent apptest.Call, body string) (*apptest.Pending, apptest.Call) {
			n := len(agent.Calls(""))
			p := r.Begin(t, http.MethodPost, "/api/v1/execute/demo.take", body, "X-Parent-Execution-ID", parent.ExecutionID, "X-Caller-Agent-ID", "demo")
			return p, agent.Called(t, "", n+1)
		}
		parents, parent := under(top, limit)
		childs, child := under(parent, limit)
		canary := r.Submit(t, "demo.take", `{"timeout_seconds":7000}`)
		agent.Called(t, canary, 1)
		asked := ask(t, r, child, `{"expires_in_hours":48}`)
		r.Clock.Advance(24 * time.Hour)
		if ended := r.Ended(t, canary); ended.Text("status") != "timeout" {
			t.Fatalf("the canary: %s", ended.Body)
		}
		for id, want := range map[string]string{top.ExecutionID: "running", parent.ExecutionID: "running", child.ExecutionID: "waiting"} {
			if got := r.Store.Status(t, id); got != want {
				t.Errorf("R26: after a day %s is %s, not %s", id, got, want)
			}
		}
		r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"`+asked.Text("approval_request_id")+`","decision":"approved"}`)
		report(t, r, child, `{"status":"succeeded","result":1}`)
		if answer := childs.Answer(t); answer.Text("status") != "succeeded" {
			t.Errorf("the child answers %s", answer.Body)
		}
		report(t, r, parent, `{"status":"succeeded","result":2}`)
		if answer := parents.Answer(t); answer.Text("status") != "succeeded" {
			t.Errorf("the parent answers %s", answer.Body)
		}
		report(t, r, top, `{"status":"succeeded","result":3}`)
		if ended := r.Ended(t, top.ExecutionID); ended.Text("status") != "succeeded" {
			t.Errorf("R26: %s", ended.Body)
		}
	})
}

// An agent that holds its connection while it waits takes no place of the workers.
func TestWaitingTakesNoWorker(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hold, release := apptest.Held("work", `"done"`)
		agent := r.Agent(t, "demo", hold, apptest.Echo("echo"))
		var held []string
		for range 3 { // one more than there are workers
			id := r.Submit(t, "demo.work", `{}`)
			asked := ask(t, r, agent.Called(t, id, 1), `{"approval_request_id":"of-`+id+`"}`)
			if asked.Status != http.StatusOK {
				t.Fatalf("%d %s", asked.Status, asked.Body)
			}
			held = append(held, id)
		}
		if ended := r.Ended(t, r.Submit(t, "demo.echo", `{"input":{"n":1}}`)); ended.Text("status") != "succeeded" {
			t.Errorf("others do not get on: %s", ended.Body)
		}
		for _, id := range held {
			r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"of-`+id+`","decision":"approved"}`)
		}
		release()
		for _, id := range held {
			if ended := r.Ended(t, id); ended.Text("status") != "succeeded" || ended.Text("result") != "done" {
				t.Errorf("the one who held on: %s", ended.Body)
			}
		}
	}, func(c *config.Config) { c.Workers = 2 })
}

func TestTheServerMayRestartBetweenAskingAndDeciding(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		call, asked := asking(t, r, pausing(t, r), `{"approval_request_id":"claim"}`)
		r.Restart(t)
		hasAll(t, r.Get(t, call.ExecutionID), map[string]string{"status": "waiting", "waiting_for/approval_request_id": "claim"})
		r.Do(t, http.MethodPost, canonical, `{"approval_request_id":"claim","decision":"approved","feedback":"fine"}`)
		r.Restart(t)
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status?wait=5s", nil), map[string]string{"status": "approved", "feedback": "fine"})
		report(t, r, call, `{"status":"succeeded","result":"done"}`)
		if ended := r.Ended(t, call.ExecutionID); ended.Text("result") != "done" {
			t.Errorf("%s", ended.Body)
		}
		if got := acts(t, r, asked.Text("approval_id")); got != "approved" {
			t.Errorf("the audit log says %q", got)
		}
	})
}

// Each round is approved, rejected and cancelled at once: one of the three wins, and the others are told (S154).
func TestDecisionsAndCancelsRaceOverHTTP(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := pausing(t, r)
		for range 15 {
			call, asked := asking(t, r, agent, `{}`)
			id := asked.Text("approval_request_id")
			var all sync.WaitGroup
			var mu sync.Mutex
			statuses := map[string][]int{}
			send := func(what, path, body string) {
				all.Go(func() {
					answer := r.Do(t, http.MethodPost, path, body)
					mu.Lock()
					defer mu.Unlock()
					statuses[what] = append(statuses[what], answer.Status)
				})
			}
			send("approve", canonical, `{"approval_request_id":"`+id+`","decision":"approved"}`)
			send("reject", canonical, `{"approval_request_id":"`+id+`","decision":"rejected"}`)
			send("cancel", "/api/v1/executions/"+call.ExecutionID+"/cancel", `{}`)
			all.Wait()
			final := r.Do(t, http.MethodGet, "/api/v1/approvals/"+asked.Text("approval_id"), nil).Text("status")
			ok := map[string]bool{"approve": statuses["approve"][0] == 200, "reject": statuses["reject"][0] == 200}
			if ok["approve"] && ok["reject"] || ok["approve"] != (final == "approved") || ok["reject"] != (final == "rejected") ||
				final == "withdrawn" && statuses["cancel"][0] >= 300 {
				t.Errorf("it is %s, and the answers were %v", final, statuses)
			}
			for what, list := range statuses {
				if list[0] != 200 && list[0] != 409 {
					t.Errorf("%s: %d", what, list[0])
				}
			}
		}
	})
}
