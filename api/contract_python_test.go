package api_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// pythonAlways are the headers of every request: the key goes where this SDK puts it.
func pythonAlways() []string {
	return []string{"Content-Type", "application/json", "X-API-Key", sharedKey}
}

// pythonWithin are those that it adds inside a call.
func pythonWithin(more ...string) []string {
	return append([]string{
		"X-Run-ID", "$run", "X-Workflow-ID", "$workflow", "X-Workflow-Run-ID", "$run", "X-Execution-ID", "$exec", "X-Session-ID", "session-1", "X-Actor-ID", "user-1",
		"X-Root-Workflow-ID", "$workflow", "X-Agent-Node-ID", "$node",
	}, more...)
}

func pythonCalls() []string {
	return pythonWithin("X-Parent-Execution-ID", "$exec", "X-Parent-Workflow-ID", "$workflow", "X-Caller-Agent-ID", "$node")
}

func pythonBoots() []exchange {
	return []exchange{
		{
			does: "registers", ask: "POST /api/v1/nodes/register", status: http.StatusCreated,
			body: `{"id":"$node","team_id":"default","base_url":"$url","version":"1.0.0","reasoners":[
				{"id":"answer","input_schema":{"type":"object","properties":{"question":{"type":"string"}},"required":["question"]},"output_schema":{"type":"object"},
				 "memory_config":{"auto_inject":[],"memory_retention":"session","cache_results":true},"return_type_hint":"Answer","tags":["support"],"vc_enabled":null,
				 "accepts_webhook":"warn","triggers":[]},
				{"id":"helper","input_schema":{},"output_schema":{},"memory_config":null,"tags":[],"proposed_tags":[]},
				{"id":"broken","input_schema":null,"output_schema":null,"tags":null}],
				"skills":[{"id":"lookup","input_schema":{"type":"object"},"tags":["crm"]}],
				"communication_config":{"protocols":["http"],"websocket_endpoint":"","heartbeat_interval":"5s"},"health_status":"healthy",
				"last_heartbeat":"2026-01-15T10:30:00.123456Z","registered_at":"2026-01-15T10:30:00.123456+00:00",
				"features":{"ab_testing":false,"advanced_metrics":false,"compliance":false,"audit_logging":false,"role_based_access":false,"experimental":{}},
				"metadata":{"deployment":{"environment":"development","platform":"python","region":"local","tags":{}},"performance":{"latency_ms":0,"throughput_ps":0},
				 "custom":{"descriptions":{"answer":"Answers questions."}}},
				"callback_discovery":{"mode":"python-sdk:auto","preferred":"$url","callback_candidates":["$url"],"candidates":["$url","http://localhost:$port"],
				 "container":false,"submitted_at":"2026-01-15T10:30:00Z"},
				"callback_candidates":["$url"],"container":{"is_container":false},"proposed_tags":[]}`,
			reads: map[string]string{
				"success": "true", "message": some, "node_id": "$node", "resolved_base_url": "$url", "callback_discovery/mode": "auto",
				"callback_discovery/preferred": "$url", "callback_discovery/resolved": "$url", "callback_discovery/candidates/1": "http://localhost:$port",
				"callback_discovery/submitted_at": some,
			},
			lacks: []string{"status", "error", "pending_tags"},
		},
		{
			does: "sends its first heartbeat", ask: "POST /api/v1/nodes/$node/heartbeat", status: http.StatusOK,
			body:  `{"status":"ready","version":"1.0.0","timestamp":"2026-01-15T10:30:01.5Z","health_score":100,"mcp_servers":null}`,
			reads: map[string]string{"success": "true", "message": "heartbeat received", "timestamp": instant},
		},
		{does: "sends an empty heartbeat", ask: "POST /api/v1/nodes/$node/heartbeat", status: http.StatusOK, reads: map[string]string{"success": "true"}},
		{
			does: "learns that nobody knows it, to register again", ask: "POST /api/v1/nodes/forgotten/heartbeat", body: `{"status":"ready"}`, status: http.StatusNotFound,
			reads: map[string]string{"error": "node not found", "message": some},
		},
		{
			does: "looks whether it is there", ask: "GET /api/v1/nodes/$node", status: http.StatusOK,
			reads: map[string]string{
				"id": "$node", "base_url": "$url", "version": "1.0.0", "lifecycle_status": "ready", "health_status": "active", "deployment_type": "long_running",
				"reasoners/0/id": "answer", "reasoners/0/tags/0": "support", "reasoners/0/proposed_tags/0": "support", "reasoners/0/accepts_webhook": "warn",
				"reasoners/0/input_schema/required/0": "question", "skills/0/id": "lookup", "metadata/custom/callback_discovery/resolved": "$url",
			},
		},
		{
			does: "asks for an identity, and goes on without one", ask: "POST /api/v1/did/register", status: http.StatusNotFound,
			body:  `{"agent_node_id":"$node","reasoners":[{"id":"answer"}],"skills":[{"id":"lookup"}]}`,
			reads: map[string]string{"error": "endpoint_not_found", "message": "POST /api/v1/did/register does not exist"},
		},
		{does: "asks for policies, and goes on without any", ask: "GET /api/v1/policies", status: http.StatusNotFound, reads: map[string]string{"error": "endpoint_not_found"}},
	}
}

