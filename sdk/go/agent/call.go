package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"
)

const (
	pollWait  = 30 * time.Second       // how long the control plane holds a question for an outcome
	pollPause = 500 * time.Millisecond // at least between two questions when it does not hold them
)

// Call runs a function of any agent, "node.function", through the control plane, waits for its end however long that takes, and decodes
// its result into out, a pointer or nil. The new execution becomes a child of the one that ctx belongs to, and its run, session, actor
// and trace are passed on. While the control plane is away or its queue is full, Call waits; bound it with ctx.
//
// A call is known by its target, its input and how often the execution has made it. If this execution is repeated after a crash, the
// same call joins the child that is there already instead of running it twice.
//
// Errors: *CallError if the child did not succeed or was refused; the cause of ctx if that ended first.
func (a *Agent) Call(ctx context.Context, target string, input, out any) error {
	if r := runOf(ctx); r != nil {
		defer a.slots.lend(r.ctx.Done(), &r.slot)()
	}
	id, err := a.submit(ctx, target, input)
	if err != nil {
		return err
	}
	result, err := a.wait(ctx, target, id)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(result, out); err != nil {
		return fmt.Errorf("agent: the result of %s (%s) does not fit %T: %w", target, id, out, err)
	}
	return nil
}

// submit starts the child and returns its id. The key makes it safe to send again when the answer was lost.
func (a *Agent) submit(ctx context.Context, target string, input any) (id string, err error) {
	if input == nil {
		input = struct{}{}
	}
	body, err := json.Marshal(map[string]any{"input": input})
	if err != nil {
		return "", fmt.Errorf("agent: the input for %s cannot be written as JSON: %w", target, err)
	}
	header := headers("X-Caller-Agent-ID", a.config.NodeID, "Idempotency-Key", rand.Text())
	if r := runOf(ctx); r != nil && r.ID != "" {
		maps.Copy(header, r.shared())
		header.Set("X-Parent-Execution-ID", r.ID)
		header.Set("Idempotency-Key", r.step(target, body))
	}
	var accepted struct {
		ExecutionID string `json:"execution_id"`
	}
	path := "/api/v1/execute/async/" + url.PathEscape(target)
	err = a.persist(ctx, func() error {
		return a.plane.send(ctx, shortTimeout, http.MethodPost, path, header, json.RawMessage(body), &accepted)
	})
	if err == nil && accepted.ExecutionID == "" {
		err = &planeError{Status: http.StatusAccepted, Message: "the answer names no execution"}
	}
	return accepted.ExecutionID, asCallError(err, target, "")
}

// wait asks for the child until it has ended.
func (a *Agent) wait(ctx context.Context, target, id string) (json.RawMessage, error) {
	path := executionPath(id, "?wait="+pollWait.String())
	for {
		var child struct {
			Status  string          `json:"status"`
			Result  json.RawMessage `json:"result"`
			Error   string          `json:"error"`
			Details json.RawMessage `json:"error_details"`
		}
		asked := time.Now()
		err := a.persist(ctx, func() error {
			return a.plane.send(ctx, pollWait+shortTimeout, http.MethodGet, path, nil, nil, &child)
		})
		if err != nil {
			return nil, asCallError(err, target, id)
		}
		switch child.Status {
		case "succeeded":
			return orNull(child.Result), nil
		case "failed", "timeout", "cancelled":
			return nil, &CallError{Target: target, ExecutionID: id, Status: child.Status, Message: child.Error, Details: child.Details}
		}
		if time.Since(asked) < pollPause {
			if err := sleep(ctx, max(a.plane.pause(1), time.Millisecond)); err != nil {
				return nil, err
			}
		}
	}
}

func orNull(value json.RawMessage) json.RawMessage {
	if len(bytes.TrimSpace(value)) == 0 {
		return json.RawMessage("null")
	}
	return value
}

// persist repeats a request that may be repeated until it is answered for good or ctx ends.
func (a *Agent) persist(ctx context.Context, request func() error) error {
	for failures := 1; ; failures++ {
		err := request()
		if ctx.Err() != nil && err != nil {
			return context.Cause(ctx)
		}
		if err == nil || !passing(err) {
			return err
		}
		if failures == 1 {
			a.log.Warn("a call waits for the control plane", "error", err)
		}
		if err := a.plane.rest(ctx, failures, err); err != nil {
			return err
		}
	}
}

func asCallError(err error, target, id string) error {
	var answer *planeError
	if !errors.As(err, &answer) {
		return err
	}
	return &CallError{Target: target, ExecutionID: id, HTTPStatus: answer.Status, Code: answer.Code, Message: answer.Message}
}

// Note writes a line into the story of the execution that ctx belongs to. It never fails the function: a note that the control plane
// does not take within a few seconds is logged and lost. Outside of an execution it does nothing.
func Note(ctx context.Context, message string, tags ...string) {
	tell(ctx, "/api/v1/executions/note", map[string]any{"message": message, "tags": notNil(tags)})
}

// Log adds a line to the log of the execution that ctx belongs to: debug, info, warn or error, with attributes that may be nil. Like Note, it
// never fails the function; it waits for the control plane, so that lines keep their order.
func Log(ctx context.Context, level, message string, attributes map[string]any) {
	r := runOf(ctx)
	if r == nil || r.ID == "" {
		return
	}
	tell(ctx, executionPath(r.ID, "/logs"), map[string]any{
		"v": 1, "ts": time.Now().UTC().Format(time.RFC3339Nano), "execution_id": r.ID, "run_id": r.RunID, "agent_node_id": r.NodeID, "reasoner_id": r.Function,
		"level": level, "source": "sdk.user", "message": message, "attributes": attributes, "attempt": r.Attempt, "sdk_language": "go",
	})
}

// Progress tells how far the execution is, as a fraction from 0 to 1, and what it is doing. Like Note, it never fails the function.
func Progress(ctx context.Context, fraction float64, message string) {
	tellProgress(ctx, map[string]any{"progress": fraction, "message": message})
}

// Partial is Progress together with what there is of the result so far, any value that can be written as JSON.
func Partial(ctx context.Context, fraction float64, message string, soFar any) {
	tellProgress(ctx, map[string]any{"progress": fraction, "message": message, "partial": soFar})
}

func tellProgress(ctx context.Context, body map[string]any) {
	if r := runOf(ctx); r != nil {
		tell(ctx, executionPath(r.ID, "/progress"), body)
	}
}

func tell(ctx context.Context, path string, body map[string]any) {
	r := runOf(ctx)
	if r == nil || r.ID == "" {
		return
	}
	if err := r.agent.plane.send(ctx, 5*time.Second, http.MethodPost, path, r.agent.from(r), body, nil); err != nil && ctx.Err() == nil {
		r.agent.log.Warn("the control plane did not take a note", "execution_id", r.ID, "error", err)
	}
}

// from are the headers that prove which execution speaks, with the newest token it has.
func (a *Agent) from(r *run) http.Header {
	h := r.shared()
	h.Set("X-Execution-ID", r.ID)
	if token := r.newestToken(); token != "" {
		h.Set("X-Execution-Token", token)
	}
	return h
}

func executionPath(id, rest string) string { return "/api/v1/executions/" + url.PathEscape(id) + rest }
