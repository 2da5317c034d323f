// Package executions holds the pages about executions: the list with its filters, and one execution with everything that is known of
// it. Their invariant: the address is the view. Every filter and cursor is in the URL, and every link of the list is made from it.
package executions

import (
	"slices"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/search"
)

// Filter is what the URL of the list says. Empty fields do not narrow.
type Filter struct {
	Statuses []models.Status // status: a comma list
	Node     string          // node
	Target   string          // target: node.function
	Session  string          // session
	Actor    string          // actor
	Run      string          // run: our id or the caller's own
	Parent   string          // parent: the id of an execution
	Mode     string          // mode: sync or async
	Since    string          // since: 15m, 24h, 7d or RFC 3339, as it was written
	Until    string          // until: the same
	Limit    int             // limit; 0: the default
	Search   search.Typed    // q: the filter language
	Select   bool            // select: rows can be chosen, and keep still
	View     string          // view: the id of a saved view that this filter comes from
}

func (f Filter) terms() []components.Term {
	all := []components.Term{
		{Key: "status", Value: joined(f.Statuses)},
		{Key: "node", Value: f.Node},
		{Key: "target", Value: f.Target},
		{Key: "session", Value: f.Session},
		{Key: "actor", Value: f.Actor},
		{Key: "run", Value: f.Run},
		{Key: "parent", Value: f.Parent},
		{Key: "mode", Value: f.Mode},
		{Key: "since", Value: f.Since},
		{Key: "until", Value: f.Until},
		{Key: "q", Value: f.Search.Text},
	}
	return components.Given(all...)
}

func joined(statuses []models.Status) string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}

// Query is the filter as the query of a URL, without a question mark.
func (f Filter) Query() string { return components.Query(f.at("")) }

// at are the terms of the list under this filter, from a cursor on.
func (f Filter) at(cursor string) []components.Term {
	terms := f.terms()
	if len(terms) > 0 { // alone a view would bring back what was just taken away
		terms = append(terms, components.Term{Key: "view", Value: f.View})
	}
	if f.Select {
		terms = append(terms, components.Term{Key: "select", Value: "1"})
	}
	if f.Limit > 0 {
		terms = append(terms, components.Term{Key: "limit", Value: strconv.Itoa(f.Limit)})
	}
	return components.Given(append(terms, components.Term{Key: "cursor", Value: cursor})...)
}

// selecting is the same list with its rows to choose from, or without.
func (f Filter) selecting() string {
	f.Select = !f.Select
	return f.Href()
}

// whole is the query of everything that the filter finds.
func (f Filter) whole() string {
	f.Limit, f.View, f.Select = 0, "", false
	return f.Query()
}

// Href is the list under this filter.
func (f Filter) Href() string { return f.from("") }

// from is the list under this filter, from a cursor on.
func (f Filter) from(cursor string) string { return components.Address("/executions", f.at(cursor)...) }

// without is the filter with one term left out.
func (f Filter) without(key string) Filter {
	switch key {
	case "status":
		f.Statuses = nil
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
	case "parent":
		f.Parent = ""
	case "mode":
		f.Mode = ""
	case "since":
		f.Since = ""
	case "until":
		f.Until = ""
	case "q":
		return f.asking("")
	}
	return f
}

// asking is the filter with what is typed replaced.
func (f Filter) asking(q string) Filter {
	f.Search.Text = q
	return f
}

// chips are the active filters; of what is typed, each term has its own.
func (f Filter) chips() []components.Chip {
	var all []components.Chip
	for _, t := range f.terms() {
		if t.Key != "q" {
			all = append(all, components.Chip{Key: t.Key, Words: f.words(t), Href: f.without(t.Key).Href()})
		}
	}
	for _, t := range f.Search.Terms {
		all = append(all, components.Chip{Words: t.Text, Href: f.asking(t.Rest).Href()})
	}
	return all
}

// with is the filter with its statuses replaced.
func (f Filter) with(statuses []models.Status) Filter {
	f.Statuses = statuses
	return f
}

// more reports whether a filter of the folded part of the bar is set.
func (f Filter) more() bool { return f.Session != "" || f.Actor != "" || f.Run != "" || f.Until != "" }

// curl reads the same list from the API.
func (f Filter) curl(base string) string {
	return components.Command{URL: base + "/api/v1" + f.Href()}.Curl()
}

// tab is a filter by status that has a name.
type tab struct {
	label    string
	statuses []models.Status
}

func tabs() []tab {
	return []tab{
		{"All", nil},
		{"Active", []models.Status{models.Pending, models.Queued, models.Running}},
		{"Waiting", []models.Status{models.Waiting}},
		{"Failed", []models.Status{models.Failed, models.Timeout}},
		{"Succeeded", []models.Status{models.Succeeded}},
	}
}

// is reports whether the filter asks for exactly the statuses of a tab, in any order.
func (f Filter) is(t tab) bool {
	return len(f.Statuses) == len(t.statuses) && !slices.ContainsFunc(f.Statuses, func(s models.Status) bool {
		return !slices.Contains(t.statuses, s)
	})
}

// statusOptions are the choices of the bar: the tabs, every status, and what the URL says if it is neither.
func (f Filter) statusOptions() []components.Option {
	var all []components.Option
	for _, t := range tabs() {
		switch {
		case t.statuses == nil:
			all = append(all, components.Option{Label: "Any status"})
		case len(t.statuses) > 1:
			all = append(all, components.Option{Value: joined(t.statuses), Label: strings.Join(labels(t.statuses), ", ")})
		}
	}
	for _, s := range models.Statuses {
		all = append(all, components.Option{Value: string(s), Label: components.LookOf(s).Label})
	}
	return components.Including(all, joined(f.Statuses), strings.Join(labels(f.Statuses), ", "))
}

func labels(statuses []models.Status) []string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = components.LookOf(s).Label
	}
	return words
}

// words is a term as the list of active filters names it.
func (f Filter) words(t components.Term) string {
	if t.Key == "status" {
		return strings.Join(labels(f.Statuses), ", ")
	}
	return t.Value
}
