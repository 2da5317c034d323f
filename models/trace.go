package models

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// Traceparent is the place of a call in a trace, as the header of W3C Trace Context says it.
type Traceparent struct {
	Trace   string // 32 hexadecimal digits
	Span    string // 16 hexadecimal digits
	Sampled bool
}

var traceparentForm = regexp.MustCompile(`^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$`)

// ParseTraceparent reads the header; ok is false when it is not one.
func ParseTraceparent(header string) (t Traceparent, ok bool) {
	parts := traceparentForm.FindStringSubmatch(header)
	if parts == nil || parts[1] == "ff" || strings.Trim(parts[2], "0") == "" || strings.Trim(parts[3], "0") == "" {
		return Traceparent{}, false
	}
	flags, err := hex.DecodeString(parts[4])
	return Traceparent{Trace: parts[2], Span: parts[3], Sampled: err == nil && flags[0]&1 == 1}, err == nil
}

// String is the header.
func (t Traceparent) String() string {
	flags := "-00"
	if t.Sampled {
		flags = "-01"
	}
	return "00-" + t.Trace + "-" + t.Span + flags
}

// Traceparent is the place of the execution itself: in the trace of its caller, or in one that its run begins, with a span that follows
// from its id, so that every replica and every attempt names the same.
func (e *Execution) Traceparent() Traceparent {
	t := Traceparent{Trace: digits(e.RunID, 16), Sampled: true}
	if caller, ok := e.calledFrom(); ok {
		t = caller
	}
	t.Span = SpanOf(e.ID)
	return t
}

// ParentSpan is the span that called the execution; "" when it is the first of its trace.
func (e *Execution) ParentSpan() string {
	if caller, ok := e.calledFrom(); ok {
		return caller.Span
	}
	if e.ParentID != nil {
		return SpanOf(*e.ParentID)
	}
	return ""
}

func (e *Execution) calledFrom() (Traceparent, bool) {
	if e.Trace == nil {
		return Traceparent{}, false
	}
	return ParseTraceparent(*e.Trace)
}

// SpanOf is the span of an execution.
func SpanOf(executionID string) string { return digits(executionID, 8) }

func digits(of string, size int) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:size])
}