func pythonWorks() []exchange {
	return []exchange{
		{
			does: "notes what it does", ask: "POST /api/ui/v1/executions/note", header: pythonWithin(), status: http.StatusOK,
			body:  `{"message":"looked at the question","tags":["debug"],"timestamp":1768473000.25,"agent_node_id":"$node"}`,
			reads: map[string]string{"success": "true", "note/message": "looked at the question", "note/tags/0": "debug", "note/timestamp": instant, "message": "Note added successfully"},
		},
		{
			does: "logs a batch", ask: "POST /api/v1/executions/$exec/logs", header: pythonWithin(), status: http.StatusAccepted,
			body: `{"entries":[{"v":1,"ts":"2026-01-15T10:30:02.123456789Z","execution_id":"$exec","workflow_id":"$workflow","run_id":"$run","root_workflow_id":"$workflow",
				"parent_execution_id":null,"agent_node_id":"$node","reasoner_id":"answer","level":"INFO","source":"sdk.user","event_type":"log.info","message":"thinking",
				"attributes":{"n":1},"system_generated":false,"sdk_language":"python","session_id":"session-1"},
				{"v":1,"ts":"2026-01-15T10:30:02Z","agent_node_id":"$node","level":"warning","source":"sdk.runtime","message":"slow","attributes":null,"system_generated":true}]}`,
			reads: map[string]string{"success": "true", "execution_id": "$exec", "accepted": "2"},
		},
		{
			does: "remembers in its session", ask: "POST /api/v1/memory/set", header: pythonWithin(), body: `{"key":"customer.profile","data":{"name":"Ada","since":2023},"scope":"session"}`, status: http.StatusOK,
			reads: map[string]string{
				"scope": "session", "scope_id": "session-1", "key": "customer.profile", "data/name": "Ada", "access_level": "", "created_at": instant, "updated_at": instant, "metadata/agent_id": "$node",
			},
		},
		{
			does: "remembers where it is", ask: "POST /api/v1/memory/set", header: pythonWithin(), body: `{"key":"step","data":"\"second\""}`, status: http.StatusOK,
			reads: map[string]string{"scope": "workflow", "scope_id": "$workflow", "data": `"second"`},
		},
		{does: "recalls from the narrowest scope on", ask: "POST /api/v1/memory/get", header: pythonWithin(), body: `{"key":"customer.profile"}`, status: http.StatusOK, reads: map[string]string{"data/since": "2023", "scope": "session"}},
		{
			does: "recalls nothing", ask: "POST /api/v1/memory/get", header: pythonWithin(), body: `{"key":"nothing","scope":"actor"}`, status: http.StatusNotFound,
			reads: map[string]string{"error": "not_found", "code": "404", "details": some, "message": some},
		},
		{does: "lists", ask: "GET /api/v1/memory/list?scope=session", header: pythonWithin(), status: http.StatusOK, reads: map[string]string{"0/key": "customer.profile", "0/data/name": "Ada"}},
		{does: "forgets", ask: "POST /api/v1/memory/delete", header: pythonWithin(), body: `{"key":"customer.profile","scope":"session"}`, status: http.StatusNoContent},
		{does: "forgets twice", ask: "POST /api/v1/memory/delete", header: pythonWithin(), body: `{"key":"customer.profile","scope":"session"}`, status: http.StatusNoContent},
		{
			does: "looks for vectors, and goes on without any", ask: "POST /api/v1/memory/vector/search", header: pythonWithin(), body: `{"query_embedding":[0.1],"top_k":3}`, status: http.StatusNotFound,
			reads: map[string]string{"error": "endpoint_not_found", "message": some},
		},
		{does: "asks what has changed, and goes on", ask: "GET /api/v1/memory/events/history?limit=10", header: pythonWithin(), status: http.StatusNotFound, reads: map[string]string{"error": "endpoint_not_found"}},
		{
			does: "registers a call inside itself", ask: "POST /api/v1/workflow/executions", header: pythonCalls(), status: http.StatusOK,
			body: `{"execution_id":"exec_1768473000000_0a1b2c3d","workflow_id":"$workflow","run_id":"$run","reasoner_id":"think","agent_node_id":"$node","status":"running",
				"parent_execution_id":"$exec","parent_workflow_id":"$workflow","root_workflow_id":"$workflow","input_data":{"q":1}}`,
			reads: map[string]string{"execution_id": "exec_1768473000000_0a1b2c3d", "workflow_id": "$workflow", "run_id": "$run"},
		},
		{
			does: "tells that it begins", ask: "POST /api/v1/workflow/executions/events", header: pythonCalls(), status: http.StatusOK,
			body: `{"execution_id":"exec_1768473000000_0a1b2c3d","workflow_id":"$workflow","run_id":"$run","reasoner_id":"think","type":"reasoner","agent_node_id":"$node",
				"status":"running","parent_execution_id":"$exec","parent_workflow_id":"$workflow","input_data":{"q":1}}`,
			reads: map[string]string{"success": "true", "updated": "true"},
		},
		{
			does: "tells how it ended, with any JSON", ask: "POST /api/v1/workflow/executions/events", header: pythonCalls(), status: http.StatusOK,
			body: `{"execution_id":"exec_1768473000000_0a1b2c3d","workflow_id":"$workflow","run_id":"$run","reasoner_id":"think","type":"reasoner","agent_node_id":"$node",
				"status":"succeeded","parent_execution_id":"$exec","result":["a",1],"duration_ms":12}`,
			reads: map[string]string{"success": "true", "updated": "true"},
		},
		{
			does: "looks for what it can call", status: http.StatusOK, header: pythonWithin(),
			ask: "GET /api/v1/discovery/capabilities?agent=$node&tags=sup*&include_input_schema=true&include_output_schema=true&include_descriptions=true&include_examples=false&format=json&limit=50&offset=0",
			reads: map[string]string{
				"discovered_at": instant, "total_agents": "1", "total_reasoners": "1", "total_skills": "0", "pagination/limit": "50", "pagination/offset": "0", "pagination/has_more": "false",
				"capabilities/0/agent_id": "$node", "capabilities/0/base_url": "$url", "capabilities/0/version": "1.0.0", "capabilities/0/health_status": "active",
				"capabilities/0/deployment_type": "long_running", "capabilities/0/last_heartbeat": instant, "capabilities/0/reasoners/0/id": "answer",
				"capabilities/0/reasoners/0/description": "Answers questions.", "capabilities/0/reasoners/0/tags/0": "support",
				"capabilities/0/reasoners/0/input_schema/required/0": "question", "capabilities/0/reasoners/0/output_schema/type": "object",
				"capabilities/0/reasoners/0/invocation_target": "$node:answer", "capabilities/0/skills": "[]",
			},
		},
		{
			does: "looks for it in short", ask: "GET /api/v1/discovery/capabilities?node_ids=$node&skill=look*&format=compact", status: http.StatusOK,
			reads: map[string]string{"discovered_at": instant, "skills/0/id": "lookup", "skills/0/agent_id": "$node", "skills/0/target": "$node:skill:lookup", "skills/0/tags/0": "crm"},
		},
		{
			does: "asks for what discovery cannot be asked", ask: "GET /api/v1/discovery/capabilities?format=yaml", status: http.StatusBadRequest,
			reads: map[string]string{"error": "invalid_parameter", "message": some, "details/parameter": "format", "details/provided": "yaml", "details/allowed": `["json","compact","xml"]`},
		},
		{
			does: "calls another function", ask: "POST /api/v1/execute/async/$node.helper", header: pythonCalls(), body: `{"input":{"text":"why"},"context":{"a":1}}`, status: http.StatusAccepted,
			reads: map[string]string{
				"execution_id": execID, "run_id": "$run", "workflow_id": "$workflow", "status": "queued", "target": "$node.helper", "type": "reasoner", "created_at": instant,
				"enqueued_at": instant, "webhook_registered": "false",
			},
			heads: map[string]string{"X-Execution-ID": execID, "X-Run-ID": "$run"}, keeps: map[string]string{"child": "execution_id"},
		},
		{
			does: "calls one that fails", ask: "POST /api/v1/execute/async/$node.broken", header: pythonCalls(), body: `{"input":{}}`, status: http.StatusAccepted,
			keeps: map[string]string{"fails": "execution_id"},
		},
		{
			does: "calls one that does not exist", ask: "POST /api/v1/execute/async/$node.nothing", header: pythonCalls(), body: `{"input":{}}`, status: http.StatusNotFound,
			reads: map[string]string{"message": "^node py-agent has no function nothing", "error": "Target not found", "code": "target_not_found"},
		},
		{
			does: "calls one with an input that does not fit", ask: "POST /api/v1/execute/async/$node.answer", header: pythonCalls(), body: `{"input":{}}`, status: http.StatusUnprocessableEntity,
			reads: map[string]string{"message": "^.*question.*$", "error": some},
		},
	}
}

