package components

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// Term is one part of a filter, as it stands in the URL.
type Term struct{ Key, Value string }

// Given leaves out the terms that say nothing.
func Given(terms ...Term) []Term {
	return slices.DeleteFunc(terms, func(t Term) bool { return t.Value == "" })
}

// Query writes terms, in their order, as the query of a URL without a question mark. Commas and colons stay readable.
func Query(terms []Term) string {
	words := make([]string, len(terms))
	for i, t := range terms {
		words[i] = t.Key + "=" + strings.NewReplacer("%2C", ",", "%3A", ":").Replace(url.QueryEscape(t.Value))
	}
	return strings.Join(words, "&")
}

// Href is a path with a query, which may be empty.
func Href(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

// Address is a path with these terms.
func Address(path string, terms ...Term) string { return Href(path, Query(terms)) }

// Option is one choice of a field.
type Option struct{ Value, Label string }

// SinceOptions are the choices of time of a list, and what its URL says if it is none of them.
func SinceOptions(since string) []Option {
	all := []Option{{"", "Any time"}, {"15m", "Last 15 min"}, {"1h", "Last hour"}, {"24h", "Last 24 h"}, {"7d", "Last 7 days"}}
	return Including(all, since, "Since "+since)
}

// Including is the choices with this one, at their end if it is none of them.
func Including(all []Option, value, label string) []Option {
	if slices.ContainsFunc(all, func(o Option) bool { return o.Value == value }) {
		return all
	}
	return append(all, Option{value, label})
}

// Turns are the cursors of a page of a list: where it starts, and where its neighbours do. Empty at the newest, and where there are none.
type Turns struct{ Cursor, Next, Prev string }

// PagerOf is the foot of a page. at is the list from a cursor on, without one from its newest row.
func PagerOf(rows int, t Turns, at func(cursor string) string, curl string, now time.Time) Pager {
	foot := Pager{Rows: rows, Curl: curl, Now: now}
	if t.Cursor != "" {
		foot.First = at("")
	}
	if t.Prev != "" {
		foot.Prev = at(t.Prev)
	}
	if t.Next != "" {
		foot.Next = at(t.Next)
	}
	return foot
}
