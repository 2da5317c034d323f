package agent

import (
	"context"
	"net/http"
	"strconv"
)

// Execution is what a function may know about the call it answers.
type Execution struct {
	ID           string // empty when the function was called directly, past the control plane
	RunID        string // shared by all executions that belong together
	WorkflowID   string // the caller's own name of the run, else equal to RunID
	ParentID     string // the execution that called this one; empty for the first
	SessionID    string
	ActorID      string
	CallerNodeID string // the agent that called; empty when it was no agent
	Traceparent  string // W3C trace context
	Attempt      int    // 1 for the first try
	NodeID       string // this agent
	Function     string // this function
}

type contextKey struct{}

// FromContext returns the execution that a function's context belongs to. ok is false outside of functions.
func FromContext(ctx context.Context) (e Execution, ok bool) {
	r := runOf(ctx)
	if r == nil {
		return Execution{}, false
	}
	return r.Execution, true
}

func runOf(ctx context.Context) *run {
	r, _ := ctx.Value(contextKey{}).(*run)
	return r
}

func executionOf(h http.Header, nodeID, function string) Execution {
	attempt, err := strconv.Atoi(h.Get("X-Attempt"))
	if err != nil || attempt < 1 {
		attempt = 1
	}
	return Execution{
		ID: h.Get("X-Execution-ID"), RunID: h.Get("X-Run-ID"), WorkflowID: h.Get("X-Workflow-ID"), ParentID: h.Get("X-Parent-Execution-ID"),
		SessionID: h.Get("X-Session-ID"), ActorID: h.Get("X-Actor-ID"), CallerNodeID: h.Get("X-Caller-Agent-ID"),
		Traceparent: h.Get("Traceparent"), Attempt: attempt, NodeID: nodeID, Function: function,
	}
}

// shared are the headers that everything an execution causes carries along.
func (e Execution) shared() http.Header {
	return headers("X-Run-ID", e.RunID, "X-Workflow-ID", e.WorkflowID, "X-Session-ID", e.SessionID, "X-Actor-ID", e.ActorID,
		"Traceparent", e.Traceparent)
}

// headers makes a header of names and values, leaving out what is empty.
func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			h.Set(pairs[i], pairs[i+1])
		}
	}
	return h
}
