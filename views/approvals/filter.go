// Package approvals holds the reviewer's inbox: the queue of requests for a decision, and one request with all that helps to decide
// it. Its invariant: looking changes nothing. Every address is a view; what decides is a form that names the version it was made on.
package approvals

import (
	"net/url"

	"github.com/agentfield/agentfield/views/components"
)

// Filter is what the URL of the queue says. Empty fields do not narrow.
type Filter struct {
	State   string // state: pending (empty means this), mine, expiring or decided
	Risk    string // risk: low, medium or high
	Node    string // node
	Target  string // target: node.function
	Session string // session
	Actor   string // actor
	Run     string // run
	Claimed string // claimed: me or none
	Q       string // q: words of the title or the summary, or the beginning of an id
	Sort    string // sort: expires_at (the default of open ones) or -created_at
	View    string // view: the id of the saved view that this filter came from
	Full    bool   // full=1: the open item has the whole width
	Cursor  string // cursor: where the page starts
}

// The states of the queue.
const (
	StatePending  = "pending"
	StateMine     = "mine"
	StateExpiring = "expiring"
	StateDecided  = "decided"
)

// terms are what narrows the list, without the tab and the order.
func (f Filter) terms() []components.Term {
	all := []components.Term{
		{Key: "risk", Value: f.Risk},
		{Key: "node", Value: f.Node},
		{Key: "target", Value: f.Target},
		{Key: "session", Value: f.Session},
		{Key: "actor", Value: f.Actor},
		{Key: "run", Value: f.Run},
		{Key: "claimed", Value: f.Claimed},
		{Key: "q", Value: f.Q},
	}
	return components.Given(all...)
}

// pairs are everything that the query says, but the cursor.
func (f Filter) pairs() []components.Term {
	var all []components.Term
	if f.state() != StatePending {
		all = append(all, components.Term{Key: "state", Value: f.State})
	}
	all = append(all, f.terms()...)
	if f.Sort != "" {
		all = append(all, components.Term{Key: "sort", Value: f.Sort})
	}
	if f.View != "" {
		all = append(all, components.Term{Key: "view", Value: f.View})
	}
	return all
}

// Query is the filter as the query of a URL, without a question mark and without the cursor.
func (f Filter) Query() string { return components.Query(f.pairs()) }

// Place is the query with the cursor and the width: exactly this page as it is.
func (f Filter) Place() string {
	all := f.pairs()
	if f.Full {
		all = append(all, components.Term{Key: "full", Value: "1"})
	}
	return components.Query(components.Given(append(all, components.Term{Key: "cursor", Value: f.Cursor})...))
}

// Href is the queue under this filter, from its beginning.
func (f Filter) Href() string { return components.Href("/approvals", f.Query()) }

// Item is a request opened in the queue under this filter.
func (f Filter) Item(id string) string {
	return components.Href("/approvals/"+url.PathEscape(id), f.Place())
}

// at is the queue under this filter, from a cursor on.
func (f Filter) at(cursor string) string {
	f.Cursor = cursor
	return components.Href("/approvals", f.Place())
}

// state is the tab that is open.
func (f Filter) state() string {
	if f.State == "" {
		return StatePending
	}
	return f.State
}

// in is the same filter under another tab, from its beginning. The order belongs to the tab.
func (f Filter) in(state string) Filter {
	f.State, f.Cursor, f.Sort, f.View = state, "", "", ""
	return f
}

// without is the filter with one term left out.
func (f Filter) without(key string) Filter {
	f.Cursor, f.View = "", ""
	switch key {
	case "risk":
		f.Risk = ""
	case "node":
		f.Node = ""
	case "target":
		f.Target = ""
	case "session":
		f.Session = ""
	case "actor":
		f.Actor = ""
	case "run":
		f.Run = ""
	case "claimed":
		f.Claimed = ""
	case "q":
		f.Q = ""
	}
	return f
}

// more reports whether a filter of the folded part of the bar is set.
func (f Filter) more() bool {
	return f.Node != "" || f.Session != "" || f.Actor != "" || f.Run != "" || f.Claimed != ""
}
