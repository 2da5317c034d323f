package api_test

import (
	"net/http"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// goAlways are the headers of every request: this SDK sends its token as a bearer.
func goAlways() []string {
	return []string{"Content-Type", "application/json", "Accept", "application/json", "Authorization", "Bearer " + sharedKey}
}

// goWithin are those that it adds inside a call.
func goWithin(more ...string) []string {
	return append([]string{"X-Run-ID", "$run", "X-Execution-ID", "$exec", "X-Session-ID", "session-1", "X-Actor-ID", "user-1"}, more...)
}

func goCalls() []string {
	return goWithin("X-Parent-Execution-ID", "$exec", "X-Caller-Agent-ID", "$node")
}

func goBoots() []exchange {
	return []exchange{
		{
			does: "registers at its first choice", ask: "POST /api/v1/nodes", status: http.StatusCreated,
			body: `{"id":"$node","group_id":"$node","team_id":"default","base_url":"$url","version":"v1.2.3","deployment_type":"long_running","invocation_url":null,
				"reasoners":[{"id":"answer","input_schema":{"type":"object"},"output_schema":{"type":"object"},"memory_config":{"auto_inject":null,"memory_retention":"","cache_results":false},"tags":null},
				{"id":"helper","input_schema":{"type":"object"},"output_schema":{}},{"id":"broken","input_schema":{},"output_schema":{}},{"id":"picky","input_schema":{},"output_schema":{}}],
				"skills":[],"communication_config":{"protocols":["http"],"websocket_endpoint":"","heartbeat_interval":"2m0s"},"health_status":"healthy","lifecycle_status":"",
				"last_heartbeat":"2026-01-15T10:30:00.123456789Z","registered_at":"0001-01-01T00:00:00Z",
				"features":{"ab_testing":false,"advanced_metrics":false,"compliance":false,"audit_logging":false,"role_based_access":false,"experimental":{}},
				"metadata":{"deployment":{"environment":"","platform":"","region":"","tags":null},"sdk":{"language":"go"},"tags":null,"custom":{}},"proposed_tags":null}`,
			reads: map[string]string{"success": "true", "node_id": "$node", "resolved_base_url": "$url"}, lacks: []string{"status", "pending_tags", "id"},
		},
		{
			does: "takes its lease", ask: "PATCH /api/v1/nodes/$node/status", body: `{"phase":"ready","version":"v1.2.3","health_score":100,"conditions":null}`, status: http.StatusOK,
			reads: map[string]string{"lease_seconds": "300", "next_lease_renewal": instant},
		},
		{
			does: "tells a phase that nobody knows", ask: "PATCH /api/v1/nodes/$node/status", body: `{"phase":"dreaming"}`, status: http.StatusBadRequest,
			reads: map[string]string{"details": "unsupported phase: dreaming"},
		},
		{
			does: "learns that nobody knows it", ask: "PATCH /api/v1/nodes/forgotten/status", body: `{"phase":"ready","version":"v1.2.3"}`, status: http.StatusNotFound,
			reads: map[string]string{"error": "node not found"},
		},
		{
			does: "asks whether its tags are approved", ask: "GET /api/v1/nodes/$node", status: http.StatusOK,
			reads: map[string]string{"id": "$node", "lifecycle_status": "ready", "health_status": "active", "version": "v1.2.3", "communication_config/heartbeat_interval": "2m0s"},
		},
		{
			does: "acknowledges an action", ask: "POST /api/v1/nodes/$node/actions/ack", body: `{"action_id":"act_1","status":"succeeded","duration_ms":12,"result":{"a":1},"notes":["n"]}`, status: http.StatusOK,
			reads: map[string]string{"lease_seconds": "300", "next_lease_renewal": instant},
		},
		{does: "acknowledges nothing", ask: "POST /api/v1/nodes/$node/actions/ack", body: `{"status":"succeeded"}`, status: http.StatusBadRequest, reads: map[string]string{"details": "action_id is required"}},
		{does: "acknowledges as nobody", ask: "POST /api/v1/nodes/forgotten/actions/ack", body: `{"action_id":"a","status":"b"}`, status: http.StatusNotFound, reads: map[string]string{"error": "node not found"}},
		{
			does: "asks for actions", ask: "POST /api/v1/actions/claim", body: `{"node_id":"$node","max_items":4}`, status: http.StatusOK,
			reads: map[string]string{"items": "[]", "lease_seconds": "300", "next_poll_after": "5", "next_lease_renewal": instant},
		},
		{
			does: "asks for actions and waits", ask: "POST /api/v1/actions/claim", body: `{"node_id":"$node","wait_seconds":20}`, status: http.StatusOK,
			reads: map[string]string{"items": "[]", "next_poll_after": "20"},
		},
		{does: "asks for actions of nobody", ask: "POST /api/v1/actions/claim", body: `{"node_id":"forgotten"}`, status: http.StatusNotFound, reads: map[string]string{"error": "node not found"}},
		{does: "asks for actions of no node", ask: "POST /api/v1/actions/claim", body: `{}`, status: http.StatusBadRequest, reads: map[string]string{"details": "node_id is required"}},
	}
}

func goWorks() []exchange {
	event := func(id, status, more string) string {
		return `{"execution_id":"` + id + `","workflow_id":"$run","run_id":"$run","reasoner_id":"answer","type":"reasoner","agent_node_id":"$node","status":"` + status +
			`","status_reason":"","parent_execution_id":"$exec","parent_workflow_id":"$run","root_workflow_id":"$run"` + more + `}`
	}
	const local = "exec_1768473000000000000_123456"
	return []exchange{
		{
			does: "tells of the call it was given", ask: "POST /api/v1/workflow/executions/events", header: goWithin(), status: http.StatusOK,
			body:  `{"execution_id":"$exec","workflow_id":"$run","run_id":"$run","reasoner_id":"answer","agent_node_id":"$node","status":"running","input_data":{"q":1}}`,
			reads: map[string]string{"success": "true", "updated": "true"},
		},
		{
			does: "begins a call inside itself", ask: "POST /api/v1/workflow/executions/events", header: goWithin(), body: event(local, "running", `,"input_data":{"q":1}`), status: http.StatusOK,
			reads: map[string]string{"success": "true", "created": "true"},
		},
		{
			does: "ends it", ask: "POST /api/v1/workflow/executions/events", header: goWithin(), body: event(local, "failed", `,"error":"panic: nil map","duration_ms":3`), status: http.StatusOK,
			reads: map[string]string{"success": "true", "updated": "true"},
		},
		{
			does: "notes", ask: "POST /api/ui/v1/executions/note", header: goWithin("X-Workflow-ID", "$run", "X-Agent-Node-ID", "$node"), body: `{"message":"halfway","tags":[],"timestamp":1768473000,"agent_node_id":"$node"}`,
			status: http.StatusOK, reads: map[string]string{"success": "true", "note/tags": "[]"},
		},
		{
			does: "remembers", ask: "POST /api/v1/memory/set", header: []string{"X-Agent-Node-ID", "$node", "X-Workflow-ID", "$run"}, body: `{"key":"k","data":[1,2.50,null],"scope":"workflow"}`, status: http.StatusOK,
			reads: map[string]string{"data": "[1,2.50,null]", "scope": "workflow", "scope_id": "$run"},
		},
		{
			does: "recalls", ask: "POST /api/v1/memory/get", header: []string{"X-Agent-Node-ID", "$node", "X-Workflow-ID", "$run"}, body: `{"key":"k","scope":"workflow"}`, status: http.StatusOK,
			reads: map[string]string{"key": "k", "data": "[1,2.50,null]"},
		},
		{does: "recalls what is global", ask: "POST /api/v1/memory/get", header: []string{"X-Agent-Node-ID", "$node"}, body: `{"key":"k","scope":"global"}`, status: http.StatusNotFound, reads: map[string]string{"error": "not_found", "code": "404"}},
		{does: "lists what there is not", ask: "GET /api/v1/memory/list?scope=actor", header: []string{"X-Actor-ID", "nobody"}, status: http.StatusOK, reads: map[string]string{"0": ""}},
		{does: "forgets what there is not", ask: "POST /api/v1/memory/delete", header: []string{"X-Agent-Node-ID", "$node"}, body: `{"key":"never","scope":"global"}`, status: http.StatusNoContent},
		{
			does: "logs one entry", ask: "POST /api/v1/executions/$exec/logs", header: goWithin(), status: http.StatusAccepted,
			body: `{"v":1,"ts":"2026-01-15T10:30:02.123456789Z","execution_id":"$exec","workflow_id":"$run","run_id":"$run","root_workflow_id":"$run","agent_node_id":"$node","reasoner_id":"answer",
				"level":"error","source":"sdk.runtime","event_type":"reasoner.failed","message":"it failed","attributes":{"k":"v"},"system_generated":true,"sdk_language":"go","attempt":1,"span_id":"s","step_id":"1","error_category":"agent_error"}`,
			reads: map[string]string{"success": "true", "accepted": "1"},
		},
		{
			does: "calls", ask: "POST /api/v1/execute/$node.helper", header: goCalls(), body: `{"input":{"text":"why"}}`, status: http.StatusOK,
			reads: map[string]string{"execution_id": execID, "run_id": "$run", "status": "succeeded", "result/helped": "true", "duration_ms": `^\d+$`, "finished_at": instant},
			lacks: []string{"error_message", "error_details"}, heads: map[string]string{"X-Execution-ID": execID, "X-Run-ID": "$run"},
			keeps: map[string]string{"child": "execution_id"},
		},
		{
			does: "calls by the target that discovery names", ask: "POST /api/v1/execute/$node:helper", header: goCalls(), body: `{"input":{}}`, status: http.StatusOK,
			reads: map[string]string{"status": "succeeded", "result/helped": "true"},
		},
		{
			does: "calls what fails", ask: "POST /api/v1/execute/$node.broken", header: goCalls(), body: `{"input":{}}`, status: http.StatusBadGateway,
			reads: map[string]string{"status": "failed", "error": "no model", "error_message": "no model", "error_details/error": "no model", "error_category": "agent_error", "execution_id": execID, "run_id": "$run"},
		},
		{
			does: "calls what refuses", ask: "POST /api/v1/execute/$node.picky", header: goCalls(), body: `{"input":{}}`, status: http.StatusConflict,
			reads: map[string]string{"status": "failed", "error": "agent error (409): taken", "error_message": "agent error (409): taken"},
		},
		{
			does: "calls nobody", ask: "POST /api/v1/execute/nobody.at_all", header: goCalls(), body: `{"input":{}}`, status: http.StatusNotFound,
			reads: map[string]string{"error": "Target not found", "message": some, "code": "target_not_found", "error_category": "internal_error"},
		},
		{
			does: "looks for what it can call", ask: "GET /api/v1/discovery/capabilities?agent_ids=$node&reasoner=help*&format=json", header: goWithin(), status: http.StatusOK,
			reads: map[string]string{"total_agents": "1", "total_reasoners": "1", "capabilities/0/reasoners/0/id": "helper", "capabilities/0/reasoners/0/invocation_target": "$node:helper", "capabilities/0/skills": "[]"},
		},
		{
			does: "asks for a decision without an id", ask: "POST /api/v1/agents/$node/executions/$exec/request-approval", header: goWithin(), status: http.StatusOK,
			body:  `{"title":"Pay","description":"a claim","template_type":"plan-review-v1","payload":{"amount":12.50},"project_id":"p1","expires_in_hours":1}`,
			reads: map[string]string{"approval_request_id": some, "approval_request_url": `^http://.*/approvals/.+$`, "status": "pending"}, keeps: map[string]string{"request": "approval_request_id", "page": "approval_request_url"},
		},
		{
			does: "polls for it", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status", header: goWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "pending", "request_url": "$page", "requested_at": instant}, lacks: []string{"response", "responded_at"},
		},
	}
}

func goEnds() []exchange {
	return []exchange{
		{
			does: "reads the decision, its response an object", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status", header: goWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "request_changes", "response/limit": "10", "request_url": "$page", "requested_at": instant, "responded_at": instant},
		},
		{
			does: "asks again in another round", ask: "POST /api/v1/agents/$node/executions/$exec/request-approval", header: goWithin(), body: `{"title":"Pay less","expires_in_hours":1}`, status: http.StatusOK,
			reads: map[string]string{"status": "pending"}, keeps: map[string]string{"second": "approval_request_id"},
		},
	}
}

func goLeaves() []exchange {
	report := `{"status":"succeeded","execution_id":"$exec","run_id":"$run","reasoner_name":"answer","result":{"paid":10},"duration_ms":77,"completed_at":"2026-01-15T10:31:00Z"}`
	return []exchange{
		{
			does: "reads a response that came as text", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status", header: goWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "approved", "response/limit": "5", "approval_request_id": "$second"},
		},
		{
			does: "reads an earlier round", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status?approval_request_id=$request", header: goWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "request_changes", "response/limit": "10"},
		},
		{
			does: "reports", ask: "POST /api/v1/executions/$exec/status", header: goWithin(), body: report, status: http.StatusOK,
			reads: map[string]string{"execution_id": "$exec", "status": "succeeded", "result/paid": "10"},
		},
		{does: "reports again", ask: "POST /api/v1/executions/$exec/status", header: goWithin(), body: report, status: http.StatusOK, reads: map[string]string{"status": "succeeded"}},
		{does: "reports to nobody", ask: "POST /api/v1/executions/exec_nobody/status", header: goWithin(), body: report, status: http.StatusNotFound, reads: map[string]string{"error": "execution not found"}},
		{
			does: "stops", ask: "POST /api/v1/nodes/$node/shutdown", body: `{"reason":"shutdown","version":"v1.2.3"}`, status: http.StatusAccepted,
			reads: map[string]string{"lease_seconds": "0", "next_lease_renewal": instant, "message": "shutdown acknowledged"},
		},
	}
}

func TestAgentsOfTheGoSDKRunUnchanged(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		picky := apptest.Function{Name: "picky", Serve: func(w http.ResponseWriter, _ *http.Request, _ apptest.Call) {
			http.Error(w, "taken", http.StatusConflict)
		}}
		p := newPeer(t, r, "go-agent", goAlways(), apptest.Taking("answer"), apptest.JSON("helper", http.StatusOK, `{"helped":true}`),
			apptest.JSON("broken", http.StatusInternalServerError, `{"error":"no model"}`), picky)
		p.plays(t, goBoots())
		call := p.isCalled(t, "answer", `{"input":{"q":1}}`, "X-Session-ID", "session-1", "X-Actor-ID", "user-1", "X-Run-ID", "run_test_1")
		p.gets(t, call, map[string]string{"X-Run-ID": "run_test_1", "X-Workflow-ID": "run_test_1", "X-Execution-ID": "$exec", "X-Session-ID": "session-1", "X-Actor-ID": "user-1"})
		p.plays(t, goWorks())
		p.ends(t, "child", map[string]string{"parent_execution_id": p.known["exec"]})
		decided := p.isDecided(t, "X-Hub-Signature-256", `{"id":"e1","type":"response.completed","createdAt":"2026-01-15T10:30:30Z","data":{"requestId":"$request","response":{"decision":"request_changes","feedback":"less"}},"response":{"limit":10}}`)
		hasAll(t, decided, map[string]string{"status": "processed", "decision": "request_changes", "new_status": "running"})
		p.plays(t, goEnds())
		decided = p.isDecided(t, "X-Webhook-Signature", `{"requestId":"$second","decision":"approve","response":"{\"limit\": 5}"}`)
		hasAll(t, decided, map[string]string{"status": "processed", "decision": "approved", "new_status": "running", "execution_id": p.known["exec"]})
		again := p.isDecided(t, "X-Webhook-Signature", `{"requestId":"$second","decision":"approve"}`)
		hasAll(t, again, map[string]string{"status": "already_processed", "execution_id": p.known["exec"], "current_status": "running", "approval_status": "approved"})
		p.plays(t, goLeaves())
	})
}

