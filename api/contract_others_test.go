package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

// Clients older than /execute, agents without a process of their own, and what an agent follows besides (wire.md 3.2, 3.7, 3.16, 4.3).

func olderClient() []exchange {
	return []exchange{
		{
			does: "calls", ask: "POST /api/v1/reasoners/$node.greet", status: http.StatusOK, body: `{"input":{"name":"Alice"},"context":{"a":1}}`,
			header: []string{
				"X-Workflow-ID", "wf_20260115_1", "X-Session-ID", "session-1", "X-Actor-ID", "user-1", "X-Parent-Workflow-ID", "wf_above", "X-Parent-Execution-ID", "exec_above",
				"X-Root-Workflow-ID", "wf_root", "X-Workflow-Name", "Greeting", "X-Workflow-Tags", "a,b", "X-Caller-DID", "did:key:zCaller", "X-Target-DID", "did:key:zTarget",
				"X-Agent-Node-DID", "did:key:zNode",
			},
			reads: map[string]string{"result/greeting": "Hello, Alice!", "node_id": "$node", "duration_ms": `^[1-9]\d*$`, "timestamp": instant}, lacks: []string{"error", "status"},
			heads: map[string]string{
				"X-Workflow-ID": "wf_20260115_1", "X-Execution-ID": execID, "X-Run-ID": runID, "X-AgentField-Request-ID": "^req_.+$", "X-Agent-Node-ID": "$node", "X-Duration-MS": `^[1-9]\d*$`,
			},
		},
		{
			does: "calls a skill without naming a run", ask: "POST /api/v1/skills/$node.echo", body: `{"input":{"b":[1]}}`, status: http.StatusOK,
			reads: map[string]string{"result/b": "[1]"}, heads: map[string]string{"X-Workflow-ID": runID, "X-Run-ID": runID},
		},
		{does: "calls without an input", ask: "POST /api/v1/reasoners/$node.echo", body: `{}`, status: http.StatusOK, reads: map[string]string{"result": "{}"}},
		{
			does: "hears the agent's own refusal", ask: "POST /api/v1/reasoners/$node.refuse", body: `{"input":{}}`, status: http.StatusUnprocessableEntity,
			reads: map[string]string{"error": "name is missing", "status": "failed", "execution_id": execID}, heads: map[string]string{"X-Execution-ID": execID},
		},
		{
			does: "hears the agent's failure", ask: "POST /api/v1/reasoners/$node.fail", body: `{"input":{}}`, status: http.StatusBadGateway,
			reads: map[string]string{"error": "no model", "error_message": "no model", "status": "failed"},
		},
		{does: "waits too long", ask: "POST /api/v1/reasoners/$node.hang", body: `{"input":{},"timeout_seconds":0.2}`, status: http.StatusGatewayTimeout, reads: map[string]string{"code": "agent_timeout", "execution_id": execID}},
		{does: "calls nobody", ask: "POST /api/v1/reasoners/nobody.greet", body: `{"input":{}}`, status: http.StatusNotFound, reads: map[string]string{"code": "target_not_found", "message": some}},
		{does: "calls nothing", ask: "POST /api/v1/skills/$node.nothing", body: `{"input":{}}`, status: http.StatusNotFound, reads: map[string]string{"code": "target_not_found"}},
		{does: "forgets the function", ask: "POST /api/v1/reasoners/$node", body: `{"input":{}}`, status: http.StatusBadRequest, reads: map[string]string{"code": "invalid_target"}},
		{does: "sends a list", ask: "POST /api/v1/reasoners/$node.greet", body: `{"input":[]}`, status: http.StatusBadRequest, reads: map[string]string{"code": "invalid_json"}},
		{
			does: "sends an id that is none", ask: "POST /api/v1/reasoners/$node.greet", header: []string{"X-Workflow-Name", strings.Repeat("n", 300)}, body: `{"input":{}}`, status: http.StatusBadRequest,
			reads: map[string]string{"code": "invalid_parameter"},
		},
	}
}

