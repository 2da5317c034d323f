package api_test

import (
	"net/http"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestApprovalsAnswerAsDescribed(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := taken(t, r, agent, `{}`)
		of := "/api/v1/executions/" + call.ExecutionID
		token := []string{"X-Execution-Token", call.Token}
		asked := scenario{
			ask: "POST " + of + "/request-approval", body: `{"approval_request_id":"req_42","title":"Refund?","payload":{"amount":7},"expires_in_hours":1}`,
			header: token, status: http.StatusOK, must: map[string]string{
				"approval_request_id": "req_42", "approval_request_url": some, "approval_id": "^appr_", "status": "pending", "expires_at": instant,
			}, row: "waiting", events: []string{"queued", "running", "waiting"},
		}.run(t, r)
		id := "/api/v1/approvals/" + asked.Text("approval_id")
		runAll(t, r, []scenario{
			{name: "a second request while one is open", ask: "POST " + of + "/request-approval", body: `{}`, header: token, status: http.StatusConflict, must: map[string]string{"error": "invalid_state", "code": "invalid_state"}},
			{name: "S56", ask: "GET " + of, status: http.StatusOK, must: map[string]string{
				"status": "waiting", "waiting_for/type": "approval", "waiting_for/approval_request_id": "req_42", "waiting_for/expires_at": instant, "approval_status": "pending",
			}},
			{name: "status", ask: "GET " + of + "/approval-status?approval_request_id=req_42", status: http.StatusOK, must: map[string]string{"status": "pending", "requested_at": instant}},
			{name: "status of another", ask: "GET " + of + "/approval-status?approval_request_id=x", status: http.StatusNotFound, must: map[string]string{"code": "no_approval_request"}},
			{name: "status of the agent", ask: "GET /api/v1/agents/demo/executions/" + call.ExecutionID + "/approval-status", status: http.StatusOK},
			{name: "status of another agent", ask: "GET /api/v1/agents/other/executions/" + call.ExecutionID + "/approval-status", status: http.StatusForbidden, must: map[string]string{"code": "execution_ownership_mismatch"}},
			{name: "list", ask: "GET /api/v1/approvals?state=pending", status: http.StatusOK, must: map[string]string{"approvals/0/approval_request_id": "req_42", "next_cursor": ""}},
			{name: "list with a wrong value", ask: "GET /api/v1/approvals?state=x", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "show", ask: "GET " + id, status: http.StatusOK, must: map[string]string{"payload/amount": "7", "execution_id": call.ExecutionID}},
			{name: "show nothing", ask: "GET /api/v1/approvals/appr_unknown", status: http.StatusNotFound, must: map[string]string{"code": "approval_not_found"}},
			{name: "show what cannot be", ask: "GET /api/v1/approvals/%00", status: http.StatusNotFound, must: map[string]string{"code": "approval_not_found"}},
			{name: "claim", ask: "POST " + id + "/claim", status: http.StatusOK, must: map[string]string{"claimed_by": some}},
			{name: "release", ask: "POST " + id + "/release", status: http.StatusOK},
			{name: "nothing to undo", ask: "POST " + id + "/undo", status: http.StatusConflict, must: map[string]string{"code": "nothing_held"}},
			{name: "no decision", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"req_42"}`, status: http.StatusBadRequest, must: map[string]string{"code": "decision_missing"}},
			{name: "another word", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"req_42","decision":"perhaps"}`, status: http.StatusBadRequest, must: map[string]string{"code": "decision_invalid"}},
			{name: "an agent", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"req_42","decision":"approved"}`, header: token, status: http.StatusForbidden},
			{name: "signed without a secret", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"req_42","decision":"approved"}`, header: []string{"X-Webhook-Signature", "sha256=00"}, status: http.StatusServiceUnavailable, must: map[string]string{"code": "approval_secret_missing"}},
			{name: "unknown request", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"x","decision":"approved"}`, status: http.StatusNotFound, must: map[string]string{"code": "approval_not_found"}},
			{name: "S65 the given curl", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"req_42","decision":"approved","feedback":"Looks good"}`, status: http.StatusOK, must: map[string]string{
				"status": "processed", "execution_id": call.ExecutionID, "decision": "approved", "new_status": "running",
			}},
			{name: "B25 the same again", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"req_42","decision":"approved","feedback":"Looks good"}`, status: http.StatusOK, must: map[string]string{"status": "already_processed"}},
			{name: "B25 another decision", ask: "POST /api/v1/webhooks/approval", body: `{"approval_request_id":"req_42","decision":"rejected"}`, status: http.StatusConflict, must: map[string]string{"code": "already_decided", "decision": "approved", "decided_at": instant, "request_id": some}},
			{name: "B25 another decision by the alias", ask: "POST /api/v1/webhooks/approval-response", body: `{"requestId":"req_42","decision":"reject"}`, status: http.StatusOK, must: map[string]string{"status": "already_processed", "decision": "approved"}},
			{name: "status with the decision", ask: "GET " + of + "/approval-status", status: http.StatusOK, must: map[string]string{"status": "approved", "feedback": "Looks good", "responded_at": instant}},
			{name: "S59 no waiting_for while it runs", ask: "GET " + of, status: http.StatusOK, must: map[string]string{"status": "running"}, never: []string{"waiting_for"}},
		})
		second := scenario{
			ask: "POST /api/v1/agents/demo/executions/" + call.ExecutionID + "/request-approval", body: `{"title":"Once more?"}`, header: token, status: http.StatusOK,
			must: map[string]string{"round": "2", "approval_request_id": some, "approval_request_url": some},
		}.run(t, r)
		// People hold their decisions for a moment, on the page, and may take them back.
		page := "/approvals/" + second.Text("approval_id")
		held := r.Do(t, http.MethodPost, page+"/decide", "decision=approved&hold=1&version=1", "Content-Type", "application/x-www-form-urlencoded")
		if held.Status != http.StatusSeeOther {
			t.Fatalf("hold a decision: %d %s", held.Status, held.Body)
		}
		scenario{ask: "POST /api/v1" + page + "/undo", status: http.StatusOK, must: map[string]string{"status": "pending", "approval_request_id": some}}.run(t, r)
		decide := "POST /api/v1/approvals/" + second.Text("approval_id") + "/decide"
		scenario{ask: decide, body: `{"decision":"request_changes","feedback":"smaller"}`, status: http.StatusOK, must: map[string]string{"approval_status": "request_changes"}, row: "running"}.run(t, r)
		report(t, r, call, `{"status":"succeeded","result":"done"}`)
		if ended := r.Ended(t, call.ExecutionID); ended.Text("result") != "done" {
			t.Errorf("after the decisions: %s", ended.Body)
		}
	})
}
