package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

// quickly makes the schedule of webhooks short.
func quickly(c *config.Config) {
	c.WebhookBackoff, c.WebhookMaxBackoff, c.WebhookMaxAttempts = 10*time.Millisecond, 20*time.Millisecond, 2
}

func TestOperatorsLookAfterWebhooks(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t, 503, 503, 204)
		r.Agent(t, "demo", apptest.Echo("echo"))
		id := r.Do(t, http.MethodPost, "/api/v1/execute/async/demo.echo",
			`{"input":{},"webhook":{"url":"`+hook.URL+`/in?x=1","secret":"your-webhook-secret-key","headers":{"X-Token":"t0ken"}}}`).Text("execution_id")
		r.Until(t, "it is given up", func() bool {
			return r.Do(t, http.MethodGet, "/api/v1/webhooks?state=failed", nil).Len("webhooks") == 1
		})
		list := r.Do(t, http.MethodGet, "/api/v1/webhooks", nil)
		delivery := list.Text("webhooks/0/id")
		address, err := url.Parse(hook.URL)
		if err != nil {
			t.Fatal(err)
		}
		host := address.Host
		one := "GET /api/v1/webhooks/" + delivery
		runAll(t, r, []scenario{
			{
				name: "by all filters", ask: "GET /api/v1/webhooks?state=failed&class=5xx&event=execution.completed&since=1h&execution=" + id + "&host=" + host, status: http.StatusOK,
				must: map[string]string{
					"webhooks/0/execution_id": id, "webhooks/0/state": "failed", "webhooks/0/last_status": "503", "webhooks/0/last_class": "5xx",
					"webhooks/0/attempt": "2", "webhooks/0/max_attempts": "2", "webhooks/0/last_latency_ms": `^\d+$`, "webhooks/0/created_at": instant, "next_cursor": "",
				},
			},
			{name: "none matches", ask: "GET /api/v1/webhooks?class=dns", status: http.StatusOK, says: `"webhooks":[]`},
			{name: "no such state", ask: "GET /api/v1/webhooks?state=fine", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_status"}},
			{name: "no such class", ask: "GET /api/v1/webhooks?class=9xx", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "no such cursor", ask: "GET /api/v1/webhooks?cursor=x", status: http.StatusBadRequest, must: map[string]string{"code": "invalid_cursor"}},
			{
				name: "one", ask: one, status: http.StatusOK, never: []string{"secret"},
				must: map[string]string{"id": delivery, "attempts/0/http_status": "503", "attempts/1/attempt": "2", "headers/0": "X-Token", "signed": "true", "planned_attempts": "[]"},
			},
			{name: "a stranger", ask: "GET /api/v1/webhooks/wh_nobody", status: http.StatusNotFound, must: map[string]string{"code": "webhook_not_found"}},
			{name: "a stranger again", ask: "POST /api/v1/webhooks/wh_nobody/redeliver", status: http.StatusNotFound, must: map[string]string{"code": "webhook_not_found"}},
			{name: "again", ask: "POST /api/v1/webhooks/" + delivery + "/redeliver", status: http.StatusAccepted, must: map[string]string{"redelivered": "1", "in_flight": "0"}},
		})
		r.Until(t, "it is delivered", func() bool {
			return r.Do(t, http.MethodGet, "/api/v1/webhooks/"+delivery, nil).Text("state") == "delivered"
		})
		if first, third := hook.Got(t, 1), hook.Got(t, 3); first.Header.Get("Webhook-Id") != delivery || third.Header.Get("Webhook-Id") != delivery {
			t.Error("the id is not the same over all attempts")
		}
		many := "POST /api/v1/webhooks/redeliver"
		runAll(t, r, []scenario{
			{name: "all that a filter finds", ask: many, body: `{"state":"delivered","since":"1h"}`, status: http.StatusAccepted, must: map[string]string{"redelivered": "1", "more": "false"}},
			{name: "neither ids nor a filter", ask: many, body: `{}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "both", ask: many, body: `{"ids":["x"],"state":"failed"}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "nothing found", ask: many, body: `{"class":"dns"}`, status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
		})
		if hook.Got(t, 4).Header.Get("Webhook-Id") != delivery {
			t.Error("many are sent under other ids")
		}
		if got := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'webhook.redelivered'"); got != "2" {
			t.Errorf("%s entries in the audit log", got)
		}
	}, quickly)
}