func TestClientsOlderThanExecuteRunUnchanged(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		p := newPeer(t, r, "old", pythonAlways(), greet(), apptest.Echo("echo"), apptest.JSON("refuse", http.StatusUnprocessableEntity, `{"detail":"name is missing"}`),
			apptest.JSON("fail", http.StatusInternalServerError, `{"error":"no model"}`), apptest.Hanging("hang"), apptest.Taking("take"))
		register := exchange{
			does: "registers", ask: "POST /api/v1/nodes/register", status: http.StatusCreated,
			body: `{"id":"$node","base_url":"$url","version":"1","reasoners":[{"id":"greet"},{"id":"refuse"},{"id":"fail"},{"id":"hang"},{"id":"take"}],"skills":[{"id":"echo"}]}`,
		}
		p.play(t, register)
		p.plays(t, olderClient())
		first := p.Calls("")[0]
		p.known["exec"], p.known["run"] = first.ExecutionID, first.Header.Get("X-Run-ID")
		p.gets(t, first, map[string]string{
			"X-Run-ID": "$run", "X-Workflow-ID": "wf_20260115_1", "X-Session-ID": "session-1", "X-Actor-ID": "user-1", "X-Parent-Workflow-ID": "wf_above",
			"X-Parent-Execution-ID": "exec_above", "X-Root-Workflow-ID": "wf_root", "X-Workflow-Name": "Greeting", "X-Workflow-Tags": "a,b", "X-Caller-DID": "did:key:zCaller",
			"X-Target-DID": "did:key:zTarget", "X-Agent-Node-DID": "did:key:zNode",
		})
		if first.Header.Get("X-AgentField-Request-ID") == "" || string(first.Input) != `{"name":"Alice"}` {
			t.Errorf("the agent got %v %s", first.Header, first.Input)
		}
		p.ends(t, "exec", map[string]string{"status": "succeeded", "workflow_id": "wf_20260115_1", "target": "old.greet"})

		waits := r.Begin(t, http.MethodPost, "/api/v1/reasoners/old.take", `{"input":{}}`, pythonAlways()...)
		call := p.Called(t, "", len(p.Calls(""))+1)
		p.known["exec"] = call.ExecutionID
		p.play(t, exchange{ask: "POST /api/v1/executions/$exec/status", body: `{"status":"success","result":"late"}`, status: http.StatusOK, reads: map[string]string{"status": "succeeded"}})
		hasAll(t, waits.Answer(t), map[string]string{"result": "late", "node_id": "old"})

		p.play(t, exchange{ask: "POST /api/v1/nodes/$node/shutdown", status: http.StatusAccepted})
		offline := exchange{
			ask: "POST /api/v1/reasoners/$node.greet", body: `{"input":{}}`, status: http.StatusServiceUnavailable,
			reads: map[string]string{"error": "agent node 'old' is offline", "code": "agent_offline", "message": some}, lacks: []string{"execution_id"},
		}
		p.play(t, offline)
		p.play(t, register)
		p.Close()
		offline.reads["execution_id"], offline.lacks = execID, nil // it was tried
		p.play(t, offline)
	})
}

// The headers are part of the record: who takes over after a restart sends them, too.
func TestScopingHeadersAreSentAgain(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "old", apptest.Hanging("hang"))
		r.Begin(t, http.MethodPost, "/api/v1/reasoners/old.hang", `{"input":{"a":1}}`, "X-Workflow-Name", "Greeting", "X-Root-Workflow-ID", "wf_root")
		id := agent.Called(t, "", 1).ExecutionID
		r.Restart(t)
		again := agent.Called(t, id, 2)
		if again.Header.Get("X-Workflow-Name") != "Greeting" || again.Header.Get("X-Root-Workflow-ID") != "wf_root" || again.Attempt != 2 {
			t.Errorf("the second attempt came with %v", again.Header)
		}
	})
}

// serverless is an agent that only runs while it is called.
func serverless(t *testing.T, about string) (p *apptest.Agent, envelopes chan apptest.Answer) {
	t.Helper()
	p = apptest.NewAgent(t, "lambda")
	envelopes = make(chan apptest.Answer, 8)
	p.Serves("/discover", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, about) })
	p.Serves("/execute", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		envelopes <- apptest.Answer{Body: body, Header: r.Header.Clone()}
		_, _ = io.WriteString(w, `{"served":true}`)
	})
	return p, envelopes
}

