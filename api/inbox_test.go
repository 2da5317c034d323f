package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

// desk is a reviewer's browser on a server with requests to decide.
type desk struct {
	*door
	r     *apptest.Rig
	agent *apptest.Agent
	n     int
}

func newDesk(t *testing.T, r *apptest.Rig) *desk {
	t.Helper()
	return &desk{door: newDoor(t, r.URL), r: r, agent: pausing(t, r)}
}

// request is a fresh one; later ones expire later. It returns our id.
func (d *desk) request(body string) (id string, call apptest.Call) {
	d.t.Helper()
	d.n++
	if body == "" {
		body = `{}`
	}
	body = fmt.Sprintf(`{"expires_in_hours":%d`, 24+d.n) + strings.Replace(strings.Replace(body, "{", ",", 1), ",}", "}", 1)
	call, asked := asking(d.t, d.r, d.agent, body)
	return asked.Text("approval_id"), call
}

func (d *desk) is(id, status string) apptest.Answer {
	d.t.Helper()
	answer := d.r.Do(d.t, http.MethodGet, "/api/v1/approvals/"+id, nil)
	if got := answer.Text("status"); got != status {
		d.t.Errorf("%s is %s, not %s", id, got, status)
	}
	return answer
}

func (d *desk) page(path string) reply {
	d.t.Helper()
	return d.ask(caller{}, http.MethodGet, path, "")
}

func TestADecisionByFormLeadsToTheNext(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		one, call := d.request("")
		two, _ := d.request("")
		three, _ := d.request("")
		got := d.form(caller{}, "/approvals/"+one+"/decide", "decision", "approved", "version", "1", "next", "risk=&state=")
		if want := "/approvals/" + two + "?done=" + one; got.status != http.StatusSeeOther || got.location != want {
			t.Errorf("%d to %s, not to %s: %s", got.status, got.location, want, got.body)
		}
		d.is(one, "approved")
		hasAll(t, r.Get(t, call.ExecutionID), map[string]string{"status": "running", "approval_status": "approved"})
		if shown := d.page(got.location); shown.status != http.StatusOK || !strings.Contains(shown.body, two) {
			t.Errorf("the next: %d", shown.status)
		}
		got = d.form(caller{}, "/approvals/"+two+"/decide", "decision", "rejected", "feedback", "Too dear.\r\nTry again.", "version", "1", "then", three)
		if want := "/approvals/" + three + "?done=" + two; got.location != want {
			t.Errorf("to %s, not to %s", got.location, want)
		}
		hasAll(t, d.is(two, "rejected"), map[string]string{"feedback": "Too dear.\nTry again.", "decided_by": "local"})
		got = d.form(caller{}, "/approvals/"+three+"/decide", "decision", "request_changes", "feedback", "smaller", "version", "1")
		if got.location != "/approvals?done="+three {
			t.Errorf("after the last to %s", got.location)
		}
		if got := acts(t, r, three); got != "request_changes" {
			t.Errorf("the audit log says %q", got)
		}
		if channel := r.Store.Value(t, "SELECT max(channel) FROM audit_log WHERE object = $1", three); channel != "ui" {
			t.Errorf("the channel is %q", channel)
		}
	})
}