// What the agent is told when somebody ends its work, and what it may still say then (wire.md 4.4, B26).
func TestAnAgentOfTheGoSDKIsToldOfACancel(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		p := newPeer(t, r, "go-agent", goAlways(), apptest.Taking("answer"))
		p.plays(t, []exchange{{does: "registers", ask: "POST /api/v1/nodes", body: `{"id":"$node","base_url":"$url","version":"","reasoners":[{"id":"answer"}]}`, status: http.StatusCreated}})
		p.isCalled(t, "answer", `{"input":{}}`, "X-Workflow-ID", "wf-of-mine")
		p.plays(t, []exchange{{
			does: "somebody cancels", ask: "POST /api/v1/executions/$exec/cancel", body: `{"reason":"not needed"}`, status: http.StatusOK,
			reads: map[string]string{"execution_id": "$exec", "previous_status": "running", "status": "cancelled", "reason": "not needed", "cancelled_at": instant},
		}})
		notice := p.Cancelled(t, p.known["exec"])
		p.gets(t, notice, map[string]string{"X-Execution-ID": "$exec", "X-Workflow-ID": "wf-of-mine", "X-AgentField-Source": "cancel-dispatcher"})
		hasAll(t, apptest.Answer{Body: notice.Input}, map[string]string{"execution_id": p.known["exec"], "workflow_id": "wf-of-mine", "reason": "not needed", "emitted_at": some})
		p.plays(t, []exchange{
			{
				does: "reports all the same", ask: "POST /api/v1/executions/$exec/status", header: goWithin(), body: `{"status":"succeeded","execution_id":"$exec","result":[1,2]}`, status: http.StatusOK,
				reads: map[string]string{"status": "cancelled", "status_reason": "not needed"},
			},
			{
				does: "somebody cancels again", ask: "POST /api/v1/executions/$exec/cancel", status: http.StatusConflict, reads: map[string]string{"error": "invalid_state", "message": some},
			},
		})
	})
}
