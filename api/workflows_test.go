package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// agents is how functions of tests call back, and how streams are read.
var agents = &http.Client{Timeout: apptest.Patience} //nolint:gochecknoglobals // one pool of connections for all

// calling is a function that calls others through the server, one after the other, with the headers that its own call had.
func calling(r *apptest.Rig, name, node string, targets ...string) apptest.Function {
	return apptest.Function{Name: name, Serve: func(w http.ResponseWriter, req *http.Request, call apptest.Call) {
		for _, target := range targets {
			if err := callOn(req.Context(), r, node, target, call); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		apptest.JSON("", http.StatusOK, `{"done":true}`).Serve(w, req, call)
	}}
}

func callOn(ctx context.Context, r *apptest.Rig, node, target string, call apptest.Call) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+"/api/v1/execute/"+target, strings.NewReader(`{"input":{}}`))
	if err != nil {
		return err
	}
	for _, header := range []string{"X-Run-ID", "X-Workflow-ID", "X-Session-ID", "X-Actor-ID"} {
		if value := call.Header.Get(header); value != "" {
			request.Header.Set(header, value)
		}
	}
	request.Header.Set("X-Parent-Execution-ID", call.ExecutionID)
	request.Header.Set("X-Caller-Agent-ID", node)
	answer, err := agents.Do(request)
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s answered %d", target, answer.StatusCode)
	}
	return nil
}

func TestAChainIsMadeByTheWorkflowIDAlone(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "planner", apptest.Echo("plan"))
		r.Agent(t, "writer", apptest.Echo("write"))
		first := r.Execute(t, "planner.plan", `{"input":{}}`, "X-Workflow-ID", "wf_123").Text("execution_id")
		second := r.Execute(t, "writer.write", `{"input":{}}`, "X-Workflow-ID", "wf_123", "X-Session-ID", "s").Text("execution_id")
		must := map[string]string{
			"root_workflow_id": "wf_123", "run_id": runID, "workflow_status": "succeeded", "run_status": "succeeded", "workflow_name": "plan",
			"total_nodes": "2", "max_depth": "0", "dag/execution_id": first, "dag/agent_node_id": "planner", "timeline/0/execution_id": first,
			"timeline/1/execution_id": second, "timeline/1/reasoner_id": "write", "timeline/0/started_at": instant, "timeline/0/completed_at": instant,
			"timeline/0/duration_ms": `^\d+$`, "timeline/0/notes_count": "0", "roots/0": first, "roots/1": second,
			"edges/0/from": first, "edges/0/to": second, "edges/0/kind": "sequence",
		}
		answer := scenario{ask: "GET /api/v1/workflows/wf_123/dag", status: http.StatusOK, must: must, never: []string{"truncated", "session_id"}}.run(t, r)
		if answer.Len("edges") != 1 || answer.Len("timeline") != 2 || answer.Len("dag/children") != 0 {
			t.Errorf("%s", answer.Body)
		}
		again := r.Do(t, http.MethodGet, "/api/ui/v1/workflows/"+answer.Text("run_id")+"/dag", nil)
		if !bytes.Equal(again.Body, answer.Body) {
			t.Errorf("by its run id, under the other address, the graph is another:\n%s\n%s", again.Body, answer.Body)
		}
	})
}

