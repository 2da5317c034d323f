// Package runs holds the pages about runs: the list, and one run as graph, timeline and tree. Its invariant: the address is the view.
// Filters, view, chosen step and opened folds are in the URL, and whatever a script adds, the page is complete without it.
package runs

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
	Statuses []models.Status // status: a comma list, of the run
	Target   string          // target: node.function of the root, or its node alone
	Session  string          // session
	Actor    string          // actor
	Since    string          // since: 15m, 24h, 7d or RFC 3339, as it was written
	Until    string          // until: the same
	Limit    int             // limit; 0: the default
	View     string          // view: the id of a saved view that this filter comes from
	Select   bool            // select: rows can be chosen, and keep still
	Search   search.Typed    // q: the filter language
}

func (f Filter) terms() []components.Term {
	all := []components.Term{
		{Key: "status", Value: joined(f.Statuses)}, {Key: "target", Value: f.Target}, {Key: "session", Value: f.Session}, {Key: "actor", Value: f.Actor}, {Key: "since", Value: f.Since}, {Key: "until", Value: f.Until}, {Key: "q", Value: f.Search.Text},
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

// whole is the query of everything that the filter finds, on all pages.
func (f Filter) whole() string { return components.Query(f.terms()) }

// selecting is the same list with its rows to choose from, or without.
func (f Filter) selecting() string {
	f.Select = !f.Select
	return f.Href()
}

// Href is the list under this filter.
func (f Filter) Href() string { return f.from("") }

// from is the list under this filter, from a cursor on.
func (f Filter) from(cursor string) string {
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
	return components.Address("/runs", components.Given(append(terms, components.Term{Key: "cursor", Value: cursor})...)...)
}

// without is the filter with one term left out.
func (f Filter) without(key string) Filter {
	switch key {
	case "status":
		f.Statuses = nil
	case "target":
		f.Target = ""
	case "session":
		f.Session = ""
	case "actor":
		f.Actor = ""
	case "since":
		f.Since = ""
	case "until":
		f.Until = ""
	}
	return f
}

// asking is the filter with what is typed replaced.
func (f Filter) asking(q string) Filter {
	f.Search.Text = q
	return f
}

// tab is a filter by status that has a name.
type tab struct {
	label    string
	statuses []models.Status
}

func tabs() []tab {
	return []tab{
		{"All", nil},
		{"Active", []models.Status{models.Running}},
		{"Waiting", []models.Status{models.Waiting}},
		{"Failed", []models.Status{models.Failed, models.Timeout}},
		{"Succeeded", []models.Status{models.Succeeded}},
	}
}

func (f Filter) is(t tab) bool {
	return len(f.Statuses) == len(t.statuses) && !slices.ContainsFunc(f.Statuses, func(s models.Status) bool {
		return !slices.Contains(t.statuses, s)
	})
}

func (f Filter) chips() []components.Chip {
	var all []components.Chip
	for _, t := range f.terms() {
		if t.Key == "q" {
			continue // each of its terms has a chip of its own
		}
		words := t.Value
		if t.Key == "status" {
			words = strings.Join(labels(f.Statuses), ", ")
		}
		all = append(all, components.Chip{Key: t.Key, Words: words, Href: f.without(t.Key).Href()})
	}
	for _, t := range f.Search.Terms {
		all = append(all, components.Chip{Words: t.Text, Href: f.asking(t.Rest).Href()})
	}
	return all
}

func labels(statuses []models.Status) []string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = components.LookOf(s).Label
	}
	return words
}
