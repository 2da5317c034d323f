package conformance

import (
	"encoding/json"
	"strings"

	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
)

// spanSeen is what the check reads of a span in the JSON form of OTLP.
type spanSeen struct {
	TraceID      string `json:"traceId"`
	SpanID       string `json:"spanId"`
	ParentSpanID string `json:"parentSpanId"`
	Name         string `json:"name"`
	Start        string `json:"startTimeUnixNano"`
	End          string `json:"endTimeUnixNano"`
	Status       struct {
		Code int `json:"code"`
	} `json:"status"`
}

// spansArrive calls with a traceparent: the agent gets the same trace, and the collector a span below the caller's and one below that.
func spansArrive(t *Trial) {
	collector := t.receiver.Hook()
	t.Own("OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL)
	a := t.Agent()
	trace, caller := strings.Repeat("ab", 16), strings.Repeat("cd", 8)
	top := call(a, "headers", fields{})
	top.Headers = []string{"Traceparent", "00-" + trace + "-" + caller + "-01"}
	first := t.Execute(top)
	below := call(a, "headers", fields{})
	below.Headers = []string{"X-Parent-Execution-ID", first.Text("execution_id")} // and no trace, as agents do that know none
	second := t.Execute(below)
	broken := call(a, "fail", fields{})
	broken.Headers = top.Headers
	t.Execute(broken)

	seen := map[string]spanSeen{} // by what called them, and failures by their function
	for n := 1; len(seen) < 3; n++ {
		for _, s := range t.spansIn(t.Deliveries(collector, n)[n-1]) {
			if s.Status.Code == failedSpan {
				seen[s.Name] = s
			} else {
				seen[s.ParentSpanID] = s
			}
		}
	}
	outer, failure := seen[caller], seen[a.Target("fail")]
	inner := seen[outer.SpanID]
	t.True(outer.TraceID == trace && outer.Name == a.Target("headers"), "a span below the caller's, got %+v", outer)
	t.True(inner.TraceID == trace, "a span below that one in the same trace, got %+v", inner)
	t.True(failure.TraceID == trace && failure.ParentSpanID == caller, "a span with an error, got %+v", failure)
	t.True(outer.Start <= outer.End && len(outer.Start) == len("1700000000000000000"), "instants in nanoseconds, got %s to %s", outer.Start, outer.End)
	t.Is(first, "result.traceparent", "00-"+trace+"-"+outer.SpanID+"-01")
	t.Is(second, "result.traceparent", "00-"+trace+"-"+inner.SpanID+"-01")
}

const failedSpan = 2 // STATUS_CODE_ERROR

func (t *Trial) spansIn(d fake.Delivery) []spanSeen {
	var body struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []spanSeen `json:"spans"`
			} `json:"scopeSpans"`
		} `json:"resourceSpans"`
	}
	t.Must(json.Unmarshal(d.Body, &body))
	var all []spanSeen
	for _, r := range body.ResourceSpans {
		for _, s := range r.ScopeSpans {
			all = append(all, s.Spans...)
		}
	}
	return all
}
