package api_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestAFunctionTellsHowItHasDone(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", strict(), apptest.JSON("broken", http.StatusInternalServerError, `{"error":"no disk left on host 17"}`), apptest.Echo("echo"))
		parent := r.Execute(t, "demo.echo", `{}`)
		r.Execute(t, "demo.strict", `{"input":{"message":"a"}}`, "X-Parent-Execution-ID", parent.Text("execution_id"), "X-Run-ID", parent.Text("run_id"))
		for range 2 {
			r.Execute(t, "demo.broken", `{}`)
		}
		runAll(t, r, []scenario{
			{name: "with a schema", ask: "GET /api/v1/reasoners/demo.strict", status: http.StatusOK, must: map[string]string{
				"target": "demo.strict", "agent_node_id": "demo", "reasoner_id": "strict", "type": "reasoner", "node_state": "ready", "input_schema/required/0": "message",
				"usage/calls": "1", "usage/succeeded": "1", "usage/failed": "0", "usage/truncated": "false", "usage/called_by/0/target": "demo.echo", "usage/called_by/0/count": "1",
			}},
			{name: "what it calls", ask: "GET /api/v1/reasoners/demo.echo", status: http.StatusOK, must: map[string]string{"usage/calls_made/0/target": "demo.strict"}},
			{name: "failures", ask: "GET /api/v1/reasoners/demo.broken?since=1h", status: http.StatusOK, must: map[string]string{"usage/calls": "2", "usage/failed": "2"}},
			{name: "a bad time", ask: "GET /api/v1/reasoners/demo.broken?since=soon", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "unknown function", ask: "GET /api/v1/reasoners/demo.nothing", status: http.StatusNotFound},
			{name: "unknown node", ask: "GET /api/v1/reasoners/nobody.echo", status: http.StatusNotFound},
			{name: "no target", ask: "GET /api/v1/reasoners/demo", status: http.StatusNotFound, must: map[string]string{"code": "target_not_found"}},
		})
		page := string(r.Do(t, http.MethodGet, "/reasoners/demo.broken", nil).Body)
		for _, says := range []string{"no disk left on host 17", "0 %", "Call it from", "urllib.request", "http.NewRequest", "await fetch", "/api/v1/execute/async/demo.broken"} {
			if !strings.Contains(page, says) {
				t.Errorf("the page does not say %s", says)
			}
		}
	})
}

func TestFunctionsAreFoundByWords(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		empty := string(r.Do(t, http.MethodGet, "/reasoners", nil).Body)
		if !strings.Contains(empty, "Nothing can be called yet") {
			t.Error("without nodes the page does not say so")
		}
		r.Agent(t, "demo", apptest.Echo("echo"), strict())
		r.Agent(t, "other", apptest.Echo("echo"))
		for path, want := range map[string][]string{
			"/reasoners": {"demo.echo", "demo.strict", "other.echo"}, "/reasoners?q=ECHO": {"demo.echo", "other.echo"}, "/reasoners?q=other+echo": {"other.echo"},
			"/reasoners?node=demo": {"demo.echo", "demo.strict"}, "/reasoners?q=nothing": {},
		} {
			page := string(r.Do(t, http.MethodGet, path, nil).Body)
			for _, target := range []string{"demo.echo", "demo.strict", "other.echo"} {
				there := strings.Contains(page, `href="/reasoners/`+target+`"`)
				wanted := false
				for _, w := range want {
					wanted = wanted || w == target
				}
				if there != wanted {
					t.Errorf("%s: %s is there: %t", path, target, there)
				}
			}
		}
	})
}

func TestAFunctionIsTriedFromItsPage(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t)
		agent := r.Agent(t, "demo", strict(), apptest.Echo("echo"))
		path := "/reasoners/demo.strict"
		post := func(to string, form url.Values) apptest.Answer {
			t.Helper()
			return r.Do(t, http.MethodPost, to, form.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
		}
		page := func(path string, words ...string) {
			t.Helper()
			answer := r.Do(t, http.MethodGet, path, nil)
			for _, w := range words {
				if !strings.Contains(string(answer.Body), w) {
					t.Errorf("%s (%d) does not say %s", path, answer.Status, w)
				}
			}
		}
		page(path, `name="answer.message"`, `name="answer.count"`, `value="async" checked`)

		// What is wrong is told at its field, and starts nothing.
		for field, form := range map[string]url.Values{
			"Needed.":                   {"as": {"form"}},
			"not valid JSON":            {"input": {"{"}},
			"must be a JSON object":     {"input": {"[1]"}},
			"/message":                  {"input": {`{"message": 1}`}},
			"try-webhook-problem":       {"input": {`{"message": "a"}`}, "webhook": {"ftp://example.com"}},
			"characters that are not a": {"input": {`{"message": "a"}`}, "session": {"a\x01b"}},
		} {
			if answer := post(path+"/try", form); answer.Status != http.StatusUnprocessableEntity || !strings.Contains(string(answer.Body), field) {
				t.Errorf("%s: %d", field, answer.Status)
			}
		}
		if n := r.Store.Value(t, "SELECT count(*) FROM executions"); n != "0" {
			t.Fatalf("%s executions: what was refused has started something", n)
		}

		form := url.Values{
			"key": {"one"}, "as": {"form"}, "answer.message": {"hello"}, "answer.count": {"2"}, "session": {"s1"}, "actor": {"a1"}, "workflow": {"wf"}, "webhook": {hook.URL}, "mode": {"async"},
		}
		first, second := post(path+"/try", form), post(path+"/try", form)
		id := strings.TrimPrefix(first.Header.Get("Location"), "/executions/")
		if first.Status != http.StatusSeeOther || id == "" || second.Header.Get("Location") != first.Header.Get("Location") {
			t.Fatalf("%d %s, then %s", first.Status, first.Header.Get("Location"), second.Header.Get("Location"))
		}
		hasAll(t, r.Ended(t, id), map[string]string{"status": "succeeded", "mode": "async", "session_id": "s1", "actor_id": "a1", "workflow_id": "wf", "webhook_registered": "true", "result/message": "hello"})
		hook.Got(t, 1)
		if call := agent.Called(t, id, 1); string(call.Input) != `{"message":"hello","count":2}` {
			t.Errorf("the agent got %s", call.Input)
		}
		waited := post(path+"/try", url.Values{"key": {"two"}, "input": {`{"message":"b"}`}, "mode": {"sync"}})
		hasAll(t, r.Get(t, strings.TrimPrefix(waited.Header.Get("Location"), "/executions/")), map[string]string{"status": "succeeded", "mode": "sync"})
		if n := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'execution.try'"); n != "2" {
			t.Errorf("%s entries of two tries", n)
		}

		// The form is filled from an execution, from the address, and with what was typed and not sent.
		page(path+"?from="+id, `value="hello"`)
		page(path+"?input="+base64.RawURLEncoding.EncodeToString([]byte(`{"message":"linked"}`)), `value="linked"`)
		post(path+"/try/draft", url.Values{"as": {"form"}, "answer.message": {"typed"}, "session": {"s9"}, "mode": {"sync"}, "to": {"json"}})
		page(path, "&#34;message&#34;: &#34;typed&#34;", `value="s9"`, `value="sync" checked`, "Your draft, kept", "X-Session-ID: s9", "/api/v1/execute/demo.strict")
		post(path+"/try/draft", url.Values{"discard": {"1"}})
		page(path, `name="answer.message"`)
	})
}
