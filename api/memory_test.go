package api_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestMemoryKeepsScopesApart(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		all := []string{"X-Workflow-ID", "wf_1", "X-Session-ID", "s_1", "X-Actor-ID", "u_1", "X-Agent-Node-ID", "triage"}
		without := func(names ...string) []string {
			var rest []string
			for i := 0; i < len(all); i += 2 {
				if !strings.Contains(strings.Join(names, " "), all[i]) {
					rest = append(rest, all[i], all[i+1])
				}
			}
			return rest
		}
		for _, scope := range []string{"workflow", "session", "actor", "global"} {
			scenario{ask: "POST /api/v1/memory/set", body: `{"key":"mood","data":"of the ` + scope + `","scope":"` + scope + `"}`, header: all, status: http.StatusOK, must: map[string]string{
				"scope": scope, "data": "of the " + scope, "version": "1", "metadata/agent_id": "triage", "created_at": instant, "updated_at": instant, "access_level": "",
			}}.run(t, r)
		}
		get := func(want string, header []string) {
			t.Helper()
			scenario{ask: "POST /api/v1/memory/get", body: `{"key":"mood"}`, header: header, status: http.StatusOK, must: map[string]string{"data": "of the " + want}}.run(t, r)
		}
		get("workflow", all)
		get("session", without("X-Workflow-ID"))
		get("actor", without("X-Workflow-ID", "X-Session-ID"))
		get("global", nil)
		get("global", []string{"X-Workflow-ID", "wf_2", "X-Session-ID", "s_2", "X-Actor-ID", "u_2"})
		runAll(t, r, []scenario{
			{name: "S49: another session sees nothing", ask: "POST /api/v1/memory/get", body: `{"key":"mood","scope":"session"}`, header: []string{"X-Session-ID", "s_2"}, status: http.StatusNotFound, must: map[string]string{"error": "not_found", "code": "404"}},
			{name: "an id is no other scope's id", ask: "POST /api/v1/memory/get", body: `{"key":"mood","scope":"actor"}`, header: []string{"X-Actor-ID", "s_1"}, status: http.StatusNotFound},
			{name: "ids and keys are never joined", ask: "POST /api/v1/memory/get", body: `{"key":"1.mood","scope":"session"}`, header: []string{"X-Session-ID", "s_"}, status: http.StatusNotFound},
			{name: "a scope without its header has an id of its own", ask: "POST /api/v1/memory/get", body: `{"key":"mood","scope":"session"}`, status: http.StatusNotFound},
			{name: "the list of a session", ask: "GET /api/v1/memory/list?scope=session", header: all, status: http.StatusOK, must: map[string]string{"0/key": "mood", "0/scope_id": "s_1", "0/data": "of the session", "1": ""}},
			{name: "an empty list", ask: "GET /api/v1/memory/list?scope=actor", header: []string{"X-Actor-ID", "u_9"}, status: http.StatusOK, says: "[]"},
			{name: "delete takes the narrowest", ask: "POST /api/v1/memory/delete", body: `{"key":"mood"}`, header: all, status: http.StatusNoContent},
			{name: "delete what is gone", ask: "POST /api/v1/memory/delete", body: `{"key":"mood"}`, header: all, status: http.StatusNoContent},
		})
		get("session", all)
	})
}