func TestServerlessAgentsAreDiscoveredAndCalledInAnEnvelope(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		agent, envelopes := serverless(t, `{"node_id":"lambda","version":"2.0","reasoners":[{"id":"think","input_schema":{"type":"object","required":["q"]},"output_schema":{},"tags":["ai"]}],"skills":[{"id":"fetch"}]}`)
		p := &peer{Agent: agent, rig: r, always: goAlways(), known: map[string]string{"url": agent.URL, "port": agent.URL[strings.LastIndex(agent.URL, ":")+1:]}}
		registered := map[string]string{
			"success": "true", "message": "Serverless agent registered successfully", "node/id": "lambda", "node/version": "2.0", "node/deployment_type": "serverless",
			"node/invocation_url": "$url/execute", "node/reasoners_count": "1", "node/skills_count": "1", "node_token": some,
		}
		everywhere := map[string]string{"node/invocation_url": "http://localhost:$port/execute"}
		refused := map[string]string{"error": "Invalid invocation_url", "details": some, "message": some}
		p.plays(t, []exchange{
			{does: "somebody registers it", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"$url/"}`, status: http.StatusCreated, reads: registered},
			{
				does: "looks at it", ask: "GET /api/v1/nodes/lambda", status: http.StatusOK,
				reads: map[string]string{
					"team_id": "default", "lifecycle_status": "ready", "health_status": "unknown", "base_url": "$url", "invocation_url": "$url/execute", "deployment_type": "serverless",
					"metadata/custom/serverless": "true", "metadata/custom/discovery_url": "$url/discover", "reasoners/0/id": "think", "reasoners/0/tags/0": "ai", "skills/0/id": "fetch",
				},
			},
			{
				does: "calls it", ask: "POST /api/v1/execute/lambda.think", header: []string{"X-Run-ID", "run_1", "X-Session-ID", "s", "X-Actor-ID", "a", "X-Parent-Execution-ID", "exec_above"},
				body: `{"input":{"q":[1.50]}}`, status: http.StatusOK, reads: map[string]string{"result/served": "true", "status": "succeeded"}, keeps: map[string]string{"exec": "execution_id"},
			},
			{does: "calls its skill", ask: "POST /api/v1/skills/lambda.fetch", body: `{"input":{}}`, status: http.StatusOK, reads: map[string]string{"result/served": "true"}},
			{does: "calls it with what does not fit", ask: "POST /api/v1/execute/lambda.think", body: `{"input":{}}`, status: http.StatusUnprocessableEntity},
			{does: "everywhere means here", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"http://0.0.0.0:$port"}`, status: http.StatusCreated, reads: everywhere},
			{does: "by a host that is listed", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"http://nowhere.lambda.example:9/"}`, status: http.StatusBadGateway, reads: map[string]string{"code": "discovery_failed", "details": some}},
			{does: "by a host that is not", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"https://lambda.example.com"}`, status: http.StatusBadRequest, reads: refused},
			{does: "by the address of metadata", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"http://169.254.169.254"}`, status: http.StatusBadRequest, reads: refused},
			{does: "with a query", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"$url?a=b"}`, status: http.StatusBadRequest, reads: refused},
			{does: "with a password", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"http://a:b@localhost:1"}`, status: http.StatusBadRequest, reads: refused},
			{does: "with nothing", ask: "POST /api/v1/nodes/register-serverless", body: `{}`, status: http.StatusBadRequest, reads: refused},
			{does: "where nobody answers", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"http://127.0.0.1:1"}`, status: http.StatusBadGateway, reads: map[string]string{"code": "discovery_failed"}},
			{does: "where somebody answers otherwise", ask: "POST /api/v1/nodes/register-serverless", body: `{"invocation_url":"$url/elsewhere"}`, status: http.StatusBadGateway, reads: map[string]string{"code": "discovery_failed", "details": `^.*answered 404$`}},
		})
		think, fetch := <-envelopes, <-envelopes
		hasAll(t, think, map[string]string{
			"path": "/execute/think", "target": "think", "reasoner": "think", "type": "reasoner", "input": `{"q":[1.50]}`, "execution_context/execution_id": p.known["exec"],
			"execution_context/run_id": "run_1", "execution_context/workflow_id": "run_1", "execution_context/session_id": "s", "execution_context/actor_id": "a",
			"execution_context/parent_execution_id": "exec_above",
		})
		hasAll(t, fetch, map[string]string{"path": "/execute/fetch", "type": "skill", "skill": "fetch", "reasoner": "fetch", "execution_context/run_id": runID})
		if think.Header.Get("X-Execution-ID") != p.known["exec"] || think.Has("skill") {
			t.Errorf("%v %s", think.Header, think.Body)
		}
	})
}