func TestAgentsCallingAgentsMakeATree(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t)
		noting := apptest.Function{Name: "leaf", Serve: func(w http.ResponseWriter, req *http.Request, call apptest.Call) {
			note, err := http.NewRequestWithContext(req.Context(), http.MethodPost, r.URL+"/api/v1/executions/note", strings.NewReader(`{"message":"half \"way\"","tags":["a"]}`))
			if err != nil {
				t.Error(err)
				return
			}
			note.Header.Set("X-Execution-ID", call.ExecutionID)
			answer, err := agents.Do(note)
			if err != nil {
				t.Error(err)
				return
			}
			_ = answer.Body.Close()
			apptest.JSON("", http.StatusOK, `{}`).Serve(w, req, call)
		}}
		r.Agent(t, "a", calling(r, "root", "a", "b.middle", "c.leaf"))
		r.Agent(t, "b", calling(r, "middle", "b", "c.leaf"))
		r.Agent(t, "c", noting)
		started := r.Execute(t, "a.root", `{"input":{},"webhook":{"url":"`+hook.URL+`"}}`, "X-Session-ID", "s", "X-Actor-ID", "me")
		id, run := started.Text("execution_id"), started.Text("run_id")
		answer := scenario{ask: "GET /api/v1/workflows/" + run + "/dag", status: http.StatusOK, must: map[string]string{
			"root_workflow_id": run, "total_nodes": "4", "max_depth": "2", "session_id": "s", "actor_id": "me", "workflow_name": "root",
			"dag/execution_id": id, "dag/workflow_depth": "0", "dag/children/0/reasoner_id": "middle", "dag/children/0/children/0/reasoner_id": "leaf",
			"dag/children/0/children/0/workflow_depth": "2", "dag/children/1/reasoner_id": "leaf", "dag/children/1/parent_execution_id": id,
			"dag/children/1/notes_count": "1", "dag/children/1/latest_note/message": `half "way"`, "dag/children/1/notes/0/tags/0": "a",
			"dag/children/1/latest_note/timestamp": instant, "timeline/0/notes_count": "0", "edges/0/kind": "call", "edges/0/from": id,
		}}.run(t, r)
		if answer.Len("edges") != 3 || answer.Len("roots") != 1 || answer.Len("timeline") != 4 || answer.Has("timeline/0/children") {
			t.Errorf("%s", answer.Body)
		}
		r.Until(t, "the webhook is delivered", func() bool { return r.Get(t, id).Text("webhook_status") == "delivered" })
		light := scenario{ask: "GET /api/v1/workflows/" + run + "/dag?mode=lightweight", status: http.StatusOK, must: map[string]string{
			"mode": "lightweight", "unique_agent_node_ids/0": "a", "unique_agent_node_ids/2": "c", "webhook_summary/steps_with_webhook": "1",
			"webhook_summary/total_deliveries": "1", "webhook_summary/failed_deliveries": "0", "timeline/3/workflow_depth": "1",
		}, never: []string{"dag", "timeline/0/notes", "timeline/0/notes_count", "webhook_failures"}}.run(t, r)
		if same := r.Do(t, http.MethodGet, "/api/v1/workflows/"+run+"/dag?lightweight=true", nil); !bytes.Equal(same.Body, light.Body) {
			t.Errorf("%s", same.Body)
		}
		toolsSee(t, r, run, id)
		filesSee(t, r, run, id)
	})
}

// toolsSee is the same run in the shapes of wire.md 3.16.
func toolsSee(t *testing.T, r *apptest.Rig, run, root string) {
	t.Helper()
	runAll(t, r, []scenario{
		{name: "one run", ask: "GET /api/ui/v2/workflow-runs/" + run, status: http.StatusOK, must: map[string]string{
			"run/run_id": run, "run/root_workflow_id": run, "run/root_execution_id": root, "run/status": "succeeded", "run/total_steps": "4",
			"run/completed_steps": "4", "run/failed_steps": "0", "run/returned_steps": "4", "run/status_counts/succeeded": "4",
			"run/status_counts/paused": "0", "run/completed_at": instant, "run/updated_at": instant, "executions/0/execution_id": root,
			"executions/1/parent_execution_id": root, "executions/1/parent_workflow_id": run, "executions/2/workflow_depth": "2",
			"executions/0/active_children": "0", "executions/0/pending_children": "0",
		}},
		{name: "the list", ask: "GET /api/ui/v2/workflow-runs?session_id=s&actor_id=me&search=ROOT&status=completed&since=1h", status: http.StatusOK, must: map[string]string{
			"total_count": "1", "page": "1", "page_size": "20", "has_more": "false", "runs/0/run_id": run, "runs/0/workflow_id": run,
			"runs/0/root_execution_id": root, "runs/0/root_execution_status": "succeeded", "runs/0/status": "succeeded", "runs/0/display_name": "root",
			"runs/0/current_task": "root", "runs/0/total_executions": "4", "runs/0/max_depth": "2", "runs/0/active_executions": "0",
			"runs/0/status_counts/succeeded": "4", "runs/0/terminal": "true", "runs/0/duration_ms": `^\d+$`, "runs/0/completed_at": instant,
		}},
		{name: "nothing found", ask: "GET /api/ui/v2/workflow-runs?search=100%25&sort_by=total_steps&sort_order=asc", status: http.StatusOK, must: map[string]string{"total_count": "0", "has_more": "false"}},
		{name: "no such order", ask: "GET /api/ui/v2/workflow-runs?sort_by=colour", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
		{name: "no such page", ask: "GET /api/ui/v2/workflow-runs?page=0", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
		{name: "no such status", ask: "GET /api/ui/v2/workflow-runs?status=purple", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}},
		{name: "nobody's run", ask: "GET /api/ui/v2/workflow-runs/nobody", status: http.StatusNotFound, must: map[string]string{"error": "workflow run not found"}},
		{name: "nobody's graph", ask: "GET /api/v1/workflows/nobody/dag", status: http.StatusNotFound, must: map[string]string{"error": "workflow not found", "code": "workflow_not_found"}},
		{name: "nobody's events", ask: "GET /api/v1/workflows/nobody/events", status: http.StatusNotFound, must: map[string]string{"code": "workflow_not_found"}},
		{name: "nobody to cancel", ask: "POST /api/ui/v1/workflows/nobody/cancel-tree", status: http.StatusNotFound, must: map[string]string{"error": "run nobody not found"}},
	})
}

// filesSee is the same run as a file, for programs and for people.
func filesSee(t *testing.T, r *apptest.Rig, run, root string) {
	t.Helper()
	for _, base := range []string{"/api/v1/workflows/", "/runs/"} {
		for _, c := range []struct{ file, media, says string }{
			{"dag.mmd", "text/vnd.mermaid", "n0 --> n1"},
			{"dag.svg?node=" + root, "image/svg+xml", "<title>root, succeeded · a</title>"},
			{"dag.txt", "text/plain", "├─ middle  succeeded"},
		} {
			answer := r.Do(t, http.MethodGet, base+run+"/"+c.file, nil)
			if answer.Status != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), c.media) || !strings.Contains(string(answer.Body), c.says) {
				t.Errorf("%s%s: %d %s %s", base, c.file, answer.Status, answer.Header.Get("Content-Type"), answer.Body)
			}
		}
	}
	scenario{ask: "GET /api/v1/workflows/" + run + "/dag.svg?status=purple", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}}.run(t, r)
}

