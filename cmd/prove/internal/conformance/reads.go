package conformance

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

func batchOfThousand(t *Trial) {
	a := t.Agent()
	ids := make([]string, 1000)
	t.Pool(32, len(ids), func(i int) { ids[i] = t.Start(call(a, "echo", fields{"i": i})) })
	for _, id := range ids {
		t.End(id)
	}
	t.Within(50*time.Millisecond, "median for 1,000 ids", func() time.Duration {
		var took report.Durations
		for range 7 {
			answer, err := t.api.BatchStatus(t.ctx, ids)
			t.Must(err)
			t.Status(answer, http.StatusOK)
			t.Is(answer, ids[999]+".result.i", 999)
			took = append(took, answer.Took)
		}
		return took.Percentile(50)
	})
	tooMany, err := t.api.BatchStatus(t.ctx, append(ids, "exec_x"))
	t.Must(err)
	t.Status(tooMany, http.StatusBadRequest)
}

func batchIsAMap(t *Trial) {
	a := t.Agent()
	good := t.Start(call(a, "echo", fields{"x": 1}))
	bad := t.Start(call(a, "fail", fields{"message": "broken"}))
	running := t.Start(call(a, "later", fields{}))
	t.End(good)
	t.End(bad)
	t.Until(running, "running")
	answer, err := t.api.BatchStatus(t.ctx, []string{good, bad, running, "exec_unknown"})
	t.Must(err)
	t.Status(answer, http.StatusOK)
	t.Is(answer, good+".status", "succeeded")
	t.Is(answer, good+".result.x", 1)
	t.Is(answer, bad+".status", "failed")
	t.Has(answer, bad+".error")
	t.Is(answer, running+".status", "running")
	t.Is(answer, "exec_unknown.status", "not_found")
	empty, err := t.api.BatchStatus(t.ctx, []string{})
	t.Must(err)
	t.True(strings.TrimSpace(string(empty.Body)) == "{}", "{} for no ids, got %s", empty)
	t.Report(running, fields{"status": "succeeded"})
}

// sameWordEverywhere brings executions to every status and reads each on every surface.
func sameWordEverywhere(t *Trial) {
	a := t.Agent()
	slow := call(a, "later", fields{})
	slow.Fields = fields{"timeout_seconds": 1}
	ids := map[string]string{
		"succeeded": t.Start(call(a, "echo", fields{})),
		"failed":    t.Start(call(a, "fail", fields{})),
		"timeout":   t.Start(slow),
		"running":   t.Start(call(a, "later", fields{})),
		"cancelled": t.Start(call(a, "later", fields{})),
		"waiting":   t.Start(call(a, "accept", fields{"report": fields{"status": "waiting"}})),
	}
	t.Until(ids["cancelled"], "running")
	_, err := t.api.Cancel(t.ctx, ids["cancelled"], "by hand")
	t.Must(err)
	for status, id := range ids { // all of them first: the one that times out is running until then
		t.Until(id, status)
	}
	for status, id := range ids {
		batch, err := t.api.BatchStatus(t.ctx, []string{id})
		t.Must(err)
		t.Is(batch, id+".status", status)
		listed, err := t.api.ListAll(t.ctx, "node", a.ID, "status", status)
		t.Must(err)
		t.True(slices.Equal(listed, []string{id}), "the list filtered by %s to have %s, got %v", status, id, listed)
		page := t.Do(http.MethodGet, "/executions/"+id, nil)
		t.True(page.Status == http.StatusOK && strings.Contains(strings.ToLower(string(page.Body)), status), "the page of %s to say %s, got %d", id, status, page.Status)
	}
	several, err := t.api.ListAll(t.ctx, "node", a.ID, "status", "failed,timeout")
	t.Must(err)
	t.True(len(several) == 2, "a filter of several statuses to find 2, got %v", several)
	t.finish(ids["running"], ids["waiting"])
}

// finish ends executions that a check has left open.
func (t *Trial) finish(ids ...string) {
	for _, id := range ids {
		_, err := t.api.Cancel(t.ctx, id, "end of the check")
		t.Must(err)
	}
}

