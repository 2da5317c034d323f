package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestListsSpeakTheLanguageOfTheDashboard(t *testing.T) {
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "good", apptest.Echo("echo"))
		r.Agent(t, "bad", apptest.JSON("broken", 500, `{"error":"no luck"}`))
		well := r.Execute(t, "good.echo", map[string]any{"input": map[string]any{}}, "X-Workflow-ID", "wf_77").Text("execution_id")
		ill := r.Execute(t, "bad.broken", map[string]any{"input": map[string]any{}}).Text("execution_id")
		for _, c := range []struct {
			args       []string
			has, lacks string
		}{
			{nil, ill, "There is more"},
			{[]string{"executions"}, well, "There is more"},
			{[]string{"status:failed"}, ill, well},
			{[]string{"node:good", "status:succeeded"}, well, ill},
			{[]string{"--", "-status:failed"}, well, ill},
			{[]string{"-n", "1"}, "There is more: --cursor ", well},
			{[]string{"node:none"}, "Nothing found", "EXECUTION"},
			{[]string{"runs", "target:good.echo"}, "wf_77", "bad.broken"},
			{[]string{"agents"}, "echo", "There is more"},
			{[]string{"approvals"}, "Nothing found", "REQUEST"},
		} {
			got := at(t, r, append([]string{"list"}, c.args...)...)
			if all := got.stdout + got.stderr; got.code != exitOK || !strings.Contains(all, c.has) || strings.Contains(all, c.lacks) {
				t.Errorf("list %v: exit code %d, %s", c.args, got.code, all)
			}
		}
		first := at(t, r, "list", "-n", "1", "--json")
		var page struct {
			Executions []struct {
				ID string `json:"execution_id"`
			} `json:"executions"`
			Next string `json:"next_cursor"`
		}
		if err := json.Unmarshal([]byte(first.stdout), &page); err != nil || len(page.Executions) != 1 || page.Executions[0].ID != ill {
			t.Fatalf("the first page is %s: %v", first.stdout, err)
		}
		if got := at(t, r, "list", "-n", "1", "--cursor", page.Next); !strings.Contains(got.stdout, well) || strings.Contains(got.stdout, ill) {
			t.Errorf("the second page is %s%s", got.stdout, got.stderr)
		}
	})
}

func TestAMistakeInAFilterIsPointedAt(t *testing.T) {
	got := at(t, apptest.New(t), "list", "status:failed", "nod:x")
	if got.code != exitUsage || !strings.Contains(got.stderr, "Did you mean node?") || !strings.Contains(got.stderr, "\n  status:failed nod:x\n                ^\n") {
		t.Errorf("exit code %d, stderr %s", got.code, got.stderr)
	}
}

func TestGetShowsWhateverHasTheID(t *testing.T) {
	r := apptest.New(t)
	agent := r.Agent(t, "demo", apptest.Echo("echo"), apptest.Taking("ask"))
	call := r.Execute(t, "demo.echo", map[string]any{"input": map[string]any{"name": "Alice"}}, "X-Workflow-ID", "wf_9")
	waits := r.Submit(t, "demo.ask", map[string]any{"input": map[string]any{}})
	asked := r.Do(t, "POST", "/api/v1/executions/"+waits+"/request-approval", map[string]any{"approval_request_id": "claim-9", "title": "Pay it", "payload": map[string]any{"amount": 9}},
		"X-Execution-Token", agent.Called(t, waits, 1).Token)
	for id, wants := range map[string][]string{
		call.Text("execution_id"): {"demo.echo", "succeeded", `"name": "Alice"`, "wf_9"},
		waits:                     {"waiting", "claim-9", "Decide at"},
		call.Text("run_id"):       {"wf_9", "demo.echo", "Executions"},
		"wf_9":                    {call.Text("run_id")},
		asked.Text("approval_id"): {"Pay it", `"amount": 9`, waits},
		"demo":                    {"demo.ask", "active", agent.URL},
	} {
		got := at(t, r, "get", id)
		for _, want := range wants {
			if got.code != exitOK || !strings.Contains(got.stdout, want) {
				t.Errorf("get %s: exit code %d, it lacks %q: %s%s", id, got.code, want, got.stdout, got.stderr)
			}
		}
		if got := at(t, r, "get", id, "--json"); !json.Valid([]byte(got.stdout)) {
			t.Errorf("get %s --json: %s", id, got.stdout)
		}
	}
	for _, part := range []string{"--input", "--result"} {
		if got := at(t, r, "get", call.Text("execution_id"), part); got.stdout != `{"name":"Alice"}` {
			t.Errorf("%s is %q %s", part, got.stdout, got.stderr)
		}
	}
	if got := at(t, r, "get", call.Text("execution_id"), "--wait"); got.code != exitOK || compact(t, got.stdout) != `{"name":"Alice"}` {
		t.Errorf("with --wait it is %s%s", got.stdout, got.stderr)
	}
	for _, id := range []string{"nobody", "exec_none", "appr_none"} {
		if got := at(t, r, "get", id); got.code != exitFailed || got.stderr == "" {
			t.Errorf("get %s: exit code %d, %s", id, got.code, got.stderr)
		}
	}
}

func TestAShellCompletesWhatTheServerKnows(t *testing.T) {
	r := apptest.New(t)
	agent := r.Agent(t, "demo", apptest.Echo("echo"), apptest.Taking("ask"))
	r.Agent(t, "other", apptest.Echo("echo"))
	id := r.Submit(t, "demo.ask", map[string]any{"input": map[string]any{}})
	r.Do(t, "POST", "/api/v1/executions/"+id+"/request-approval", map[string]any{"approval_request_id": "claim-9", "title": "Pay it"},
		"X-Execution-Token", agent.Called(t, id, 1).Token)
	for _, c := range []struct {
		args       []string
		has, lacks string
	}{
		{[]string{"exec", "demo."}, "demo.echo", "other.echo"},
		{[]string{"watch", "exec_"}, id + "\tdemo.ask, waiting", "claim-9"},
		{[]string{"approve", ""}, "claim-9\tPay it", id},
		{[]string{"list", "r"}, "runs", "agents"},
		{[]string{"can"}, "cancel", "watch"},
	} {
		got := at(t, r, append([]string{"__complete"}, c.args...)...)
		if got.code != exitOK || !strings.Contains(got.stdout, c.has) || strings.Contains(got.stdout, c.lacks) {
			t.Errorf("%v: exit code %d, %s%s", c.args, got.code, got.stdout, got.stderr)
		}
	}
	if got := run(t, nil, "__complete", "exec", "--server", "http://127.0.0.1:1", ""); got.code != exitOK || strings.Contains(got.stdout, "demo") {
		t.Errorf("without a server: exit code %d, %s", got.code, got.stdout)
	}
}