func TestAServerlessAgentThatTellsNonsenseIsNotRegistered(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		for _, about := range []string{"", "<html>", "[]", `{"reasoners":[]}`, `{"node_id":"with.dots"}`, `{"node_id":"x","reasoners":[{"id":""}]}`, strings.Repeat(" ", 5<<20)} {
			agent, _ := serverless(t, about)
			scenario{
				ask: "POST /api/v1/nodes/register-serverless", body: map[string]any{"invocation_url": agent.URL}, status: http.StatusBadGateway, row: "none",
				must: map[string]string{"error": "Discovery failed", "code": "discovery_failed", "details": some},
			}.run(t, r)
		}
	})
}

// A name belongs to whoever registered it first, by this way too.
func TestAServerlessAgentCannotTakeAName(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		first, _ := serverless(t, `{"node_id":"lambda"}`)
		thief, _ := serverless(t, `{"node_id":"lambda"}`)
		ask := "POST /api/v1/nodes/register-serverless"
		mine := scenario{ask: ask, body: map[string]any{"invocation_url": first.URL}, status: http.StatusCreated}.run(t, r)
		scenario{ask: ask, body: map[string]any{"invocation_url": thief.URL}, status: http.StatusForbidden, must: map[string]string{"code": "node_token_required"}, row: "none"}.run(t, r)
		scenario{ask: ask, body: map[string]any{"invocation_url": thief.URL}, header: []string{"X-Node-Token", mine.Text("node_token")}, status: http.StatusCreated}.run(t, r)
	}, func(c *config.Config) { c.UnsignedAgents = "off" })
}

// followAll reads the stream that an agent of the Python SDK follows instead of polling often.
func followAll(t *testing.T, r *apptest.Rig, more func(frame apptest.Answer) bool) {
	t.Helper()
	enough := r.Follow(t, "/api/ui/v1/executions/events", func(line string) bool {
		data, isFrame := strings.CutPrefix(line, "data: ")
		return !isFrame || more(apptest.Answer{Body: []byte(data)})
	}, "X-API-Key", sharedKey)
	if !enough {
		t.Fatal("the stream has ended")
	}
}

func TestAgentsFollowTheCallsTheyMade(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		p := newPeer(t, r, "py-agent", pythonAlways(), apptest.Taking("answer"))
		p.play(t, exchange{ask: "POST /api/v1/nodes/register", body: `{"id":"$node","base_url":"$url","version":"1","reasoners":[{"id":"answer"}]}`, status: http.StatusCreated})
		var told []string
		followAll(t, r, func(frame apptest.Answer) bool {
			kind := frame.Text("type")
			if kind == "connected" {
				p.isCalled(t, "answer", `{"input":{}}`, "X-Workflow-ID", "wf-of-mine")
				p.play(t, exchange{ask: "POST /api/ui/v1/executions/note?execution_id=$exec", body: `{"message":"n"}`, status: http.StatusOK})
				p.play(t, exchange{
					ask: "POST /api/v1/agents/$node/executions/$exec/request-approval", body: `{"approval_request_id":"req-1"}`, status: http.StatusOK, reads: map[string]string{"status": "pending"},
				})
				p.isDecided(t, "X-Hax-Signature", `{"requestId":"req-1","decision":"approved"}`)
				p.play(t, exchange{ask: "POST /api/v1/executions/$exec/status", body: `{"status":"succeeded"}`, status: http.StatusOK})
				return true
			}
			hasAll(t, frame, map[string]string{"execution_id": p.known["exec"], "workflow_id": "wf-of-mine", "run_id": p.known["run"], "agent_node_id": "py-agent", "timestamp": instant, "status": some})
			if frame.Has("data") {
				t.Errorf("frames stay small: %s", frame.Body)
			}
			if status := frame.Text("status"); kind == "execution_"+status || kind == "execution_created" || kind == "execution_started" || kind == "execution_completed" {
				told = append(told, kind+" "+status)
			}
			return kind != "execution_completed"
		})
		want := []string{"execution_created queued", "execution_started running", "execution_waiting waiting", "execution_started running", "execution_completed succeeded"}
		if fmt.Sprint(told) != fmt.Sprint(want) {
			t.Errorf("told %q, not %q", told, want)
		}
	})
}