func cancelWhereverItIs(t *Trial) {
	t.Own(nodeCap + "1")
	a := t.Agent()
	other := t.Agent()
	hooks := map[string]*fake.Hook{"running": t.Hook(), "queued": t.Hook(), "waiting": t.Hook()}
	ids := map[string]string{}
	ids["running"] = t.Start(hooked(call(a, "hang", fields{}), hooks["running"]))
	t.Until(ids["running"], "running")
	ids["queued"] = t.Start(hooked(call(a, "echo", fields{}), hooks["queued"]))
	ids["waiting"] = t.Start(hooked(call(other, "accept", fields{"report": fields{"status": "waiting"}}), hooks["waiting"]))
	for status, id := range ids {
		t.Until(id, status)
	}
	for _, status := range []string{"queued", "running", "waiting"} {
		id := ids[status]
		answer, err := t.api.Cancel(t.ctx, id, "no longer needed")
		t.Must(err)
		t.Status(answer, http.StatusOK)
		t.Is(answer, "previous_status", status)
		t.Is(answer, "status", "cancelled")
		t.Has(answer, "cancelled_at")
		end := t.Get(id)
		t.Is(end, "status", "cancelled")
		t.Is(end, "status_reason", "no longer needed")
		t.Has(end, "completed_at", "duration_ms")
		d := announced(t.Deliveries(hooks[status], 1)[0])
		t.Is(d, "event", "execution.failed")
		t.Is(d, "status", "cancelled")
		again, err := t.api.Cancel(t.ctx, id, "")
		t.Must(err)
		t.Status(again, http.StatusConflict)
		t.Is(again, "error", "invalid_state")
	}
	t.noticed(a, ids["running"])
	t.noticed(other, ids["waiting"])
	t.True(len(a.Arrivals(ids["queued"])) == 0, "the queued one never to reach the agent")
	t.Pause(300 * time.Millisecond)
	for status, h := range hooks {
		t.True(len(h.Deliveries()) == 1, "one webhook for the %s one, got %d", status, len(h.Deliveries()))
	}
}

func (t *Trial) noticed(a *fake.Agent, id string) {
	notice, ok := a.AwaitNotice(t.ctx, id)
	t.True(ok, "the agent to be told that %s is cancelled", id)
	t.True(notice.Header.Get("X-AgentField-Source") == "cancel-dispatcher", "the header X-AgentField-Source of the cancel notice")
}

// cancelWakesSync cancels what a synchronous caller waits for.
func cancelWakesSync(t *Trial) {
	a := t.Agent()
	done := make(chan client.Answer, 1)
	go func() {
		answer, _ := t.api.Execute(t.ctx, call(a, "hang", fields{}))
		done <- answer
	}()
	seen := a.AwaitArrivals(t.ctx, "", 1)
	if len(seen) == 0 {
		t.Fatalf("expected the call to reach the agent")
	}
	id := seen[0].ExecutionID
	began := time.Now()
	t.finish(id)
	answer := <-done
	t.Status(answer, http.StatusConflict)
	t.Is(answer, "code", "cancelled")
	t.Is(answer, "execution_id", id)
	t.True(time.Since(began) < time.Second, "an answer within 1 s of the cancel, it took %s", time.Since(began))
	t.Report(id, fields{"status": "succeeded", "result": 1})
	t.Is(t.Get(id), "status", "cancelled")
}

func limitOfOneSecond(t *Trial) {
	a := t.Agent()
	c := call(a, "hang", fields{})
	c.Fields = fields{"timeout_seconds": 1}
	end := t.End(t.Start(c))
	t.Is(end, "status", "timeout")
	t.Has(end, "error", "completed_at")
	t.True(end.Number("duration_ms") < 2000, "an end after about 1 s, got %v ms", end.Number("duration_ms"))
}

func syncTimeoutBody(t *Trial) {
	a := t.Agent()
	c := call(a, "hang", fields{})
	c.Fields = fields{"timeout_seconds": 1}
	answer := t.Execute(c)
	t.Status(answer, http.StatusGatewayTimeout)
	t.Has(answer, "error", "details", "execution_id")
	t.Is(answer, "code", "agent_timeout")
	t.Is(answer, "error_category", "agent_timeout")
	t.Is(t.Get(answer.Text("execution_id")), "status", "timeout")
}

func pollersAreHelped(t *Trial) {
	a := t.Agent()
	id := t.Start(call(a, "later", fields{}))
	running := t.Until(id, "running")
	t.True(running.Header.Get("Retry-After") != "", "Retry-After on a GET of a running execution")
	done := make(chan client.Answer, 1)
	go func() {
		answer, _ := t.api.Execution(t.ctx, id, 30*time.Second)
		done <- answer
	}()
	t.Pause(300 * time.Millisecond)
	t.Report(id, fields{"status": "succeeded", "result": "now"})
	answer := <-done
	t.Is(answer, "status", "succeeded")
	t.True(answer.Took > 250*time.Millisecond && answer.Took < 1500*time.Millisecond, "the long poll to answer when the status changes, it took %s", answer.Took)
	t.True(t.Get(id).Header.Get("Retry-After") == "", "no Retry-After on a GET of an ended execution")
}

