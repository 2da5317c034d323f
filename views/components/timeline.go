package components

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
)

// moment is one entry of the history of an execution.
type moment struct {
	at     int64
	family string // class of the colours; empty: not a status
	icon   string
	title  string
	text   string
	tags   []string
	after  time.Duration // since the execution was accepted
	folded []moment      // like ones just before it, which the page folds away
	minor  bool          // not a change of status
	line   bool          // of the log
	level  string        // of a line of the log
	from   string        // the node that logged it
}

// eventData is what events carry. Each kind fills its own few fields.
type eventData struct {
	Reason     string   `json:"reason"`
	Error      string   `json:"error"`
	Code       string   `json:"code"`
	Message    string   `json:"message"`
	Status     string   `json:"status"`
	Source     string   `json:"source"`
	Class      string   `json:"error_class"`
	Progress   *float64 `json:"progress"`
	Outcome    string   `json:"outcome"`
	Attempt    int      `json:"attempt"`
	HTTPStatus int      `json:"http_status"`
	Tags       []string `json:"tags"`
}

// Shown says which moments of a history are wanted. The zero value is all.
type Shown struct {
	Level string // "notes", "status", or a level of the log: that one and those above it, with what went wrong
	Q     string // somewhere in its words, whatever the case
	After int64  // ms: only what came later
}

// Any reports whether something is left out.
func (s Shown) Any() bool { return s != Shown{} }

// Levels are the words of Level with their labels.
func Levels() [][2]string {
	return [][2]string{
		{"", "Everything"},
		{"status", "Statuses"},
		{"notes", "Notes and progress"},
		{"debug", "Log, from debug"},
		{"info", "Log, from info"},
		{"warn", "Warnings and errors"},
		{"error", "Errors"},
	}
}

func rank(level string) int { return slices.Index([]string{"debug", "info", "warn", "error"}, level) }

// wants reports whether a moment is shown.
func (s Shown) wants(m *moment) bool {
	if m.at <= s.After {
		return false
	}
	if q := strings.ToLower(s.Q); q != "" && !strings.Contains(strings.ToLower(m.title+" "+m.text+" "+m.from+" "+strings.Join(m.tags, " ")), q) {
		return false
	}
	switch s.Level {
	case "":
		return true
	case "status":
		return !m.minor
	case "notes":
		return m.icon == "note" || m.icon == "progress"
	}
	if m.level == "" {
		return m.family == "st-bad"
	}
	known := rank(m.level)
	return known >= rank(s.Level) || known < 0 && rank(s.Level) <= rank("info")
}

// merge puts the log among the events, by time. What came at the same instant keeps the order of its kind, events first.
func merge(events []models.Event, logs []models.ExecutionLog) []moment {
	all := make([]moment, 0, len(events)+len(logs))
	for _, e := range events {
		m := momentOf(e)
		m.at = e.At
		all = append(all, m)
	}
	for i := range logs {
		all = append(all, logMoment(&logs[i]))
	}
	slices.SortStableFunc(all, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	return all
}

func logMoment(l *models.ExecutionLog) moment {
	m := moment{at: l.At, icon: "terminal", title: l.Level, level: l.Level, text: l.Message, from: l.NodeID, minor: true, line: true}
	switch l.Level {
	case "error":
		m.family, m.icon = "st-bad", "failed"
	case "warn":
		m.family, m.icon = "st-wait", "warning"
	}
	return m
}

// moments is the history of an execution: what happened and what was logged, on one clock. A run of progress reports becomes one entry,
// the latest.
func moments(events []models.Event, logs []models.ExecutionLog, accepted int64, shown Shown) []moment {
	var all []moment
	for _, m := range merge(events, logs) {
		if !shown.wants(&m) {
			continue
		}
		m.after = time.Duration(max(m.at-accepted, 0)) * time.Millisecond
		if n := len(all); n > 0 && m.icon == "progress" && all[n-1].icon == "progress" {
			before := all[n-1]
			m.folded = append(before.folded, moment{at: before.at, after: before.after, title: before.title, text: before.text})
			all[n-1] = m
			continue
		}
		all = append(all, m)
	}
	return all
}

func momentOf(e models.Event) moment {
	var d eventData
	if e.Data != nil {
		_ = json.Unmarshal([]byte(*e.Data), &d) // what does not fit stays empty: the entry is still true
	}
	switch name := strings.TrimPrefix(e.Kind, "execution."); name {
	case "note":
		return moment{icon: "note", title: "Note", text: d.Message, tags: d.Tags, minor: true}
	case "progress":
		return moment{icon: "progress", title: progressTitle(d.Progress), text: d.Message, minor: true}
	case "released":
		return moment{icon: "node", title: "Taken by the agent", text: "It works on its own and will report.", minor: true}
	case "attempt_failed":
		return moment{family: "st-bad", icon: "retrying", title: fmt.Sprintf("Attempt %d failed", e.Attempt), text: first(d.Error, d.Reason)}
	case "redelivered":
		return moment{family: "st-idle", icon: "retrying", title: "Back in the queue", text: first(d.Reason, d.Error)}
	case "rerouted":
		return moment{icon: "retrying", title: "Passed to another instance", text: first(d.Error, d.Reason), minor: true}
	case "late_report":
		return moment{icon: "info", title: "Late report: " + d.Status, text: first(d.Error, "It came after the end, is kept here and changed nothing."), minor: true}
	case "notice":
		return moment{icon: "node", title: "Agent told of the cancellation", text: join(d.Outcome, d.Error), minor: true}
	case "webhook.attempted":
		return webhookMoment(d)
	default:
		return statusMoment(e, name, d)
	}
}

func statusMoment(e models.Event, name string, d eventData) moment {
	s, ok := models.ParseStatus(name)
	if !ok {
		return moment{icon: "info", title: e.Kind, text: first(d.Message, d.Error, d.Reason), minor: true}
	}
	look := LookOf(s)
	m := moment{family: look.Family, icon: look.Icon, title: look.Label, text: first(d.Error, d.Reason)}
	if s == models.Running && e.Attempt > 1 {
		m.title = fmt.Sprintf("Running, attempt %d", e.Attempt)
	}
	return m
}

func webhookMoment(d eventData) moment {
	m := moment{icon: "webhook", title: fmt.Sprintf("Webhook, attempt %d", d.Attempt), minor: true}
	switch {
	case d.Status == "delivered":
		m.title += ": delivered"
	case d.HTTPStatus > 0:
		m.title += fmt.Sprintf(": answered %d", d.HTTPStatus)
	default:
		m.title += ": " + first(d.Class, d.Status)
	}
	return m
}

func progressTitle(fraction *float64) string {
	if fraction == nil {
		return "Progress"
	}
	return "Progress " + Percent(*fraction)
}

// Percent writes a fraction of 0 to 1.
func Percent(fraction float64) string {
	return fmt.Sprintf("%.0f %%", 100*min(max(fraction, 0), 1))
}

// join puts two texts into one sentence; either may be missing.
func join(text, more string) string {
	if text == "" || more == "" {
		return text + more
	}
	return text + ": " + more
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
