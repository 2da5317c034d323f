package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestRerunMakesAnExecutionOfItsOwn(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t)
		agent := r.Agent(t, "demo", strict())
		first := r.Execute(t, "demo.strict", map[string]any{
			"input": map[string]any{"message": "a", "count": 1}, "context": map[string]any{"tenant": 7}, "retry": map[string]any{"max_attempts": 3},
			"webhook": map[string]any{"url": hook.URL},
		}, "X-Session-ID", "s1", "X-Actor-ID", "a1", "X-Workflow-ID", "wf_1")
		id, run := first.Text("execution_id"), first.Text("run_id")
		path := "POST /api/v1/executions/" + id + "/rerun"
		again := scenario{
			ask: path, status: http.StatusAccepted, header: []string{"Idempotency-Key", "k1"}, must: map[string]string{
				"execution_id": execID, "run_id": runID, "target": "demo.strict", "rerun_of": id, "webhook_registered": "false", "ui_url": some,
			},
		}.run(t, r)
		made := again.Text("execution_id")
		if again.Text("run_id") == run || made == id {
			t.Errorf("the rerun is not a run of its own: %s", again.Body)
		}
		ended := r.Ended(t, made)
		hasAll(t, ended, map[string]string{
			"status": "succeeded", "rerun_of": id, "session_id": "s1", "actor_id": "a1", "mode": "async", "max_attempts": "3", "result/message": "a", "webhook_registered": "false",
		})
		if call := agent.Called(t, made, 1); string(call.Input) != `{"count":1,"message":"a"}` {
			t.Errorf("the agent got %s", call.Input)
		}
		if got := r.Store.Value(t, "SELECT context FROM executions WHERE id = $1", made); got != `{"tenant":7}` {
			t.Errorf("its context is %q", got)
		}
		replay := scenario{ask: path, status: http.StatusAccepted, header: []string{"Idempotency-Key", "k1"}, must: map[string]string{"execution_id": made}}.run(t, r)
		if replay.Header.Get("Idempotency-Replayed") != "true" {
			t.Error("the second request with the key is not marked as replayed")
		}
		edited := scenario{
			ask: path, body: `{"input":{"message":"b","count":12345678901234567890}}`, status: http.StatusAccepted, must: map[string]string{"rerun_of": id},
		}.run(t, r)
		hasAll(t, r.Ended(t, edited.Text("execution_id")), map[string]string{"result/message": "b", "result/count": "12345678901234567890"})
		runAll(t, r, []scenario{
			{name: "another body under the key", ask: path, body: `{"input":{"message":"c"}}`, header: []string{"Idempotency-Key", "k1"}, status: http.StatusUnprocessableEntity, must: map[string]string{"code": "idempotency_key_reused"}},
			{name: "against the schema", ask: path, body: `{"input":{"message":1}}`, status: http.StatusUnprocessableEntity, must: map[string]string{"code": "input_invalid"}, row: "none"},
			{name: "not an object", ask: path, body: `{"input":[1]}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}, row: "none"},
			{name: "unknown", ask: "POST /api/v1/executions/exec_unknown/rerun", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}, row: "none"},
		})
		if n := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'execution.rerun'"); n != "0" {
			t.Errorf("%s entries tell of what a program did", n)
		}
	})
}

func TestRerunByAPersonIsOnTheRecord(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		id := r.Execute(t, "demo.echo", `{"input":{"n":1}}`).Text("execution_id")
		post := func(body string) apptest.Answer {
			return r.Do(t, http.MethodPost, "/executions/"+id+"/rerun", body, "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
		}
		first, second := post("key=one&input="), post("key=one&input=")
		if first.Status != http.StatusSeeOther || first.Header.Get("Location") != second.Header.Get("Location") || first.Header.Get("Location") == "/executions/"+id {
			t.Fatalf("%d %s, then %s", first.Status, first.Header.Get("Location"), second.Header.Get("Location"))
		}
		if n := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'execution.rerun' AND object = $1", id); n != "1" {
			t.Errorf("%s entries, not one", n)
		}
	})
}

func TestTheInputIsEditedAsAFormOrAsJSON(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", strict(), apptest.Echo("echo"))
		id := r.Execute(t, "demo.strict", `{"input":{"message":"one","count":2}}`).Text("execution_id")
		path := "/executions/" + id + "/rerun"
		post := func(to string, form url.Values) apptest.Answer {
			t.Helper()
			return r.Do(t, http.MethodPost, to, form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
		}
		page := func() string {
			t.Helper()
			answer := r.Do(t, http.MethodGet, path, nil)
			if answer.Status != http.StatusOK {
				t.Fatalf("%d %s", answer.Status, answer.Body)
			}
			return string(answer.Body)
		}
		says := func(html string, words ...string) {
			t.Helper()
			for _, w := range words {
				if !strings.Contains(html, w) {
					t.Errorf("the page does not say %s", w)
				}
			}
		}
		says(page(), `name="answer.message"`, `value="one"`, `name="answer.count"`, `value="2"`)

		// What is typed goes along from form to JSON and back, without script.
		post(path+"/draft", url.Values{"as": {"form"}, "answer.message": {"two"}, "answer.count": {"3"}, "to": {"json"}})
		says(page(), `name="input"`, "&#34;message&#34;: &#34;two&#34;", "Your draft, kept", "Changed so far")
		post(path+"/draft", url.Values{"input": {`{"message": "three", "count": 4}`}, "to": {"form"}})
		says(page(), `value="three"`, `value="4"`)
		post(path+"/draft", url.Values{"input": {`{"message": "three", "other": 4}`}, "to": {"form"}})
		says(page(), `name="input"`, "&#34;other&#34;: 4") // a form could not say this

		wrong := post(path, url.Values{"as": {"form"}, "answer.count": {"x"}})
		if wrong.Status != http.StatusUnprocessableEntity {
			t.Fatalf("%d %s", wrong.Status, wrong.Body)
		}
		says(string(wrong.Body), "Needed.", "A number, such as 12 or 0.5.", "2 answers to correct")
		for text, problem := range map[string]string{`{"message": 1}`: "/message", `{"message": `: "not valid JSON", `[1]`: "must be a JSON object"} {
			wrong = post(path, url.Values{"input": {text}})
			if wrong.Status != http.StatusUnprocessableEntity {
				t.Fatalf("%s: %d", text, wrong.Status)
			}
			says(string(wrong.Body), problem)
		}
		if n := r.Store.Value(t, "SELECT count(*) FROM executions"); n != "1" {
			t.Fatalf("%s executions: what was refused has started something", n)
		}

		done := post(path, url.Values{"as": {"form"}, "answer.message": {"line one\r\nline two"}, "answer.count": {"5"}})
		if done.Status != http.StatusSeeOther {
			t.Fatalf("%d %s", done.Status, done.Body)
		}
		made := strings.TrimPrefix(done.Header.Get("Location"), "/executions/")
		hasAll(t, r.Ended(t, made), map[string]string{"result/message": "line one\nline two", "result/count": "5", "rerun_of": id})
		if n := r.Store.Value(t, "SELECT count(*) FROM drafts"); n != "0" {
			t.Error("the draft outlives what it was written for")
		}

		r.Do(t, http.MethodPost, "/executions/"+id+"/rerun/draft", "text=input%3Dhalf", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
		says(page(), ">half</textarea>")
		if gone := post(path+"/draft", url.Values{"discard": {"1"}}); gone.Status != http.StatusSeeOther {
			t.Errorf("%d", gone.Status)
		}
		says(page(), `value="one"`)
	})
}