func TestMemoryTakesAnyJSONAndRefusesTheRest(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		for _, data := range []string{`{"a":[1,2.50,null]}`, `[]`, `0`, `false`, `"text"`, `"\u0000"`, `12345678901234567890`} {
			scenario{ask: "POST /api/v1/memory/set", body: `{"key":"k","data":` + data + `}`, status: http.StatusOK}.run(t, r)
			scenario{ask: "POST /api/v1/memory/get", body: `{"key":"k"}`, status: http.StatusOK, says: `"data":` + data + `,`}.run(t, r)
		}
		wrong := map[string]string{"error": "invalid_request", "code": "400", "details": some, "message": some, "request_id": some}
		runAll(t, r, []scenario{
			{name: "null", ask: "POST /api/v1/memory/set", body: `{"key":"k","data":null}`, status: http.StatusBadRequest, must: wrong},
			{name: "no data", ask: "POST /api/v1/memory/set", body: `{"key":"k"}`, status: http.StatusBadRequest, must: wrong},
			{name: "no key", ask: "POST /api/v1/memory/set", body: `{"data":1}`, status: http.StatusBadRequest, must: wrong},
			{name: "a long key", ask: "POST /api/v1/memory/set", body: `{"data":1,"key":"` + strings.Repeat("k", 1025) + `"}`, status: http.StatusBadRequest, must: wrong},
			{name: "no JSON", ask: "POST /api/v1/memory/get", body: `{`, status: http.StatusBadRequest, must: wrong},
			{name: "another scope", ask: "POST /api/v1/memory/get", body: `{"key":"k","scope":"reasoner"}`, status: http.StatusBadRequest, must: wrong},
			{name: "another scope of a list", ask: "GET /api/v1/memory/list?scope=reasoner", status: http.StatusBadRequest, must: wrong},
			{name: "a version that is none", ask: "POST /api/v1/memory/set", body: `{"key":"k","data":1}`, header: []string{"If-Match", "new"}, status: http.StatusBadRequest, must: wrong},
			{name: "too large", ask: "POST /api/v1/memory/set", body: `{"key":"k","data":"` + strings.Repeat("x", 1<<20) + `"}`, status: http.StatusRequestEntityTooLarge, must: map[string]string{"error": "payload_too_large", "code": "413"}},
			{name: "vectors are not here", ask: "POST /api/v1/memory/vector", body: `{"key":"k","embedding":[1]}`, status: http.StatusNotFound, must: map[string]string{"code": "endpoint_not_found"}},
		})
	})
}

func TestMemoryComparesVersions(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		conflict := map[string]string{"error": "version_conflict", "code": "412"}
		set := func(match, data string, status int, must map[string]string) scenario {
			return scenario{name: match + " " + data, ask: "POST /api/v1/memory/set", body: `{"key":"n","data":` + data + `}`, header: []string{"If-Match", match}, status: status, must: must}
		}
		runAll(t, r, []scenario{
			set("1", "1", http.StatusPreconditionFailed, conflict),
			set("0", "1", http.StatusOK, map[string]string{"version": "1"}),
			set("0", "2", http.StatusPreconditionFailed, conflict),
			set(`"1"`, "2", http.StatusOK, map[string]string{"version": "2", "data": "2"}),
			set("1", "3", http.StatusPreconditionFailed, conflict),
			set("*", "4", http.StatusOK, map[string]string{"version": "3"}),
			{name: "delete another version", ask: "POST /api/v1/memory/delete", body: `{"key":"n"}`, header: []string{"If-Match", "2"}, status: http.StatusPreconditionFailed, must: conflict},
			{name: "delete this version", ask: "POST /api/v1/memory/delete", body: `{"key":"n"}`, header: []string{"If-Match", "3"}, status: http.StatusNoContent},
			{name: "delete what is gone", ask: "POST /api/v1/memory/delete", body: `{"key":"n"}`, header: []string{"If-Match", "3"}, status: http.StatusNoContent},
		})
	})
}

