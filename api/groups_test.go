package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

func TestFailuresAreShownByTheirReason(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		r.Agent(t, "demo", apptest.JSON("fail", 500, `{"error":"row 12 of <b>orders</b> is locked"}`), apptest.Echo("echo"))
		for range 3 {
			r.Execute(t, "demo.fail", `{}`)
		}
		r.Execute(t, "demo.echo", `{}`)
		groups := scenario{ask: "GET /api/v1/failure-groups?since=1h", status: http.StatusOK, must: map[string]string{
			"groups/0/count": "3", "groups/0/target": "demo.fail", "groups/0/group": `^fp_[0-9a-f]{10}$`, "groups/0/first_seen_at": instant, "truncated": "false",
		}}.run(t, r)
		found := r.Do(t, http.MethodGet, "/api/v1/executions?q="+url.QueryEscape(groups.Text("groups/0/q")), nil)
		if len(listed(found)) != 3 {
			t.Errorf("the filter of the group finds %s", found.Body)
		}
		page := string(r.Do(t, http.MethodGet, "/", nil).Body)
		for _, want := range []string{"Why things fail", "row 12 of &lt;b&gt;orders", "group-" + groups.Text("groups/0/group")} {
			if !strings.Contains(page, want) {
				t.Errorf("the overview does not say %q", want)
			}
		}
		scenario{ask: "GET /api/v1/failure-groups?since=soon", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}}.run(t, r)
	})
}
