package api_test

import (
	"net/http"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// scriptAlways are the headers of every request.
func scriptAlways() []string {
	return []string{"Content-Type", "application/json", "Accept", "application/json, text/plain, */*", "X-API-Key", sharedKey}
}

// scriptWithin are those that it adds inside a call.
func scriptWithin(more ...string) []string {
	return append([]string{
		"X-Run-ID", "$run", "X-Workflow-ID", "$workflow", "X-Execution-ID", "$exec", "X-Session-ID", "session-1", "X-Actor-ID", "user-1", "X-Agent-Node-ID", "$node",
	}, more...)
}

func scriptCalls() []string { return scriptWithin("X-Parent-Execution-ID", "$exec") }

func scriptBoots() []exchange {
	beat := func(status string) exchange {
		return exchange{
			does: "beats as " + status, ask: "POST /api/v1/nodes/$node/heartbeat", body: `{"status":"` + status + `","timestamp":"2026-01-15T10:30:00.123Z"}`, status: http.StatusOK,
			reads: map[string]string{"success": "true", "message": "heartbeat received", "timestamp": instant},
		}
	}
	return []exchange{
		{
			does: "registers without a version", ask: "POST /api/v1/nodes/register", status: http.StatusCreated,
			body: `{"id":"$node","version":"","base_url":"$url","public_url":"$url","deployment_type":"long_running","tags":["ts"],
				"reasoners":[{"id":"answer","input_schema":{"type":"object","additionalProperties":true},"output_schema":{},"tags":[],"proposed_tags":["support"]},
				{"id":"text","input_schema":{}},{"id":"list"},{"id":"nothing"},{"id":"broken"},{"id":"take"}],
				"skills":[{"id":"lookup","input_schema":{},"tags":["crm"],"proposed_tags":["crm"]}],"proposed_tags":["ts"],"metadata":{"sdk":{"language":"typescript"}}}`,
			reads: map[string]string{"success": "true", "node_id": "$node", "message": some}, lacks: []string{"status", "pending_tags"},
		},
		beat("starting"), beat("ready"),
		{does: "listens for memory, and goes on without", ask: "GET /api/v1/memory/events/ws?patterns=*", status: http.StatusNotFound, reads: map[string]string{"error": "endpoint_not_found"}},
		{
			does: "looks whether it is there", ask: "GET /api/v1/nodes/$node", status: http.StatusOK,
			reads: map[string]string{
				"id": "$node", "version": "", "base_url": "$url", "lifecycle_status": "ready", "health_status": "active", "communication_config/protocols": "[]", "traffic_weight": "100",
				"reasoners/0/id": "answer", "reasoners/0/tags/0": "support", "reasoners/0/proposed_tags/0": "support", "proposed_tags/0": "ts", "skills/0/tags/0": "crm", "group_id": "$node",
			},
		},
		{
			does: "asks for an identity, and goes on without one", ask: "POST /api/v1/did/register", body: `{"agent_node_id":"$node","reasoners":[{"id":"answer"}],"skills":[]}`, status: http.StatusNotFound,
			reads: map[string]string{"error": "endpoint_not_found", "message": some},
		},
		{does: "asks which identities are revoked, and goes on", ask: "GET /api/v1/revocations", status: http.StatusNotFound, reads: map[string]string{"error": "endpoint_not_found"}},
		{does: "asks which identities there are, and goes on", ask: "GET /api/v1/registered-dids", status: http.StatusNotFound, reads: map[string]string{"error": "endpoint_not_found"}},
		{does: "asks for the issuer's key, and goes on", ask: "GET /api/v1/admin/public-key", status: http.StatusNotFound, reads: map[string]string{"error": "endpoint_not_found"}},
	}
}

func scriptWorks() []exchange {
	local := func(status, more string) string {
		return `{"execution_id":"0b2f6a52-8d0e-4b0a-9d8b-1c7c1a2b3c4d","workflow_id":"$workflow","run_id":"$run","reasoner_id":"think","type":"reasoner","agent_node_id":"$node","status":"` + status +
			`","parent_execution_id":"$exec","parent_workflow_id":"$workflow"` + more + `}`
	}
	return []exchange{
		{
			does: "tells how far it is", ask: "POST /api/v1/executions/$exec/status", header: scriptWithin(), body: `{"status":"running","progress":0.5,"result":{"so":"far"}}`, status: http.StatusOK,
			reads: map[string]string{"execution_id": "$exec", "status": "running", "progress": "0.5", "partial_result/so": "far"},
		},
		{
			does: "notes", ask: "POST /api/ui/v1/executions/note?execution_id=$exec", header: []string{"X-Run-ID", "$run", "X-Agent-Node-ID", "$node"}, body: `{"message":"seen","tags":["a","b"],"timestamp":1768473000.123}`,
			status: http.StatusOK, reads: map[string]string{"success": "true", "note/message": "seen", "note/tags/1": "b"},
		},
		{
			does: "remembers for the actor", ask: "POST /api/v1/memory/set", header: scriptWithin(), body: `{"key":"likes.tea","data":true,"scope":"actor"}`, status: http.StatusOK,
			reads: map[string]string{"data": "true", "scope": "actor", "scope_id": "user-1"},
		},
		{does: "recalls it", ask: "POST /api/v1/memory/get", header: scriptWithin(), body: `{"key":"likes.tea","scope":"actor"}`, status: http.StatusOK, reads: map[string]string{"data": "true"}},
		{does: "forgets it", ask: "POST /api/v1/memory/delete", header: scriptWithin(), body: `{"key":"likes.tea","scope":"actor"}`, status: http.StatusNoContent},
		{
			does: "logs one entry", ask: "POST /api/v1/executions/$exec/logs", header: scriptWithin(), status: http.StatusAccepted,
			body: `{"v":1,"ts":"2026-01-15T10:30:02.123Z","execution_id":"$exec","workflow_id":"$workflow","run_id":"$run","root_workflow_id":"$workflow","agent_node_id":"$node","reasoner_id":"answer",
				"level":"info","source":"sdk.user","event_type":"custom","message":"hello","attributes":{},"system_generated":false}`,
			reads: map[string]string{"success": "true", "execution_id": "$exec", "accepted": "1"},
		},
		{
			does: "logs of another execution", ask: "POST /api/v1/executions/$exec/logs", header: scriptWithin(), body: `{"execution_id":"other","agent_node_id":"$node","message":"m"}`, status: http.StatusBadRequest,
			reads: map[string]string{"error": "execution_id_mismatch", "message": some},
		},
		{
			does: "begins a call inside itself", ask: "POST /api/v1/workflow/executions/events", header: scriptCalls(), body: local("running", `,"input_data":{"a":[1]}`), status: http.StatusOK,
			reads: map[string]string{"success": "true", "created": "true"},
		},
		{
			does: "ends it with a text", ask: "POST /api/v1/workflow/executions/events", header: scriptCalls(), body: local("succeeded", `,"result":"done","duration_ms":1.5`), status: http.StatusOK,
			reads: map[string]string{"success": "true", "updated": "true"},
		},
		{
			does: "calls for a text", ask: "POST /api/v1/execute/$node.text", header: scriptCalls(), body: `{"input":{"a":1}}`, status: http.StatusOK,
			reads: map[string]string{"result": "plain words", "status": "succeeded", "run_id": "$run", "execution_id": execID},
		},
		{does: "calls for a list", ask: "POST /api/v1/execute/$node.list", header: scriptCalls(), body: `{"input":{}}`, status: http.StatusOK, reads: map[string]string{"result": `[1,2.50,null]`}},
		{does: "calls a skill", ask: "POST /api/v1/execute/$node:skill:lookup", header: scriptCalls(), body: `{"input":{"id":7}}`, status: http.StatusOK, reads: map[string]string{"result/id": "7"}},
		{
			does: "calls for nothing", ask: "POST /api/v1/execute/$node.nothing", header: scriptCalls(), body: `{"input":null}`, status: http.StatusOK,
			reads: map[string]string{"result": "", "status": "succeeded"},
		},
		{
			does: "calls what fails", ask: "POST /api/v1/execute/$node.broken", header: scriptCalls(), body: `{"input":{}}`, status: http.StatusTeapot,
			reads: map[string]string{"error": "short and stout", "message": "", "error_details/error": "short and stout", "error_details/error_details/pot": "1", "status": "failed"},
		},
		{
			does: "looks for tools of a model", ask: "GET /api/v1/discovery/capabilities?agent=$node&skill=look*&tags=cr*&include_input_schema=1&include_descriptions=yes", header: scriptWithin(), status: http.StatusOK,
			reads: map[string]string{
				"total_skills": "1", "pagination/limit": "100", "capabilities/0/agent_id": "$node", "capabilities/0/skills/0/id": "lookup", "capabilities/0/skills/0/invocation_target": "$node:skill:lookup",
				"capabilities/0/reasoners": "[]",
			},
		},
		{
			does: "asks for a decision without an id", ask: "POST /api/v1/agents/$node/executions/$exec/request-approval", header: scriptWithin(), status: http.StatusOK,
			body:  `{"title":"Send it?","description":"an offer","template_type":"generic","payload":{"to":"a"},"project_id":"p","expires_in_hours":72}`,
			reads: map[string]string{"approval_request_id": some, "approval_request_url": `^http://.*/approvals/.+$`, "status": "pending"}, keeps: map[string]string{"request": "approval_request_id"},
		},
		{
			does: "polls for it", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status", header: scriptWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "pending", "request_url": some, "requested_at": instant, "expires_at": instant}, lacks: []string{"response"},
		},
	}
}

func scriptEnds() []exchange {
	return []exchange{
		{
			does: "reads the decision", ask: "GET /api/v1/agents/$node/executions/$exec/approval-status", header: scriptWithin(), status: http.StatusOK,
			reads: map[string]string{"status": "rejected", "feedback": "too dear", "request_url": some, "requested_at": instant, "responded_at": instant},
		},
		{
			does: "asks for no decision at all", ask: "GET /api/v1/agents/$node/executions/$child/approval-status", header: scriptWithin(), status: http.StatusNotFound, reads: map[string]string{"error": "no_approval_request"},
		},
	}
}

func TestAgentsOfTheTypeScriptSDKRunUnchanged(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		lookup := apptest.Echo("lookup")
		lookup.Skill = true
		answer, release := apptest.Held("answer", `{"sent":false}`)
		words := apptest.Function{Name: "text", Serve: func(w http.ResponseWriter, _ *http.Request, _ apptest.Call) { _, _ = w.Write([]byte("plain words")) }}
		nothing := apptest.Function{Name: "nothing", Serve: func(http.ResponseWriter, *http.Request, apptest.Call) {}}
		p := newPeer(t, r, "ts-agent", scriptAlways(), answer, words, nothing, lookup, apptest.JSON("list", http.StatusOK, `[1,2.50,null]`),
			apptest.JSON("broken", http.StatusTeapot, `{"error":"short and stout","error_details":{"pot":1}}`))
		p.plays(t, scriptBoots())
		call := p.isCalled(t, "answer", `{"input":{"q":1}}`, "X-Workflow-ID", "wf-of-mine", "X-Session-ID", "session-1", "X-Actor-ID", "user-1")
		p.gets(t, call, map[string]string{"X-Workflow-ID": "wf-of-mine", "X-Execution-ID": "$exec", "X-Run-ID": "$run", "X-Session-ID": "session-1", "X-Actor-ID": "user-1"})
		p.plays(t, scriptWorks())
		p.known["child"] = "0b2f6a52-8d0e-4b0a-9d8b-1c7c1a2b3c4d"
		decided := p.isDecided(t, "X-Hax-Signature", `{"requestId":"$request","decision":"deny","feedback":"too dear"}`)
		hasAll(t, decided, map[string]string{"status": "processed", "decision": "rejected", "new_status": "running"})
		p.plays(t, scriptEnds())
		release() // this SDK holds its call open all the time and answers it in the end
		p.ends(t, "exec", map[string]string{"status": "succeeded", "result/sent": "false", "workflow_id": "wf-of-mine"})
	})
}

