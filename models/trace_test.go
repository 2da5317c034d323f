package models_test

import (
	"strings"
	"testing"

	"github.com/agentfield/agentfield/models"
)

func TestTraceparentsAreReadAsTheSpecificationSays(t *testing.T) {
	trace, span := strings.Repeat("ab", 16), strings.Repeat("cd", 8)
	for header, ok := range map[string]bool{
		"00-" + trace + "-" + span + "-01":                    true,
		"00-" + trace + "-" + span + "-00":                    true,
		"cc-" + trace + "-" + span + "-03":                    true,
		"ff-" + trace + "-" + span + "-01":                    false,
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01":  false,
		"00-" + trace + "-" + strings.Repeat("0", 16) + "-01": false,
		"00-" + strings.ToUpper(trace) + "-" + span + "-01":   false,
		"00-" + trace + "-" + span:                            false,
		"":                                                    false,
	} {
		if got, is := models.ParseTraceparent(header); is != ok || is && (got.Trace != trace || got.Span != span || got.Sampled == strings.HasSuffix(header, "-00")) {
			t.Errorf("%s: %+v, %v", header, got, is)
		}
	}
}

func TestASpanFollowsFromItsExecution(t *testing.T) {
	parent, header := "exec_parent", "00-"+strings.Repeat("ab", 16)+"-"+strings.Repeat("cd", 8)+"-00"
	alone := models.Execution{ID: "exec_1", RunID: "run_1", ParentID: &parent}
	if got := alone.Traceparent(); got.Span != models.SpanOf("exec_1") || !got.Sampled || got.Trace != (&models.Execution{ID: "x", RunID: "run_1"}).Traceparent().Trace {
		t.Errorf("%+v", got)
	}
	if alone.ParentSpan() != models.SpanOf(parent) {
		t.Error("the span above is not its parent's")
	}
	called := models.Execution{ID: "exec_1", RunID: "run_1", ParentID: &parent, Trace: &header}
	if got := called.Traceparent(); got.String() != header[:36]+models.SpanOf("exec_1")+"-00" || called.ParentSpan() != strings.Repeat("cd", 8) {
		t.Errorf("%+v below %s", got, called.ParentSpan())
	}
}
