// Package runs holds the pages about runs: the list, and one run as graph, timeline and tree. Its invariant: the address is the view.
// Filters, view, chosen step and opened folds are in the URL, and whatever a script adds, the page is complete without it.
package runs

import (
	"net/url"
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
	Search   search.Typed    // q: the filter language
}

// term is one part of a filter, as it stands in the URL.
type term struct{ key, value string }

func (f Filter) terms() []term {
	all := []term{
		{"status", joined(f.Statuses)}, {"target", f.Target}, {"session", f.Session}, {"actor", f.Actor}, {"since", f.Since}, {"until", f.Until}, {"q", f.Search.Text},
	}
	return slices.DeleteFunc(all, func(t term) bool { return t.value == "" })
}

func joined(statuses []models.Status) string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = string(s)
	}
	return strings.Join(words, ",")
}

// whole is the query of everything that the filter finds, on all pages.
func (f Filter) whole() string {
	f.Limit, f.View = 0, ""
	_, query, _ := strings.Cut(f.at(""), "?")
	return query
}

// Href is the list under this filter.
func (f Filter) Href() string { return f.at("") }

// at is the list under this filter, from a cursor on.
func (f Filter) at(cursor string) string {
	terms := f.terms()
	if f.View != "" && len(terms) > 0 { // alone it would bring back what was just taken away
		terms = append(terms, term{"view", f.View})
	}
	if f.Limit > 0 {
		terms = append(terms, term{"limit", strconv.Itoa(f.Limit)})
	}
	if cursor != "" {
		terms = append(terms, term{"cursor", cursor})
	}
	return address("/runs", terms)
}

// address is a path with a query of these terms, in their order. Commas and colons stay readable.
func address(path string, terms []term) string {
	var b strings.Builder
	b.WriteString(path)
	for i, t := range terms {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(t.key + "=" + strings.NewReplacer("%2C", ",", "%3A", ":").Replace(url.QueryEscape(t.value)))
	}
	return b.String()
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
		if t.key == "q" {
			continue // each of its terms has a chip of its own
		}
		words := t.value
		if t.key == "status" {
			words = strings.Join(labels(f.Statuses), ", ")
		}
		all = append(all, components.Chip{Key: t.key, Words: words, Href: f.without(t.key).Href()})
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

type option struct{ value, label string }

// sinceOptions are the choices of time, and what the URL says if it is none of them.
func (f Filter) sinceOptions() []option {
	all := []option{{"", "Any time"}, {"15m", "Last 15 min"}, {"1h", "Last hour"}, {"24h", "Last 24 h"}, {"7d", "Last 7 days"}}
	if !slices.ContainsFunc(all, func(o option) bool { return o.value == f.Since }) {
		all = append(all, option{f.Since, "Since " + f.Since})
	}
	return all
}
