package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestOperatorsLookAfterNodes(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.Echo("echo"))
		instance := r.Do(t, http.MethodGet, "/api/v1/nodes/demo", nil).Text("instances/0/id")
		runAll(t, r, []scenario{
			{name: "drain", ask: "POST /api/v1/nodes/demo/drain", body: `{"instance_id":"` + instance + `"}`, status: http.StatusOK, must: map[string]string{"node_id": "demo", "drained": "1"}},
			{name: "drain again", ask: "POST /api/v1/nodes/demo/drain", status: http.StatusOK, must: map[string]string{"drained": "0"}},
			{name: "shown", ask: "GET /api/v1/nodes/demo", status: http.StatusOK, must: map[string]string{"instances/0/draining_since": instant}},
			{name: "a stranger", ask: "POST /api/v1/nodes/nobody/drain", status: http.StatusNotFound, must: map[string]string{"code": "node_not_found"}},
			{name: "an instance of another", ask: "POST /api/v1/nodes/demo/resume", body: `{"instance_id":"inst_x"}`, status: http.StatusNotFound, must: map[string]string{"code": "instance_not_found"}},
		})
		id := r.Submit(t, "demo.echo", `{}`)
		if status := r.Store.Status(t, id); status != "pending" {
			t.Errorf("work for a node that drains is %s", status)
		}
		runAll(t, r, []scenario{
			{name: "remove", ask: "POST /api/v1/nodes/demo/remove", status: http.StatusConflict, must: map[string]string{"code": "node_is_up"}},
			{name: "limits", ask: "POST /api/v1/nodes/demo/limits", body: `{"max_concurrency":5}`, status: http.StatusOK, must: map[string]string{"max_concurrency": "5", "max_depth": "0"}},
			{name: "one limit", ask: "POST /api/v1/nodes/demo/limits", body: `{"max_depth":9}`, status: http.StatusOK, must: map[string]string{"max_concurrency": "5", "max_depth": "9"}},
			{name: "a rate", ask: "POST /api/v1/nodes/demo/limits", body: `{"max_per_minute":6000}`, status: http.StatusOK, must: map[string]string{"max_concurrency": "5", "max_per_minute": "6000"}},
			{name: "of a function", ask: "POST /api/v1/nodes/demo/limits", body: `{"function":"echo","max_concurrency":2}`, status: http.StatusOK, must: map[string]string{"function": "echo", "max_concurrency": "2", "max_per_minute": "0"}},
			{name: "of no function", ask: "POST /api/v1/nodes/demo/limits", body: `{"function":"nothing","max_concurrency":2}`, status: http.StatusNotFound, must: map[string]string{"code": "target_not_found"}},
			{name: "all limits", ask: "GET /api/v1/nodes/demo", status: http.StatusOK, must: map[string]string{"limits/max_concurrency": "5", "limits/max_per_minute": "6000", "limits/functions/echo/max_concurrency": "2"}},
			{name: "a bad limit", ask: "POST /api/v1/nodes/demo/limits", body: `{"max_depth":-1}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "resume", ask: "POST /api/v1/nodes/demo/resume", status: http.StatusOK, must: map[string]string{"resumed": "1"}},
		})
		if got := r.Ended(t, id).Text("status"); got != "succeeded" {
			t.Errorf("after the resumption it is %s", got)
		}
		runAll(t, r, []scenario{
			{name: "stop", ask: "POST /api/v1/nodes/demo/shutdown", status: http.StatusAccepted},
			{name: "remove what is down", ask: "POST /api/v1/nodes/demo/remove", status: http.StatusOK, must: map[string]string{"node_id": "demo", "removed": "true"}},
			{name: "removed", ask: "GET /api/v1/nodes/demo", status: http.StatusNotFound, must: map[string]string{"code": "node_not_found"}},
		})
		if got := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE object_kind = 'node'"); got != "7" {
			t.Errorf("%s entries in the audit log", got)
		}
	})
}

func TestNodesHavePages(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDoor(t, r.URL)
		if got := d.ask(caller{}, http.MethodGet, "/nodes", ""); got.status != http.StatusOK || !strings.Contains(got.body, "No agent has registered yet") {
			t.Errorf("without nodes: %d %s", got.status, got.body)
		}
		r.Agent(t, "demo", apptest.Echo("echo"))
		people := map[string]caller{}
		for _, who := range d.everybody() {
			people[who.name] = who
		}
		olga, vera := people["operator"], people["viewer"]
		for path, says := range map[string][]string{
			"/nodes":      {"demo", "1 of 1", "Ready"},
			"/nodes/demo": {"echo", "Drain all", "Set limits", "Recent executions"},
		} {
			got := d.ask(olga, http.MethodGet, path, "")
			for _, text := range says {
				if got.status != http.StatusOK || !strings.Contains(got.body, text) {
					t.Errorf("%s: %d, without %q", path, got.status, text)
				}
			}
		}
		if got := d.ask(vera, http.MethodGet, "/nodes/demo", ""); got.status != http.StatusOK || strings.Contains(got.body, "Drain all") || strings.Contains(got.body, "Set limits") {
			t.Errorf("a viewer is offered to operate: %d", got.status)
		}
		if got := d.form(vera, "/nodes/demo/drain"); got.status != http.StatusForbidden {
			t.Errorf("a viewer drains: %d", got.status)
		}
		if got := d.form(olga, "/nodes/demo/drain"); got.status != http.StatusSeeOther {
			t.Errorf("drain: %d %s", got.status, got.body)
		}
		if got := d.ask(olga, http.MethodGet, "/nodes/demo?done=drain", ""); !strings.Contains(got.body, "Resume all") || !strings.Contains(got.body, "It gets no new calls") {
			t.Error("the page does not say that it drains")
		}
		if got := d.form(olga, "/nodes/demo/limits", "max_concurrency", "-1", "max_depth", "0"); got.status != http.StatusBadRequest || !strings.Contains(got.body, "limits lie between") {
			t.Errorf("a bad limit: %d", got.status)
		}
		if got := d.form(olga, "/nodes/demo/remove"); got.status != http.StatusConflict || !strings.Contains(got.body, "only a node that is down") {
			t.Errorf("remove: %d", got.status)
		}
		if got := d.ask(olga, http.MethodGet, "/nodes/nobody", ""); got.status != http.StatusNotFound {
			t.Errorf("an unknown node: %d", got.status)
		}
	})
}
