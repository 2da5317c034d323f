package main

import (
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestDecisionsAreMadeByAnyNameOfTheRequest(t *testing.T) {
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "claims", apptest.Taking("decide"))
		for verb, decision := range map[string]string{"approve": "approved", "reject": "rejected", "request-changes": "request_changes"} {
			for _, name := range []string{"request", "approval", "execution"} {
				id := r.Submit(t, "claims.decide", map[string]any{"input": map[string]any{}})
				asked := r.Do(t, "POST", "/api/v1/executions/"+id+"/request-approval", map[string]any{"approval_request_id": verb + name},
					"X-Execution-Token", agent.Called(t, id, 1).Token)
				called := map[string]string{"request": verb + name, "approval": asked.Text("approval_id"), "execution": id}[name]
				got := at(t, r, verb, called, "--feedback", "because")
				status := r.Do(t, "GET", "/api/v1/executions/"+id+"/approval-status", nil)
				if got.code != exitOK || !strings.Contains(got.stdout, id+" is running") || status.Text("status") != decision || status.Text("feedback") != "because" {
					t.Errorf("%s by %s: exit code %d, %s%s; the status is %s", verb, name, got.code, got.stdout, got.stderr, status.Body)
				}
			}
		}
	})
}

func TestASecondDecisionLearnsOfTheFirst(t *testing.T) {
	r := apptest.New(t)
	agent := r.Agent(t, "claims", apptest.Taking("decide"))
	id := r.Submit(t, "claims.decide", map[string]any{"input": map[string]any{}})
	r.Do(t, "POST", "/api/v1/executions/"+id+"/request-approval", map[string]any{"approval_request_id": "claim-1"}, "X-Execution-Token", agent.Called(t, id, 1).Token)
	if got := at(t, r, "approve", "claim-1", "--json"); got.code != exitOK || !strings.Contains(got.stdout, `"status": "processed"`) {
		t.Fatalf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := at(t, r, "reject", "claim-1"); got.code != exitFailed || !strings.Contains(got.stderr, "already_decided") {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := at(t, r, "approve", "nothing"); got.code != exitFailed || !strings.Contains(got.stderr, "approval_not_found") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	plain := r.Submit(t, "claims.decide", map[string]any{"input": map[string]any{}})
	if got := at(t, r, "approve", plain); got.code != exitFailed || !strings.Contains(got.stderr, "asked for no decision") {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}

func TestCancelEndsAnExecutionOrARun(t *testing.T) {
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("work"))
		one := r.Submit(t, "demo.work", map[string]any{"input": map[string]any{}})
		agent.Called(t, one, 1)
		got := at(t, r, "cancel", one, "--reason", "wrong input")
		if row := r.Get(t, one); got.code != exitOK || !strings.Contains(got.stdout, one+" is cancelled; it was running") || row.Text("status_reason") != "wrong input" {
			t.Errorf("exit code %d, %s%s: %s", got.code, got.stdout, got.stderr, row.Body)
		}
		if got := at(t, r, "execution", "cancel", one, "--json"); got.code != exitFailed || !strings.Contains(got.stderr, "invalid_state") {
			t.Errorf("a second time: exit code %d, %s", got.code, got.stderr)
		}
		for range 2 {
			r.Submit(t, "demo.work", map[string]any{"input": map[string]any{}}, "X-Workflow-ID", "wf_3")
		}
		if got := at(t, r, "cancel", "wf_3"); got.code != exitOK || !strings.Contains(got.stdout, "of 2 executions 2 are cancelled, 0 were left alone") {
			t.Errorf("the run: exit code %d, %s%s", got.code, got.stdout, got.stderr)
		}
		if got := at(t, r, "cancel", "wf_none"); got.code != exitFailed || !strings.Contains(got.stderr, "workflow_not_found") {
			t.Errorf("no run: exit code %d, %s", got.code, got.stderr)
		}
	})
}

func TestPauseHoldsBackUntilResume(t *testing.T) {
	apptest.Each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("work"))
		id := r.Submit(t, "demo.work", map[string]any{"input": map[string]any{}}, "X-Workflow-ID", "wf_4")
		agent.Called(t, id, 1)
		for _, c := range []struct{ args, want string }{
			{"pause " + id + " --reason lunch", id + " is paused; it was running"},
			{"resume " + id, id + " is running; it was paused"},
			{"pause wf_4", "wf_4: of 1 executions 1 are paused, 0 were left alone"},
			{"resume wf_4", "wf_4: of 1 executions 1 are resumed, 0 were left alone"},
			{"execution pause " + id + " --json", `"status": "paused"`},
		} {
			if got := at(t, r, strings.Fields(c.args)...); got.code != exitOK || !strings.Contains(got.stdout, c.want) {
				t.Errorf("%s: exit code %d, %s%s", c.args, got.code, got.stdout, got.stderr)
			}
		}
		if got := at(t, r, "pause", id); got.code != exitFailed || !strings.Contains(got.stderr, "invalid_state") {
			t.Errorf("a second time: exit code %d, %s", got.code, got.stderr)
		}
	})
}