func errorsNameTheExecution(t *Trial) {
	a := t.Agent()
	slow := call(a, "hang", fields{})
	slow.Fields = fields{"timeout_seconds": 1}
	gone := t.Instance("")
	t.Register(gone)
	gone.Close()
	for _, c := range []client.Call{slow, call(a, "fail", fields{}), call(gone, "echo", fields{})} {
		answer := t.Execute(c)
		t.Matches(answer, "execution_id", executionID, "the id of the execution")
		t.True(answer.Header.Get("X-Execution-ID") == answer.Text("execution_id"), "the header X-Execution-ID on %s", answer)
	}
}

func sessionAndActor(t *Trial) {
	a := t.Agent()
	c := call(a, "headers", fields{})
	session, actor := "session_"+a.ID, "user_"+a.ID
	c.Headers = []string{"X-Session-ID", session, "X-Actor-ID", actor}
	answer := t.Execute(c)
	t.Is(answer, "result.x-session-id", session)
	t.Is(answer, "result.x-actor-id", actor)
	id := answer.Text("execution_id")
	row := t.Get(id)
	t.Is(row, "session_id", session)
	t.Is(row, "actor_id", actor)
	t.listed(id, "session", session)
	t.listed(id, "actor", actor)
}

// listed fails when a filter of the list finds anything but one execution.
func (t *Trial) listed(id string, filters ...string) {
	ids, err := t.api.ListAll(t.ctx, filters...)
	t.Must(err)
	t.True(slices.Equal(ids, []string{id}), "the list by %v to have only %s, got %v", filters, id, ids)
}

func filtersFind(t *Trial) {
	a := t.Agent()
	first := t.Execute(call(a, "echo", fields{})).Text("execution_id")
	second := t.Execute(call(a, "tool", fields{})).Text("execution_id")
	t.listed(first, "target", a.Target("echo"))
	t.listed(second, "target", a.Target("tool"))
	both, err := t.api.ListAll(t.ctx, "node", a.ID)
	t.Must(err)
	t.True(slices.Equal(both, []string{second, first}), "both of the node, the newest first, got %v", both)
	sessionAndActor(t)
}

func attributedToActor(t *Trial) {
	a := t.Agent()
	for _, actor := range []string{"user_a_" + a.ID, "user_b_" + a.ID} {
		c := call(a, "echo", fields{})
		c.Headers = []string{"X-Actor-ID", actor}
		answer := t.Execute(c)
		t.listed(answer.Text("execution_id"), "actor", actor)
	}
}

func listPagesByCursor(t *Trial) {
	a := t.Agent()
	var want []string
	for range 7 {
		want = append([]string{t.Execute(call(a, "echo", fields{})).Text("execution_id")}, want...)
	}
	var got []string
	cursor := ""
	for range 5 {
		filters := []string{"node", a.ID, "limit", "3"}
		if cursor != "" {
			filters = append(filters, "cursor", cursor)
		}
		page, err := t.api.List(t.ctx, filters...)
		t.Must(err)
		t.Status(page, http.StatusOK)
		got = append(got, client.ListedIDs(page)...)
		if cursor = page.Text("next_cursor"); cursor == "" {
			break
		}
	}
	t.True(slices.Equal(got, want), "pages of 3 to list all 7, newest first, got %v, want %v", got, want)
}

func oneRunByWorkflowID(t *Trial) {
	a, b := t.Agent(), t.Agent()
	workflow := "wf_" + a.ID
	var runs, ids []string
	for _, agent := range []*fake.Agent{a, b} {
		c := call(agent, "headers", fields{"message": "x"})
		c.Headers = []string{"X-Workflow-ID", workflow}
		answer := t.Execute(c)
		t.Is(answer, "workflow_id", workflow)
		t.Is(answer, "result.x-workflow-id", workflow)
		runs, ids = append(runs, answer.Text("run_id")), append(ids, answer.Text("execution_id"))
	}
	t.True(runs[0] == runs[1] && runs[0] != "", "one run for both, got %v", runs)
	for _, name := range []string{workflow, runs[0]} {
		listed, err := t.api.ListAll(t.ctx, "run", name)
		t.Must(err)
		slices.Sort(listed)
		slices.Sort(ids)
		t.True(slices.Equal(listed, ids), "the list of run %s to have both, got %v", name, listed)
	}
}