func TestTheLogOfAnAgentIsPassedOn(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"))
		var status atomic.Int32
		status.Store(http.StatusOK)
		agent.Serves("/agentfield/v1/logs", func(w http.ResponseWriter, request *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(int(status.Load()))
			line, _ := json.Marshal(map[string]any{"v": 1, "seq": 1, "stream": "stdout", "line": request.URL.RawQuery + " " + request.Header.Get("Authorization")})
			_, _ = w.Write(append(line, '\n'))
		})
		logs := "/api/ui/v1/nodes/demo/logs"
		for query, asked := range map[string]string{
			"": " ", "?tail_lines=10000&since_seq=5&follow=true": "follow=1&since_seq=5&tail_lines=10000 ",
		} {
			answer := r.Do(t, http.MethodGet, logs+query, nil)
			if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/x-ndjson" || answer.Text("line") != asked+"Bearer inner-token" {
				t.Errorf("%s: %d %s", query, answer.Status, answer.Body)
			}
		}
		read := "GET " + logs
		runAll(t, r, []scenario{
			{name: "too many lines", ask: read + "?tail_lines=10001", status: http.StatusBadRequest, must: map[string]string{"error": "tail_too_large", "max_allowed": "10000"}},
			{name: "no number", ask: read + "?tail_lines=all", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "no place", ask: read + "?since_seq=-1", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "of nobody", ask: "GET /api/ui/v1/nodes/nobody/logs", status: http.StatusNotFound, must: map[string]string{"error": "node not found", "code": "node_not_found"}},
		})
		for said, want := range map[int]int{http.StatusUnauthorized: 401, http.StatusNotFound: 404, http.StatusRequestEntityTooLarge: 413, http.StatusTeapot: 502, http.StatusFound: 502} {
			status.Store(int32(said)) //nolint:gosec // a status of HTTP
			answer := r.Do(t, http.MethodGet, logs, nil)
			if answer.Status != want {
				t.Errorf("the agent said %d, and the answer is %d: %s", said, answer.Status, answer.Body)
			}
		}
		agent.Close()
		scenario{ask: read, status: http.StatusBadGateway, must: map[string]string{"code": "agent_unreachable"}}.run(t, r)
	}, func(c *config.Config) { c.InternalToken = "inner-token" })
}

func TestDiscoveryIsAlsoXML(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		lookup := apptest.Echo("lookup")
		lookup.Skill = true
		agent := apptest.NewAgent(t, "demo", apptest.Echo("echo"), lookup)
		functions := map[string]any{"reasoners": []any{map[string]any{"id": "echo", "tags": []string{"a", "b&c"}}}}
		r.Do(t, http.MethodPost, "/api/v1/nodes/register", agent.Registration(functions))
		answer := r.Do(t, http.MethodGet, "/api/v1/discovery/capabilities?format=XML", nil)
		if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/xml" {
			t.Fatalf("%d %s", answer.Status, answer.Header.Get("Content-Type"))
		}
		want := regexp.MustCompile(`^<\?xml version="1.0" encoding="UTF-8"\?>\n<discovery discovered_at="[^"]+"><summary total_agents="1" total_reasoners="1" total_skills="1"></summary>` +
			`<capabilities><agent id="demo" base_url="` + agent.URL + `" version="1.0.0" health_status="[a-z]+" deployment_type="long_running" last_heartbeat="[^"]+">` +
			`<reasoners><reasoner id="echo" target="demo:echo"><tags><tag>a</tag><tag>b&amp;c</tag></tags></reasoner></reasoners>` +
			`<skills><skill id="lookup" target="demo:skill:lookup"><tags></tags></skill></skills></agent></capabilities></discovery>$`)
		if !want.Match(answer.Body) {
			t.Errorf("%s", answer.Body)
		}
	})
}

