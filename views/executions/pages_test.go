package executions_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/a-h/templ"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
)

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
	return layout.Page{Title: "T", Active: "executions", Path: "/executions?a=1&b=2", BaseURL: "http://127.0.0.1:8080", Now: time.UnixMilli(acceptedAt + 1000), Live: true}
}

func some(n int) []*models.Execution {
	rows := make([]*models.Execution, n)
	for i := range rows {
		rows[i] = &models.Execution{
			ID: fmt.Sprintf("exec_%026d", n-i), RunID: fmt.Sprintf("run_%026d", i), NodeID: "support-agent", Function: "triage_ticket",
			Status: models.Succeeded, CreatedAt: acceptedAt, StartedAt: new(acceptedAt), FinishedAt: new(acceptedAt + 743), Mode: "async",
		}
	}
	return rows
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

func TestPageAndFragmentComeFromTheSameCode(t *testing.T) {
	p := executions.ListPage{Frame: frame(), Rows: some(3), Any: true, Next: "abc"}
	page, fragment := render(t, executions.List(p)), render(t, executions.List(p), "list")
	if !strings.Contains(page, fragment) {
		t.Error("the fragment is not a part of the page")
	}
	must(t, page, "<!doctype html>", `aria-current="page"`, `href="/executions?cursor=abc"`, "743 ms")
	mustNot(t, fragment, "<html", "<nav class=\"rail\"")
}

func TestOnlyTheNewestPageCountsNewRows(t *testing.T) {
	rows := some(2)
	must(t, render(t, executions.List(executions.ListPage{Frame: frame(), Rows: rows, Any: true})), `data-first="`+rows[0].ID+`"`)
	must(t, render(t, executions.List(executions.ListPage{Frame: frame()})), `data-first=""`)
	mustNot(t, render(t, executions.List(executions.ListPage{Frame: frame(), Rows: rows, Any: true, Cursor: "c"})), "data-first")
}

func TestEmptyListsDiffer(t *testing.T) {
	must(t, render(t, executions.List(executions.ListPage{Frame: frame()})),
		"Nothing has run on this server yet", "curl -X POST http://127.0.0.1:8080/api/v1/execute/async/hello-world.greet")
	filtered := executions.ListPage{Frame: frame(), Any: true, Filter: executions.Filter{Node: "a", Statuses: []models.Status{models.Failed}}}
	must(t, render(t, executions.List(filtered)), "Nothing matches these filters", `href="/executions?node=a"`, `href="/executions?status=failed"`)
}

func TestFilterKeepsEverythingInTheURL(t *testing.T) {
	f := executions.Filter{
		Statuses: []models.Status{models.Failed, models.Timeout}, Node: "n&1", Target: "n.f", Session: "s 1", Actor: "ä", Run: "r", Parent: "p",
		Mode: "sync", Since: "24h", Until: "2026-01-01T00:00:00Z", Limit: 100,
	}
	got, err := url.ParseQuery(f.Query())
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{
		"status": {"failed,timeout"}, "node": {"n&1"}, "target": {"n.f"}, "session": {"s 1"}, "actor": {"ä"}, "run": {"r"}, "parent": {"p"},
		"mode": {"sync"}, "since": {"24h"}, "until": {"2026-01-01T00:00:00Z"}, "limit": {"100"},
	}
	if got.Encode() != want.Encode() {
		t.Errorf("got  %s\nwant %s", got.Encode(), want.Encode())
	}
	must(t, render(t, executions.List(executions.ListPage{Frame: frame(), Any: true, Filter: f})),
		`<option value="failed,timeout" selected`, `value="s 1"`, `type="hidden" name="parent" value="p"`)
}

func TestFiftyRowsStayWithinTheBudget(t *testing.T) {
	page := render(t, executions.List(executions.ListPage{Frame: frame(), Rows: some(50), Any: true}))
	if limit := 60 * 1024; len(page) > limit {
		t.Errorf("a page of 50 rows has %d bytes, more than %d", len(page), limit)
	}
}

func TestWhatAgentsSayIsOnlyText(t *testing.T) {
	e := some(1)[0]
	evil := `<img src=x onerror=alert(1)>`
	e.Status, e.ErrorMessage, e.ProgressNote = models.Failed, new(evil), new(evil)
	note := `{"message":"<script>alert(2)</script>","tags":["<b>"]}`
	page := render(t, executions.Show(executions.ShowPage{
		Frame: frame(), Execution: e, Input: []byte(`{"a":"<script>alert(3)</script>"}`), Details: []byte(evil),
		History:    []models.Event{{ID: 1, Kind: "execution.note", At: acceptedAt, Data: &note}},
		Deliveries: []models.WebhookDelivery{{ID: "wh_1", URL: "javascript:alert(4)"}},
		Attempts:   []models.WebhookAttempt{{ID: "a", DeliveryID: "wh_1", Error: new(evil), ResponseBody: new(evil)}},
	}))
	mustNot(t, page, "<img", "<script>", "<b></", `href="javascript`)
	must(t, page, "&lt;img src=x", "&lt;script&gt;alert(3)")
}

func TestShowOffersOnlyWhatCanBeDone(t *testing.T) {
	e := some(1)[0]
	mustNot(t, render(t, executions.Show(executions.ShowPage{Frame: frame(), Execution: e})), "/cancel")
	e.Status, e.FinishedAt = models.Running, nil
	must(t, render(t, executions.Show(executions.ShowPage{Frame: frame(), Execution: e})),
		`action="/executions/`+e.ID+`/cancel" method="post"`, `data-since="`)
}

func TestLargePayloadsAreCutAndExactNumbersKept(t *testing.T) {
	e := some(1)[0]
	large := []byte(`{"text":"` + strings.Repeat("x", 300*1024) + `"}`)
	page := render(t, executions.Show(executions.ShowPage{Frame: frame(), Execution: e, Input: []byte(`{"n":12345678901234567890.10}`), Result: large}))
	if len(page) > 64*1024 {
		t.Errorf("the page has %d bytes", len(page))
	}
	must(t, page, "12345678901234567890.10", "The first 4.0 KiB of 300.0 KiB are shown", `href="/executions/`+e.ID+`/result"`)
}

func TestCurlOfAnExecutionKeepsItsInput(t *testing.T) {
	e := some(1)[0]
	e.SessionID = new("s'1")
	page := render(t, executions.Show(executions.ShowPage{Frame: frame(), Execution: e, Input: []byte(`{"name":"O'Hara"}`)}))
	must(t, page, `-H &#39;X-Session-ID: s&#39;\&#39;&#39;1&#39;`, `-d &#39;{&#34;input&#34;: {&#34;name&#34;:&#34;O&#39;\&#39;&#39;Hara&#34;}}&#39;`)
}

func TestTimeSpentFollowsTheEventLog(t *testing.T) {
	e := some(1)[0]
	e.FinishedAt = new(acceptedAt + 10_000)
	event := func(kind string, at int64) models.Event { return models.Event{Kind: kind, At: acceptedAt + at} }
	page := render(t, executions.Show(executions.ShowPage{Frame: frame(), Execution: e, History: []models.Event{
		event("execution.queued", 0), event("execution.running", 1000), event("execution.attempt_failed", 2000), event("execution.running", 4000),
		event("execution.waiting", 5000), event("execution.running", 9000), event("execution.succeeded", 10_000),
	}}))
	must(t, page, "In line 3.0 s", "At work 3.0 s", "With a person 4.0 s", `x="50.000%" width="40.000%"`)
}

func TestProgressReportsAreFolded(t *testing.T) {
	e := some(1)[0]
	var log []models.Event
	for i := range 5 {
		data := fmt.Sprintf(`{"progress":0.%d,"message":"step %d"}`, i, i)
		log = append(log, models.Event{ID: int64(i), Kind: "execution.progress", At: acceptedAt + int64(i), Data: &data})
	}
	page := render(t, executions.Show(executions.ShowPage{Frame: frame(), Execution: e, History: log}))
	must(t, page, "Progress 40 %", "4 earlier reports", "step 0")
}
