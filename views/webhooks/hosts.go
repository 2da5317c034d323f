package webhooks

import (
	"strconv"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
)

// Host is how a receiver is doing.
type Host struct {
	*models.WebhookHost
	Health   Health
	InFlight int
	Held     int
	More     bool // at least Held wait for it
}

func lookOfHost(state string) components.Look {
	switch state {
	case "paused":
		return components.Look{Family: "st-bad", Icon: "paused", Label: "Paused"}
	case "recovering":
		return components.Look{Family: "st-wait", Icon: "hourglass", Label: "Recovering"}
	}
	return components.Look{Family: "st-ok", Icon: "succeeded", Label: "Open"}
}

// byServer reports whether nobody in particular has paused it.
func byServer(h *models.WebhookHost) bool { return h.PausedBy != nil && *h.PausedBy == "server" }

func (h Host) deliveries() string { return Filter{Host: h.Host}.Href() }

func (h Host) waiting() string { return Filter{Host: h.Host, State: "held"}.Href() }

func (h Host) held() string {
	n := components.Number(h.Held)
	if h.More {
		n += "+"
	}
	return n
}

// latency is within what time half, and nearly all, of the last attempts were answered.
func (h Host) latency() string {
	if h.Health.Of == 0 {
		return "–"
	}
	return components.Span(time.Duration(h.Health.P50)*time.Millisecond) + ", " + h.Health.slowest()
}

// reasonOf says why a host stands as it does, and what follows.
func reasonOf(h *models.WebhookHost, now time.Time) components.Sentence {
	switch {
	case h.State == "recovering":
		return components.Say("it gets what has waited")
	case h.State != "paused" && h.Failures > 0:
		return components.Say(components.Plural(h.Failures, "failure") + " in a row")
	case h.State != "paused":
		return nil
	}
	why := components.Say("paused")
	switch {
	case byServer(h) && h.FailingSince != nil:
		why = components.Say("nobody has answered for ").Elapsed(*h.FailingSince, now)
	case h.PausedBy != nil:
		why = why.And(" by ").Name(*h.PausedBy)
	}
	switch {
	case h.ProbeAt == nil:
		return why.And(", until somebody resumes it")
	case *h.ProbeAt > now.UnixMilli():
		return why.And("; next probe in ").Left(*h.ProbeAt, now)
	}
	return why.And("; the next delivery is the probe")
}

// HostsPage is /webhooks/hosts.
type HostsPage struct {
	Frame   layout.Page
	Hosts   []Host
	More    bool
	Text    string // that is looked for
	Rate    int    // in a second, to a host that recovers
	Operate bool
	Problem string
	Said    string
}

func (p HostsPage) now() time.Time { return p.Frame.Now }

func (p HostsPage) rate() string { return strconv.Itoa(p.Rate) }
