package conformance

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

var (
	executionID = regexp.MustCompile(`^exec_[0-9a-z]{26}`).MatchString
	runID       = regexp.MustCompile(`^run_[0-9a-z]{26}`).MatchString
)

func bothModesAgree(t *Trial) {
	a := t.Agent()
	input := fields{"name": "Alice", "list": []any{1.5, nil, "x"}}
	sync := t.Execute(call(a, "echo", input))
	t.Status(sync, http.StatusOK)
	async := t.End(t.Start(call(a, "echo", input)))
	one, _ := sync.Value("result")
	two, _ := async.Value("result")
	t.True(reflect.DeepEqual(one, two), "the same result by both URLs, got %v and %v", one, two)
}

func workHasNoLimit(t *Trial) {
	a := t.Agent()
	held := t.Start(call(a, "sleep", fields{"ms": 4000}))
	reported := t.Start(call(a, "accept", fields{"after_ms": 4000}))
	for _, id := range []string{held, reported} {
		end := t.End(id)
		t.Is(end, "status", "succeeded")
		t.True(end.Number("duration_ms") >= 3990, "duration_ms of about 4000, got %v", end.Number("duration_ms"))
	}
}

// givenGreeting uses the agent of the demo when the server has it, and plays it otherwise.
func givenGreeting(t *Trial) {
	if known := t.Do(http.MethodGet, "/api/v1/nodes/hello-world", nil); known.Status != http.StatusOK {
		t.Register(t.Instance("hello-world"))
	}
	answer := t.Do(http.MethodPost, "/api/v1/execute/hello-world.greet", "{\n    \"input\": {\n      \"name\": \"Alice\"\n    }\n  }")
	t.Status(answer, http.StatusOK)
	t.Is(answer, "result.greeting", "Hello, Alice!")
}

func syncBody(t *Trial) {
	a := t.Agent()
	answer := t.Execute(call(a, "echo", fields{"x": 1}))
	t.Status(answer, http.StatusOK)
	t.Matches(answer, "execution_id", executionID, "exec_ and 26 characters")
	t.Matches(answer, "run_id", runID, "run_ and 26 characters")
	t.Is(answer, "status", "succeeded")
	t.Is(answer, "result.x", 1)
	t.Has(answer, "duration_ms", "finished_at", "completed_at", "workflow_id")
	_, isNumber := valueOf(answer, "duration_ms").(float64)
	t.True(isNumber, "duration_ms to be a number in %s", answer)
	t.True(answer.Text("finished_at") == answer.Text("completed_at"), "finished_at to equal completed_at in %s", answer)
	t.True(answer.Header.Get("X-Execution-ID") == answer.Text("execution_id"), "the header X-Execution-ID to name the execution")
	t.True(answer.Header.Get("X-Run-ID") == answer.Text("run_id"), "the header X-Run-ID to name the run")
}

func syncLimit(t *Trial) {
	a := t.Agent()
	c := call(a, "accept", fields{"after_ms": 1600, "report": fields{"status": "succeeded", "result": "too late"}})
	c.Fields = fields{"timeout_seconds": 1}
	answer := t.Execute(c)
	t.Status(answer, http.StatusGatewayTimeout)
	t.True(answer.Took > 900*time.Millisecond && answer.Took < 1500*time.Millisecond, "an answer after about 1 s, got %s", answer.Took)
	id := answer.Text("execution_id")
	t.Is(t.Get(id), "status", "timeout")
	t.untilEvent(id, func(e client.Event) bool { return strings.Contains(e.Type, "late") }, "the late report")
	after := t.Get(id)
	t.Is(after, "status", "timeout")
	t.Lacks(after, "result.0")
}

// untilEvent waits until the history has an event of some kind.
func (t *Trial) untilEvent(id string, fits func(client.Event) bool, what string) {
	var seen []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); t.Pause(50 * time.Millisecond) {
		events, err := t.api.Events(t.ctx, id)
		t.Must(err)
		seen = seen[:0]
		for _, e := range events {
			if fits(e) {
				return
			}
			seen = append(seen, e.Type)
		}
	}
	t.Fatalf("expected %s among the events of %s, got %v", what, id, seen)
}