func TestWebhooksHavePages(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDoor(t, r.URL)
		if got := d.ask(caller{}, http.MethodGet, "/webhooks", ""); got.status != http.StatusOK || !strings.Contains(got.body, "No webhook yet") {
			t.Errorf("without deliveries: %d", got.status)
		}
		hook := apptest.NewReceiver(t, 410)
		r.Agent(t, "demo", apptest.Echo("echo"))
		for range 2 {
			r.Do(t, http.MethodPost, "/api/v1/execute/async/demo.echo", `{"input":{},"webhook":{"url":"`+hook.URL+`/in","secret":"s","headers":{"X-Token":"t0ken"}}}`)
		}
		var list apptest.Answer
		r.Until(t, "both are given up", func() bool {
			list = r.Do(t, http.MethodGet, "/api/v1/webhooks?state=failed", nil)
			return list.Len("webhooks") == 2
		})
		delivery := list.Text("webhooks/0/id")
		people := map[string]caller{}
		for _, who := range d.everybody() {
			people[who.name] = who
		}
		olga, vera := people["operator"], people["viewer"]
		for path, says := range map[string][]string{
			"/webhooks?state=failed":             {"row-" + delivery, "Given up", "410 · ", "1/", "Send all matching again", "Stop all matching", "/webhooks.csv?state=failed"},
			"/":                                  {"webhooks given up in the last 24 h", "/webhooks?state=failed&amp;since=24h"},
			"/webhooks?class=dns":                {"No webhook matches these filters"},
			"/webhooks/rows?ids=" + delivery:     {"row-" + delivery},
			"/webhooks/fresh?state=failed":       {"2"},
			"/webhooks/" + delivery:              {"410 Gone: retries stopped", "X-Token", "••••", "Send again", delivery + ".", "def verify(", "export function verify", "func Verify("},
			"/webhooks/redeliver?state=failed":   {"2 webhooks", "The receiver may see duplicates", `name="until"`},
			"/webhooks/redeliver?id=" + delivery: {"1 webhook", `value="` + delivery + `"`},
		} {
			got := d.ask(olga, http.MethodGet, path, "")
			for _, text := range says {
				if got.status != http.StatusOK || !strings.Contains(got.body, text) {
					t.Errorf("%s: %d, without %q", path, got.status, text)
				}
			}
			if strings.Contains(got.body, "t0ken") {
				t.Errorf("%s shows the value of a header", path)
			}
		}
		if got := d.ask(vera, http.MethodGet, "/webhooks/"+delivery, ""); got.status != http.StatusOK || strings.Contains(got.body, "Send again") {
			t.Errorf("a viewer is offered to send again: %d", got.status)
		}
		if got := d.form(vera, "/webhooks/"+delivery+"/redeliver"); got.status != http.StatusForbidden {
			t.Errorf("a viewer sends again: %d", got.status)
		}
		if got := d.ask(olga, http.MethodGet, "/webhooks/redeliver?chosen=1", ""); got.status != http.StatusBadRequest {
			t.Errorf("nothing is selected: %d", got.status)
		}
		if got := d.form(olga, "/webhooks/"+delivery+"/redeliver"); got.status != http.StatusSeeOther {
			t.Errorf("send again: %d %s", got.status, got.body)
		}
		hook.Got(t, 3)
		if got := d.form(olga, "/webhooks/redeliver", "state", "failed", "since", "1h"); got.status != http.StatusSeeOther {
			t.Errorf("send all: %d %s", got.status, got.body)
		}
		hook.Got(t, 4)
	}, quickly)
}

