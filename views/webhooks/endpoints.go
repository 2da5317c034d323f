package webhooks

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
)

// Health is how the newest deliveries of a receiver went.
type Health struct {
	Of, Rate      int   // deliveries looked at; the share that was taken, in percent
	P50, P95      int64 // ms
	LastDelivered *int64
	LastError     string
	LastErrorAt   int64
}

func (h Health) rate() string {
	if h.Of == 0 {
		return "–"
	}
	return strconv.Itoa(h.Rate) + " %"
}

func (h Health) family() string {
	switch {
	case h.Of == 0:
		return "muted"
	case h.Rate < 50:
		return "st-bad"
	case h.Rate < 95:
		return "st-wait"
	}
	return "st-ok"
}

func (h Health) slowest() string {
	if h.Of == 0 {
		return "–"
	}
	return components.Span(time.Duration(h.P95) * time.Millisecond)
}

// Endpoint is an address that is told of events, without what must stay secret.
type Endpoint struct {
	*models.WebhookEndpoint
	Headers []string // names
	Health  Health
}

func (e Endpoint) events() []string { return strings.Fields(e.Events) }

// Href is the page of the endpoint.
func (e Endpoint) Href() string { return "/webhooks/endpoints/" + e.ID }

func (e Endpoint) deliveries() string { return Filter{Endpoint: e.ID}.Href() }

// EndpointForm is what was typed into a form, to be shown again with what is wrong.
type EndpointForm struct {
	Name, URL, Headers string
	Events             []string
}

func (f EndpointForm) has(event string) bool { return slices.Contains(f.Events, event) }

// EventType is an event that an endpoint can be told of, in words.
type EventType struct{ Name, Words string }

// EventTypes are the words for events; what is not among them has none.
func EventTypes(names []string) []EventType {
	words := map[string]string{
		"execution.completed": "an execution has succeeded",
		"execution.failed":    "an execution has ended without success",
		"execution.timeout":   "its time was over; told instead of execution.failed",
		"execution.cancelled": "somebody cancelled it; told instead of execution.failed",
		"execution.waiting":   "an execution waits for a person",
		"approval.requested":  "an agent asks for a decision",
		"approval.decided":    "somebody has decided",
		"approval.expired":    "nobody has decided in time",
	}
	all := make([]EventType, len(names))
	for i, name := range names {
		all[i] = EventType{name, words[name]}
	}
	return all
}

// EndpointsPage is /webhooks/endpoints.
type EndpointsPage struct {
	Frame     layout.Page
	Endpoints []Endpoint
	Types     []EventType
	Form      EndpointForm
	Problem   string
	Said      string
	Operate   bool
}

// EndpointPage is /webhooks/endpoints/{id}.
type EndpointPage struct {
	Frame    layout.Page
	Endpoint Endpoint
	Types    []EventType
	Form     EndpointForm
	Secret   string // new, and shown this once; empty: none
	Recent   []*models.WebhookDelivery
	Problem  string
	Said     string
	Operate  bool
}

func (p EndpointPage) now() time.Time { return p.Frame.Now }

// overlaps reports whether two secrets sign.
func (p EndpointPage) overlaps() bool { return p.Endpoint.Overlaps(p.now().UnixMilli()) }

// sectionsOf leads to the other pages of webhooks.
func sectionsOf() []components.Option {
	return []components.Option{{Value: "/webhooks", Label: "Deliveries"}, {Value: "/webhooks/endpoints", Label: "Endpoints"}, {Value: "/webhooks/hosts", Label: "Hosts"}}
}
