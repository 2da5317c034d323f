package executions

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
	Rows    []*models.Execution
	Cursor  string // where this page starts; empty: at the newest
	Next    string // cursor of the page of older ones; empty: there are none
	Prev    string // cursor of the page of newer ones; empty: only the way back to the newest is offered
	Any     bool   // the server has an execution at all: an empty page then means that nothing matches
	Active  int    // pending, queued and running, shown on the tab; 0: not shown
	Waiting int    // the same for the tab of those that wait for a person
	Views   search.Views
	Target  string // a function that is registered, for the command of an empty server; may be empty
}

// first is the newest row of the first page: what came after it is new. Later pages have none.
func (p ListPage) first() string {
	if len(p.Rows) == 0 {
		return ""
	}
	return p.Rows[0].ID
}

func (p ListPage) count(t tab) int {
	switch t.label {
	case "Active":
		return p.Active
	case "Waiting":
		return p.Waiting
	}
	return 0
}

func (p ListPage) tabs() []components.Tab {
	all := tabs()
	out := make([]components.Tab, len(all))
	for i, t := range all {
		out[i] = components.Tab{Label: t.label, Href: p.Filter.with(t.statuses).Href(), Current: p.Filter.is(t) && p.Views.Current == nil, Count: p.count(t)}
	}
	return out
}

func (p ListPage) pager() components.Pager {
	turns := components.Turns{Cursor: p.Cursor, Next: p.Next, Prev: p.Prev}
	return components.PagerOf(len(p.Rows), turns, p.Filter.from, p.Filter.curl(p.Frame.BaseURL), p.now())
}

// teach is a command that makes a first execution on this server.
func (p ListPage) teach() string { return components.FirstCall(p.Frame.BaseURL, p.Target) }

// why is the second line of a row: what went wrong, what holds it up, or how far it is.
func why(e *models.Execution) string {
	switch e.Status {
	case models.Failed, models.Timeout:
		if e.ErrorMessage != nil {
			return components.FirstLine(*e.ErrorMessage)
		}
		return components.FirstLine(value(e.StatusReason))
	case models.Pending, models.Queued, models.Paused, models.Cancelled:
		return components.FirstLine(value(e.StatusReason))
	case models.Running:
		return progress(e)
	case models.Waiting, models.Succeeded:
		return ""
	}
	return ""
}

func progress(e *models.Execution) string {
	text := components.FirstLine(value(e.ProgressNote))
	switch {
	case e.Progress == nil:
		return text
	case text == "":
		return components.Percent(*e.Progress)
	}
	return components.Percent(*e.Progress) + " · " + text
}

// name is what a screen reader says of a row's link.
func name(e *models.Execution) string {
	return components.LookOf(e.Status).Label + ": " + e.Target()
}

func (p ListPage) now() time.Time { return p.Frame.Now }
