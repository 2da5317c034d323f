package approvals_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/approvals"
	"github.com/agentfield/agentfield/views/layout"
)

const at = int64(1_760_000_000_000)

func render(t *testing.T, c templ.Component, fragments ...any) string {
	t.Helper()
	var b strings.Builder
	var err error
	if len(fragments) > 0 {
		err = templ.RenderFragments(context.Background(), &b, c, fragments...)
	} else {
		err = c.Render(context.Background(), &b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func frame() layout.Page {
	return layout.Page{Title: "Approvals", Active: "approvals", BaseURL: "http://127.0.0.1:8080", Now: time.UnixMilli(at), Live: true}
}

// asked is a request that waits, n hours from its end.
func asked(n int) *models.Approval {
	return &models.Approval{
		ID: fmt.Sprintf("appr_%026d", n), RequestID: fmt.Sprintf("req-%d", n), ExecutionID: "exec_1", RunID: "run_1", NodeID: "claims", Function: "review",
		Round: 1, Status: models.ApprovalPending, Version: 3, Title: fmt.Sprintf("Pay claim %d", n), Shape: fmt.Sprintf("shape-%d", n), Quorum: 1,
		OnReject: "resume", OnExpire: "resume", CreatedAt: at - 60_000, ExpiresAt: at + int64(n)*3600_000,
	}
}

func page(item *approvals.Item, rows ...*models.Approval) approvals.Page {
	p := approvals.Page{Frame: frame(), Me: "dana", Any: true, Item: item, Named: item != nil, Right: approvals.Right{Allowed: true}}
	for _, a := range rows {
		p.Rows = append(p.Rows, approvals.Row{Approval: a})
	}
	return p
}

func item(a *models.Approval) *approvals.Item {
	return &approvals.Item{
		Approval: a, Payload: []byte(`{"amount": 1}`), Right: approvals.Right{Allowed: true}, Hold: 5,
		Consequences: approvals.Consequences{Approve: "It goes on.", RequestChanges: "It asks again.", Reject: "It is told no."},
	}
}

func must(t *testing.T, html string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(html, w) {
			t.Errorf("missing: %s", w)
		}
	}
}

func mustNot(t *testing.T, html string, unwanted ...string) {
	t.Helper()
	for _, u := range unwanted {
		if strings.Contains(html, u) {
			t.Errorf("must not be there: %s", u)
		}
	}
}

func TestWhatTheAgentSaysIsOnlyText(t *testing.T) {
	const evil = `<script>alert(1)</script><button name="decision">`
	a := asked(1)
	a.Title, a.Summary, a.Next, a.RequestID = evil, evil+" javascript:alert(1) https://user:secret@example.com/ https://example.com/a?b=1.", evil, evil
	i := item(a)
	i.Payload = []byte(`{"<img src=x>": "<b>bold</b>", "list": [{"<i>": "<u>"}]}`)
	i.Before = []byte(`{"<img src=x>": "<em>"}`)
	i.Form = []byte(`{"type": "object", "properties": {"<q>": {"type": "string", "title": "<s>", "description": "<tt>"}}}`)
	feedback := evil
	past := asked(2)
	past.Status, past.Feedback = models.Rejected, &feedback
	i.Rounds, i.Similar = []approvals.Round{{Approval: past}}, approvals.Similar{Rejected: 1, Recent: []*models.Approval{past}}
	html := render(t, approvals.Show(page(i, a)))
	mustNot(t, html, "<script>alert", `<button name="decision">`, "<img src=x>", "<b>bold", "<em>", "<u>", "<i>", "<q>", "<s>", "<tt>",
		`href="javascript`, `href="https://user`, " style=")
	must(t, html, `<a href="https://example.com/a?b=1" rel="noopener noreferrer nofollow">`, "From the agent")
}

func TestADecisionNamesTheVersionAndEachButtonItsConsequence(t *testing.T) {
	a := asked(1)
	html := render(t, approvals.Show(page(item(a), a)))
	must(t, html, `name="version" value="3"`, `value="approved"`, `value="request_changes"`, `value="rejected"`, "It goes on.", "It asks again.", "It is told no.",
		`action="/approvals/`+a.ID+`/decide" method="post"`)
}

func TestWhoMayNotDecideIsToldWhy(t *testing.T) {
	a := asked(1)
	i := item(a)
	i.Right = approvals.Right{Why: "You may look but not decide."}
	html := render(t, approvals.Show(page(i, a)))
	must(t, html, "You may look but not decide.")
	if n := len(regexp.MustCompile(`<button[^>]*name="decision"[^>]*disabled`).FindAllString(html, -1)); n != 3 {
		t.Errorf("%d buttons are disabled", n)
	}
}

func TestEachStateSaysWhatIsTrue(t *testing.T) {
	past, soon := at-4000, at+4000
	me, dana, approved, no := "dana", "lee", "approved", "No."
	for name, c := range map[string]struct {
		change func(a *models.Approval)
		want   []string
		not    []string
	}{
		"overdue": {func(a *models.Approval) { a.ExpiresAt = past }, []string{"Overdue", "The time was over at"}, nil},
		"held by me": {func(a *models.Approval) {
			a.Status, a.Decision, a.DecidedBy, a.HeldUntil = "held", &approved, &me, &soon
		}, []string{"Approved by you", "in effect at", "/undo"}, []string{`name="decision"`}},
		"held by another": {func(a *models.Approval) {
			a.Status, a.Decision, a.DecidedBy, a.HeldUntil = "held", &approved, &dana, &soon
		}, []string{"Approved by lee", "may take it back"}, []string{"/undo", `name="decision"`}},
		"approved, told": {func(a *models.Approval) {
			a.Status, a.DecidedBy, a.DecidedAt, a.ToldAt = "approved", &dana, &past, &past
		}, []string{"Approved by lee", "The agent has the decision."}, []string{`name="decision"`}},
		"rejected, untold": {func(a *models.Approval) {
			a.Status, a.DecidedBy, a.DecidedAt, a.Feedback = "rejected", &dana, &past, &no
		}, []string{"Rejected by lee", "offered again", "No."}, nil},
		"expired":           {func(a *models.Approval) { a.Status, a.ExpiresAt = "expired", past }, []string{"Expired", "nobody decided in time"}, []string{`name="decision"`}},
		"withdrawn":         {func(a *models.Approval) { a.Status = "withdrawn" }, []string{"the execution ended before anybody decided"}, []string{`name="decision"`, "offered again"}},
		"somebody looks on": {func(a *models.Approval) { a.ClaimedBy, a.ClaimedUntil = &dana, &soon }, []string{"lee</b> is looking at this too"}, nil},
		"a claim ran out":   {func(a *models.Approval) { a.ClaimedBy, a.ClaimedUntil = &dana, &past }, nil, []string{"is looking"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := asked(1)
			c.change(a)
			html := render(t, approvals.Show(page(item(a), a)), "item")
			must(t, html, c.want...)
			mustNot(t, html, c.not...)
		})
	}
}

func TestAConflictShowsBothTexts(t *testing.T) {
	when, who, first := at-4200, "lee", "Looks right."
	a := asked(1)
	a.Status, a.DecidedBy, a.DecidedAt, a.Feedback = models.Approved, &who, &when, &first
	i := item(a)
	i.Conflict, i.Typed = true, &approvals.Typed{Decision: "rejected", Feedback: "I doubt it."}
	must(t, render(t, approvals.Show(page(i, a))), "Already approved by lee, 4.0 s before you", "Looks right.", "Yours, not sent: reject", "I doubt it.")
}

func TestRequestsOfOneShapeAreFolded(t *testing.T) {
	var rows []*models.Approval
	for n := 1; n <= 5; n++ {
		a := asked(n)
		a.Shape = "same"
		rows = append(rows, a)
	}
	risky := asked(6)
	risky.Shape, risky.Risk = "same", "high"
	html := render(t, approvals.Show(page(nil, append(rows, risky)...)))
	must(t, html, "4 more like this", "Decide all 5", "/approvals/bulk?ids="+rows[0].ID+","+rows[1].ID)
	mustNot(t, html, rows[4].ID+","+risky.ID)
	must(t, html, "High risk")
}

func TestAnItemAloneBringsNothingOfTheQueue(t *testing.T) {
	a := asked(1)
	p := page(item(a), a, asked(2))
	html := render(t, approvals.Show(p), "item")
	mustNot(t, html, `id="queue"`, "<html", `id="done"`)
	held, who, until := "approved", "dana", at+5000
	done := asked(3)
	done.Status, done.Decision, done.DecidedBy, done.HeldUntil = models.ApprovalHeld, &held, &who, &until
	p.Done = &approvals.Done{Approval: done}
	must(t, render(t, approvals.Show(p), "item"), `id="done"`, "/approvals/"+done.ID+"/undo")
}

func TestTheFilterIsInEveryLink(t *testing.T) {
	a := asked(1)
	p := page(item(a), a)
	p.Filter = approvals.Filter{State: "expiring", Risk: "high", Q: "a b&c", Cursor: "c1"}
	html := render(t, approvals.Show(p))
	must(t, html, `href="/approvals/`+a.ID+`?state=expiring&amp;risk=high&amp;q=a+b%26c&amp;cursor=c1"`, `name="next" value="state=expiring&amp;risk=high&amp;q=a+b%26c&amp;cursor=c1"`)
}

func TestAnEmptyQueueHasThreeFaces(t *testing.T) {
	fresh := page(nil)
	fresh.Any = false
	must(t, render(t, approvals.Show(fresh)), "No agent has asked for a decision yet", "curl -X POST http://127.0.0.1:8080/api/v1/executions/")
	filtered := page(nil)
	filtered.Filter.Risk = "high"
	must(t, render(t, approvals.Show(filtered)), "Nothing matches these filters")
	empty := page(nil)
	who, when := "dana", at-60_000
	empty.Last = asked(1)
	empty.Last.DecidedBy, empty.Last.DecidedAt = &who, &when
	must(t, render(t, approvals.Show(empty)), "The queue is clear", "Last decided", "by you")
}

func TestABulkShowsWhatDiffersAndLeavesOutByName(t *testing.T) {
	b := approvals.Bulk{Frame: frame(), Right: approvals.Right{Allowed: true}, Excluded: []approvals.Excluded{{Approval: asked(9), Reason: "High risk: decide it by itself."}}}
	for n := 1; n <= 3; n++ {
		b.Items = append(b.Items, approvals.BulkItem{Approval: asked(n), Payload: fmt.Appendf(nil, `{"order": %d, "currency": "EUR"}`, 7000+n)})
	}
	html := render(t, approvals.BulkPage(b))
	must(t, html, "Decide 3 requests together", "Pay claim 9", "High risk: decide it by itself.", `class="mono">order</th>`, "The same in all of them", "EUR",
		`name="version.`+asked(1).ID+`" value="3"`)
	mustNot(t, html, `class="mono">currency</th>`)
	b.Items[2].Payload = nil
	must(t, render(t, approvals.BulkPage(b)), `class="mono">currency</th>`)
}

func TestAPageOfFiftyStaysSmall(t *testing.T) {
	var rows []*models.Approval
	for n := 1; n <= 50; n++ {
		a := asked(n)
		a.Summary = strings.Repeat("words ", 40)
		rows = append(rows, a)
	}
	if size := len(render(t, approvals.Show(page(item(rows[0]), rows...)))); size > 90_000 {
		t.Errorf("%d bytes", size)
	}
}

func TestAHugeProposalIsShownRaw(t *testing.T) {
	a := asked(1)
	i := item(a)
	i.Payload = []byte(`["` + strings.Repeat("x", 300*1024) + `"]`)
	html := render(t, approvals.Show(page(i, a)))
	must(t, html, "too large to be drawn", "The first 256.0 KiB of")
}
