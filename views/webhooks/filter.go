// Package webhooks has the pages of webhook deliveries: the list over all executions, one with each of its attempts, and the page that asks
// before many are sent again. Its invariant: the address is the view, and every number is a link to the list it was counted from.
package webhooks

import (
	"strconv"

	"github.com/agentfield/agentfield/views/components"
)

// Filter is what the URL of the list says. Empty fields do not narrow.
type Filter struct {
	State     string // pending, retrying, delivered, failed
	Class     string // of the last response: 2xx, 4xx, 5xx, timeout, dns, tls, refused, …
	Host      string
	Event     string
	Execution string
	Endpoint  string // id
	Since     string // 15m, 24h, 7d or RFC 3339, as it was written
	Until     string
	Limit     int // 0: the default
}

func (f Filter) terms() []components.Term {
	all := []components.Term{
		{Key: "state", Value: f.State},
		{Key: "class", Value: f.Class},
		{Key: "host", Value: f.Host},
		{Key: "event", Value: f.Event},
		{Key: "execution", Value: f.Execution},
		{Key: "endpoint", Value: f.Endpoint},
		{Key: "since", Value: f.Since},
		{Key: "until", Value: f.Until},
	}
	return components.Given(all...)
}

// Href is the list under this filter.
func (f Filter) Href() string { return f.from("") }

// from is the list under this filter, from a cursor on.
func (f Filter) from(cursor string) string {
	terms := f.terms()
	if f.Limit > 0 {
		terms = append(terms, components.Term{Key: "limit", Value: strconv.Itoa(f.Limit)})
	}
	return components.Address("/webhooks", components.Given(append(terms, components.Term{Key: "cursor", Value: cursor})...)...)
}

// resend is the page that asks before all that the filter finds is sent again.
func (f Filter) resend() string { return components.Address("/webhooks/redeliver", f.terms()...) }

// stop is the page that asks before all that the filter finds is stopped.
func (f Filter) stop() string { return components.Address("/webhooks/stop", f.terms()...) }

// query is the filter as an address has it.
func (f Filter) query() string { return components.Query(f.terms()) }

func (f Filter) without(key string) Filter {
	for name, field := range map[string]*string{
		"state": &f.State, "class": &f.Class, "host": &f.Host, "event": &f.Event, "execution": &f.Execution, "endpoint": &f.Endpoint, "since": &f.Since, "until": &f.Until,
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
		words := t.Value
		switch t.Key {
		case "state":
			words = stateWord(t.Value)
		case "class":
			words = classWord(t.Value)
		}
		all[i] = components.Chip{Key: t.Key, Words: words, Href: f.without(t.Key).Href()}
	}
	return all
}

func stateWord(state string) string {
	for _, s := range states() {
		if s.Value == state {
			return s.Label
		}
	}
	return state
}

func classWord(class string) string {
	for _, c := range classes() {
		if c.Value == class {
			return c.Label
		}
	}
	return class
}

func states() []components.Option {
	return []components.Option{
		{Label: "All"},
		{Value: "pending", Label: "Pending"},
		{Value: "retrying", Label: "Retrying"},
		{Value: "held", Label: "Waiting for host"},
		{Value: "delivered", Label: "Delivered"},
		{Value: "failed", Label: "Dead letters"},
	}
}

func classes() []components.Option {
	return []components.Option{
		{Label: "Any"},
		{Value: "2xx", Label: "2xx: taken"},
		{Value: "3xx", Label: "3xx: redirect"},
		{Value: "4xx", Label: "4xx: refused by the receiver"},
		{Value: "5xx", Label: "5xx: error of the receiver"},
		{Value: "timeout", Label: "No answer in time"},
		{Value: "dns", Label: "Name does not resolve"},
		{Value: "tls", Label: "TLS failed"},
		{Value: "refused", Label: "Connection refused"},
		{Value: "connection", Label: "Connection lost"},
		{Value: "blocked", Label: "Address not allowed"},
	}
}

func events() []components.Option {
	all := []components.Option{{Label: "Any"}}
	for _, name := range []string{
		"execution.completed", "execution.failed", "execution.timeout", "execution.cancelled", "execution.waiting", "approval.requested", "approval.decided",
		"approval.expired", "webhook.test",
	} {
		all = append(all, components.Option{Value: name, Label: name})
	}
	return all
}
