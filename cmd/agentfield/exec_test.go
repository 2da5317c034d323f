package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestExecPrintsTheResultAndNothingElse(t *testing.T) {
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("broken", 500, `{"error":"no luck"}`))
		file := t.TempDir() + "/input.json"
		if err := os.WriteFile(file, []byte(`{"a": "file"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		for input, args := range map[string][]string{
			`{}`:             {},
			`{"a":1}`:        {`{"a": 1}`},
			`{"a":"x=y"}`:    {"a=x=y"},
			`{"a":[1,2]}`:    {"a:=[1, 2]"},
			`{"a":"file"}`:   {"@" + file},
			`{"a":"typed"}`:  {"-"},
			`{"a":"again"} `: {"--file", "-"},
		} {
			stdin := map[string]string{"-": `{"a": "typed"}`, "--file": `{"a": "again"}`}
			first := ""
			if len(args) > 0 {
				first = args[0]
			}
			got := typed(t, r.URL, stdin[first], append([]string{"exec", "demo.echo"}, args...)...)
			if got.code != exitOK || compact(t, got.stdout) != strings.TrimSpace(input) || !strings.Contains(got.stderr, "succeeded in") {
				t.Errorf("%v: exit code %d, stdout %s, stderr %s", args, got.code, got.stdout, got.stderr)
			}
		}
		if got := at(t, r, "exec", "demo.broken"); got.code != exitFailed || got.stdout != "" || !regexp.MustCompile(`exec_\w+ failed in .*no luck.*\(agent_error\)`).MatchString(got.stderr) {
			t.Errorf("a failure: exit code %d, stdout %s, stderr %s", got.code, got.stdout, got.stderr)
		}
		if got := at(t, r, "exec", "demo.broken", "--json"); got.code != exitFailed || !strings.Contains(got.stdout, `"status": "failed"`) {
			t.Errorf("a failure as JSON: exit code %d, stdout %s", got.code, got.stdout)
		}
		if got := at(t, r, "exec", "demo.nothing"); got.code != exitFailed || !strings.Contains(got.stderr, "target_not_found") {
			t.Errorf("an unknown function: exit code %d, stderr %s", got.code, got.stderr)
		}
	})
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestExecSendsWhatTheFlagsSay(t *testing.T) {
	r := apptest.New(t)
	agent := r.Agent(t, "demo", apptest.Echo("echo"))
	hook := apptest.NewReceiver(t)
	got := at(t, r, "exec", "demo.echo", "--async", "--session", "s1", "--actor", "a1", "--workflow", "wf_1", "--timeout", "30s", "--attempts", "3",
		"--context", `{"order": 7}`, "--webhook", hook.URL, "--webhook-secret", "hush", "--webhook-header", "X-Custom-ID: request-123", "--idempotency-key", "once")
	id := strings.TrimSpace(got.stdout)
	if got.code != exitOK || !strings.HasPrefix(id, "exec_") || !strings.Contains(got.stderr, "agentfield watch "+id) {
		t.Fatalf("exit code %d, stdout %s, stderr %s", got.code, got.stdout, got.stderr)
	}
	call := agent.Called(t, id, 1)
	for name, want := range map[string]string{"X-Session-ID": "s1", "X-Actor-ID": "a1", "X-Workflow-ID": "wf_1"} {
		if call.Header.Get(name) != want {
			t.Errorf("%s is %q", name, call.Header.Get(name))
		}
	}
	delivery := hook.Got(t, 1)
	if delivery.Header.Get("X-Custom-ID") != "request-123" || delivery.Header.Get("X-AgentField-Signature") == "" || !strings.Contains(string(delivery.Input), `"order"`) {
		t.Errorf("the webhook is %v %s", delivery.Header, delivery.Input)
	}
	row := r.Get(t, id)
	if row.Text("max_attempts") != "3" || row.Text("deadline_at") == "" {
		t.Errorf("the execution is %s", row.Body)
	}
	again := at(t, r, "exec", "demo.echo", "--async", "--json", "--timeout", "30s", "--attempts", "3", "--context", `{"order": 7}`, "--workflow", "wf_1",
		"--session", "s1", "--actor", "a1", "--webhook", hook.URL, "--webhook-secret", "hush", "--webhook-header", "X-Custom-ID: request-123", "--idempotency-key", "once")
	if !strings.Contains(again.stdout, id) {
		t.Errorf("sent again it is %s%s", again.stdout, again.stderr)
	}
}

func TestExecWaitsForTheEndOverLostConnections(t *testing.T) {
	r := apptest.New(t)
	held, release := apptest.Held("held", `{"done": true}`)
	agent := r.Agent(t, "demo", held)
	wire := newLine(t, r.URL)
	verb := start(t, []string{"AGENTFIELD_SERVER=" + wire.URL}, "exec", "demo.held", "--wait")
	agent.Called(t, "", 1)
	wire.sent.find(t, `GET /api/v1/executions/(\w+)\?`)
	wire.cut()
	wire.sent.find(t, `(?s)GET /api/v1/executions/(\w+)\?.*GET /api/v1/executions/\w+\?`)
	release()
	verb.stdout.find(t, `("done": true)`)
	if code := verb.wait(t); code != exitOK {
		t.Errorf("exit code %d, stderr %s", code, verb.stderr)
	}
}

func TestExecPointsAtThePersonItWaitsFor(t *testing.T) {
	r := apptest.New(t)
	agent := r.Agent(t, "claims", apptest.Taking("decide"))
	for flag, wants := range map[string]string{"": "agentfield approve claim-1", "--json": "agentfield approve claim-2"} {
		args := []string{"exec", "claims.decide"}
		if flag != "" {
			args = append(args, flag)
		}
		id := wants[len("agentfield approve "):]
		verb := start(t, []string{"AGENTFIELD_SERVER=" + r.URL}, args...)
		call := agent.Called(t, "", len(agent.Calls(""))+1)
		r.Do(t, "POST", "/api/v1/executions/"+call.ExecutionID+"/request-approval", map[string]any{"approval_request_id": id}, "X-Execution-Token", call.Token)
		verb.stderr.find(t, "("+wants+")")
		if code := verb.wait(t); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
}