func TestAFormThatCannotBeTaken(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		id, _ := d.request(`{"payload":{"amount":7},"editable":true}`)
		form, _ := d.request(`{"form":{"type":"object","required":["account"],"properties":{"account":{"type":"string","minLength":3}}}}`)
		for name, tc := range map[string]struct {
			id     string
			fields []string
			status int
			says   string
		}{
			"a rejection without a reason":      {id, []string{"decision", "rejected", "feedback", " \n ", "version", "1"}, 422, "Say why"},
			"changes without words":             {id, []string{"decision", "request_changes", "version", "1"}, 422, "Say why"},
			"no word":                           {id, []string{"version", "1"}, 400, ""},
			"a word that is none":               {id, []string{"decision", "maybe", "version", "1"}, 400, ""},
			"expired, by hand":                  {id, []string{"decision", "expired", "version", "1"}, 400, ""},
			"no version":                        {id, []string{"decision", "approved"}, 400, ""},
			"an edit that is no JSON":           {id, []string{"decision", "approved", "edited", `{"amount":`, "version", "1"}, 422, "valid JSON"},
			"endless feedback":                  {id, []string{"decision", "approved", "feedback", strings.Repeat("x", 17<<10), "version", "1"}, 422, "longer than"},
			"NUL":                               {id, []string{"decision", "approved", "feedback", "a\x00b", "version", "1"}, 422, "not valid text"},
			"broken text":                       {id, []string{"decision", "approved", "feedback", "a\xffb", "version", "1"}, 422, "not valid text"},
			"answers are missing":               {form, []string{"decision", "approved", "version", "1"}, 422, ""},
			"an answer that does not fit":       {form, []string{"decision", "approved", "answer.account", "x", "version", "1"}, 422, ""},
			"a list that nobody can come from":  {id, []string{"decision", "approved", "version", "1", "next", "state=none"}, 400, ""},
			"a list with characters of control": {id, []string{"decision", "approved", "version", "1", "next", "q=%00"}, 400, ""},
			"an unknown request":                {"appr_unknown", []string{"decision", "approved", "version", "1"}, 404, ""},
		} {
			got := d.form(caller{}, "/approvals/"+tc.id+"/decide", tc.fields...)
			if got.status != tc.status || !strings.Contains(got.body, tc.says) {
				t.Errorf("%s: %d, not %d with %q", name, got.status, tc.status, tc.says)
			}
		}
		d.is(id, "pending")
		d.is(form, "pending")
		kept := d.form(caller{}, "/approvals/"+id+"/decide", "decision", "rejected", "feedback", "", "version", "1", "edited", `{"amount":1}`)
		if !strings.Contains(kept.body, id) {
			t.Error("the page after a mistake is that of another request")
		}
		// What is wrong with the way onwards is no reason to call a decision that was made an error.
		got := d.form(caller{}, "/approvals/"+id+"/decide", "decision", "approved", "version", "1", "then", "\x00\xff", "next", "cursor=forged")
		if got.status != http.StatusSeeOther {
			t.Errorf("%d %s", got.status, got.body)
		}
		d.is(id, "approved")
	})
}

func TestALostRaceShowsWhoWasFaster(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		id, _ := d.request(`{"title":"Pay?"}`)
		people := d.everybody()
		anna, boss := people[2], people[4]
		if got := d.form(boss, "/approvals/"+id+"/decide", "decision", "approved", "feedback", "fine", "version", "1"); got.status != http.StatusSeeOther {
			t.Fatalf("%d %s", got.status, got.body)
		}
		got := d.form(anna, "/approvals/"+id+"/decide", "decision", "rejected", "feedback", "my long reasons", "version", "1")
		if got.status != http.StatusConflict || !strings.Contains(got.body, "admin") || !strings.Contains(got.body, "my long reasons") || !strings.Contains(got.body, `role="alert"`) {
			t.Errorf("%d: the page does not tell who was faster, or has lost the words", got.status)
		}
		again := d.form(boss, "/approvals/"+id+"/decide", "decision", "approved", "feedback", "fine", "version", "1")
		if again.status != http.StatusSeeOther {
			t.Errorf("the second click of the winner: %d", again.status)
		}
		if got := acts(t, r, id); got != "approved refused" {
			t.Errorf("the audit log says %q", got)
		}
	})
}

func TestHoldingAndUndoing(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		id, call := d.request(`{"payload":{"amount":7},"editable":true}`)
		got := d.form(caller{}, "/approvals/"+id+"/decide", "decision", "rejected", "feedback", "not so fast", "version", "1", "hold", "1")
		if got.status != http.StatusSeeOther {
			t.Fatalf("%d %s", got.status, got.body)
		}
		held := d.is(id, "held")
		hasAll(t, held, map[string]string{"decision": "rejected", "in_effect_at": instant})
		// Until it is in effect the world sees a request that is open.
		hasAll(t, r.Get(t, call.ExecutionID), map[string]string{"status": "waiting", "approval_status": "pending", "waiting_for/type": "approval"})
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status", nil), map[string]string{"status": "pending"})
		if shown := d.page("/approvals/" + id); !strings.Contains(shown.body, "/approvals/"+id+"/undo") {
			t.Error("the page of a held decision offers no undo")
		}
		if got := d.form(caller{}, "/approvals/"+id+"/undo"); got.status != http.StatusSeeOther || got.location != "/approvals/"+id {
			t.Errorf("undo: %d to %s", got.status, got.location)
		}
		d.is(id, "pending")
		if shown := d.page("/approvals/" + id); !strings.Contains(shown.body, "not so fast") {
			t.Error("the words are not there again")
		}
		if got := d.form(caller{}, "/approvals/"+id+"/undo"); got.status != http.StatusConflict {
			t.Errorf("a second undo: %d", got.status)
		}
		version := r.Do(t, http.MethodGet, "/api/v1/approvals/"+id, nil).Text("version")
		d.form(caller{}, "/approvals/"+id+"/decide", "decision", "approved", "edited", `{"amount":5}`, "version", version, "hold", "1")
		d.is(id, "held")
		r.Clock.Advance(time.Hour)
		r.Until(t, "the decision is in effect", func() bool { return r.Store.Status(t, call.ExecutionID) == "running" })
		d.is(id, "approved")
		hasAll(t, r.Do(t, http.MethodGet, "/api/v1/executions/"+call.ExecutionID+"/approval-status", nil), map[string]string{"status": "approved", "response/amount": "5"})
		if got := acts(t, r, id); got != "held undone held approved" {
			t.Errorf("the audit log says %q", got)
		}
	}, func(c *config.Config) { c.ApprovalHold = 30 * time.Second })
}

