package api_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestExecuteAnswersAsDocumented(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		skill := apptest.Echo("skill")
		skill.Skill = true
		agent := r.Agent(t, "hello-world", greet(), skill, strict(), apptest.Echo("echo"),
			apptest.JSON("fail", http.StatusInternalServerError, `{"error":"LLM API rate limit exceeded","retry_in":30}`),
			apptest.JSON("refuse", http.StatusUnprocessableEntity, `{"detail":"name is missing"}`),
			apptest.Hanging("hang"), apptest.Taking("take"))
		runAll(t, r, []scenario{
			{
				name: "S3 the given curl of the synchronous call", ask: "POST /api/v1/execute/hello-world.greet",
				body: `{"input":{"name":"Alice"}}`, header: []string{"Content-Type", "application/json"}, status: http.StatusOK,
				must: map[string]string{
					"execution_id": execID, "run_id": runID, "workflow_id": runID, "status": "succeeded", "result/greeting": "Hello, Alice!",
					"duration_ms": `^\d+$`, "finished_at": instant, "completed_at": instant,
				},
				never: []string{"error", "error_message", "webhook_registered", "waiting_for"}, row: "succeeded", events: []string{"running", "succeeded"},
			},
			{
				name: "C17 curl -d declares a form", ask: "POST /api/v1/execute/hello-world.greet", body: `{"input":{"name":"Bob"}}`,
				header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: http.StatusOK,
				must: map[string]string{"result/greeting": "Hello, Bob!"}, row: "succeeded",
			},
			{
				name: "C17 no media type at all", ask: "POST /api/v1/execute/hello-world.greet", body: `{"input":{"name":"Bob"}}`,
				status: http.StatusOK, must: map[string]string{"result/greeting": "Hello, Bob!"}, row: "succeeded",
			},
			{
				name: "S32 a skill has the same form of URL", ask: "POST /api/v1/execute/hello-world.skill", body: `{"input":{"a":[1,2.50]}}`,
				status: http.StatusOK, must: map[string]string{"result/a": "[1,2.50]"}, row: "succeeded",
			},
			{
				name: "the colon form of discovery", ask: "POST /api/v1/execute/hello-world:skill:skill", body: `{}`, status: http.StatusOK,
				must: map[string]string{"result": "{}"}, row: "succeeded",
			},
			{
				name: "a null input is an empty one", ask: "POST /api/v1/execute/hello-world.echo", body: `{"input":null}`, status: http.StatusOK,
				must: map[string]string{"result": "{}"}, row: "succeeded",
			},
			{
				name: "C3 an agent that ran and failed is 200", ask: "POST /api/v1/execute/hello-world.fail", body: `{"input":{}}`, status: http.StatusOK,
				must: map[string]string{
					"status": "failed", "error": "LLM API rate limit exceeded", "error_message": "LLM API rate limit exceeded", "error_category": "agent_error",
					"error_details/retry_in": "30", "finished_at": instant, "completed_at": instant, "result": "",
				},
				row: "failed", events: []string{"running", "failed"},
			},
			{
				name: "B4 the same for a calling agent is 502", ask: "POST /api/v1/execute/hello-world.fail", body: `{"input":{}}`,
				header: []string{"X-Caller-Agent-ID", "someone"}, status: http.StatusBadGateway,
				must: map[string]string{"status": "failed", "error": "LLM API rate limit exceeded", "execution_id": execID}, row: "failed",
			},
			{
				name: "B4 a calling agent gets the 4xx of the agent it called", ask: "POST /api/v1/execute/hello-world.refuse", body: `{"input":{}}`,
				header: []string{"X-Parent-Execution-ID", "exec_parent"}, status: http.StatusUnprocessableEntity,
				must: map[string]string{"status": "failed", "error": "name is missing", "error_details/detail": "name is missing"}, row: "failed",
			},
			{
				name: "C4 B6 the limit was exceeded", ask: "POST /api/v1/execute/hello-world.hang", body: `{"input":{},"timeout_seconds":0.2}`,
				status: http.StatusGatewayTimeout, must: map[string]string{
					"error": "Agent timeout", "details": "Execution exceeded 200 ms limit", "code": "agent_timeout", "error_category": "agent_timeout",
					"execution_id": execID, "run_id": runID,
				},
				never: []string{"result"}, row: "timeout", events: []string{"running", "timeout"},
			},
			{
				name: "C4 the same for an agent that answered 202", ask: "POST /api/v1/execute/hello-world.take", body: `{"timeout_seconds":1}`,
				status: http.StatusGatewayTimeout, must: map[string]string{"details": "Execution exceeded 1 second limit", "code": "agent_timeout"}, row: "timeout",
			},
			{
				name: "B7 unknown agent", ask: "POST /api/v1/execute/nobody.greet", body: `{"input":{}}`, status: http.StatusNotFound,
				must:  map[string]string{"error": "Target not found", "code": "target_not_found", "details": "^no node nobody is registered", "request_id": some},
				never: []string{"execution_id"}, row: "none",
			},
			{
				name: "B7 unknown function names its neighbours", ask: "POST /api/v1/execute/async/hello-world.great", body: `{"input":{}}`,
				status: http.StatusNotFound, must: map[string]string{"code": "target_not_found", "details": "^node hello-world has no function great; there is greet"},
				never: []string{"execution_id"}, row: "none",
			},
			{
				name: "B7 a target without a dot", ask: "POST /api/v1/execute/greet", body: `{"input":{}}`, status: http.StatusBadRequest,
				must: map[string]string{"code": "invalid_target"}, row: "none",
			},
			{
				name: "B8 S41 input that does not fit", ask: "POST /api/v1/execute/hello-world.strict", body: `{"input":{"count":1}}`,
				status: http.StatusUnprocessableEntity, must: map[string]string{"code": "input_invalid", "details": "^.*/message.*$", "error_category": "agent_error"},
				never: []string{"execution_id"}, row: "none",
			},
			{
				name: "B8 further properties are allowed", ask: "POST /api/v1/execute/hello-world.strict", body: `{"input":{"message":"m","more":true}}`,
				status: http.StatusOK, must: map[string]string{"result/more": "true"}, row: "succeeded",
			},
		})
		if calls := agent.Calls(""); slices.ContainsFunc(calls, func(c apptest.Call) bool { return strings.Contains(string(c.Input), "count") }) {
			t.Error("input that does not fit reached the agent")
		}
	})
}