func TestEndpointsAreToldOfExecutions(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t, 204)
		r.Agent(t, "demo", apptest.Echo("echo"))
		const all = "POST /api/v1/webhooks/endpoints"
		made := scenario{
			name: "create", ask: all, body: `{"name":"billing","url":"` + hook.URL + `/in","events":["execution.completed","execution.failed"],"headers":{"X-Token":"t0ken"}}`,
			status: http.StatusCreated, must: map[string]string{"id": `^whe_`, "secret": `^whsec_`, "enabled": "true", "headers/0": "X-Token", "events/1": "execution.failed"},
		}.run(t, r)
		id := made.Text("id")
		one := "/api/v1/webhooks/endpoints/" + id
		runAll(t, r, []scenario{
			{name: "no event", ask: all, body: `{"name":"x","url":"` + hook.URL + `"}`, status: http.StatusBadRequest, must: map[string]string{"code": "webhook_invalid", "details": `^events: `}},
			{name: "no address", ask: all, body: `{"name":"x","events":["execution.failed"]}`, status: http.StatusBadRequest, must: map[string]string{"code": "webhook_invalid", "details": `^url: `}},
			{name: "list", ask: "GET /api/v1/webhooks/endpoints", status: http.StatusOK, must: map[string]string{"endpoints/0/id": id, "event_types/0": "execution.completed"}, never: []string{"endpoints/0/secret"}},
			{name: "stranger", ask: "GET /api/v1/webhooks/endpoints/whe_x", status: http.StatusNotFound, must: map[string]string{"code": "webhook_endpoint_not_found"}},
			{name: "changing a stranger", ask: "POST /api/v1/webhooks/endpoints/whe_x", body: `{}`, status: http.StatusNotFound, must: map[string]string{"code": "webhook_endpoint_not_found"}},
			{name: "wrong change", ask: "POST " + one, body: `{"url":"ftp://x"}`, status: http.StatusBadRequest, must: map[string]string{"code": "webhook_invalid", "details": `^url: `}},
			{name: "change", ask: "POST " + one, body: `{"name":"invoices"}`, status: http.StatusOK, must: map[string]string{"name": "invoices", "url": hook.URL + "/in"}, never: []string{"secret"}},
		})
		execution := r.Execute(t, "demo.echo", `{"input":{}}`).Text("execution_id")
		if got := hook.Got(t, 1); got.Header.Get("X-Token") != "t0ken" || !strings.Contains(string(got.Input), execution) {
			t.Errorf("it got %s", got.Input)
		}
		if got := r.Do(t, http.MethodGet, "/api/v1/executions/"+execution, nil); got.Text("webhook_registered") != "false" || got.Has("webhook_events/0") {
			t.Errorf("the caller sees what endpoints got: %s", got.Body)
		}
		test := scenario{name: "test", ask: "POST " + one + "/test", status: http.StatusAccepted, must: map[string]string{"delivery_id": `^wh_`}}.run(t, r).Text("delivery_id")
		if got := hook.Got(t, 2); !strings.Contains(string(got.Input), `"event":"webhook.test","test":true`) {
			t.Errorf("the test says %s", got.Input)
		}
		r.Until(t, "the test is delivered", func() bool {
			return r.Do(t, http.MethodGet, "/api/v1/webhooks/"+test, nil).Text("state") == "delivered"
		})
		runAll(t, r, []scenario{
			{name: "one test", ask: "GET /api/v1/webhooks/" + test, status: http.StatusOK, never: []string{"execution_id"}, must: map[string]string{"test": "true", "event": "webhook.test", "endpoint_id": id, "signed": "true"}},
			{name: "by endpoint", ask: "GET /api/v1/webhooks?event=execution.completed&endpoint=" + id, status: http.StatusOK, must: map[string]string{"webhooks/0/execution_id": execution, "webhooks/0/test": "false"}},
			{name: "by another", ask: "GET /api/v1/webhooks?endpoint=whe_x", status: http.StatusOK, says: `"webhooks":[]`},
			{name: "health", ask: "GET " + one, status: http.StatusOK, must: map[string]string{"health/deliveries": "2", "health/success_percent": "100", "health/last_delivered_at": instant}},
			{name: "rotate", ask: "POST " + one + "/rotate", body: `{"overlap_seconds":3600}`, status: http.StatusOK, must: map[string]string{"secret": `^whsec_`, "old_secret_until": instant, "rotated_at": instant}},
			{name: "too long", ask: "POST " + one + "/rotate", body: `{"overlap_seconds":604801}`, status: http.StatusBadRequest, must: map[string]string{"code": "webhook_invalid", "details": `^overlap: `}},
			{name: "retire", ask: "POST " + one + "/retire", status: http.StatusOK, must: map[string]string{"old_secret_until": ""}, never: []string{"secret"}},
			{name: "rotate a stranger", ask: "POST /api/v1/webhooks/endpoints/whe_x/rotate", status: http.StatusNotFound, must: map[string]string{"code": "webhook_endpoint_not_found"}},
			{name: "disable", ask: "POST " + one, body: `{"enabled":false}`, status: http.StatusOK, must: map[string]string{"enabled": "false"}},
			{name: "delete", ask: "POST " + one + "/delete", status: http.StatusOK, must: map[string]string{"deleted": "true", "id": id}},
			{name: "delete again", ask: "POST " + one + "/delete", status: http.StatusNotFound, must: map[string]string{"code": "webhook_endpoint_not_found"}},
			{name: "test what is gone", ask: "POST " + one + "/test", status: http.StatusNotFound, must: map[string]string{"code": "webhook_endpoint_not_found"}},
		})
		for action, want := range map[string]string{"created": "1", "changed": "1", "tested": "1", "disabled": "1", "deleted": "1"} {
			if got := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = 'webhook_endpoint."+action+"'"); got != want {
				t.Errorf("%s entries %s", got, action)
			}
		}
		if got := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE after LIKE '%t0ken%' OR after LIKE '%whsec_%'"); got != "0" {
			t.Error("the audit log has a secret")
		}
	}, quickly)
}

