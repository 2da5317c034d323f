package runs

import (
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/search"
)

// ListPage is one page of the list, newest first.
type ListPage struct {
	Frame   layout.Page
	Filter  Filter
	Rows    []*models.Run
	Cursor  string // where this page starts; empty: at the newest
	Next    string // cursor of the page of older ones; empty: there are none
	Prev    string // cursor of the page of newer ones
	Any     bool   // the server has a run at all: an empty page then means that nothing matches
	Active  int    // shown on the tab; 0: not shown
	Waiting int    // the same for the tab of those that wait for a person
	Views   search.Views
	Target  string // a function that is registered, for the command of an empty server; may be empty
}

func (p ListPage) now() time.Time { return p.Frame.Now }

// first is the newest row of the first page: what came after it is new. Later pages have none.
func (p ListPage) first() string {
	if len(p.Rows) == 0 {
		return ""
	}
	return p.Rows[0].ID
}

func (p ListPage) tabs() []components.Tab {
	all := tabs()
	out := make([]components.Tab, len(all))
	for i, t := range all {
		f := p.Filter
		f.Statuses, f.View = t.statuses, ""
		out[i] = components.Tab{Label: t.label, Href: f.Href(), Current: p.Filter.is(t) && p.Views.Current == nil}
		switch t.label {
		case "Active":
			out[i].Count = p.Active
		case "Waiting":
			out[i].Count = p.Waiting
		}
	}
	return out
}

func (p ListPage) pager() components.Pager {
	turns := components.Turns{Cursor: p.Cursor, Next: p.Next, Prev: p.Prev}
	curl := components.Command{URL: p.Frame.BaseURL + "/api/v1" + p.Filter.Href()}.Curl()
	return components.PagerOf(len(p.Rows), turns, p.Filter.from, curl, p.now())
}

// teach is a command that makes a first run of two steps on this server: what has the same workflow id is one run.
func (p ListPage) teach() string {
	target := p.Target
	if target == "" {
		target = "hello-world.greet"
	}
	return components.Command{
		Method: "POST", URL: p.Frame.BaseURL + "/api/v1/execute/" + target, Headers: []string{"X-Workflow-ID: my-first-run"}, Body: `{"input": {}}`,
	}.Curl()
}

// path is the page of a run.
func path(r *models.Run) string { return "/runs/" + r.ID }

// waitsFor is the run's page at what waits for a person.
func waitsFor(r *models.Run) string {
	return components.Address(path(r), components.Term{Key: "status", Value: string(models.Waiting)})
}

// took is how long a run has taken; ok is false while it goes on.
func took(r *models.Run) (d time.Duration, ok bool) {
	if r.FinishedAt == nil {
		return 0, false
	}
	return time.Duration(max(*r.FinishedAt-r.CreatedAt, 0)) * time.Millisecond, true
}

// name is what a screen reader says of a row's link.
func name(r *models.Run) string {
	return "Run of " + r.Target() + ": " + components.LookOf(r.Status).Label
}

func troubled(r *models.Run) int { return r.Failed + r.Timeout }

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