// S110, S161: both ids of a run name the same scope, and a token opens the scopes of its execution only.
func TestMemoryBelongsToTheExecutionOfTheToken(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		headers := []string{"X-Workflow-ID", "wf_claims", "X-Session-ID", "s_1"}
		scenario{ask: "POST /api/v1/memory/set", body: `{"key":"early","data":"before the run"}`, header: headers[:2], status: http.StatusOK, must: map[string]string{"scope_id": "wf_claims"}}.run(t, r)
		started := scenario{ask: "POST /api/v1/execute/async/demo.take", body: `{}`, header: headers, status: http.StatusAccepted}.run(t, r)
		call := agent.Called(t, started.Text("execution_id"), 1)
		token := []string{"X-Execution-ID", call.ExecutionID, "X-Execution-Token", call.Token}
		with := func(pairs ...string) []string { return append(append([]string{}, token...), pairs...) }
		runAll(t, r, []scenario{
			{name: "the ids need not be sent", ask: "POST /api/v1/memory/get", body: `{"key":"early"}`, header: token, status: http.StatusOK, must: map[string]string{"data": "before the run", "scope": "workflow", "scope_id": "wf_claims"}},
			{name: "the run id is as good", ask: "POST /api/v1/memory/get", body: `{"key":"early"}`, header: []string{"X-Workflow-ID", started.Text("run_id")}, status: http.StatusOK, must: map[string]string{"scope_id": started.Text("run_id")}},
			{name: "and so it is with a token", ask: "POST /api/v1/memory/set", body: `{"key":"later","data":1}`, header: with("X-Workflow-ID", started.Text("run_id")), status: http.StatusOK},
			{name: "both see it", ask: "POST /api/v1/memory/get", body: `{"key":"later"}`, header: headers, status: http.StatusOK},
			{name: "its session", ask: "POST /api/v1/memory/set", body: `{"key":"mine","data":1,"scope":"session"}`, header: token, status: http.StatusOK, must: map[string]string{"scope_id": "s_1"}},
			{name: "another session", ask: "POST /api/v1/memory/get", body: `{"key":"mine","scope":"session"}`, header: with("X-Session-ID", "s_2"), status: http.StatusForbidden, must: map[string]string{"error": "scope_forbidden", "code": "403"}},
			{name: "another workflow", ask: "POST /api/v1/memory/delete", body: `{"key":"early"}`, header: with("X-Workflow-ID", "wf_other"), status: http.StatusForbidden},
			{name: "an actor, where it has none", ask: "GET /api/v1/memory/list", header: with("X-Actor-ID", "u_1"), status: http.StatusForbidden},
			{name: "everybody's", ask: "POST /api/v1/memory/set", body: `{"key":"shared","data":1,"scope":"global"}`, header: token, status: http.StatusOK, must: map[string]string{"scope_id": "global"}},
			{name: "a wrong token", ask: "POST /api/v1/memory/get", body: `{"key":"early"}`, header: []string{"X-Execution-ID", call.ExecutionID, "X-Execution-Token", "1.ff"}, status: http.StatusUnauthorized, must: map[string]string{"error": "execution_token_invalid", "code": "401"}},
			{name: "a token of nothing", ask: "POST /api/v1/memory/get", body: `{"key":"early"}`, header: []string{"X-Execution-Token", call.Token}, status: http.StatusBadRequest},
		})
	})
}

func TestMemoryDemandsATokenWhereAgentsAreSigned(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Taking("take"))
		call := agent.Called(t, r.Submit(t, "demo.take", `{}`), 1)
		runAll(t, r, []scenario{
			{name: "none", ask: "POST /api/v1/memory/get", body: `{"key":"k","scope":"global"}`, status: http.StatusUnauthorized, must: map[string]string{"error": "execution_token_invalid"}},
			{name: "its own", ask: "POST /api/v1/memory/set", body: `{"key":"k","data":1}`, header: []string{"X-Execution-ID", call.ExecutionID, "X-Execution-Token", call.Token}, status: http.StatusOK},
		})
	}, func(c *config.Config) { c.UnsignedAgents = "off" })
}

func TestAListOfMemoriesGoesOnAfterItsLastKey(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		big := strings.Repeat("x", 1<<20-2)
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			r.Do(t, http.MethodPost, "/api/v1/memory/set", `{"key":"`+key+`","data":"`+big+`"}`)
		}
		for after, want := range map[string]string{"": "abcd", "b": "cde", "d": "e", "e": ""} {
			page := r.Do(t, http.MethodGet, "/api/v1/memory/list?scope=global&after="+after, nil)
			got := ""
			for i := range 5 {
				got += page.Text(strconv.Itoa(i) + "/key")
			}
			if page.Status != http.StatusOK || got != want {
				t.Errorf("after %q there are %q, not %q", after, got, want)
			}
		}
	})
}