func TestAHeldDecisionOutlivesTheServer(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		id, call := d.request("")
		d.form(caller{}, "/approvals/"+id+"/decide", "decision", "approved", "version", "1", "hold", "1")
		d.is(id, "held")
		r.Stop(t)
		r.Clock.Advance(time.Hour)
		r.Restart(t)
		r.Until(t, "the decision is in effect", func() bool { return r.Store.Status(t, call.ExecutionID) == "running" })
		if got := acts(t, r, id); got != "held approved" {
			t.Errorf("the audit log says %q", got)
		}
	}, func(c *config.Config) { c.ApprovalHold = 30 * time.Second })
}

func TestClaimsDraftsAndViews(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		id, _ := d.request(`{"title":"Pay the roofer?","risk":"high"}`)
		other, _ := d.request(`{"title":"Pay the plumber?"}`)
		if got := d.form(caller{}, "/approvals/"+id+"/claim"); got.status != http.StatusSeeOther || got.location != "/approvals/"+id {
			t.Errorf("claim: %d to %s", got.status, got.location)
		}
		hasAll(t, d.is(id, "pending"), map[string]string{"claimed_by": "local", "claimed_until": instant, "version": "1"})
		scenario{ask: "GET /api/v1/approvals?state=mine", status: 200, must: map[string]string{"approvals/0/id": id, "approvals/1/id": ""}}.run(t, r)
		scenario{ask: "GET /api/v1/approvals?claimed=none", status: 200, must: map[string]string{"approvals/0/id": other, "approvals/1/id": ""}}.run(t, r)
		d.form(caller{}, "/approvals/"+id+"/release")
		hasAll(t, d.is(id, "pending"), map[string]string{"claimed_by": ""})
		d.form(caller{}, "/approvals/"+id+"/claim")
		r.Clock.Advance(16 * time.Minute)
		scenario{ask: "GET /api/v1/approvals?state=mine", status: 200, must: map[string]string{"approvals/0/id": ""}}.run(t, r)

		if got := d.form(caller{}, "/approvals/"+id+"/draft", "text", "feedback=half+a+thought"); got.status != http.StatusNoContent {
			t.Errorf("draft: %d", got.status)
		}
		if shown := d.page("/approvals/" + id); !strings.Contains(shown.body, "half a thought") {
			t.Error("the draft is not there again")
		}
		if shown := d.page("/approvals/" + other); strings.Contains(shown.body, "half a thought") {
			t.Error("the draft is in another request")
		}
		d.form(caller{}, "/approvals/"+id+"/decide", "decision", "rejected", "feedback", "a whole one", "version", "1")
		if n := r.Store.Value(t, "SELECT count(*) FROM drafts"); n != "0" {
			t.Errorf("%s drafts are left after the decision", n)
		}
		if got := d.form(caller{}, "/approvals/"+id+"/draft", "text", "a\x00b\xff"); got.status != http.StatusNoContent {
			t.Errorf("a draft of broken text: %d", got.status)
		}

		saved := d.form(caller{}, "/approvals/views", "name", "Roofs", "next", "q=roofer&risk=high")
		if saved.status != http.StatusSeeOther || !strings.HasPrefix(saved.location, "/approvals?") || !strings.Contains(saved.location, "view=view_") {
			t.Fatalf("view: %d to %s", saved.status, saved.location)
		}
		if shown := d.page(saved.location); shown.status != http.StatusOK || !strings.Contains(shown.body, "Roofs") {
			t.Errorf("the page of the view: %d", shown.status)
		}
		where, err := url.Parse(saved.location)
		if err != nil {
			t.Fatal(err)
		}
		if q := where.Query(); q.Get("q") != "roofer" || q.Get("risk") != "high" {
			t.Errorf("the view leads to %s", saved.location)
		}
		if got := d.form(caller{}, "/approvals/views", "name", " ", "next", ""); got.status != http.StatusBadRequest {
			t.Errorf("a view without a name: %d", got.status)
		}
		if got := d.form(caller{}, "/approvals/views", "name", "a\xffb\x00c", "next", ""); got.status != http.StatusSeeOther {
			t.Errorf("a view with a broken name: %d", got.status)
		}
		d.form(caller{}, "/approvals/views/"+where.Query().Get("view")+"/delete")
		if n := r.Store.Value(t, "SELECT count(*) FROM saved_views WHERE name = 'Roofs'"); n != "0" {
			t.Error("the view is still there")
		}
	})
}