func TestSubmitAnswersAtOnceAndTheResultCanBeFetched(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		analyse, release := apptest.Held("analyze", `{"summary":"Document contains…","entities":[]}`)
		agent := r.Agent(t, "doc-processor", analyse)
		started := scenario{
			ask: "POST /api/v1/execute/async/doc-processor.analyze", body: `{"input":{"document_url":"https://example.com/report.pdf"}}`,
			header: []string{"Content-Type", "application/json"}, status: http.StatusAccepted,
			must: map[string]string{
				"execution_id": execID, "run_id": runID, "workflow_id": runID, "status": "queued", "target": "doc-processor.analyze", "type": "reasoner",
				"created_at": instant, "enqueued_at": instant, "webhook_registered": "false", "ui_url": "^http://127.0.0.1:.*/executions/exec_",
			},
		}.run(t, r)
		id := started.Text("execution_id")
		if started.Header.Get("Location") != "/api/v1/executions/"+id || started.Header.Get("X-Execution-ID") != id {
			t.Errorf("headers: %v", started.Header)
		}
		agent.Called(t, id, 1)
		running := r.Get(t, id)
		hasAll(t, running, map[string]string{"status": "running", "started_at": instant, "attempt": "1", "mode": "async", "webhook_registered": "false"})
		for _, early := range []string{"result", "completed_at", "finished_at", "duration_ms", "error", "waiting_for", "deadline_at"} {
			if running.Has(early) {
				t.Errorf("a running execution has %q: %s", early, running.Body)
			}
		}
		if running.Header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After is %q", running.Header.Get("Retry-After"))
		}
		release()
		ended := r.Ended(t, id)
		hasAll(t, ended, map[string]string{
			"status": "succeeded", "result/summary": "Document contains…", "result/entities": "[]", "completed_at": instant, "duration_ms": `^\d+$`,
		})
		if ended.Text("completed_at") < ended.Text("started_at") || ended.Text("completed_at") != ended.Text("finished_at") {
			t.Errorf("times: %s", ended.Body)
		}
		if ended.Header.Get("Retry-After") != "" {
			t.Error("an execution that has ended asks to be polled")
		}
		if events := r.Events(t, id); !slices.Equal(events, []string{"queued", "running", "succeeded"}) {
			t.Errorf("events: %v", events)
		}
	})
}