func runIDWins(t *Trial) {
	a := t.Agent()
	c := call(a, "headers", fields{})
	c.Headers = []string{"X-Run-ID", "run_test_" + a.ID, "X-Workflow-ID", "wf_" + a.ID}
	answer := t.Execute(c)
	t.Is(answer, "run_id", "run_test_"+a.ID)
	t.Is(answer, "result.x-run-id", "run_test_"+a.ID)
}

func contextHeaders(t *Trial) {
	a := t.Agent()
	trace := "4bf92f3577b34da6a3ce929d0e0e4736"
	c := call(a, "headers", fields{})
	c.Headers = []string{
		"X-Session-ID", "s1", "X-Actor-ID", "u1", "X-Parent-Execution-ID", "exec_parent_" + a.ID, "traceparent", "00-" + trace + "-00f067aa0ba902b7-01",
	}
	answer := t.Execute(c)
	t.Status(answer, http.StatusOK)
	for header, want := range map[string]string{
		"x-run-id": answer.Text("run_id"), "x-execution-id": answer.Text("execution_id"), "x-workflow-id": answer.Text("workflow_id"),
		"x-session-id": "s1", "x-actor-id": "u1", "x-parent-execution-id": "exec_parent_" + a.ID,
		"x-attempt": "1", "idempotency-key": answer.Text("execution_id"), "content-type": "application/json",
	} {
		t.Is(answer, "result."+header, want)
	}
	t.Has(answer, "result.x-agentfield-request-id")
	t.True(strings.Contains(answer.Text("result.traceparent"), trace), "the caller's trace in traceparent, got %q", answer.Text("result.traceparent"))
}

func childHasARow(t *Trial) {
	a, b := t.Agent(), t.Agent()
	parent := t.Execute(call(a, "chain", fields{"target": b.Target("echo"), "input": fields{"deep": true}}))
	t.Status(parent, http.StatusOK)
	t.Is(parent, "result.child_status", 200)
	t.Is(parent, "result.child.result.deep", true)
	child := t.Get(parent.Text("result.child.execution_id"))
	t.Is(child, "parent_execution_id", parent.Text("execution_id"))
	t.Is(child, "run_id", parent.Text("run_id"))
	seen := b.Arrivals("")
	t.True(len(seen) == 1 && seen[0].Header.Get("X-Parent-Execution-ID") == parent.Text("execution_id"), "one call of the child with its parent's id")
}

func rowIsComplete(t *Trial) {
	a := t.Agent()
	c := call(a, "echo", fields{"q": 1})
	c.Headers = []string{"X-Session-ID", "s", "X-Actor-ID", "u"}
	row := t.End(t.Start(c))
	t.Is(row, "target", a.Target("echo"))
	t.Has(row, "execution_id", "run_id", "workflow_id", "status", "result", "started_at", "completed_at", "duration_ms", "session_id", "actor_id")
	t.historyOf(row.Text("execution_id"), "queued", "running", "succeeded")
}

// historyOf fails when the transitions of an execution are not these, in this order.
func (t *Trial) historyOf(id string, want ...string) {
	events, err := t.api.Events(t.ctx, id)
	t.Must(err)
	var got []string
	for _, e := range events {
		if status := e.Status(); status != "" {
			got = append(got, status)
		}
	}
	t.True(slices.Equal(got, want), "the history %v, got %v", want, got)
}

func historyInOrder(t *Trial) {
	a := t.Agent()
	id := t.Start(call(a, "later", fields{}))
	t.Until(id, "running")
	for _, status := range []string{"waiting", "running", "failed"} {
		t.Status(t.Report(id, fields{"status": status, "error": "in the end"}), http.StatusOK)
	}
	t.historyOf(id, "queued", "running", "waiting", "running", "failed")
	t.Is(t.Get(id), "error", "in the end")
}

func waitingForOnlyWhileWaiting(t *Trial) {
	a := t.Agent()
	id := t.Start(call(a, "later", fields{}))
	t.Lacks(t.Get(id), "waiting_for")
	t.Lacks(t.Until(id, "running"), "waiting_for")
	t.Report(id, fields{"status": "succeeded"})
	t.Lacks(t.End(id), "waiting_for")
	off := t.offline()
	pending := t.Start(call(off, "echo", fields{}))
	t.Lacks(t.Until(pending, "pending"), "waiting_for")
	t.finish(pending)
}

// offline is an agent that is known and has said goodbye.
func (t *Trial) offline() *fake.Agent {
	a := t.Agent()
	answer := t.Do(http.MethodPost, "/api/v1/nodes/"+a.ID+"/shutdown", nil)
	t.Status(answer, http.StatusAccepted)
	return a
}

