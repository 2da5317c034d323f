package trace

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/agentfield/agentfield/models"
)

// The JSON form of OTLP (opentelemetry-proto, trace/v1): ids in hexadecimal digits, instants in nanoseconds as text.

type request struct {
	ResourceSpans []resourceSpans `json:"resourceSpans"`
}

type resourceSpans struct {
	Resource   resource     `json:"resource"`
	ScopeSpans []scopeSpans `json:"scopeSpans"`
}

type resource struct {
	Attributes []attribute `json:"attributes"`
}

type scopeSpans struct {
	Scope scope  `json:"scope"`
	Spans []span `json:"spans"`
}

type scope struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

type span struct {
	TraceID      string      `json:"traceId"`
	SpanID       string      `json:"spanId"`
	ParentSpanID string      `json:"parentSpanId,omitempty"`
	Name         string      `json:"name"`
	Kind         int         `json:"kind"`
	Start        string      `json:"startTimeUnixNano"`
	End          string      `json:"endTimeUnixNano"`
	Attributes   []attribute `json:"attributes"`
	Events       []happened  `json:"events,omitempty"`
	Status       outcome     `json:"status"`
}

type happened struct {
	At   string `json:"timeUnixNano"`
	Name string `json:"name"`
}

type outcome struct {
	Code    int    `json:"code"`
	Message string `json:"message,omitempty"`
}

type attribute struct {
	Key   string `json:"key"`
	Value value  `json:"value"`
}

type value struct {
	Text   *string `json:"stringValue,omitempty"`
	Number *string `json:"intValue,omitempty"`
}

const (
	internal = 1 // of SpanKind
	ok       = 1 // of StatusCode
	failed   = 2
)

func encode(rows []models.Execution, version, replica string) ([]byte, error) {
	spans := make([]span, len(rows))
	for i := range rows {
		spans[i] = spanOf(&rows[i])
	}
	text, err := json.Marshal(request{[]resourceSpans{{
		Resource: resource{attributes{}.text("service.name", "agentfield").text("service.version", version).text("service.instance.id", replica)},
		ScopeSpans: []scopeSpans{{
			Scope: scope{Name: "agentfield.executions", Version: version}, Spans: spans,
		}},
	}}})
	if err != nil {
		return nil, fmt.Errorf("write spans: %w", err)
	}
	return text, nil
}

// spanOf is an execution from its acceptance to its end.
func spanOf(e *models.Execution) span {
	place := e.Traceparent()
	s := span{
		TraceID: place.Trace, SpanID: place.Span, ParentSpanID: e.ParentSpan(), Name: e.Target(), Kind: internal, Start: nanos(e.CreatedAt),
		End: nanos(*e.FinishedAt), Status: outcome{Code: ok},
	}
	if e.Status != models.Succeeded {
		s.Status = outcome{Code: failed, Message: first(e.ErrorMessage, e.StatusReason)}
	}
	if e.StartedAt != nil {
		s.Events = []happened{{nanos(*e.StartedAt), "dispatched"}}
	}
	s.Attributes = attributes{}.
		text("agentfield.execution_id", e.ID).text("agentfield.run_id", e.RunID).text("agentfield.workflow_id", e.Workflow()).
		text("agentfield.node_id", e.NodeID).text("agentfield.function", e.Function).text("agentfield.function_kind", e.FunctionKind).
		text("agentfield.mode", e.Mode).text("agentfield.status", string(e.Status)).number("agentfield.attempt", int64(e.Attempt)).
		text("session.id", first(e.SessionID)).text("agentfield.actor_id", first(e.ActorID)).text("error.type", first(e.ErrorCode))
	return s
}

func nanos(ms int64) string { return strconv.FormatInt(ms, 10) + "000000" }

func first(texts ...*string) string {
	for _, text := range texts {
		if text != nil && *text != "" {
			return *text
		}
	}
	return ""
}

// attributes is a list in the making; what has no value is left out.
type attributes []attribute

func (a attributes) text(key, text string) attributes {
	if text == "" {
		return a
	}
	return append(a, attribute{key, value{Text: &text}})
}

func (a attributes) number(key string, n int64) attributes {
	text := strconv.FormatInt(n, 10)
	return append(a, attribute{key, value{Number: &text}})
}