func TestAgentIsToldTheContextOfTheCall(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"))
		trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		answer := scenario{
			ask: "POST /api/v1/execute/demo.echo", body: `{"input":{"exact": 1.0}}`, status: http.StatusOK,
			header: []string{
				"X-Session-ID", "session_user123", "X-Actor-ID", "user_john_doe", "X-Workflow-ID", "wf_123", "X-Parent-Execution-ID", "exec_parent",
				"X-Agent-Node-ID", "caller", "Traceparent", trace,
			},
			must: map[string]string{"workflow_id": "wf_123", "run_id": runID},
		}.run(t, r)
		call := agent.Called(t, answer.Text("execution_id"), 1)
		if call.Path != "/reasoners/echo" || string(call.Input) != `{"exact": 1.0}` {
			t.Errorf("%s %s", call.Path, call.Input)
		}
		for name, want := range map[string]string{
			"X-Session-ID": "session_user123", "X-Actor-ID": "user_john_doe", "X-Workflow-ID": "wf_123", "X-Run-ID": answer.Text("run_id"),
			"X-Parent-Execution-ID": "exec_parent", "X-Caller-Agent-ID": "caller", "X-Attempt": "1", "Idempotency-Key": answer.Text("execution_id"),
			"Content-Type": "application/json",
		} {
			if got := call.Header.Get(name); got != want {
				t.Errorf("%s is %q, not %q", name, got, want)
			}
		}
		if got := call.Header.Get("Traceparent"); !strings.HasPrefix(got, trace[:36]) || got == trace {
			t.Errorf("the trace goes on as %q", got)
		}
		detail := r.Get(t, answer.Text("execution_id"))
		hasAll(t, detail, map[string]string{"session_id": "session_user123", "actor_id": "user_john_doe", "parent_execution_id": "exec_parent"})
	})
}

func TestExecutionsWithOneWorkflowIDAreOneRun(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		call := func(headers ...string) apptest.Answer { return r.Execute(t, "demo.echo", `{}`, headers...) }
		first := call("X-Workflow-ID", "wf_123")
		run := first.Text("run_id")
		for name, tc := range map[string]struct {
			headers       []string
			run, workflow string
		}{
			"the same name":           {[]string{"X-Workflow-ID", "wf_123"}, run, "wf_123"},
			"the run id decides":      {[]string{"X-Workflow-ID", "wf_123", "X-Run-ID", "run_mine"}, "run_mine", "wf_123"},
			"a caller's own run id":   {[]string{"X-Run-ID", "my-run"}, "my-run", "my-run"},
			"a child joins its run":   {[]string{"X-Parent-Execution-ID", first.Text("execution_id")}, run, "wf_123"},
			"a parent nobody knows":   {[]string{"X-Parent-Execution-ID", "exec_elsewhere", "X-Run-ID", "r2"}, "r2", "r2"},
			"an id that is all bytes": {[]string{"X-Run-ID", strings.Repeat("r", 255)}, strings.Repeat("r", 255), strings.Repeat("r", 255)},
		} {
			answer := call(tc.headers...)
			if answer.Text("run_id") != tc.run || answer.Text("workflow_id") != tc.workflow {
				t.Errorf("%s: run %q, workflow %q", name, answer.Text("run_id"), answer.Text("workflow_id"))
			}
		}
		if other := call(); other.Text("run_id") == run || other.Text("workflow_id") != other.Text("run_id") {
			t.Errorf("a call without headers: %s", other.Body)
		}
		for _, query := range []string{"run=wf_123", "run_id=" + run, "workflow_id=wf_123"} {
			if n := r.Do(t, http.MethodGet, "/api/v1/executions?"+query, nil).Len("executions"); n != 3 {
				t.Errorf("%s lists %d executions, not 3", query, n)
			}
		}
	})
}