func pendingUntilSomebodyComes(t *Trial) {
	a := t.offline()
	answer := t.Submit(call(a, "echo", fields{"x": 1}))
	id := answer.Text("execution_id")
	t.Until(id, "pending")
	t.True(len(a.Arrivals("")) == 0, "no call while the agent is offline")
	t.Register(a)
	end := t.End(id)
	t.Is(end, "status", "succeeded")
	t.Is(end, "result.x", 1)
}

func retriesByPolicy(t *Trial) {
	a := t.Agent()
	c := call(a, "flaky", fields{"failures": 2})
	c.Fields = fields{"retry": fields{"max_attempts": 3, "backoff": "50ms"}}
	id := t.Start(c)
	end := t.End(id)
	t.Is(end, "status", "succeeded")
	t.Is(end, "result.tries", 3)
	seen := a.Arrivals(id)
	t.True(len(seen) == 3, "3 attempts at the agent, got %d", len(seen))
	for i, arrival := range seen {
		t.True(arrival.Attempt == i+1, "X-Attempt %d, got %d", i+1, arrival.Attempt)
	}
	t.attempts(id, 3)
	one := t.End(t.Start(call(a, "flaky", fields{"failures": 1})))
	t.Is(one, "status", "failed")
}

func sameKeySameExecution(t *Trial) {
	a := t.Agent()
	c := call(a, "echo", fields{"x": 1})
	c.Headers = []string{"Idempotency-Key", "key-" + a.ID}
	first := t.Submit(c)
	id := first.Text("execution_id")
	again := t.Submit(c)
	t.Is(again, "execution_id", id)
	t.True(again.Header.Get("Idempotency-Replayed") == "true", "Idempotency-Replayed: true on the repeat")
	ids := make([]string, 10)
	t.Together(len(ids), func(i int) { ids[i] = t.Start(c) })
	t.True(slices.Equal(slices.Compact(ids), []string{id}), "one id for 10 at once, got %v", ids)
	t.End(id)
	t.True(len(a.Arrivals("")) == 1, "one call of the agent, got %d", len(a.Arrivals("")))
	c.Input = fields{"x": 2}
	other := t.TrySubmit(c)
	t.Status(other, http.StatusUnprocessableEntity)
	t.Has(other, "error", "details", "code")
}

func failureStaysAlone(t *Trial) {
	a := t.Agent()
	ids := make([]string, 10)
	t.Together(len(ids), func(i int) {
		function := "echo"
		if i == 4 {
			function = "fail"
		}
		ids[i] = t.Start(call(a, function, fields{"i": i}))
	})
	for i, id := range ids {
		want := "succeeded"
		if i == 4 {
			want = "failed"
		}
		t.Is(t.End(id), "status", want)
	}
}

func oneIDFindsAll(t *Trial) {
	a, h := t.Agent(), t.Hook(http.StatusInternalServerError, http.StatusOK)
	c := hooked(call(a, "flaky", fields{"failures": 1}), h)
	c.Fields["retry"] = fields{"max_attempts": 2, "backoff": "20ms"}
	id := t.Start(c)
	t.Deliveries(h, 2)
	t.untilEvents(id, 2)
	t.attempts(id, 2)
	t.untilEvent(id, func(e client.Event) bool { return strings.HasPrefix(e.Type, "webhook.") }, "a try of the webhook")
}

// attempts fails when the history of an execution does not tell of n attempts, all but the last of them failed.
func (t *Trial) attempts(id string, n int) {
	events, err := t.api.Events(t.ctx, id)
	t.Must(err)
	begun, broken := 0, 0
	var seen []string
	for _, e := range events {
		seen = append(seen, e.Type)
		switch {
		case e.Status() == "running":
			begun++
		case e.Type == "execution.attempt_failed":
			broken++
		}
	}
	t.True(begun == n && broken == n-1, "%d attempts in the history, %d of them failed, got %v", n, n-1, seen)
}

// nothingIsLost looks at every execution that the checks before had accepted on the common server.
func nothingIsLost(t *Trial) {
	ids := t.bench.acceptedIDs()
	open := 0
	for chunk := range slices.Chunk(ids, 1000) {
		answer, err := t.api.BatchStatus(t.ctx, chunk)
		t.Must(err)
		all, _ := answer.Value("")
		for _, id := range chunk {
			word, _ := client.Lookup(all, id+".status")
			status, _ := word.(string)
			switch {
			case !client.KnownStatus(status):
				t.Failf("expected %s, which was accepted, to be there, got status %q", id, status)
			case !client.Terminal(status):
				open++
			}
		}
	}
	t.Notef("%d accepted, %d of them visibly in progress", len(ids), open)
}
