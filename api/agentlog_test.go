package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestAgentsLogAboutAnExecution(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		id := call.ExecutionID
		logs := "POST /api/v1/executions/" + id + "/logs"
		accepted := map[string]string{"success": "true", "execution_id": id}
		runAll(t, r, []scenario{
			{name: "one", ask: logs, header: []string{"X-Execution-Token", call.Token}, body: `{"v":1,"ts":"2025-01-15T10:29:00.123456789Z","execution_id":"` + id + `","workflow_id":"wf_1",
				"run_id":"run_1","root_workflow_id":"wf_1","agent_node_id":"demo","reasoner_id":"take","level":"WARNING","source":"sdk.runtime","event_type":"reasoner.started",
				"message":"it began","attributes":{"n":1.50},"system_generated":true,"sdk_language":"python","session_id":"s","depth":2}`, status: http.StatusAccepted, must: accepted, never: []string{"dropped"}},
			{name: "a batch", ask: logs, body: `{"entries":[{"message":"two","agent_node_id":"demo"},{"message":"three <b>","agent_node_id":"other","level":"error","seq":9}]}`, status: http.StatusAccepted, must: map[string]string{"accepted": "2"}},
			{name: "an empty batch", ask: logs, body: `{"entries":[]}`, status: http.StatusAccepted, must: map[string]string{"accepted": "0"}},
			{name: "of an execution that is not there yet", ask: "POST /api/v1/executions/exec_later/logs", body: `{"message":"early","agent_node_id":"demo"}`, status: http.StatusAccepted, must: map[string]string{"accepted": "1"}},
			{name: "without words", ask: logs, body: `{"agent_node_id":"demo"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter", "execution_id": id}},
			{name: "of nobody", ask: logs, body: `{"entries":[{"message":"m","agent_node_id":"demo"},{"message":"m"}]}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "of another execution", ask: logs, body: `{"message":"m","agent_node_id":"demo","execution_id":"exec_other"}`, status: http.StatusBadRequest, must: map[string]string{"error": "execution_id_mismatch", "code": "execution_id_mismatch"}},
			{name: "no JSON", ask: logs, body: `{"message"`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_json"}},
			{name: "under the token of another", ask: logs, header: []string{"X-Execution-Token", "1.00"}, body: `{"message":"m","agent_node_id":"demo"}`, status: http.StatusUnauthorized, must: map[string]string{"code": "execution_token_invalid"}},
		})
		for _, path := range []string{"/api/v1/executions/", "/api/ui/v1/executions/"} {
			all := r.Do(t, http.MethodGet, path+id+"/logs", nil)
			hasAll(t, all, map[string]string{
				"execution_id": id, "entries/0/message": "it began", "entries/0/seq": "1", "entries/0/level": "warn", "entries/0/source": "sdk.runtime", "entries/0/event_type": "reasoner.started",
				"entries/0/attributes/n": "1.50", "entries/0/system_generated": "true", "entries/0/sdk_language": "python", "entries/0/ts": "2025-01-15T10:29:00.123Z", "entries/0/recorded_at": instant,
				"entries/0/workflow_id": "wf_1", "entries/0/event_id": `^\d+$`, "entries/1/message": "two", "entries/1/source": "sdk.user", "entries/1/level": "info", "entries/1/seq": "2", "entries/2/seq": "9",
			})
			if all.Len("entries") != 3 || all.At("entries/1/system_generated") != nil || all.At("entries/0/session_id") != nil {
				t.Errorf("%s", all.Body)
			}
		}
		for query, want := range map[string]string{
			"tail=1": "three <b>", "levels=info": "two", "levels=debug,error": "three <b>", "node_ids=demo&sources=sdk.user": "two", "q=BEGAN": "it began", "after_seq=2": "three <b>",
		} {
			if got := r.Do(t, http.MethodGet, "/api/v1/executions/"+id+"/logs?"+query, nil); got.Len("entries") != 1 || got.Text("entries/0/message") != want {
				t.Errorf("%s: %s", query, got.Body)
			}
		}
		read := "GET /api/v1/executions/" + id + "/logs"
		runAll(t, r, []scenario{
			{name: "too many at once", ask: read + "?tail=5000", status: http.StatusBadRequest, must: map[string]string{"error": "tail_too_large", "max_allowed": "1000"}},
			{name: "not a number", ask: read + "?tail=x", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "not a place", ask: read + "?after_seq=-1", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "unknown", ask: "GET /api/v1/executions/exec_unknown/logs", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}},
			{name: "known by its log alone", ask: "GET /api/v1/executions/exec_later/logs", status: http.StatusOK, must: map[string]string{"entries/0/message": "early"}},
		})
		if events := r.Events(t, id); len(events) != 2 {
			t.Errorf("logs are part of the history: %v", events)
		}
	})
}