func TestDecidingTogether(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		one, _ := d.request(`{"title":"Pay one"}`)
		two, _ := d.request(`{"title":"Pay two"}`)
		risky, _ := d.request(`{"title":"Pay much","risk":"high"}`)
		asks, _ := d.request(`{"title":"Pay whom","form":{"type":"object","properties":{"a":{"type":"string"}}}}`)
		several, _ := d.request(`{"title":"Pay with others","policy":{"quorum":2}}`)
		others, _ := d.request(`{"title":"Pay by others","policy":{"approvers":["somebody"]}}`)
		done, _ := d.request(`{"title":"Paid"}`)
		r.Do(t, http.MethodPost, "/api/v1/approvals/"+done+"/decide", `{"decision":"approved"}`)
		all := []string{one, two, risky, asks, several, others, done}
		before := d.page("/approvals/bulk?ids=" + strings.Join(all[:3], "&ids=") + "&ids=" + strings.Join(all[3:], ",") + ",%00,%ff,appr_unknown")
		if before.status != http.StatusOK {
			t.Fatalf("%d %s", before.status, before.body)
		}
		for _, says := range []string{"Decide 2 requests together", "Left out: 5 requests", "Pay much", "High risk", "It asks questions", "several reviewers", "names other reviewers", "decided already"} {
			if !strings.Contains(before.body, says) {
				t.Errorf("the page before does not say %q", says)
			}
		}
		if got := d.form(caller{}, "/approvals/bulk", "decision", "rejected", "ids", one, "ids", two, "version."+one, "1", "version."+two, "1"); got.status != http.StatusUnprocessableEntity {
			t.Errorf("a rejection without a reason: %d", got.status)
		}
		if got := d.form(caller{}, "/approvals/bulk", "decision", "approved", "ids", one, "ids", two, "version."+one, "1"); got.status != http.StatusBadRequest {
			t.Errorf("without a version: %d", got.status)
		}
		d.is(one, "pending")
		fields := []string{"decision", "rejected", "feedback", "not this month"}
		for _, id := range all {
			fields = append(fields, "ids", id, "version."+id, "1")
		}
		if got := d.form(caller{}, "/approvals/bulk", fields...); got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
		for _, id := range []string{one, two} {
			hasAll(t, d.is(id, "rejected"), map[string]string{"feedback": "not this month"})
			if got := acts(t, r, id); got != "rejected" {
				t.Errorf("the audit log says %q", got)
			}
		}
		for _, id := range []string{risky, asks, several, others} {
			d.is(id, "pending")
		}
		hasAll(t, d.is(done, "approved"), map[string]string{"feedback": ""})
		if got := d.page("/approvals/bulk?ids=" + strings.Repeat("appr_x,", 300)); got.status != http.StatusBadRequest {
			t.Errorf("too many: %d", got.status)
		}
	})
}

// hostile are texts that would be somebody's script if one place forgot to escape.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'><svg onload=alert(1)>`, `</textarea><script>alert(1)</script>`, `</script><script>alert(1)</script>`,
	`<!--<script>alert(1)//-->`, `<a href="javascript:alert(1)">x</a>`, `<iframe srcdoc="<script>alert(1)</script>">`, `" autofocus onfocus=alert(1) x="`, `<style>*{display:none}</style>`,
	`</title><script>alert(1)</script>`, `<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>`,
}

