// Package webhooks has the pages of webhook deliveries: the list over all executions, one with each of its attempts, and the page that asks
// before many are sent again. Its invariant: the address is the view, and every number is a link to the list it was counted from.
package webhooks

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/views/components"
)

// Filter is what the URL of the list says. Empty fields do not narrow.
type Filter struct {
	State     string // pending, retrying, delivered, failed
	Class     string // of the last response: 2xx, 4xx, 5xx, timeout, dns, tls, refused, …
	Host      string
	Event     string
	Execution string
	Since     string // 15m, 24h, 7d or RFC 3339, as it was written
	Until     string
	Limit     int // 0: the default
}

type term struct{ key, value string }

func (f Filter) terms() []term {
	all := []term{
		{"state", f.State}, {"class", f.Class}, {"host", f.Host}, {"event", f.Event}, {"execution", f.Execution}, {"since", f.Since}, {"until", f.Until},
	}
	return slices.DeleteFunc(all, func(t term) bool { return t.value == "" })
}

// Href is the list under this filter.
func (f Filter) Href() string { return f.at("") }

func (f Filter) at(cursor string) string {
	terms := f.terms()
	if f.Limit > 0 {
		terms = append(terms, term{"limit", strconv.Itoa(f.Limit)})
	}
	if cursor != "" {
		terms = append(terms, term{"cursor", cursor})
	}
	return address("/webhooks", terms)
}

// resend is the page that asks before all that the filter finds is sent again.
func (f Filter) resend() string { return address("/webhooks/redeliver", f.terms()) }

func address(path string, terms []term) string {
	var b strings.Builder
	b.WriteString(path)
	for i, t := range terms {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(t.key + "=" + strings.NewReplacer("%2C", ",", "%3A", ":").Replace(url.QueryEscape(t.value)))
	}
	return b.String()
}

func (f Filter) without(key string) Filter {
	for name, field := range map[string]*string{
		"state": &f.State, "class": &f.Class, "host": &f.Host, "event": &f.Event, "execution": &f.Execution, "since": &f.Since, "until": &f.Until,
	} {
		if name == key {
			*field = ""
		}
	}
	return f
}

func (f Filter) chips() []components.Chip {
	terms := f.terms()
	all := make([]components.Chip, len(terms))
	for i, t := range terms {
		words := t.value
		switch t.key {
		case "state":
			words = stateWord(t.value)
		case "class":
			words = classWord(t.value)
		}
		all[i] = components.Chip{Key: t.key, Words: words, Href: f.without(t.key).Href()}
	}
	return all
}

func stateWord(state string) string {
	for _, s := range states() {
		if s.value == state {
			return s.label
		}
	}
	return state
}

func classWord(class string) string {
	for _, c := range classes() {
		if c.value == class {
			return c.label
		}
	}
	return class
}

type option struct{ value, label string }

func states() []option {
	return []option{{"", "All"}, {"pending", "Pending"}, {"retrying", "Retrying"}, {"delivered", "Delivered"}, {"failed", "Given up"}}
}

func classes() []option {
	return []option{
		{"", "Any"},
		{"2xx", "2xx: taken"},
		{"3xx", "3xx: redirect"},
		{"4xx", "4xx: refused by the receiver"},
		{"5xx", "5xx: error of the receiver"},
		{"timeout", "No answer in time"},
		{"dns", "Name does not resolve"},
		{"tls", "TLS failed"},
		{"refused", "Connection refused"},
		{"connection", "Connection lost"},
		{"blocked", "Address not allowed"},
	}
}

func events() []option {
	return []option{{"", "Any"}, {"execution.completed", "execution.completed"}, {"execution.failed", "execution.failed"}}
}

// sinceOptions are the choices of time, and what the URL says if it is none of them.
func (f Filter) sinceOptions() []option {
	all := []option{{"", "Any time"}, {"15m", "Last 15 min"}, {"1h", "Last hour"}, {"24h", "Last 24 h"}, {"7d", "Last 7 days"}}
	if !slices.ContainsFunc(all, func(o option) bool { return o.value == f.Since }) {
		all = append(all, option{f.Since, "Since " + f.Since})
	}
	return all
}
