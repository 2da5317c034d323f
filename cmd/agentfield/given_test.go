package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentfield/agentfield/examples/given"
)

// TestMain makes the test binary a server when it is told so, because only a process of its own can be killed.
func TestMain(m *testing.M) {
	if args := os.Getenv("AGENTFIELD_TEST_RUN"); args != "" {
		p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
		os.Exit(p.run(context.Background(), strings.Fields(args)))
	}
	os.Exit(m.Run())
}

// runGiven starts the agent of a document beside a server and waits until that knows it.
func runGiven(t *testing.T, environ []string, server, file string) {
	t.Helper()
	for _, a := range given.Agents() {
		if a.File != file {
			continue
		}
		source, err := a.Program()
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), a.Name)
		if err := writeAgent(dir, map[string][]byte{"agentfield.yaml": []byte("name: " + a.Name + "\n"), "main.py": []byte(source)}); err != nil {
			t.Fatal(err)
		}
		r := startHere(t, environ, "run", dir, "--server", server)
		r.stdout.find(t, "("+a.Name+" is ready)")
		return
	}
	t.Fatalf("no agent is in %s", file)
}

func givenServer(t *testing.T) (base string, environ []string) {
	t.Helper()
	environ = append(developers(t), "AGENTFIELD_AI=fake")
	return start(t, nil, "server", "--port", "0").stderr.find(t, `listening on (http://127\.0\.0\.1:\d+)`), environ
}

func post(t *testing.T, url, body string, header ...string) map[string]any {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return answer(t, request)
}

// S35, S36: the router's prefix is part of the endpoint.
func TestTheGivenRouterAnswersUnderItsPrefix(t *testing.T) {
	base, environ := givenServer(t)
	runGiven(t, environ, base, "router.txt")
	got := post(t, base+"/api/v1/execute/support-agent.support_analyze_sentiment", `{
    "input": {
      "message": "This is the third time I am calling!"
    }
  }`, "Content-Type", "application/json")
	result, _ := got["result"].(map[string]any)
	if got["status"] != "succeeded" || result["sentiment"] == nil || result["confidence"] == nil || result["recommendation"] == nil {
		t.Errorf("the answer is %v", got)
	}
}

// S79 to S84, S97, S110: memory, a call, the model, a note and a typed result, with no id in the code.
func TestTheGivenTriageUsesEverythingItNames(t *testing.T) {
	base, environ := givenServer(t)
	runGiven(t, environ, base, "sentiment.txt")
	runGiven(t, environ, base, "triage.txt")
	session := []string{"Content-Type", "application/json", "X-Session-ID", "session_user123"}
	post(t, base+"/api/v1/memory/set", `{"key":"customer_history","data":["two orders"],"scope":"session"}`, session...)
	got := post(t, base+"/api/v1/execute/support-agent.triage_ticket", `{
  "input": {"ticket_id": 12345, "message": "I can't log in"}
}`, session...)
	result, _ := got["result"].(map[string]any)
	priority, _ := result["priority"].(string)
	if got["status"] != "succeeded" || priority == "" || result["escalate"] == nil {
		t.Fatalf("the answer is %v", got)
	}
	var notes, dag map[string]any
	get(t, base+"/api/v1/executions/"+got["execution_id"].(string)+"/notes", &notes)
	if text := asJSON(notes["notes"]); !strings.Contains(text, "Triaged as "+priority) {
		t.Errorf("the note is missing: %s", text)
	}
	get(t, base+"/api/v1/workflows/"+got["run_id"].(string)+"/dag", &dag)
	if text := asJSON(dag["dag"]); !strings.Contains(text, `"sentiment-agent"`) || !strings.Contains(text, `"parent_execution_id":"`+got["execution_id"].(string)+`"`) {
		t.Errorf("the child is not linked to its parent: %s", text)
	}
}

// S82: the other snippet writes what it decided into the memory of its workflow. S124: the one of the Compose file takes the address of the
// environment.
func TestTheOtherGivenAgents(t *testing.T) {
	base, environ := givenServer(t)
	for _, file := range []string{"sentiment.txt", "support.txt", "compose.txt"} {
		runGiven(t, environ, base, file)
	}
	workflow := []string{"Content-Type", "application/json", "X-Workflow-ID", "wf_customer_support_001"}
	got := post(t, base+"/api/v1/execute/customer-support.triage_ticket", `{"input": {"ticket": {"message": "Help!"}}}`, workflow...)
	if got["status"] != "succeeded" {
		t.Fatalf("the answer is %v", got)
	}
	if memory := post(t, base+"/api/v1/memory/get", `{"key":"ticket_status","scope":"workflow"}`, workflow...); memory["data"] != "triaged" {
		t.Errorf("the memory is %v", memory)
	}
	if got := post(t, base+"/api/v1/execute/my-agent.where", `{"input":{}}`); got["result"] != base {
		t.Errorf("the agent uses the server %v, not %s", got["result"], base)
	}
}

// killable is a server in a process of its own.
func killable(t *testing.T, address, data string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := exec.CommandContext(t.Context(), self)
	server.Env = append(os.Environ(), "AGENTFIELD_TEST_RUN=server --listen "+address+" --data-dir "+data)
	log := newWatched()
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	log.find(t, `(listening on http)`)
	return server
}

