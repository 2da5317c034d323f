// Package executions holds the pages about executions: the list with its filters, and one execution with everything that is known of
// it. Their invariant: the address is the view. Every filter and cursor is in the URL, and every link of the list is made from it.
package executions

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

// term is one part of a filter, as it stands in the URL.
type term struct{ key, value string }

func (f Filter) terms() []term {
	all := []term{
		{"status", joined(f.Statuses)},
		{"node", f.Node},
		{"target", f.Target},
		{"session", f.Session},
		{"actor", f.Actor},
		{"run", f.Run},
		{"parent", f.Parent},
		{"mode", f.Mode},
		{"since", f.Since},
		{"until", f.Until},
		{"q", f.Search.Text},
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

// Query is the filter as the query of a URL, without a question mark. Commas and colons stay readable.
func (f Filter) Query() string {
	var b strings.Builder
	for _, t := range f.terms() {
		add(&b, t.key, t.value)
	}
	if f.View != "" && b.Len() > 0 { // alone it would bring back what was just taken away
		add(&b, "view", f.View)
	}
	if f.Select {
		add(&b, "select", "1")
	}
	if f.Limit > 0 {
		add(&b, "limit", strconv.Itoa(f.Limit))
	}
	return b.String()
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

func add(b *strings.Builder, key, value string) {
	if b.Len() > 0 {
		b.WriteByte('&')
	}
	b.WriteString(key + "=" + strings.NewReplacer("%2C", ",", "%3A", ":").Replace(url.QueryEscape(value)))
}

// Href is the list under this filter.
func (f Filter) Href() string { return href("/executions", f.Query()) }

// at is the list under this filter, from a cursor on.
func (f Filter) at(cursor string) string {
	var b strings.Builder
	b.WriteString(f.Query())
	add(&b, "cursor", cursor)
	return href("/executions", b.String())
}

func href(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

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
		if t.key != "q" {
			all = append(all, components.Chip{Key: t.key, Words: t.words(f), Href: f.without(t.key).Href()})
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

type option struct{ value, label string }

// statusOptions are the choices of the bar: the tabs, every status, and what the URL says if it is neither.
func (f Filter) statusOptions() []option {
	var all []option
	for _, t := range tabs() {
		switch {
		case t.statuses == nil:
			all = append(all, option{"", "Any status"})
		case len(t.statuses) > 1:
			all = append(all, option{joined(t.statuses), strings.Join(labels(t.statuses), ", ")})
		}
	}
	for _, s := range models.Statuses {
		all = append(all, option{string(s), components.LookOf(s).Label})
	}
	return including(all, joined(f.Statuses), strings.Join(labels(f.Statuses), ", "))
}

// sinceOptions are the choices of time, and what the URL says if it is none of them.
func (f Filter) sinceOptions() []option {
	all := []option{{"", "Any time"}, {"15m", "Last 15 min"}, {"1h", "Last hour"}, {"24h", "Last 24 h"}, {"7d", "Last 7 days"}}
	return including(all, f.Since, "Since "+f.Since)
}

func including(all []option, value, label string) []option {
	if slices.ContainsFunc(all, func(o option) bool { return o.value == value }) {
		return all
	}
	return append(all, option{value, label})
}

func labels(statuses []models.Status) []string {
	words := make([]string, len(statuses))
	for i, s := range statuses {
		words[i] = components.LookOf(s).Label
	}
	return words
}

// words is a term as the list of active filters names it.
func (t term) words(f Filter) string {
	if t.key == "status" {
		return strings.Join(labels(f.Statuses), ", ")
	}
	return t.value
}