func pythonHearsAndPauses() []exchange {
	return []exchange{
		{
			does: "polls the result", ask: "GET /api/v1/executions/$child", header: pythonWithin(), status: http.StatusOK,
			reads: map[string]string{
				"execution_id": "$child", "run_id": "$run", "status": "succeeded", "result/helped": "true", "started_at": instant, "completed_at": instant,
				"duration_ms": `^\d+$`, "webhook_registered": "false",
			},
			lacks: []string{"error", "error_details"},
		},
		{
			does: "polls the failure", ask: "GET /api/v1/executions/$fails", header: pythonWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "failed", "error": "no model", "error_details/error": "no model", "error_details/retry": "false"}, lacks: []string{"result"},
		},
		{
			does: "asks for many at once", ask: "POST /api/v1/executions/batch-status", body: `{"execution_ids":["$child","$fails","exec_nobody"]}`, status: http.StatusOK,
			reads: map[string]string{
				"$child/status": "succeeded", "$child/result/helped": "true", "$fails/status": "failed", "$fails/error": "no model", "exec_nobody/status": "not_found",
				"exec_nobody/started_at": "", "exec_nobody/webhook_registered": "false",
			},
		},
		{
			does: "pauses for a decision", ask: "POST /api/v1/agents/$node/executions/$exec/request-approval", header: pythonWithin(), status: http.StatusOK,
			body:  `{"approval_request_id":"req-py","approval_request_url":"https://hub.example.com/r/req-py","callback_url":"$url/webhooks/approval","expires_in_hours":24}`,
			reads: map[string]string{"approval_request_id": "req-py", "approval_request_url": "https://hub.example.com/r/req-py", "status": "pending", "expires_at": instant},
		},
		{
			does: "pauses twice", ask: "POST /api/v1/agents/$node/executions/$exec/request-approval", header: pythonWithin(), status: http.StatusConflict,
			body: `{"approval_request_id":"req-py-2","expires_in_hours":1}`, reads: map[string]string{"error": "invalid_state", "message": some},
		},
		{
			does: "reads that it waits", ask: "GET /api/v1/executions/$exec", header: pythonWithin(), status: http.StatusOK,
			reads: map[string]string{
				"status": "waiting", "approval_request_id": "req-py", "approval_status": "pending", "approval_request_url": "https://hub.example.com/r/req-py",
				"waiting_for/type": "approval", "waiting_for/approval_request_id": "req-py",
			},
		},
		{
			does: "asks for the decision", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status", header: pythonWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "pending", "request_url": "https://hub.example.com/r/req-py", "requested_at": instant, "expires_at": instant}, lacks: []string{"response", "responded_at"},
		},
		{
			does: "asks for another agent's", ask: "POST /api/v1/agents/other/executions/$exec/request-approval", header: pythonWithin(), body: `{"approval_request_id":"req-x"}`,
			status: http.StatusForbidden, reads: map[string]string{"error": "execution_ownership_mismatch"},
		},
	}
}

