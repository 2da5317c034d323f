package executions

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
)

// ShowPage is one execution with everything that is known of it.
type ShowPage struct {
	Frame      layout.Page
	Execution  *models.Execution
	Facts      Facts
	Input      []byte                   // as it was accepted; nil: not kept
	Result     []byte                   // nil: none yet
	Partial    []byte                   // what the agent has shown of its result so far; nil: nothing
	Details    []byte                   // what the agent said beside its error; nil: nothing
	History    []models.Event           // oldest first
	MoreEvents int                      // events that are not in History because there are too many; 0: none
	WebhookURL string                   // where the end is announced; empty: nowhere
	Deliveries []models.WebhookDelivery // oldest first
	Attempts   []models.WebhookAttempt  // of all deliveries, oldest first
	RerunKey   string                   // of one press of the button, so that a second makes nothing
	Logs       []models.ExecutionLog    // the newest of its log, in their order
	LogEntries int                      // how many there are in all
	Shown      components.Shown         // what of history and log is wanted
	Away       *Away                    // what has happened since the visitor last looked; nil: nothing, or they never did
	Called     []*models.Execution      // some of those that this one has called, newest first
	Reruns     []*models.Execution      // some of those that repeat this one, newest first
	Place      int                      // its place in its run, from 1, in the order of acceptance; 0: unknown
	Steps      int                      // executions of its run
	Children   int                      // executions that this one has called; 0: none, or unknown
}

func (p ShowPage) now() time.Time { return p.Frame.Now }

func (p ShowPage) path() string { return "/executions/" + p.Execution.ID }

// payloads are the bodies to be shown, the outcome first.
func (p ShowPage) payloads() []components.Payload {
	all := []components.Payload{
		{Title: "Result", ID: "result", Body: p.Result, Download: p.path() + "/result"},
		{Title: "Error details", ID: "details", Body: p.Details},
		{Title: "Result so far", ID: "partial", Body: p.Partial},
		{Title: "Input", ID: "input", Body: p.Input, Download: p.path() + "/input"},
	}
	var there []components.Payload
	for _, payload := range all {
		if payload.Body == nil || payload.ID == "partial" && p.Execution.Status.Terminal() && p.Result != nil {
			continue
		}
		there = append(there, payload)
	}
	return there
}

// fact is a line of the list of facts. Filter leads to the executions that share it.
type fact struct {
	label, value string
	id           bool
	filter       string
}

func (p ShowPage) facts() []fact {
	e := p.Execution
	all := []fact{
		{label: p.position(), value: e.Workflow(), id: true, filter: "/runs/" + e.RunID + "?node=" + e.ID},
	}
	if e.ParentID != nil {
		all = append(all, fact{label: "Called by", value: *e.ParentID, id: true, filter: "/executions/" + *e.ParentID})
	} else if e.Caller != nil {
		all = append(all, fact{label: "Called by", value: *e.Caller})
	}
	if e.RerunOf != nil {
		all = append(all, fact{label: "Repeats", value: *e.RerunOf, id: true, filter: "/executions/" + *e.RerunOf})
	}
	if e.Local {
		all = append(all, fact{label: "Where", value: "inside the agent"})
	}
	if e.SessionID != nil {
		all = append(all, fact{label: "Session", value: *e.SessionID, id: true, filter: Filter{Session: *e.SessionID}.Href()})
	}
	if e.ActorID != nil {
		all = append(all, fact{label: "Actor", value: *e.ActorID, id: true, filter: Filter{Actor: *e.ActorID}.Href()})
	}
	all = append(all, fact{label: "Kind", value: e.Mode + " " + e.FunctionKind})
	if e.Attempt > 1 || e.MaxAttempts > 1 {
		all = append(all, fact{label: "Attempts", value: strconv.Itoa(e.Attempt) + " of " + strconv.Itoa(max(e.MaxAttempts, e.Attempt))})
	}
	if e.InstanceID != nil {
		all = append(all, fact{label: "Instance", value: *e.InstanceID, id: true})
	}
	if e.TimeoutMs != nil {
		all = append(all, fact{label: "Limit", value: spanMs(*e.TimeoutMs)})
	}
	if e.ErrorCode != nil {
		all = append(all, fact{label: "Error code", value: *e.ErrorCode, id: true})
	}
	return all
}

// position is where the execution stands in its run, as far as that is known.
func (p ShowPage) position() string {
	if p.Place == 0 || p.Steps < 2 {
		return "Run"
	}
	return "Run, step " + strconv.Itoa(p.Place) + " of " + strconv.Itoa(p.Steps)
}

// queuedFor is how long it waited before its first attempt; ok is false while it still does.
func queuedFor(e *models.Execution) (took time.Duration, ok bool) {
	if e.StartedAt == nil {
		return 0, false
	}
	return time.Duration(max(*e.StartedAt-e.CreatedAt, 0)) * time.Millisecond, true
}

// snippet is a command with a heading.
type snippet struct{ id, title, text, command string }

const inlineInputUpTo = 4096

// snippets are the commands that read this execution or make it again.
func (p ShowPage) snippets() []snippet {
	e, base := p.Execution, p.Frame.BaseURL+"/api/v1"
	again := func(kind, body string) string {
		return components.Command{Method: "POST", URL: base + "/execute/" + kind + e.Target(), Headers: p.headers(), Body: body}.Curl()
	}
	return []snippet{
		{"curl-get", "Read this execution", "", components.Command{URL: base + "/executions/" + e.ID}.Curl()},
		{"curl-sync", "Make it again and wait for the result", "", again("", p.body(""))},
		{"curl-async", "Make it again, answer at once with an id", "", again("async/", p.body(""))},
		{
			"curl-webhook", "Make it again and be called when it ends", "Put your own address in place of the example.",
			again("async/", p.body(`{"url": "https://example.com/hook", "secret": "change-me"}`)),
		},
	}
}

func (p ShowPage) headers() []string {
	var lines []string
	if p.Execution.SessionID != nil {
		lines = append(lines, "X-Session-ID: "+*p.Execution.SessionID)
	}
	if p.Execution.ActorID != nil {
		lines = append(lines, "X-Actor-ID: "+*p.Execution.ActorID)
	}
	return lines
}

// body is the request's body. The input stands in it as it was stored, unless it is too long for a command.
func (p ShowPage) body(webhook string) string {
	input := string(p.Input)
	if len(p.Input) == 0 || len(p.Input) > inlineInputUpTo || !json.Valid(p.Input) {
		input = "{}"
	}
	if webhook == "" {
		return `{"input": ` + input + `}`
	}
	return `{"input": ` + input + `, "webhook": ` + webhook + `}`
}

// inputLeftOut reports whether the commands had to leave the input out.
func (p ShowPage) inputLeftOut() bool { return len(p.Input) > inlineInputUpTo }

// undelivered reports whether a webhook was given up, so that it can be sent again.
func (p ShowPage) undelivered() bool {
	for i := range p.Deliveries {
		if p.Deliveries[i].Status == "failed" {
			return true
		}
	}
	return false
}

// barWidth is a fraction as the width of a bar.
func barWidth(fraction float64) string {
	return strconv.FormatFloat(100*min(max(fraction, 0), 1), 'f', 1, 64) + "%"
}

// notesInPeek is how many notes a panel shows: the latest.
const notesInPeek = 8

// notes are the latest remarks of the agent.
func (p ShowPage) notes() []models.Event {
	var notes []models.Event
	for i := range p.History {
		if p.History[i].Kind == "execution.note" {
			notes = append(notes, p.History[i])
		}
	}
	return notes[max(0, len(notes)-notesInPeek):]
}