func TestCancellingARunEndsWhatHasNotEnded(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"), apptest.Hanging("hang"))
		hook := apptest.NewReceiver(t)
		done := r.Execute(t, "demo.echo", `{}`, "X-Workflow-ID", "wf").Text("execution_id")
		busy := r.Submit(t, "demo.hang", `{"webhook":{"url":"`+hook.URL+`"}}`, "X-Workflow-ID", "wf")
		child := r.Submit(t, "demo.hang", `{}`, "X-Workflow-ID", "wf", "X-Parent-Execution-ID", busy)
		other := r.Submit(t, "demo.hang", `{}`)
		for _, id := range []string{busy, child, other} {
			agent.Called(t, id, 1)
		}
		answer := scenario{ask: "POST /api/v1/workflows/wf/cancel-tree", body: `{"reason":"enough"}`, status: http.StatusOK, must: map[string]string{
			"run_id": runID, "workflow_id": "wf", "total_nodes": "3", "cancelled_count": "2", "skipped_count": "1", "error_count": "0", "cancelled_at": instant,
			"nodes/0/execution_id": done, "nodes/0/skip_reason": "terminal", "nodes/0/status": "succeeded", "nodes/1/execution_id": busy,
			"nodes/1/previous_status": "running", "nodes/1/status": "cancelled", "nodes/2/workflow_depth": "1",
		}}.run(t, r)
		for _, id := range []string{busy, child} {
			hasAll(t, r.Get(t, id), map[string]string{"status": "cancelled", "status_reason": "enough"})
			agent.Cancelled(t, id)
		}
		if r.Get(t, other).Text("status") != "running" {
			t.Error("an execution of another run was cancelled")
		}
		r.Until(t, "the webhook is delivered", func() bool { return r.Get(t, busy).Text("webhook_status") == "delivered" })
		again := scenario{ask: "POST /api/ui/v1/workflows/" + answer.Text("run_id") + "/cancel-tree", status: http.StatusOK, must: map[string]string{"cancelled_count": "0", "skipped_count": "3"}}.run(t, r)
		if again.Len("nodes") != 3 {
			t.Errorf("%s", again.Body)
		}
		scenario{ask: "POST /api/v1/workflows/wf/cancel-tree", body: `{"reason":`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}}.run(t, r)
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/workflows/wf/dag", nil), map[string]string{"workflow_status": "cancelled", "run_status": "cancelled"})
	})
}

// A person ends a run by the form of its page; that is on record.
func TestAPersonWhoCancelsARunIsOnRecord(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Hanging("hang"))
		id := r.Submit(t, "demo.hang", `{}`, "X-Run-ID", "run_mine")
		agent.Called(t, id, 1)
		d := newDoor(t, r.URL)
		if got := d.ask(caller{}, http.MethodPost, "/runs/run_mine/cancel", "", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"); got.status != http.StatusForbidden {
			t.Errorf("a foreign page is answered %d", got.status)
		}
		if got := d.form(caller{}, "/runs/run_mine/cancel", "reason", "by mistake"); got.status != http.StatusSeeOther || got.location != "/runs/run_mine" {
			t.Errorf("%d to %s: %s", got.status, got.location, got.body)
		}
		hasAll(t, r.Get(t, id), map[string]string{"status": "cancelled", "status_reason": "by mistake"})
		for column, want := range map[string]string{"action": "run.cancelled", "actor": "local", "channel": "ui", "reason": "by mistake"} {
			if got := r.Store.Value(t, "SELECT max("+column+") FROM audit_log WHERE object = 'run_mine'"); got != want {
				t.Errorf("the audit log says %s %q, not %q", column, got, want)
			}
		}
	})
}