func acceptedAtOnce(t *Trial) {
	a := t.Agent()
	t.Submit(call(a, "sleep", fields{"ms": 1})) // opens the connections
	t.Within(50*time.Millisecond, "p95 of the 202", func() time.Duration {
		var took report.Durations
		for range 40 {
			answer := t.Submit(call(a, "sleep", fields{"ms": 200}))
			took = append(took, answer.Took)
			t.Is(answer, "status", "queued")
			now := t.Get(answer.Text("execution_id"))
			t.True(client.KnownStatus(now.Text("status")), "a status in %s", now)
		}
		return took.Percentile(95)
	})
}

func neverRunningWhileQueued(t *Trial) {
	t.Own(nodeCap + "1")
	a := t.Agent()
	first := t.Start(call(a, "later", fields{}))
	t.Until(first, "running")
	second := t.Start(call(a, "later", fields{}))
	t.Is(t.Get(second), "status", "queued")
	t.True(len(a.Arrivals(second)) == 0, "the second call to wait for the first")
	t.Report(first, fields{"status": "succeeded"})
	t.Until(second, "running")
	t.Report(second, fields{"status": "succeeded"})
	t.End(second)
}

func asyncWithoutWebhook(t *Trial) {
	a := t.Agent()
	answer := t.Submit(call(a, "echo", fields{"document_url": "https://example.com/report.pdf"}))
	t.Is(answer, "webhook_registered", false)
	t.Is(answer, "target", a.Target("echo"))
	t.Is(answer, "type", "reasoner")
	t.Matches(answer, "execution_id", executionID, "exec_ and 26 characters")
	t.Matches(answer, "run_id", runID, "run_ and 26 characters")
	t.Has(answer, "workflow_id", "created_at", "enqueued_at")
	t.Is(t.End(answer.Text("execution_id")), "webhook_registered", false)
}

func readWhileRunning(t *Trial) {
	a := t.Agent()
	id := t.Start(call(a, "sleep", fields{"ms": 900}))
	running := t.Until(id, "running")
	t.Is(running, "execution_id", id)
	t.Has(running, "started_at", "run_id")
	t.Lacks(running, "completed_at")
	t.End(id)
}

func readWhenDone(t *Trial) {
	a := t.Agent()
	end := t.End(t.Start(call(a, "sleep", fields{"ms": 30})))
	t.Is(end, "status", "succeeded")
	t.Is(end, "result.slept_ms", 30)
	t.Has(end, "duration_ms", "completed_at", "finished_at")
	started, completed := t.instant(end, "started_at"), t.instant(end, "completed_at")
	t.True(!completed.Before(started), "completed_at not before started_at in %s", end)
}

// instant reads a timestamp, which must be UTC with a Z.
func (t *Trial) instant(a client.Answer, path string) time.Time {
	text := a.Text(path)
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !strings.HasSuffix(text, "Z") {
		t.Fatalf("expected %s to be RFC 3339 with Z, got %q in %s", path, text, a)
	}
	return at
}

// givenPolling is the function of the async guide; the last lines print what it returned or threw.
const givenPolling = `
async function pollExecution(executionId, maxAttempts = 60) {
  let attempt = 0;
  let delay = 1000; // Start with 1s

  while (attempt < maxAttempts) {
    const response = await fetch(
      ` + "`BASE/api/v1/executions/${executionId}`" + `
    );
    const data = await response.json();

    if (data.status === 'succeeded') {
      return data.result;
    }

    if (data.status === 'failed') {
      throw new Error(data.error);
    }

    // Still running, wait and retry
    await new Promise(resolve => setTimeout(resolve, delay));
    delay = Math.min(delay * 1.5, 10000); // Cap at 10s
    attempt++;
  }

  throw new Error('Execution timeout');
}
const show = (id) => pollExecution(id).then(r => 'result ' + JSON.stringify(r), e => 'error ' + e.message);
Promise.all(process.argv.slice(2).map(show)).then(lines => console.log(lines.join('\n')));
`