// What the protocol's command line and other tools read (wire.md 1.2, 3.10, 3.16): they send their token as a bearer.
func toolsLook() []exchange {
	return []exchange{
		{
			does: "holds it back", ask: "POST /api/v1/executions/$exec/pause", body: `{"reason":"a look first"}`, status: http.StatusOK,
			reads: map[string]string{"execution_id": "$exec", "previous_status": "running", "status": "paused", "reason": "a look first", "paused_at": instant},
		},
		{does: "holds it back twice", ask: "POST /api/ui/v1/executions/$exec/pause", status: http.StatusConflict, reads: map[string]string{"error": "invalid_state", "message": some}},
		{
			does: "lets it go on", ask: "POST /api/v1/executions/$exec/resume", status: http.StatusOK,
			reads: map[string]string{"execution_id": "$exec", "previous_status": "paused", "status": "running", "resumed_at": instant},
		},
		{does: "lets it go on twice", ask: "POST /api/v1/executions/$exec/resume", status: http.StatusConflict, reads: map[string]string{"error": "invalid_state", "message": some}},
		{
			does: "looks at it while it runs", ask: "GET /api/ui/v1/executions/$exec/details", status: http.StatusOK, lacks: []string{"completed_at", "duration_ms", "error_message", "webhook_events"},
			reads: map[string]string{
				"execution_id": "$exec", "workflow_id": "wf-tools", "session_id": "session-1", "actor_id": "user-1", "agent_node_id": "$node", "reasoner_id": "answer",
				"parent_workflow_id": "wf-tools", "input_data/input/q": "[1.50]", "output_data": "", "input_size": "12", "output_size": "0", "status": "running", "started_at": instant,
				"retry_count": "0", "notes": "[]", "notes_count": "0", "webhook_registered": "false",
			},
		},
		{
			does: "notes", ask: "POST /api/v1/executions/note?execution_id=$exec", body: `{"message":"seen","tags":["t"]}`, status: http.StatusOK,
		},
		{does: "the agent reports", ask: "POST /api/v1/executions/$exec/status", body: `{"status":"failed","error":"no more paper","error_details":{"tray":2}}`, status: http.StatusOK},
		{
			does: "looks at what became of it", ask: "GET /api/ui/v1/executions/$exec/details", status: http.StatusOK,
			reads: map[string]string{
				"status": "failed", "completed_at": instant, "duration_ms": `^\d+$`, "error_message": "no more paper", "output_data": "", "notes/0/message": "seen", "notes/0/tags/0": "t",
				"notes/0/timestamp": instant, "notes_count": "1",
			},
		},
		{does: "looks for nothing", ask: "GET /api/ui/v1/executions/exec_nobody/details", status: http.StatusNotFound, reads: map[string]string{"error": "execution not found"}},
		{does: "sends no webhook again", ask: "POST /api/ui/v1/executions/$exec/webhook/retry", status: http.StatusConflict, reads: map[string]string{"error": "invalid_state", "message": some}},
		{
			does: "looks at the run", ask: "GET /api/ui/v2/workflow-runs/wf-tools", status: http.StatusOK,
			reads: map[string]string{
				"run/run_id": "$run", "run/root_workflow_id": "wf-tools", "run/root_execution_id": "$exec", "run/status": "failed", "run/total_steps": "1", "run/completed_steps": "0", "run/failed_steps": "1",
				"run/returned_steps": "1", "run/status_counts/failed": "1", "run/status_counts/running": "0", "run/created_at": instant, "run/updated_at": instant, "run/completed_at": instant,
				"executions/0/workflow_id": "wf-tools", "executions/0/execution_id": "$exec", "executions/0/agent_node_id": "$node", "executions/0/reasoner_id": "answer",
				"executions/0/status": "failed", "executions/0/started_at": instant, "executions/0/completed_at": instant, "executions/0/workflow_depth": "0",
				"executions/0/active_children": "0", "executions/0/pending_children": "0",
			},
		},
		{does: "looks for no run", ask: "GET /api/ui/v2/workflow-runs/nothing", status: http.StatusNotFound, reads: map[string]string{"error": "workflow run not found"}},
		{
			does: "asks whether the server is well", ask: "GET /api/v1/health", status: http.StatusOK,
			reads: map[string]string{"status": "healthy", "timestamp": some, "version": some, "checks/storage/status": "healthy", "checks/storage/message": some, "checks/storage/response_time": `^\d+$`},
		},
		{does: "asks how agents are", ask: "POST /api/v1/nodes/status/bulk", body: `{"node_ids":["$node","nobody"]}`, status: http.StatusMultiStatus, reads: map[string]string{"total_requested": "2", "successful": "1", "failed": "1", "results/$node/state": some}},
	}
}