// frames reads a stream until a frame of a type has come, and gives all that came with their ids.
func frames(t *testing.T, r *apptest.Rig, path, until string, headers ...string) (types []string, last string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := agents.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	r.Seen(t, request, nil, apptest.Answer{Status: response.StatusCode, Header: response.Header})
	if response.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s answered %d %s", path, response.StatusCode, response.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			last = id
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "{}" {
			continue
		}
		var frame struct{ Type, Status string }
		if err := json.Unmarshal([]byte(data), &frame); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if frame.Status == "" && frame.Type != "resync" {
			t.Errorf("no status in %s", data)
		}
		types = append(types, strings.TrimPrefix(frame.Type, "execution_"))
		if frame.Type == until {
			return types, last
		}
	}
	t.Fatalf("%s ended without %s: %v", path, until, types)
	return nil, ""
}

func TestARunIsFollowedFromWhereItWasLeft(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hold, release := apptest.Held("hold", `{}`)
		agent := r.Agent(t, "demo", hold, apptest.Echo("echo"))
		first := r.Submit(t, "demo.hold", `{}`, "X-Workflow-ID", "wf")
		agent.Called(t, first, 1)
		types, _ := frames(t, r, "/api/v1/workflows/wf/events", "connected")
		if !slices.Equal(types, []string{"connected"}) {
			t.Errorf("first came %v", types)
		}
		events := r.Do(t, http.MethodGet, "/api/v1/executions/"+first+"/events", nil)
		begun := events.Text("events/0/id")
		second := r.Execute(t, "demo.echo", `{}`, "X-Workflow-ID", "wf").Text("execution_id")
		release()
		r.Ended(t, first)
		types, last := frames(t, r, "/api/v1/workflows/wf/events", "stream_end", "Last-Event-ID", begun)
		want := []string{"connected", "started", "started", "completed", "completed", "stream_end"}
		if !slices.Equal(types, want) {
			t.Errorf("after the event %s came %v, not %v", begun, types, want)
		}
		for _, path := range []string{"/api/v1/workflows/wf/events", "/api/v1/executions/" + first + "/events"} {
			answer := r.Do(t, http.MethodGet, path, nil, "Last-Event-ID", last, "Accept", "text/event-stream")
			if answer.Status != http.StatusNoContent {
				t.Errorf("%s asked again after the end: %d %s", path, answer.Status, answer.Body)
			}
		}
		types, _ = frames(t, r, "/api/v1/executions/"+second+"/events?last="+begun, "stream_end")
		if want := []string{"connected", "started", "completed", "stream_end"}; !slices.Equal(types, want) {
			t.Errorf("of one execution came %v, not %v", types, want)
		}
		scenario{ask: "GET /api/v1/workflows/wf/events", header: []string{"Last-Event-ID", "x"}, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_cursor"}}.run(t, r)
	})
}

// What happens while somebody listens reaches them, and nothing of other runs.
func TestAStreamTellsWhatHappensToItsRunOnly(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hold, release := apptest.Held("hold", `{}`)
		agent := r.Agent(t, "demo", hold, apptest.Echo("echo"))
		first := r.Submit(t, "demo.hold", `{}`, "X-Workflow-ID", "wf")
		agent.Called(t, first, 1)
		heard := make(chan []string)
		go func() {
			types, _ := frames(t, r, "/api/v1/workflows/wf/events", "stream_end")
			heard <- types
		}()
		r.Until(t, "somebody listens", func() bool { return moved(t, r, "agentfield_event_streams") >= 2 })
		r.Execute(t, "demo.echo", `{}`)
		r.Execute(t, "demo.echo", `{}`, "X-Workflow-ID", "wf")
		release()
		types := <-heard
		if count(types, "completed") != 2 || count(types, "created") != 1 || types[len(types)-1] != "stream_end" {
			t.Errorf("heard %v", types)
		}
	})
}

func count(list []string, word string) int {
	n := 0
	for _, x := range list {
		if x == word {
			n++
		}
	}
	return n
}

// Headers may claim anything. Whatever they claim, everything is shown once.
func TestForgedParentsHurtNobody(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		var ids []string
		for i := range 3 {
			parent := "exec_nobody_" + strconv.Itoa(i)
			ids = append(ids, r.Execute(t, "demo.echo", `{}`, "X-Run-ID", "run_forged", "X-Parent-Execution-ID", parent).Text("execution_id"))
		}
		answer := scenario{ask: "GET /api/v1/workflows/run_forged/dag", status: http.StatusOK, must: map[string]string{
			"total_nodes": "3", "dag/execution_id": ids[0], "dag/parent_execution_id": "exec_nobody_0", "roots/2": ids[2],
		}}.run(t, r)
		if answer.Len("edges") != 0 {
			t.Errorf("orphans are no sequence: %s", answer.Body)
		}
	})
}