func givenPollingWorks(t *Trial) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("needs Node")
	}
	dir, err := os.MkdirTemp("", "prove-poll-")
	t.Must(err)
	t.atEnd(func() { _ = os.RemoveAll(dir) })
	script := filepath.Join(dir, "poll.mjs")
	t.Must(os.WriteFile(script, []byte(strings.ReplaceAll(givenPolling, "BASE", t.api.Base)), 0o600))
	a := t.Agent()
	good := t.Start(call(a, "sleep", fields{"ms": 300}))
	bad := t.Start(call(a, "fail", fields{"message": "LLM API rate limit exceeded"}))
	out, err := exec.CommandContext(t.ctx, node, script, good, bad).CombinedOutput()
	t.Must(err)
	t.True(strings.Contains(string(out), `result {`) && strings.Contains(string(out), `"slept_ms":300`), "the result of the good one, got %s", out)
	t.True(regexp.MustCompile(`error .*LLM API rate limit exceeded`).Match(out), "the error of the failed one, got %s", out)
}

func waitingAnswersSync(t *Trial) {
	a := t.Agent()
	c := call(a, "accept", fields{"after_ms": 150, "report": fields{"status": "awaiting_human"}})
	answer := t.Execute(c)
	t.Status(answer, http.StatusOK)
	t.Is(answer, "status", "waiting")
	t.True(answer.Took < 1300*time.Millisecond, "an answer within 1 s of the pause, got %s", answer.Took)
	id := answer.Text("execution_id")
	t.Is(t.Get(id), "status", "waiting")
	t.Status(t.Report(id, fields{"status": "running"}), http.StatusOK)
	t.Status(t.Report(id, fields{"status": "succeeded", "result": "after the pause"}), http.StatusOK)
	end := t.End(id)
	t.Is(end, "status", "succeeded")
	t.Is(end, "result", "after the pause")
}

func failureIsAnAnswer(t *Trial) {
	a := t.Agent()
	answer := t.Execute(call(a, "fail", fields{"message": "LLM API rate limit exceeded"}))
	t.Status(answer, http.StatusOK)
	t.Is(answer, "status", "failed")
	for _, key := range []string{"error_message", "error"} {
		text := answer.Text(key)
		t.True(strings.Contains(text, "LLM API rate limit exceeded"), "%s to tell what the agent said, got %q", key, text)
	}
	t.Is(answer, "result", nil)
	t.Has(answer, "execution_id", "run_id", "duration_ms", "finished_at")
	t.Is(t.Get(answer.Text("execution_id")), "status", "failed")
}

func failureOfAChild(t *Trial) {
	a := t.Agent()
	c := call(a, "fail", fields{"status": 422, "message": "no"})
	c.Headers = []string{"X-Caller-Agent-ID", a.ID}
	answer := t.Execute(c)
	t.Status(answer, http.StatusUnprocessableEntity)
	t.Is(answer, "status", "failed")
	t.Has(answer, "execution_id")
	c = call(a, "fail", fields{"status": 500})
	c.Headers = []string{"X-Caller-Agent-ID", a.ID}
	t.Status(t.Execute(c), http.StatusBadGateway)
}

func timestampsAreUTC(t *Trial) {
	a := t.Agent()
	sync := t.Execute(call(a, "echo", fields{}))
	t.instant(sync, "finished_at")
	end := t.End(t.Start(call(a, "echo", fields{})))
	for _, key := range []string{"started_at", "completed_at", "finished_at"} {
		t.instant(end, key)
	}
}

