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
			"/webhooks?state=failed":             {"row-" + delivery, "Given up", "410 · ", "1/", "Send all matching again"},
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