func TestEndpointsHavePages(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDoor(t, r.URL)
		hook := apptest.NewReceiver(t, 204)
		people := map[string]caller{}
		for _, who := range d.everybody() {
			people[who.name] = who
		}
		olga, vera := people["operator"], people["viewer"]
		const all = "/webhooks/endpoints"
		says := func(got reply, status int, texts ...string) {
			t.Helper()
			for _, text := range texts {
				if got.status != status || !strings.Contains(got.body, text) {
					t.Errorf("%d, without %q", got.status, text)
				}
			}
		}
		says(d.ask(olga, http.MethodGet, all, ""), http.StatusOK, "No endpoint yet", "Create the endpoint")
		if got := d.ask(vera, http.MethodGet, all, ""); got.status != http.StatusOK || strings.Contains(got.body, "Create the endpoint") {
			t.Errorf("a viewer is offered to create one: %d", got.status)
		}
		if got := d.form(vera, all, "name", "x"); got.status != http.StatusForbidden {
			t.Errorf("a viewer creates one: %d", got.status)
		}
		says(d.form(olga, all, "name", "billing", "url", "ftp://x", "events", "execution.failed"), http.StatusBadRequest, "http://", `value="billing"`)
		made := d.form(olga, all, "name", "billing", "url", hook.URL+"/in", "events", "execution.failed")
		says(made, http.StatusCreated, "whsec_", "shown this once", "Send test event")
		id := r.Store.Value(t, "SELECT id FROM webhook_endpoints")
		one := all + "/" + id
		if got := d.ask(olga, http.MethodGet, one, ""); got.status != http.StatusOK || strings.Contains(got.body, "whsec_") {
			t.Errorf("the secret is shown again: %d", got.status)
		}
		says(d.ask(olga, http.MethodGet, all, ""), http.StatusOK, "endpoint-"+id, "Send test")
		if got := d.form(olga, one+"/test"); got.status != http.StatusSeeOther {
			t.Errorf("test: %d", got.status)
		}
		hook.Got(t, 1)
		test := r.Store.Value(t, "SELECT id FROM webhook_deliveries")
		says(d.ask(olga, http.MethodGet, "/webhooks/"+test, ""), http.StatusOK, "webhook.test", "nothing has happened", "billing", `&#34;test&#34;:true`)
		says(d.ask(olga, http.MethodGet, "/webhooks?endpoint="+id, ""), http.StatusOK, "row-"+test, "chip")
		rotated := d.form(olga, one+"/rotate", "overlap_seconds", "3600")
		says(rotated, http.StatusOK, "whsec_", "Both sign", "End the old secret now")
		says(d.form(olga, one+"/rotate", "overlap_seconds", "3600", "secret", "short"), http.StatusBadRequest, "shorter than 16 bytes")
		says(d.ask(olga, http.MethodGet, "/webhooks/"+test, ""), http.StatusOK, "Its secret is being rotated")
		if got := d.form(olga, one+"/retire"); got.status != http.StatusSeeOther {
			t.Errorf("retire: %d", got.status)
		}
		if got := d.ask(olga, http.MethodGet, one+"?done=retired", ""); strings.Contains(got.body, "Both sign") || !strings.Contains(got.body, "signs no more") {
			t.Errorf("the old secret goes on: %d", got.status)
		}
		if got := d.form(olga, one, "enabled", "false"); got.status != http.StatusSeeOther {
			t.Errorf("disable: %d", got.status)
		}
		says(d.ask(olga, http.MethodGet, one+"?done=disabled", ""), http.StatusOK, "Disabled", "Nothing new is queued")
		says(d.form(olga, one, "whole", "1", "name", "b", "url", hook.URL), http.StatusBadRequest, "choose at least one")
		if got := d.form(olga, one, "whole", "1", "name", "b", "url", hook.URL, "events", "execution.failed", "events", "approval.requested"); got.status != http.StatusSeeOther {
			t.Errorf("change: %d", got.status)
		}
		if got := d.form(olga, one+"/delete"); got.status != http.StatusSeeOther {
			t.Errorf("delete: %d", got.status)
		}
		says(d.ask(olga, http.MethodGet, "/webhooks/"+test, ""), http.StatusOK, "endpoint that was deleted")
	}, quickly)
}