func pythonEnds() []exchange {
	report := `{"execution_id":"$exec","reasoner":"answer","status":"succeeded","result":{"text":"because","sources":[]},"duration_ms":1234,"completed_at":"2026-01-15T10:31:00.123456+00:00","progress":null,"error_details":null}`
	ended := map[string]string{"execution_id": "$exec", "run_id": "$run", "status": "succeeded", "result/text": "because", "completed_at": instant}
	return []exchange{
		{
			does: "reads the decision", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status", header: pythonWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "approved", "response/amount": "12.50", "feedback": "go ahead", "request_url": "https://hub.example.com/r/req-py", "requested_at": instant, "responded_at": instant},
		},
		{does: "reports the result", ask: "POST /api/v1/executions/$exec/status", header: pythonWithin(), body: report, status: http.StatusOK, reads: ended},
		{does: "reports it again, because the answer was lost", ask: "POST /api/v1/executions/$exec/status", header: pythonWithin(), body: report, status: http.StatusOK, reads: ended},
		{
			does: "contradicts itself, which it would repeat for ever", ask: "POST /api/v1/executions/$exec/status", header: pythonWithin(), status: http.StatusOK,
			body: `{"execution_id":"$exec","status":"failed","error":"cancelled_by_control_plane"}`, reads: ended,
		},
		{
			does: "issues a credential, and goes on without one", ask: "POST /api/v1/execution/vc", header: pythonWithin(), status: http.StatusNotFound,
			body:  `{"execution_context":{"execution_id":"$exec","workflow_id":"$workflow","timestamp":"2026-01-15T10:31:00Z"},"input_data":"e30=","output_data":"e30=","status":"succeeded","duration_ms":1}`,
			reads: map[string]string{"error": "endpoint_not_found", "message": some},
		},
		{
			does: "stops without a word", ask: "POST /api/v1/nodes/$node/shutdown", status: http.StatusAccepted,
			reads: map[string]string{"lease_seconds": "0", "next_lease_renewal": instant, "message": "shutdown acknowledged"},
		},
		{
			does: "is gone", ask: "GET /api/v1/nodes/$node/status", status: http.StatusOK,
			reads: map[string]string{"success": "true", "node_id": "$node", "status/state": "inactive", "status/lifecycle_status": "offline", "status/health_status": "inactive"},
		},
	}
}

