package webhook

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/models"
)

// The two events of an execution's end. Every end but success is a failure; the status tells which.
const (
	EventCompleted = "execution.completed"
	EventFailed    = "execution.failed"
)

// What endpoints may subscribe to beside. Who names cancelled or timed out executions gets those under that name instead of as failed.
const (
	EventCancelled = "execution.cancelled"
	EventTimeout   = "execution.timeout"
	EventWaiting   = "execution.waiting"
	EventRequested = "approval.requested"
	EventDecided   = "approval.decided"
	EventExpired   = "approval.expired"
	// EventTest is sent by hand, to see whether an endpoint takes what it gets.
	EventTest = "webhook.test"
)

// EventTypes are the events that an endpoint can be told of.
func EventTypes() []string {
	return []string{EventCompleted, EventFailed, EventTimeout, EventCancelled, EventWaiting, EventRequested, EventDecided, EventExpired}
}

// EventFor names the event of a terminal status.
func EventFor(status models.Status) string {
	if status == models.Succeeded {
		return EventCompleted
	}
	return EventFailed
}

// buildBody writes the announcement. It depends on stored values alone, so that all attempts send the same bytes; payload is the stored
// result, or the error details of a failure, and goes in as it is.
func buildBody(event string, e *models.Execution, payload []byte) []byte {
	w := bodyWriter{buf: make([]byte, 0, 1024+len(payload))}
	w.subject(event, e)
	w.instant("started_at", e.StartedAt)
	w.instant("completed_at", e.FinishedAt)
	w.number("duration_ms", e.DurationMs())
	retries := int64(max(e.Attempt-1, 0))
	w.number("retry_count", &retries)
	if e.Context != nil && *e.Context != "" {
		w.raw("context", []byte(*e.Context))
	}
	if e.Status == models.Succeeded {
		w.raw("result", orNull(payload))
	} else {
		w.failure(e, payload)
	}
	w.instant("timestamp", e.FinishedAt)
	return w.end()
}

// waitingBody announces that an execution waits for a person since now. It is kept, because the execution will not stay as it is.
func waitingBody(e *models.Execution, now int64) []byte {
	w := bodyWriter{buf: make([]byte, 0, 512)}
	w.subject(EventWaiting, e)
	w.instant("started_at", e.StartedAt)
	w.optional("status_reason", e.StatusReason)
	w.instant("timestamp", &now)
	return w.end()
}

// testBody says of itself that nothing has happened.
func testBody(endpoint *models.WebhookEndpoint, now int64) []byte {
	w := bodyWriter{buf: make([]byte, 0, 256)}
	w.text("event", EventTest)
	w.raw("test", []byte("true"))
	w.text("endpoint_id", endpoint.ID)
	w.text("message", "This is a test: nothing has happened. Answer with 2xx, and check the signature as you would with any other event.")
	w.instant("timestamp", &now)
	return w.end()
}

// subject begins a body: what happened to which execution.
func (w *bodyWriter) subject(event string, e *models.Execution) {
	w.text("event", event)
	w.text("execution_id", e.ID)
	w.text("run_id", e.RunID)
	w.text("workflow_id", e.Workflow())
	w.text("agent_node_id", e.NodeID)
	w.text("reasoner_id", e.Function)
	w.text("target", e.Target())
	w.text("type", e.FunctionKind)
	w.text("status", string(e.Status))
	w.optional("session_id", e.SessionID)
	w.optional("actor_id", e.ActorID)
}

func (w *bodyWriter) failure(e *models.Execution, details []byte) {
	w.optional("status_reason", e.StatusReason)
	w.optional("error_category", e.ErrorCategory)
	message := failureText(e)
	w.text("error", message)
	w.text("error_message", message)
	if len(details) > 0 {
		w.raw("error_details", details)
	}
}

// failureText is never empty: receivers of a failure look for the key error.
func failureText(e *models.Execution) string {
	switch {
	case e.ErrorMessage != nil && *e.ErrorMessage != "":
		return *e.ErrorMessage
	case e.StatusReason != nil && *e.StatusReason != "":
		return *e.StatusReason
	}
	return "the execution ended as " + string(e.Status)
}

func orNull(payload []byte) []byte {
	if len(payload) == 0 {
		return []byte("null")
	}
	return payload
}

// bodyWriter appends the members of one JSON object.
type bodyWriter struct{ buf []byte }

func (w *bodyWriter) key(name string) {
	if len(w.buf) == 0 {
		w.buf = append(w.buf, '{')
	} else {
		w.buf = append(w.buf, ',')
	}
	w.buf = append(w.buf, '"')
	w.buf = append(w.buf, name...)
	w.buf = append(w.buf, '"', ':')
}

func (w *bodyWriter) raw(name string, value []byte) {
	w.key(name)
	w.buf = append(w.buf, value...)
}

func (w *bodyWriter) text(name, value string) { w.raw(name, quote(value)) }

func (w *bodyWriter) optional(name string, value *string) {
	if value != nil && *value != "" {
		w.text(name, *value)
	}
}

func (w *bodyWriter) number(name string, value *int64) {
	if value != nil {
		w.key(name)
		w.buf = strconv.AppendInt(w.buf, *value, 10)
	}
}

func (w *bodyWriter) instant(name string, ms *int64) {
	if ms != nil {
		w.key(name)
		w.buf = time.UnixMilli(*ms).UTC().AppendFormat(w.buf, `"2006-01-02T15:04:05.000Z"`)
	}
}

func (w *bodyWriter) end() []byte { return append(w.buf, '}') }

// quote is the JSON form of a text without the escapes that are only for HTML.
func quote(text string) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string always encodes
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
