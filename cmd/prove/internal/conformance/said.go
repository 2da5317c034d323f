package conformance

import "net/http"

// resultSoFar reports three parts of a result; each is there when it was reported, and the whole at the end.
func resultSoFar(t *Trial) {
	a := t.Agent()
	id := t.Start(call(a, "later", fields{}))
	t.Until(id, "running")
	for n, part := range []string{"one", "two", "three"} {
		told := t.Do(http.MethodPost, "/api/v1/executions/"+id+"/progress", fields{"progress": float64(n+1) / 4, "message": part, "partial": fields{"last": part}})
		t.Status(told, http.StatusOK)
		now := t.Get(id)
		t.Is(now, "partial_result.last", part)
		t.Is(now, "progress_message", part)
	}
	t.Report(id, fields{"status": "running", "progress": 90, "partial": fields{"last": "four"}})
	t.Is(t.Get(id), "partial_result.last", "four")
	t.Report(id, fields{"status": "succeeded", "result": fields{"all": true}})
	done := t.End(id)
	t.Is(done, "result.all", true)
	t.Lacks(done, "partial_result")
}

// saidWhileItRuns logs, notes and tells of a call inside the agent, and reads all of it back before the end.
func saidWhileItRuns(t *Trial) {
	a := t.Agent()
	started := t.Submit(call(a, "later", fields{}))
	id, run := started.Text("execution_id"), started.Text("run_id")
	t.Until(id, "running")
	logs := "/api/v1/executions/" + id + "/logs"
	one := t.Do(http.MethodPost, logs, fields{"message": "it began", "agent_node_id": a.ID, "level": "info"})
	t.Status(one, http.StatusAccepted)
	t.Is(one, "accepted", 1)
	t.Is(t.Do(http.MethodPost, logs, fields{"entries": []any{
		fields{"message": "slow", "agent_node_id": a.ID, "level": "warn"}, fields{"message": "broken", "agent_node_id": a.ID, "level": "error"},
	}}), "accepted", 2)
	mixed := t.Do(http.MethodPost, logs, fields{"message": "m", "agent_node_id": a.ID, "execution_id": "exec_other"})
	t.Status(mixed, http.StatusBadRequest)
	t.Is(mixed, "code", "execution_id_mismatch")
	t.Is(t.Do(http.MethodGet, "/api/ui/v1/executions/"+id+"/logs?levels=error", nil), "entries.0.message", "broken")
	t.Is(t.Do(http.MethodGet, logs+"?tail=1", nil), "entries.0.seq", 3)
	t.Status(t.Do(http.MethodPost, "/api/ui/v1/executions/note", fields{"message": "looks promising", "tags": []string{"plan"}}, "X-Execution-ID", id), http.StatusOK)
	t.Is(t.Do(http.MethodGet, "/api/v1/executions/"+id+"/notes?tags=plan", nil), "total", 1)
	inner := id + "_inner"
	tell := func(status string) {
		t.Status(t.Do(http.MethodPost, "/api/v1/workflow/executions/events", fields{
			"execution_id": inner, "run_id": run, "parent_execution_id": id, "agent_node_id": a.ID, "reasoner_id": "inner", "status": status,
		}), http.StatusOK)
	}
	tell("running")
	tell("succeeded")
	tell("failed") // after the end: nothing changes
	told := t.Get(inner)
	t.Is(told, "status", "succeeded")
	t.Is(told, "run_id", run)
	t.Is(told, "parent_execution_id", id)
	t.Report(id, fields{"status": "succeeded"})
	again := t.Do(http.MethodPost, "/api/v1/executions/"+id+"/rerun", fields{"input": fields{"x": 2}})
	t.Status(again, http.StatusAccepted)
	t.Is(again, "rerun_of", id)
	t.True(again.Text("run_id") != run, "a run of its own for %s", again)
	t.Report(t.Until(again.Text("execution_id"), "running").Text("execution_id"), fields{"status": "succeeded"})
}