func TestTheLogIsFollowedToTheEnd(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		id := call.ExecutionID
		say := func(words string) {
			t.Helper()
			r.Do(t, http.MethodPost, "/api/v1/executions/"+id+"/logs", map[string]any{"message": words, "agent_node_id": "demo"})
		}
		say("before")
		streams := []*apptest.Pending{}
		for _, path := range []string{"/api/v1/executions/" + id + "/logs/stream?tail=5", "/api/ui/v1/executions/" + id + "/logs/stream?since_seq=0"} {
			streams = append(streams, r.Begin(t, http.MethodGet, path, nil))
		}
		say("while")
		report(t, r, call, `{"status":"succeeded"}`)
		for _, stream := range append(streams, r.Begin(t, http.MethodGet, "/api/v1/executions/"+id+"/logs/stream", nil)) {
			text := string(stream.Answer(t).Body)
			for _, want := range []string{`"message":"before"`, `"message":"while"`, `{"type":"connected","execution_id":"` + id + `"}`} {
				if strings.Count(text, want) != 1 {
					t.Errorf("%s is not there once: %s", want, text)
				}
			}
			if !strings.HasSuffix(text, `data: {"type":"stream_end","reason":"terminal_status","status":"succeeded"}`+"\n\n") {
				t.Errorf("it ends otherwise: %s", text)
			}
		}
		scenario{ask: "GET /api/v1/executions/exec_unknown/logs/stream", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}}.run(t, r)
	})
}

func TestALogThatIsFullSaysSo(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		batch := func(n int) string {
			entries := make([]string, n)
			for i := range entries {
				entries[i] = fmt.Sprintf(`{"message":"m%d","agent_node_id":"demo"}`, i)
			}
			return `{"entries":[` + strings.Join(entries, ",") + `]}`
		}
		logs := "POST /api/v1/executions/exec_loud/logs"
		runAll(t, r, []scenario{
			{name: "most of it", ask: logs, body: batch(4990), status: http.StatusAccepted, must: map[string]string{"accepted": "4990"}},
			{name: "more than fits", ask: logs, body: batch(20), status: http.StatusAccepted, must: map[string]string{"accepted": "10", "dropped": "10", "message": "^the log of this execution is full"}},
			{name: "full", ask: logs, body: batch(1), status: http.StatusTooManyRequests, must: map[string]string{"code": "log_full", "execution_id": "exec_loud"}},
			{name: "too large a body", ask: logs, body: `{"message":"` + strings.Repeat("x", 10<<20) + `","agent_node_id":"demo"}`, status: http.StatusRequestEntityTooLarge, must: map[string]string{"error": "request body too large", "max_bytes": "10485760"}},
			{name: "a long message is cut", ask: "POST /api/v1/executions/exec_long/logs", body: `{"message":"` + strings.Repeat("ü", 9000) + `","agent_node_id":"demo"}`, status: http.StatusAccepted},
		})
		if got := r.Do(t, http.MethodGet, "/api/v1/executions/exec_long/logs", nil).Text("entries/0/message"); len(got) > 8300 || !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes are kept", len(got))
		}
	}, func(c *config.Config) { c.BodyLimit = 20 << 20 })
}