func TestHostileTextsStayTexts(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		for i, evil := range hostile {
			quoted := strings.ReplaceAll(strings.ReplaceAll(evil, `\`, `\\`), `"`, `\"`)
			body := strings.ReplaceAll(`{"approval_request_id":"N EVIL","title":"EVIL","description":"EVIL","next":"EVIL","payload":{"EVIL":"EVIL","list":["EVIL"],"deep":{"EVIL":["EVIL"]}},`+
				`"editable":true,"policy":{"approvers":["local","EVIL"]}}`, "EVIL", quoted)
			id, call := d.request(strings.Replace(body, "N ", fmt.Sprint(i, " "), 1))
			d.form(caller{}, "/approvals/"+id+"/draft", "text", "feedback="+url.QueryEscape(evil)+"&edited="+url.QueryEscape(evil))
			pages := []string{"/approvals", "/approvals/" + id, "/approvals?q=" + url.QueryEscape(evil), "/approvals/bulk?ids=" + id, "/approvals/rows?ids=" + id, "/approvals/" + url.PathEscape(evil), "/approvals?view=" + url.QueryEscape(evil)}
			d.harmless(evil, pages...)
			if got := d.form(caller{}, "/approvals/"+id+"/decide", "decision", "rejected", "feedback", "", "edited", evil, "version", "1"); got.status != 422 || strings.Contains(got.body, evil) {
				t.Errorf("%s is in the page after a mistake (%d)", evil, got.status)
			}
			d.form(caller{}, "/approvals/views", "name", evil, "next", "q="+url.QueryEscape(evil))
			if got := d.form(caller{}, "/approvals/"+id+"/decide", "decision", "request_changes", "feedback", evil, "version", "1"); got.status != http.StatusSeeOther {
				t.Fatalf("%d %s", got.status, got.body)
			}
			if got := d.form(caller{}, "/approvals/"+id+"/decide", "decision", "rejected", "feedback", evil, "version", "1"); got.status != http.StatusConflict || strings.Contains(got.body, evil) {
				t.Errorf("%s is in the page of a lost race (%d)", evil, got.status)
			}
			second := ask(t, r, call, `{"title":"again"}`)
			d.harmless(evil, "/approvals/"+id, "/approvals/"+second.Text("approval_id"), "/approvals?state=decided", "/executions/"+call.ExecutionID, "/audit", "/")
		}
	})
}

func (d *desk) harmless(evil string, pages ...string) {
	d.t.Helper()
	for _, path := range pages {
		got := d.page(path)
		if got.status >= 500 || strings.Contains(got.body, evil) {
			d.t.Errorf("%s (%d) has %s as it came", path, got.status, evil)
		}
		if policy := got.header.Get("Content-Security-Policy"); !strings.Contains(policy, "script-src") || strings.Contains(policy, "unsafe-inline") && !strings.Contains(policy, "style-src") {
			d.t.Errorf("%s is sent with the policy %q", path, policy)
		}
	}
}

func TestTheQueueInJSONAndItsFilters(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		d := newDesk(t, r)
		roof, _ := d.request(`{"title":"Pay the Roofer?","risk":"high"}`)
		pipe, _ := d.request(`{"description":"The plumber is here","risk":"low"}`)
		held, _ := d.request(``)
		gone, _ := d.request(``)
		d.form(caller{}, "/approvals/"+held+"/decide", "decision", "approved", "version", "1", "hold", "1")
		r.Do(t, http.MethodPost, "/api/v1/approvals/"+gone+"/decide", `{"decision":"approved"}`)
		for query, want := range map[string][]string{
			"": {roof, pipe, held}, "state=pending": {roof, pipe, held}, "state=decided": {gone}, "risk=high": {roof}, "risk=low": {pipe}, "q=roofer": {roof}, "q=PLUMBER": {pipe},
			"q=" + url.QueryEscape("%"): {}, "q=_": {roof, pipe, held}, "node=demo": {roof, pipe, held}, "node=other": {}, "target=demo.take": {roof, pipe, held},
			"target=demo.other": {}, "state=expiring": {}, "sort=-created_at": {held, pipe, roof}, "state=mine": {},
		} {
			answer := r.Do(t, http.MethodGet, "/api/v1/approvals?"+query, nil)
			var got []string
			for i := range answer.Len("approvals") {
				got = append(got, answer.Text(fmt.Sprintf("approvals/%d/id", i)))
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s: %v, not %v", query, got, want)
			}
		}
		first := r.Do(t, http.MethodGet, "/api/v1/approvals?limit=2", nil)
		rest := r.Do(t, http.MethodGet, "/api/v1/approvals?limit=2&cursor="+first.Text("next_cursor"), nil)
		if first.Len("approvals") != 2 || rest.Len("approvals") != 1 || rest.Text("approvals/0/id") != held || rest.Text("next_cursor") != "" {
			t.Errorf("pages: %s %s", first.Body, rest.Body)
		}
		for _, query := range []string{"state=all", "risk=none", "claimed=you", "sort=id", "limit=0", "limit=1000000", "limit=x", "cursor=x", "cursor=YTE6eDp5", "q=%00"} {
			if answer := r.Do(t, http.MethodGet, "/api/v1/approvals?"+query, nil); answer.Status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", query, answer.Status, answer.Body)
			}
		}
	})
}