func TestAgentsOfThePythonSDKRunUnchanged(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		lookup := apptest.Echo("lookup")
		lookup.Skill = true
		p := newPeer(t, r, "py-agent", pythonAlways(), apptest.Taking("answer"), apptest.JSON("helper", http.StatusOK, `{"helped":true}`),
			apptest.JSON("broken", http.StatusInternalServerError, `{"error":"no model","retry":false}`), lookup)
		told := make(chan string, 8)
		p.Serves("/webhooks/approval", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			told <- string(body)
			_, _ = io.WriteString(w, `{"status":"received","resolved":true}`)
		})
		p.plays(t, pythonBoots())
		call := p.isCalled(t, "answer", `{"input":{"question":"why"}}`, "X-Session-ID", "session-1", "X-Actor-ID", "user-1")
		p.gets(t, call, map[string]string{
			"Content-Type": "application/json", "X-Run-ID": "$run", "X-Workflow-ID": "$run", "X-Execution-ID": "$exec", "X-Session-ID": "session-1", "X-Actor-ID": "user-1",
			"X-Parent-Execution-ID": "",
		})
		if call.Path != "/reasoners/answer" || string(call.Input) != `{"question":"why"}` {
			t.Errorf("the agent got %s %s", call.Path, call.Input)
		}
		p.plays(t, pythonWorks())
		p.ends(t, "child", map[string]string{"status": "succeeded", "parent_execution_id": p.known["exec"], "session_id": "session-1", "actor_id": "user-1"})
		p.ends(t, "fails", map[string]string{"status": "failed"})
		p.plays(t, pythonHearsAndPauses())
		decided := p.isDecided(t, "X-Hax-Signature", `{"requestId":"req-py","decision":"approved","feedback":"go ahead","response":{"amount":12.50},"timestamp":"2026-01-15T10:30:30Z"}`)
		hasAll(t, decided, map[string]string{"status": "processed", "execution_id": p.known["exec"], "decision": "approved", "new_status": "running"})
		callback := apptest.Answer{Body: []byte(<-told)}
		hasAll(t, callback, map[string]string{
			"execution_id": p.known["exec"], "decision": "approved", "new_status": "running", "feedback": "go ahead", "approval_request_id": "req-py", "response": `{"amount":12.50}`,
		})
		p.plays(t, pythonEnds())
	})
}
