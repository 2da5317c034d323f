package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestWatchTellsEverythingOnceOverALostConnection(t *testing.T) {
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		held, release := apptest.Held("held", `{"done": true}`)
		agent := r.Agent(t, "demo", held)
		id := r.Submit(t, "demo.held", map[string]any{"input": map[string]any{}})
		token := agent.Called(t, id, 1).Token
		wire := newLine(t, r.URL)
		verb := start(t, []string{"AGENTFIELD_SERVER=" + wire.URL}, "watch", id, "--json")
		verb.stdout.find(t, `("execution.running")`)
		r.Do(t, "POST", "/api/v1/executions/"+id+"/progress", map[string]any{"progress": 0.5, "message": "half"}, "X-Execution-Token", token)
		verb.stdout.find(t, `("half")`)
		wire.cut()
		r.Do(t, "POST", "/api/v1/executions/note", map[string]any{"execution_id": id, "message": "said in between"}, "X-Execution-Token", token)
		verb.stderr.find(t, `(trying again)`)
		verb.stdout.find(t, `(said in between)`)
		release()
		if code := verb.wait(t); code != exitOK {
			t.Fatalf("exit code %d, stderr %s", code, verb.stderr)
		}
		var kinds []string
		for text := range strings.Lines(verb.stdout.String()) {
			var e happening
			if err := json.Unmarshal([]byte(text), &e); err != nil || e.Execution != id {
				t.Fatalf("%q: %v", text, err)
			}
			kinds = append(kinds, strings.TrimPrefix(e.Type, "execution."))
		}
		if got := strings.Join(kinds, " "); got != "queued running progress note succeeded" {
			t.Errorf("it tells of %s", got)
		}
	})
}

func TestWatchEndsWithTheExecution(t *testing.T) {
	r := apptest.New(t)
	r.Agent(t, "demo", apptest.Echo("echo"), apptest.JSON("broken", 500, `{"error":"no luck"}`))
	well := r.Execute(t, "demo.echo", map[string]any{"input": map[string]any{"a": 1}}).Text("execution_id")
	ill := r.Execute(t, "demo.broken", map[string]any{"input": map[string]any{}}).Text("execution_id")
	if got := at(t, r, "watch", well); got.code != exitOK || !strings.Contains(got.stdout, "  running") || !strings.HasSuffix(got.stdout, "{\n  \"a\": 1\n}\n") {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := at(t, r, "watch", ill); got.code != exitFailed || !strings.Contains(got.stderr, "no luck") {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	for _, id := range []string{"exec_none", "wf_none"} {
		if got := at(t, r, "watch", id); got.code != exitFailed || got.stdout != "" {
			t.Errorf("watch %s: exit code %d, %s%s", id, got.code, got.stdout, got.stderr)
		}
	}
}

func TestWatchFollowsARun(t *testing.T) {
	r := apptest.New(t)
	held, release := apptest.Held("held", `{"done": true}`)
	agent := r.Agent(t, "demo", held, apptest.Echo("echo"))
	begun := r.Submit(t, "demo.held", map[string]any{"input": map[string]any{}}, "X-Workflow-ID", "wf_5")
	agent.Called(t, begun, 1)
	wire := newLine(t, r.URL)
	verb := start(t, []string{"AGENTFIELD_SERVER=" + wire.URL}, "watch", "wf_5")
	verb.stdout.find(t, "("+begun+"  demo.held  running)")
	wire.sent.find(t, `GET /api/v1/workflows/(wf_5)/events`)
	wire.cut()
	wire.sent.find(t, `(?s)GET /api/v1/workflows/(wf_5)/events.*GET /api/v1/workflows/wf_5/events`)
	second := r.Execute(t, "demo.echo", map[string]any{"input": map[string]any{}}, "X-Workflow-ID", "wf_5").Text("execution_id")
	verb.stdout.find(t, "("+second+"  demo.echo  succeeded)")
	release()
	verb.stdout.find(t, "("+begun+"  demo.held  succeeded)")
	if code := verb.wait(t); code != exitOK {
		t.Errorf("exit code %d, stderr %s", code, verb.stderr)
	}
	if n := strings.Count(verb.stdout.String(), begun+"  demo.held  running"); n != 1 {
		t.Errorf("it tells %d times that the first runs:\n%s", n, verb.stdout)
	}
}

func TestTailPrintsEveryEntryOnceOverALostConnection(t *testing.T) {
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		held, release := apptest.Held("held", `{}`)
		agent := r.Agent(t, "demo", held)
		id := r.Submit(t, "demo.held", map[string]any{"input": map[string]any{}})
		token := agent.Called(t, id, 1).Token
		says := func(level, message string) {
			answer := r.Do(t, "POST", "/api/v1/executions/"+id+"/logs",
				map[string]any{"agent_node_id": "demo", "level": level, "message": message, "attributes": map[string]any{"n": 1}}, "X-Execution-Token", token)
			if answer.Status != 202 {
				t.Fatalf("log: %d %s", answer.Status, answer.Body)
			}
		}
		says("info", "first")
		wire := newLine(t, r.URL)
		verb := start(t, []string{"AGENTFIELD_SERVER=" + wire.URL}, "tail", id)
		verb.stdout.find(t, `(INFO   demo  first  n=1)`)
		wire.cut()
		says("warn", "second")
		verb.stdout.find(t, `(WARN   demo  second)`)
		release()
		if code := verb.wait(t); code != exitOK {
			t.Fatalf("exit code %d, stderr %s", code, verb.stderr)
		}
		if n := strings.Count(verb.stdout.String(), "\n"); n != 2 || !strings.Contains(verb.stderr.String(), "has ended: succeeded") {
			t.Errorf("it prints %s%s", verb.stdout, verb.stderr)
		}
		for _, c := range []struct {
			args []string
			want string
		}{
			{nil, "first second"}, {[]string{"-n", "1"}, "second"}, {[]string{"--level", "info"}, "first"}, {[]string{"--grep", "SEC"}, "second"},
		} {
			got := at(t, r, append([]string{"tail", id, "--no-follow", "--json"}, c.args...)...)
			var words []string
			for text := range strings.Lines(got.stdout) {
				var e logged
				if err := json.Unmarshal([]byte(text), &e); err != nil {
					t.Fatal(err)
				}
				words = append(words, e.Message)
			}
			if strings.Join(words, " ") != c.want {
				t.Errorf("%v prints %v%s", c.args, words, got.stderr)
			}
		}
	})
}