func TestIdempotencyKeyMakesOneExecution(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"), strict())
		const path = "/api/v1/execute/async/demo.echo"
		post := func(path, body, key string) apptest.Answer {
			return r.Do(t, http.MethodPost, path, body, "Idempotency-Key", key, "X-Session-ID", "s")
		}
		var answers [8]apptest.Answer
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = post(path, `{"input":{"n":1}}`, "key-1") })
		}
		all.Wait()
		id, replayed := answers[0].Text("execution_id"), 0
		for _, a := range answers {
			if a.Status != http.StatusAccepted || a.Text("execution_id") != id {
				t.Fatalf("%d %s, not %s", a.Status, a.Body, id)
			}
			if a.Header.Get("Idempotency-Replayed") == "true" {
				replayed++
			}
		}
		if replayed != len(answers)-1 {
			t.Errorf("%d of %d answers say that they are replayed", replayed, len(answers))
		}
		r.Ended(t, id)
		if calls := agent.Calls(""); len(calls) != 1 {
			t.Errorf("the agent was called %d times", len(calls))
		}
		runAll(t, r, []scenario{
			{
				name: "another body", ask: "POST " + path, body: `{"input":{"n":2}}`, header: []string{"Idempotency-Key", "key-1"},
				status: http.StatusUnprocessableEntity, must: map[string]string{"code": "idempotency_key_reused"}, never: []string{"execution_id"}, row: "none",
			},
			{
				name: "another target", ask: "POST /api/v1/execute/async/demo.strict", body: `{"input":{"message":"m"}}`,
				header: []string{"Idempotency-Key", "key-1"}, status: http.StatusUnprocessableEntity,
				must: map[string]string{"code": "idempotency_key_reused"}, row: "none",
			},
			{
				name: "a key that is too long", ask: "POST " + path, body: `{}`, header: []string{"Idempotency-Key", strings.Repeat("k", 256)},
				status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter", "details": "^Idempotency-Key is longer"}, row: "none",
			},
		})
		once := post("/api/v1/execute/demo.echo", `{"input":{"n":1}}`, "key-2")
		again := post("/api/v1/execute/demo.echo", `{"input":{"n":1}}`, "key-2")
		if once.Status != http.StatusOK || string(once.Body) != string(again.Body) || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("a synchronous call again: %d %s\n%s", again.Status, once.Body, again.Body)
		}
		refused := post("/api/v1/execute/async/demo.strict", `{"input":{}}`, "key-3")
		if taken := post("/api/v1/execute/async/demo.strict", `{"input":{"message":"m"}}`, "key-3"); refused.Status != 422 || taken.Status != 202 {
			t.Errorf("a refused request has used its key up: %d, then %d %s", refused.Status, taken.Status, taken.Body)
		}
	})
}

// flaky fails a number of times with a status and then succeeds.
func flaky(name string, failures, status int) apptest.Function {
	return apptest.Function{Name: name, Serve: func(w http.ResponseWriter, r *http.Request, call apptest.Call) {
		if call.Attempt <= failures {
			apptest.JSON("", status, `{"error":"not yet"}`).Serve(w, r, call)
			return
		}
		apptest.JSON("", http.StatusOK, `{"attempt":`+strconv.Itoa(call.Attempt)+`}`).Serve(w, r, call)
	}}
}

