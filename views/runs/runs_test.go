package runs

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
)

func TestTheAddressIsTheView(t *testing.T) {
	v := View{Run: "run_1", Kind: Timeline, Node: "x", Open: []string{"a", "b*50"}, Statuses: []models.Status{models.Failed, models.Timeout}, Query: "a b", Critical: true, From: 200}
	for want, got := range map[string]View{
		"/runs/run_1?open=a,b%2A50&status=failed,timeout&q=a+b&crit=1&from=200&node=x":        v,
		"/runs/run_1?view=tree&open=a,b%2A50&status=failed,timeout&q=a+b&crit=1&node=x":       v.as(Tree),
		"/runs/run_1?open=a,b%2A50&crit=1&node=x":                                             v.unfiltered(),
		"/runs/run_1?open=a,b%2A100&status=failed,timeout&q=a+b&crit=1&from=200&node=x":       v.opening(models.Fold{Open: "b*100", Was: "b*50"}),
		"/runs/run_1?open=b%2A50&closed=a&status=failed,timeout&q=a+b&crit=1&from=200&node=x": v.closing(models.Fold{Close: "a", Was: "a"}),
		"/runs/run_1?open=a,b%2A50&focus=y&status=failed,timeout&q=a+b&crit=1&node=x":         v.within("y"),
		"/runs/run_1": {Run: "run_1", Kind: Graph},
	} {
		if got.Href() != want {
			t.Errorf("%s, want %s", got.Href(), want)
		}
	}
	if got := (View{Run: "run_1"}).nodes(); got != "?node=" {
		t.Errorf("links to steps begin with %q", got)
	}
	if got := (View{Run: "run_1", Kind: Tree, Chosen: true, Node: "x"}).nodes(); got != "?view=tree&node=" {
		t.Errorf("links to steps begin with %q", got)
	}
}

func TestWhateverExistsCanBeSeenInABar(t *testing.T) {
	all := segments([]models.StatusCount{{Status: models.Succeeded, Count: 9999}, {Status: models.Failed, Count: 1}, {Status: models.Waiting}})
	want := []segment{{"f-succeeded", "0%", "98%"}, {"f-failed", "98%", "2%"}}
	if len(all) != 2 || all[0] != want[0] || all[1] != want[1] {
		t.Errorf("%v, want %v", all, want)
	}
	if segments(nil) != nil {
		t.Error("a bar of nothing has parts")
	}
}

func TestTextsAreCutToTheirRoom(t *testing.T) {
	for text, want := range map[string]string{"plan": "plan", "extract_all_the_fields_there_are": "extract_all_the…"} {
		if got := fitted(text, 110); got != want {
			t.Errorf("%q is drawn as %q, want %q", text, got, want)
		}
	}
}

func TestTheClockHasRoundTimes(t *testing.T) {
	for span, want := range map[int64]string{0: "0", 900: "0 200 ms 400 ms 600 ms 800 ms", 20_000: "0 5.0 s 10 s 15 s", 3_600_000: "0 10 min 20 min 30 min 40 min 50 min"} {
		var marks []string
		for _, m := range (&Clock{Span: span}).ticks() {
			marks = append(marks, m.label)
		}
		if got := strings.Join(marks, " "); got != want {
			t.Errorf("%d ms are marked %q, want %q", span, got, want)
		}
	}
}

func TestHostileNamesStayTexts(t *testing.T) {
	step := models.Step{ID: "x", NodeID: `<b>node`, Function: `"><script>`, Status: models.Failed, ErrorMessage: new(`</text><script>alert(1)</script>`)}
	p := ShowPage{
		Frame: layout.Page{Now: time.UnixMilli(1)}, Run: &models.Run{ID: "run_1", NodeID: step.NodeID, Function: step.Function, Status: models.Failed, Total: 1, Failed: 1},
		View: View{Run: "run_1", Kind: Graph, Query: `"><script>`}, Total: 1,
		Picture: &models.Picture{Items: []models.Item{{ID: "x", Kind: models.ItemStep, Step: &step, Name: step.Function, Node: step.NodeID, Level: 1}}},
	}
	row := Row{Step: &step, Level: 1}
	for kind, page := range map[string]ShowPage{
		Graph:    p,
		Timeline: {Frame: p.Frame, Run: p.Run, View: p.View.as(Timeline), Clock: &Clock{Rows: []Row{row}, Total: 1}},
		Tree:     {Frame: p.Frame, Run: p.Run, View: p.View.as(Tree), Outline: &Outline{Rows: []Row{row}, Total: 1}},
	} {
		var b strings.Builder
		if err := Show(page).Render(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
		if html := b.String(); strings.Contains(html, "<script>") || strings.Contains(html, "<b>node") {
			t.Errorf("the %s lets names be markup", kind)
		}
	}
}