// A result that comes while a person still decides is kept until then (wire.md 3.9, L3).
func TestAnAgentOfTheTypeScriptSDKAnswersBeforeTheDecision(t *testing.T) {
	asAgents(t, func(t *testing.T, r *apptest.Rig) {
		answer, release := apptest.Held("answer", `["early"]`)
		p := newPeer(t, r, "ts-agent", scriptAlways(), answer)
		p.plays(t, []exchange{{does: "registers", ask: "POST /api/v1/nodes/register", body: `{"id":"$node","version":"","base_url":"$url","reasoners":[{"id":"answer"}],"skills":[]}`, status: http.StatusCreated}})
		p.isCalled(t, "answer", `{"input":{}}`)
		p.plays(t, []exchange{{
			does: "asks", ask: "POST /api/v1/agents/$node/executions/$exec/request-approval", header: scriptWithin(), body: `{"title":"t","expires_in_hours":1}`, status: http.StatusOK, keeps: map[string]string{"request": "approval_request_id"},
		}})
		release()
		r.Until(t, "the answer is kept", func() bool {
			return r.Store.Value(t, "SELECT count(*) FROM events WHERE kind = 'execution.report_kept'") == "1"
		})
		decided := p.isDecided(t, "X-Hax-Signature", `{"requestId":"$request","decision":"approved"}`)
		hasAll(t, decided, map[string]string{"status": "processed", "execution_id": p.known["exec"]})
		p.ends(t, "exec", map[string]string{"status": "succeeded", "result/0": "early"})
	})
}