func TestNotesComeInEveryFormAndAreListed(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		id := call.ExecutionID
		header := []string{"X-Execution-ID", id, "X-Run-ID", "r", "X-Session-ID", "s", "X-Actor-ID", "a", "X-Workflow-ID", "w", "X-Agent-Node-ID", "demo"}
		for i, path := range []string{"/api/v1/executions/note", "/api/ui/v1/executions/note"} {
			runAll(t, r, []scenario{
				{name: "by header", ask: "POST " + path, header: header, body: `{"message":"h","tags":["x","` + fmt.Sprint(i) + `"],"timestamp":1737000000.25,"agent_node_id":"demo"}`, status: http.StatusOK, must: map[string]string{"success": "true", "note/message": "h", "message": "Note added successfully", "execution_id": id}},
				{name: "by query", ask: "POST " + path + "?execution_id=" + id, body: `{"message":"q"}`, status: http.StatusOK, must: map[string]string{"note/tags": "[]"}},
				{name: "by body", ask: "POST " + path, body: `{"message":"b","execution_id":"` + id + `"}`, status: http.StatusOK},
				{name: "of nothing", ask: "POST " + path, body: `{"message":"b"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			})
		}
		notes := "GET /api/v1/executions/" + id + "/notes"
		runAll(t, r, []scenario{
			{name: "all", ask: notes, status: http.StatusOK, must: map[string]string{"execution_id": id, "total": "6", "notes/0/message": "h", "notes/0/tags": `["x","0"]`, "notes/0/timestamp": instant, "notes/1/tags": "[]", "notes/5/message": "b"}},
			{name: "with a tag", ask: notes + "?tags=1,y", status: http.StatusOK, must: map[string]string{"total": "1", "notes/0/tags": `["x","1"]`}},
			{name: "none", ask: notes + "?tags=none", status: http.StatusOK, must: map[string]string{"total": "0", "notes": "[]"}},
			{name: "unknown", ask: "GET /api/v1/executions/exec_unknown/notes", status: http.StatusNotFound, must: map[string]string{"code": "execution_not_found"}},
		})
	})
}

func TestTheResultSoFarOutlivesARestart(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		id := call.ExecutionID
		for i, part := range []string{`[1]`, `[1,2]`, `[1,2,3.0]`} {
			body := fmt.Sprintf(`{"progress":%d,"message":"part %d","partial":%s}`, 25*(i+1), i+1, part)
			scenario{ask: "POST /api/v1/executions/" + id + "/progress", body: body, header: []string{"X-Execution-Token", call.Token}, status: http.StatusOK}.run(t, r)
			hasAll(t, r.Get(t, id), map[string]string{"partial_result": part, "progress_message": fmt.Sprintf("part %d", i+1)})
		}
		r.Restart(t)
		hasAll(t, r.Get(t, id), map[string]string{"partial_result": "[1,2,3.0]", "progress": "0.75", "progress_message": "part 3", "status": "running"})
		for _, body := range []string{`{"status":"running","progress":80,"result":{"so":"far"}}`, `{"status":"running","partial":{"so":"far"}}`} {
			hasAll(t, report(t, r, call, body), map[string]string{"partial_result/so": "far", "progress": "0.8", "status": "running"})
		}
		large := `{"partial":"` + strings.Repeat("x", 1<<20) + `"}`
		scenario{ask: "POST /api/v1/executions/" + id + "/progress", body: large, status: http.StatusRequestEntityTooLarge, must: map[string]string{"code": "payload_too_large", "max_bytes": "1048576", "execution_id": id}}.run(t, r)
		done := report(t, r, call, `{"status":"succeeded","result":{"all":true}}`)
		if done.Text("result/all") != "true" || done.Has("partial_result") {
			t.Errorf("%s", done.Body)
		}
	})
}