func schemaGuards(t *Trial) {
	a := t.Agent()
	missing := t.Execute(call(a, "strict", fields{"count": 1}))
	t.Refused(missing, http.StatusUnprocessableEntity, "input_invalid")
	t.True(strings.Contains(missing.Text("details"), "message"), "details to name message: %s", missing)
	wrong := t.TrySubmit(call(a, "strict", fields{"message": "x", "count": "many"}))
	t.Refused(wrong, http.StatusUnprocessableEntity, "input_invalid")
	t.True(strings.Contains(wrong.Text("details"), "/count"), "details to have the JSON pointer /count: %s", wrong)
	t.True(len(a.Arrivals("")) == 0, "the agent not to be called, it was %d times", len(a.Arrivals("")))
	t.noRows(a.ID)
	t.Status(t.Execute(call(a, "strict", fields{"message": "Help!", "extra": true})), http.StatusOK)
}

// noRows fails when the list has executions of a node.
func (t *Trial) noRows(node string) {
	ids, err := t.api.ListAll(t.ctx, "node", node)
	t.Must(err)
	t.True(len(ids) == 0, "no execution of %s, the list has %v", node, ids)
}

func routedToThePath(t *Trial) {
	a := t.Agent()
	input := fields{"message": "hi", "n": 1}
	answer := t.Execute(call(a, "echo", input))
	t.Execute(call(a, "tool", input))
	seen := a.Arrivals("")
	t.True(len(seen) == 2, "two calls at the agent, got %d", len(seen))
	if len(seen) == 2 {
		t.True(seen[0].Kind == "reasoners" && seen[0].Function == "echo", "the path /reasoners/echo, got /%s/%s", seen[0].Kind, seen[0].Function)
		t.True(seen[1].Kind == "skills" && seen[1].Function == "tool", "the path /skills/tool, got /%s/%s", seen[1].Kind, seen[1].Function)
		t.True(seen[0].ExecutionID == answer.Text("execution_id"), "the execution id in the header")
		var got map[string]any
		seen[0].Input(&got)
		t.True(reflect.DeepEqual(got, fields{"message": "hi", "n": 1.0}), "the bare input as the body, got %s", seen[0].Body)
	}
}

func bothKindsWork(t *Trial) {
	a := t.Agent()
	for _, function := range []string{"echo", "tool"} {
		answer := t.Execute(call(a, function, fields{"q": function}))
		t.Status(answer, http.StatusOK)
		t.Is(answer, "result.q", function)
	}
	t.Is(t.Submit(call(a, "tool", fields{})), "type", "skill")
}

func unknownTargets(t *Trial) {
	a := t.Agent()
	t.Refused(t.Execute(call(a, "no_such_function", fields{})), http.StatusNotFound, "target_not_found")
	t.Refused(t.TrySubmit(client.Call{Target: "no-such-agent.echo", Input: fields{}}), http.StatusNotFound, "target_not_found")
	t.Status(t.Do(http.MethodPost, "/api/v1/execute/"+a.ID+":echo", `{"input":{}}`), http.StatusOK)
	t.Status(t.Do(http.MethodPost, "/api/v1/execute/"+a.ID+":skill:tool", `{"input":{}}`), http.StatusOK)
}

func persistedWhileRunning(t *Trial) {
	a := t.Agent()
	run := "run_" + a.ID
	done := make(chan client.Answer, 1)
	go func() {
		c := call(a, "sleep", fields{"ms": 700})
		c.Headers = []string{"X-Run-ID", run}
		answer, _ := t.api.Execute(t.ctx, c)
		done <- answer
	}()
	a.AwaitArrivals(t.ctx, "", 1)
	ids, err := t.api.ListAll(t.ctx, "run", run)
	t.Must(err)
	if len(ids) != 1 {
		t.Fatalf("expected the row while the agent is running, the list of the run has %v", ids)
	}
	row := t.Get(ids[0])
	t.Is(row, "status", "running")
	t.Is(row, "run_id", run)
	t.Status(<-done, http.StatusOK)
}