func TestRetryPolicyDecidesAboutFurtherAttempts(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", flaky("flaky", 2, 503), flaky("picky", 1, 422))
		thrice := []string{"queued", "running", "attempt_failed", "running", "attempt_failed", "running", "succeeded"}
		for name, tc := range map[string]struct {
			target, retry, status string
			attempts              string
			events                []string
		}{
			"no policy: one attempt":           {"flaky", `null`, "failed", "1", []string{"queued", "running", "failed"}},
			"three attempts":                   {"flaky", `{"max_attempts":3,"backoff":"none"}`, "succeeded", "3", thrice},
			"a pause as a word":                {"flaky", `{"max_attempts":3,"backoff":"1ms"}`, "succeeded", "3", thrice},
			"a pause as an object":             {"flaky", `{"max_attempts":3,"backoff":{"initial_ms":1,"max_ms":2,"factor":1.5}}`, "succeeded", "3", thrice},
			"too few":                          {"flaky", `{"max_attempts":2,"backoff":"none"}`, "failed", "2", []string{"queued", "running", "attempt_failed", "running", "failed"}},
			"a refusal is not tried again":     {"picky", `{"max_attempts":3,"backoff":"none"}`, "failed", "1", []string{"queued", "running", "failed"}},
			"unless that is asked for":         {"picky", `{"max_attempts":3,"backoff":"none","on":["client_error"]}`, "succeeded", "2", []string{"queued", "running", "attempt_failed", "running", "succeeded"}},
			"only what is listed counts":       {"flaky", `{"max_attempts":3,"backoff":"none","on":["unreachable"]}`, "failed", "1", []string{"queued", "running", "failed"}},
			"the loss of a replica is another": {"flaky", `{"on_replica_loss":false}`, "failed", "1", []string{"queued", "running", "failed"}},
		} {
			t.Run(name, func(t *testing.T) {
				id := r.Submit(t, "demo."+tc.target, `{"input":{},"retry":`+tc.retry+`}`)
				ended := r.Ended(t, id)
				hasAll(t, ended, map[string]string{"status": tc.status, "attempt": tc.attempts})
				if events := r.Events(t, id); !slices.Equal(events, tc.events) {
					t.Errorf("events: %v, not %v", events, tc.events)
				}
			})
		}
		sync := r.Execute(t, "demo.flaky", `{"retry":{"max_attempts":3,"backoff":"none"}}`)
		hasAll(t, sync, map[string]string{"status": "succeeded", "result/attempt": "3"})
		for _, retry := range []string{
			`{"max_attempts":21}`, `{"max_attempts":-1}`, `{"max_attempts":2.5}`, `{"max_attempts":"3"}`, `{"on":["never"]}`, `{"on":"error"}`,
			`{"backoff":"soon"}`, `{"backoff":"-1s"}`, `{"backoff":7}`, `{"backoff":{"initial_ms":-1}}`, `{"backoff":{"factor":11}}`, `"often"`, `[]`,
		} {
			s := scenario{ask: "POST /api/v1/execute/async/demo.flaky", body: `{"retry":` + retry + `}`, status: http.StatusBadRequest, row: "none"}
			if code := s.run(t, r).Text("code"); code != "retry_invalid" && code != "invalid_json" {
				t.Errorf("%s: code %q", retry, code)
			}
		}
	})
}

func TestSyncCallAnswersWhenTheAgentWaitsForAPerson(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		pause := func(headers ...string) (*apptest.Pending, apptest.Call) {
			n := len(agent.Calls(""))
			p := r.Begin(t, http.MethodPost, "/api/v1/execute/demo.take", `{}`, headers...)
			call := agent.Called(t, "", n+1)
			if got := report(t, r, call, `{"status":"awaiting_approval"}`); got.Status != http.StatusOK {
				t.Fatalf("%d %s", got.Status, got.Body)
			}
			return p, call
		}
		plain, call := pause()
		answer := plain.Answer(t)
		hasAll(t, answer, map[string]string{"status": "waiting", "result": "", "execution_id": call.ExecutionID})
		if answer.Status != http.StatusOK || !answer.Has("result") || r.Store.Status(t, call.ExecutionID) != "waiting" {
			t.Errorf("C10: %d %s", answer.Status, answer.Body)
		}
		agents, call := pause("X-Caller-Agent-ID", "someone")
		report(t, r, call, `{"status":"running"}`)
		report(t, r, call, `{"status":"completed","result":"done"}`)
		if answer := agents.Answer(t); answer.Text("status") != "succeeded" || answer.Text("result") != "done" {
			t.Errorf("B5: a calling agent got %s", answer.Body)
		}
	})
}

func TestExecutionOutlivesItsCaller(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		work, release := apptest.Held("work", `"done"`)
		agent := r.Agent(t, "demo", work)
		p := r.Begin(t, http.MethodPost, "/api/v1/execute/demo.work", `{}`)
		id := agent.Called(t, "", 1).ExecutionID
		if status := r.Store.Status(t, id); status != "running" {
			t.Errorf("S42: the row says %q while the agent works", status)
		}
		p.HangUp(t)
		release()
		if ended := r.Ended(t, id); ended.Text("status") != "succeeded" || ended.Text("result") != "done" {
			t.Errorf("S51: %s", ended.Body)
		}
	})
}

// report posts what an agent says about a call, with the token it was given.
func report(t *testing.T, r *apptest.Rig, call apptest.Call, body string) apptest.Answer {
	t.Helper()
	return r.Do(t, http.MethodPost, "/api/v1/executions/"+call.ExecutionID+"/status", body, "X-Execution-Token", call.Token)
}