func TestToolsOfTheProtocolRunUnchanged(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t)
		p := newPeer(t, r, "tooled", goAlways(), apptest.Taking("answer"))
		p.play(t, exchange{ask: "POST /api/v1/nodes", body: `{"id":"$node","base_url":"$url","version":"1","reasoners":[{"id":"answer"}]}`, status: http.StatusCreated})
		p.isCalled(t, "answer", `{"input":{"q":[1.50]}}`, "X-Workflow-ID", "wf-tools", "X-Session-ID", "session-1", "X-Actor-ID", "user-1", "X-Parent-Execution-ID", "exec_before")
		r.Until(t, "the call has been taken over", func() bool {
			return r.Store.Value(t, "SELECT count(*) FROM events WHERE kind = 'execution.released'") == "1"
		})
		p.plays(t, toolsLook())

		p.isCalled(t, "answer", `{"input":{},"webhook":{"url":"`+hook.URL+`"}}`)
		p.play(t, exchange{ask: "POST /api/v1/executions/$exec/status", body: `{"status":"succeeded","result":{"a":[1.50]}}`, status: http.StatusOK})
		hook.Got(t, 1)
		r.Until(t, "the attempt is on record", func() bool { return r.Store.Value(t, "SELECT count(*) FROM webhook_attempts") == "1" })
		p.plays(t, []exchange{
			{
				does: "looks at the webhook", ask: "GET /api/ui/v1/executions/$exec/details", status: http.StatusOK,
				reads: map[string]string{
					"output_data/a": "[1.50]", "output_size": "12", "webhook_registered": "true", "webhook_events/0/event_type": "execution.completed", "webhook_events/0/status": "delivered",
					"webhook_events/0/http_status": "200", "webhook_events/0/created_at": instant,
				},
			},
			{does: "has it sent again", ask: "POST /api/ui/v1/executions/$exec/webhook/retry", status: http.StatusAccepted, reads: map[string]string{"success": "true", "execution_id": "$exec"}},
		})
		hook.Got(t, 2)
	})
}

// Published SDKs know no tokens. Where they are demanded, the refusal tells what to set; the same agent works once it is set.
func TestAnAgentWithoutATokenIsToldWhatToSet(t *testing.T) {
	for setting, report := range map[string]exchange{
		"off": {status: http.StatusUnauthorized, reads: map[string]string{"code": "execution_token_invalid", "message": "^.*set AGENTFIELD_UNSIGNED_AGENTS=on$"}},
		"on":  {status: http.StatusOK, reads: map[string]string{"status": "succeeded"}},
	} {
		t.Run(setting, func(t *testing.T) {
			each(t, func(t *testing.T, r *apptest.Rig) {
				p := newPeer(t, r, "py-agent", pythonAlways(), apptest.Taking("answer"))
				p.play(t, exchange{ask: "POST /api/v1/nodes/register", body: `{"id":"$node","base_url":"$url","version":"1","reasoners":[{"id":"answer"}]}`, status: http.StatusCreated})
				p.isCalled(t, "answer", `{"input":{}}`)
				report.ask, report.body = "POST /api/v1/executions/$exec/status", `{"status":"succeeded","result":null}`
				p.play(t, report)
			}, func(c *config.Config) { c.APIKey, c.UnsignedAgents = sharedKey, setting })
		})
	}
}