func durationIsTrue(t *Trial) {
	a := t.Agent()
	t.Within(5*time.Millisecond, "median difference", func() time.Duration {
		var off report.Durations
		for range 9 {
			answer := t.Execute(call(a, "sleep", fields{"ms": 60}))
			t.Status(answer, http.StatusOK)
			difference := answer.Number("duration_ms") - answer.Number("result.own_ms")
			off = append(off, time.Duration(max(difference, -difference)*float64(time.Millisecond)))
		}
		return off.Percentile(50)
	})
}

func callerMayLeave(t *Trial) {
	a := t.Agent()
	run := "run_" + a.ID
	ctx, cancel := context.WithTimeout(t.ctx, 300*time.Millisecond)
	defer cancel()
	c := call(a, "sleep", fields{"ms": 1000})
	c.Headers = []string{"X-Run-ID", run}
	_, err := t.api.Execute(ctx, c)
	t.True(err != nil, "the client to have given up")
	ids, err := t.api.ListAll(t.ctx, "run", run)
	t.Must(err)
	if len(ids) != 1 {
		t.Fatalf("expected one execution in the run, got %v", ids)
	}
	t.Is(t.End(ids[0]), "status", "succeeded")
}

// givenErrorHandling goes through the Python sample as requests would: raise_for_status first, then the status.
func givenErrorHandling(t *Trial) {
	a := t.Agent()
	sample := func(c client.Call, limit time.Duration) string {
		ctx, cancel := context.WithTimeout(t.ctx, limit)
		defer cancel()
		answer, err := t.api.Execute(ctx, c)
		switch {
		case ctx.Err() != nil:
			return "Execution timed out"
		case err != nil, answer.Status >= 400:
			return "Request failed"
		case answer.Text("status") == "failed":
			return "Execution failed: " + answer.Text("error_message")
		}
		_, ok := answer.Value("result")
		t.True(ok, "the key result in %s", answer)
		return "Result"
	}
	slow := call(a, "sleep", fields{"ms": 1500})
	slow.Fields = fields{"timeout_seconds": 1}
	gone := t.Instance("")
	t.Register(gone)
	gone.Close()
	for _, c := range []struct {
		call  client.Call
		limit time.Duration
		want  string
	}{
		{call(a, "echo", fields{"message": "Help!"}), 30 * time.Second, "Result"},
		{call(a, "fail", fields{"message": "broken"}), 30 * time.Second, "Execution failed: "},
		{call(a, "sleep", fields{"ms": 800}), 200 * time.Millisecond, "Execution timed out"},
		{slow, 30 * time.Second, "Request failed"},
		{call(gone, "echo", fields{}), 30 * time.Second, "Request failed"},
	} {
		got := sample(c.call, c.limit)
		t.True(strings.HasPrefix(got, c.want), "%s → %q, got %q", c.call.Target, c.want, got)
	}
}

func allJSONTypesTravel(t *Trial) {
	a := t.Agent()
	for _, v := range []any{fields{"k": "v"}, []any{1.0, "two", nil}, "text with <b> & ü", nil, 12.5, true, fields{}, []any{}} {
		direct := t.Execute(call(a, "value", fields{"value": v}))
		t.Status(direct, http.StatusOK)
		got, ok := direct.Value("result")
		t.True(ok && reflect.DeepEqual(got, v), "%#v back by a direct answer, got %#v", v, got)
		id := t.Start(call(a, "accept", fields{"report": fields{"status": "succeeded", "result": v}}))
		end := t.End(id)
		got = valueOf(end, "result")
		t.True(reflect.DeepEqual(got, v), "%#v back by a callback, got %s", v, end)
	}
}

func aliasesAreNormalised(t *Trial) {
	a := t.Agent()
	for word, want := range map[string]string{
		"completed": "succeeded", "Success": "succeeded", "DONE": "succeeded", " ok ": "succeeded", "error": "failed", "errored": "failed",
		"canceled": "cancelled", "timed_out": "timeout",
	} {
		id := t.Start(call(a, "accept", fields{"report": fields{"status": word, "error": "as reported"}}))
		t.Is(t.End(id), "status", want)
	}
}

func valueOf(a client.Answer, path string) any {
	v, _ := a.Value(path)
	return v
}