func TestHostsAreLookedAfter(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		hook := apptest.NewReceiver(t, 204)
		r.Agent(t, "demo", apptest.Echo("echo"))
		address, err := url.Parse(hook.URL)
		if err != nil {
			t.Fatal(err)
		}
		named := `{"host":"` + address.Host + `"}`
		announce := func() {
			r.Do(t, http.MethodPost, "/api/v1/execute/async/demo.echo", `{"input":{},"webhook":{"url":"`+hook.URL+`/in"}}`)
		}
		const list, stop, resume = "GET /api/v1/webhooks/hosts", "POST /api/v1/webhooks/hosts/pause", "POST /api/v1/webhooks/hosts/resume"
		scenario{name: "none yet", ask: list, status: http.StatusOK, says: `"hosts":[]`}.run(t, r)
		announce()
		hook.Got(t, 1)
		r.Until(t, "the host is listed", func() bool { return r.Do(t, http.MethodGet, "/api/v1/webhooks/hosts", nil).Len("hosts") == 1 })
		runAll(t, r, []scenario{
			{name: "open", ask: list, status: http.StatusOK, must: map[string]string{
				"hosts/0/host": address.Host, "hosts/0/state": "open", "hosts/0/held": "0", "hosts/0/health/success_percent": "100", "recovery_rate": `^\d+$`,
			}},
			{name: "another", ask: list + "?q=nowhere", status: http.StatusOK, says: `"hosts":[]`},
			{name: "resume what is open", ask: resume, body: named, status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
			{name: "a stranger", ask: stop, body: `{"host":"x"}`, status: http.StatusNotFound, must: map[string]string{"code": "webhook_host_not_found"}},
			{name: "pause", ask: stop, body: named, status: http.StatusOK, must: map[string]string{"done": "paused"}},
			{name: "pause again", ask: stop, body: named, status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
		})
		announce()
		r.Until(t, "the delivery waits", func() bool { return r.Do(t, http.MethodGet, "/api/v1/webhooks?state=held", nil).Len("webhooks") == 1 })
		held := r.Do(t, http.MethodGet, "/api/v1/webhooks?state=held", nil).Text("webhooks/0/id")
		runAll(t, r, []scenario{
			{name: "paused", ask: list, status: http.StatusOK, must: map[string]string{"hosts/0/state": "paused", "hosts/0/held": "1", "hosts/0/paused_by": some, "hosts/0/next_probe_at": ""}},
			{name: "held", ask: "GET /api/v1/webhooks/" + held, status: http.StatusOK, must: map[string]string{"state": "held", "planned_attempts": "[]"}, never: []string{"next_attempt_at"}},
			{name: "not sent", ask: "POST /api/v1/webhooks/" + held + "/redeliver", status: http.StatusConflict, must: map[string]string{"code": "invalid_state", "details": `^.*paused`}},
		})
		d := newDoor(t, r.URL)
		for path, text := range map[string]string{"/webhooks/hosts": "until somebody resumes it", "/webhooks/" + held: "It is sent once the host is open again", "/webhooks?state=held": "with its host"} {
			if got := d.ask(caller{}, http.MethodGet, path, ""); got.status != http.StatusOK || !strings.Contains(got.body, text) {
				t.Errorf("%s: %d, without %q", path, got.status, text)
			}
		}
		if got := d.form(caller{}, "/webhooks/hosts/pause", "host", address.Host); got.status != http.StatusConflict || !strings.Contains(got.body, "Somebody was faster") {
			t.Errorf("paused twice by hand: %d", got.status)
		}
		const many = "POST /api/v1/webhooks/stop"
		announce()
		announce()
		r.Until(t, "all wait", func() bool { return r.Do(t, http.MethodGet, "/api/v1/webhooks?state=held", nil).Len("webhooks") == 3 })
		newest := r.Do(t, http.MethodGet, "/api/v1/webhooks?state=held", nil).Text("webhooks/0/id")
		runAll(t, r, []scenario{
			{name: "stop one", ask: "POST /api/v1/webhooks/" + newest + "/stop", status: http.StatusOK, must: map[string]string{"stopped": "1"}},
			{name: "stop it again", ask: "POST /api/v1/webhooks/" + newest + "/stop", status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
			{name: "a dead letter", ask: "GET /api/v1/webhooks?state=failed", status: http.StatusOK, must: map[string]string{"webhooks/0/id": newest, "webhooks/0/stopped_by": some}},
			{name: "stop nothing", ask: many, body: `{}`, status: http.StatusBadRequest, must: map[string]string{"code": "invalid_parameter"}},
			{name: "stop what is not there", ask: many, body: `{"class":"dns"}`, status: http.StatusConflict, must: map[string]string{"code": "invalid_state"}},
			{name: "stop a stranger", ask: "POST /api/v1/webhooks/wh_x/stop", status: http.StatusNotFound, must: map[string]string{"code": "webhook_not_found"}},
		})
		if got := d.ask(caller{}, http.MethodGet, "/webhooks/stop?host="+address.Host, ""); got.status != http.StatusOK || !strings.Contains(got.body, "Stop 2 webhooks") {
			t.Errorf("the question before: %d", got.status)
		}
		if sheet := string(r.Do(t, http.MethodGet, "/api/v1/webhooks.csv?state=held", nil).Body); strings.Count(sheet, "\n") != 3 || !strings.HasPrefix(sheet, "webhook_id,state,event,url,") {
			t.Errorf("the sheet is %s", sheet)
		}
		if text := string(r.Do(t, http.MethodGet, "/api/v1/webhooks.ndjson?state=held", nil).Body); strings.Count(text, "\n") != 2 || !strings.Contains(text, held) {
			t.Errorf("the lines are %s", text)
		}
		scenario{name: "as one object", ask: "GET /api/v1/webhooks.json?state=failed", status: http.StatusOK, must: map[string]string{"webhooks/0/id": newest, "truncated": "false"}}.run(t, r)
		second := r.Do(t, http.MethodGet, "/api/v1/webhooks?state=held", nil).Text("webhooks/0/id")
		scenario{name: "stop by name", ask: many, body: `{"ids":["` + second + `"]}`, status: http.StatusOK, must: map[string]string{"stopped": "1", "more": "false"}}.run(t, r)
		scenario{name: "resume", ask: resume, body: named, status: http.StatusOK, must: map[string]string{"done": "resumed"}}.run(t, r)
		hook.Got(t, 2)
		r.Until(t, "the host is open", func() bool {
			return r.Do(t, http.MethodGet, "/api/v1/webhooks/hosts", nil).Text("hosts/0/state") == "open"
		})
		for _, action := range []string{"webhook_host.paused", "webhook_host.resumed"} {
			if got := r.Store.Value(t, "SELECT count(*) FROM audit_log WHERE action = $1 AND object = $2", action, address.Host); got != "1" {
				t.Errorf("%s entries %s", got, action)
			}
		}
	}, quickly)
}