// S55, S67: an agent that waits for a person goes on with the decision although the server was killed in between.
func TestAPauseSurvivesTheKilledServer(t *testing.T) {
	environ := developers(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, data := l.Addr().String(), t.TempDir()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	base := "http://" + address
	server := killable(t, address, data)
	runGiven(t, environ, base, "claims.txt")
	id, _ := post(t, base+"/api/v1/execute/async/claims-agent.review_claim", `{"input":{"claim":"claim-12345"}}`)["execution_id"].(string)
	waiting := waitingFor(t, base, id)
	if waiting["type"] != "approval" || waiting["approval_request_id"] != "claim-12345" || waiting["approval_request_url"] != "https://dashboard.example.com/claims/claim-12345" {
		t.Errorf("it waits for %v", waiting)
	}
	if err := server.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()

	killable(t, address, data)
	decided := post(t, base+"/api/v1/webhooks/approval", `{
    "approval_request_id": "claim-12345",
    "decision": "approved",
    "feedback": "Claim verified against policy"
  }`, "Content-Type", "application/json")
	if decided["status"] != "processed" {
		t.Errorf("the decision: %v", decided)
	}
	var end map[string]any
	ended(t, base+"/api/v1/executions/"+id, &end)
	if got := asJSON(end["result"]); end["status"] != "succeeded" || got != `{"decision":"approved","feedback":"Claim verified against policy"}` {
		t.Errorf("it ended %v with %s", end["status"], got)
	}
}

// S55, last clause: where a function may be run again, the decision reaches the next process of the agent, and nobody is asked twice.
func TestAPauseSurvivesTheKilledAgent(t *testing.T) {
	base, environ := givenServer(t)
	dir := filepath.Join(t.TempDir(), "lasting")
	source := `import os
from agentfield import Agent

app = Agent("lasting")

@app.reasoner(idempotent=True)
async def review(claim: str) -> dict:
    result = await app.pause(title="Pay?", payload={"claim": claim})
    return {"decision": result.decision, "attempt": app.execution.attempt}

@app.skill()
async def die() -> None:
    os._exit(9)
`
	if err := writeAgent(dir, map[string][]byte{"agentfield.yaml": []byte("name: lasting\n"), "main.py": []byte(source)}); err != nil {
		t.Fatal(err)
	}
	first := startHere(t, environ, "run", dir, "--server", base)
	first.stdout.find(t, "(lasting is ready)")
	id, _ := post(t, base+"/api/v1/execute/async/lasting.review", `{"input":{"claim":"12345"}}`)["execution_id"].(string)
	waiting := waitingFor(t, base, id)
	post(t, base+"/api/v1/execute/async/lasting.die", `{}`)
	if code := <-first.code; code != exitFailed {
		t.Fatalf("the killed agent ends run with %d", code)
	}
	first.code <- exitFailed

	second := startHere(t, environ, "run", dir, "--server", base)
	second.stdout.find(t, "(lasting is ready)")
	post(t, base+"/api/v1/webhooks/approval", `{"approval_request_id":"`+waiting["approval_request_id"].(string)+`","decision":"approved"}`)
	var end map[string]any
	ended(t, base+"/api/v1/executions/"+id, &end)
	if got := asJSON(end["result"]); end["status"] != "succeeded" || got != `{"attempt":2,"decision":"approved"}` {
		t.Errorf("it ended %v with %s: %v", end["status"], got, end["error"])
	}
}

// waitingFor waits until an execution waits for a person, and says for what.
func waitingFor(t *testing.T, base, id string) map[string]any {
	t.Helper()
	var row map[string]any
	for row["status"] != "waiting" {
		known, _ := row["status"].(string)
		row = nil
		get(t, base+"/api/v1/executions/"+id+"?wait=30s&status="+known, &row)
		if row["status"] == "failed" {
			t.Fatalf("it failed: %v", row)
		}
	}
	waiting, _ := row["waiting_for"].(map[string]any)
	return waiting
}

// TestAThousandCallsAtOnceThroughOneAgent: each of them gets its own answer.
func TestAThousandCallsAtOnceThroughOneAgent(t *testing.T) {
	base, environ := givenServer(t)
	dir := filepath.Join(t.TempDir(), "crowd")
	source := `import asyncio
from agentfield import Agent

app = Agent("crowd")
here = []

@app.reasoner()
async def echo(n: int) -> int:
    here.append(n)
    while len(here) < 1000:
        await asyncio.sleep(0.01)
    return n
`
	if err := writeAgent(dir, map[string][]byte{"agentfield.yaml": []byte("name: crowd\n"), "main.py": []byte(source)}); err != nil {
		t.Fatal(err)
	}
	r := startHere(t, environ, "run", dir, "--server", base)
	r.stdout.find(t, "(crowd is ready)")
	var calls sync.WaitGroup
	wrong := make(chan string, 1000)
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}
	for n := range 1000 {
		calls.Go(func() {
			body := fmt.Sprintf(`{"input":{"n":%d},"timeout_seconds":240}`, n)
			res, err := client.Post(base+"/api/v1/execute/crowd.echo", "application/json", strings.NewReader(body)) //nolint:noctx // the client has a limit
			if err != nil {
				wrong <- err.Error()
				return
			}
			defer func() { _ = res.Body.Close() }()
			var text bytes.Buffer
			if _, err := text.ReadFrom(res.Body); err != nil || !strings.Contains(text.String(), fmt.Sprintf(`"status":"succeeded","result":%d,`, n)) {
				wrong <- fmt.Sprintf("%d: %s %v", n, &text, err)
			}
		})
	}
	calls.Wait()
	if len(wrong) > 0 {
		t.Errorf("%d calls went wrong, one of them: %s", len(wrong), <-wrong)
	}
}
