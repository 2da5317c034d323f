package execution

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

const (
	codeNoInstance  = "agent_unreachable"
	codeCircuitOpen = "circuit_open"
)

// maxInstances is how many instances one attempt of an idempotent function may go to. Retries that spread over all of a sick node would
// multiply its load.
const maxInstances = 3

// result is what came of a call. A failure is an outcome like any other; givenUp says that the call was ended from our side.
type result struct {
	accepted bool   // 202: the agent will report
	body     []byte // JSON
	failure  *failure
	details  []byte
	instance string
	givenUp  error
	// repeatable: the instance went away, and the function may see the execution twice.
	repeatable bool
}

func failed(f *failure) result { return result{failure: f} }

// call sends the input to an instance of the node and reads the answer. An instance that cannot be reached is passed over for the
// next one, since it has not seen the request; so is one that fails an idempotent function.
func (s *Service) call(ctx context.Context, c *claimed) result {
	input, err := s.inputOf(ctx, c)
	if err != nil {
		return s.without(ctx, c, fmt.Errorf("read the input: %w", err))
	}
	f, err := s.Nodes.Lookup(ctx, c.NodeID, c.Function)
	if err != nil {
		return failed(&failure{code: "target_not_found", category: "internal_error", message: err.Error()})
	}
	tried, asked := map[string]bool{}, 0
	var last error     // why an instance was not reached
	var before *result // of an instance that had the request and failed it
	for {
		instance, err := s.Nodes.Claim(f, tried, c.Mode == "sync")
		if err != nil && before != nil {
			return *before
		}
		if err != nil {
			return failed(noInstance(c.NodeID, err, last))
		}
		tried[instance.ID] = true
		s.inFlight.at(c.ID, instance.ID)
		out, reach, err := s.ask(ctx, c, f, instance, input)
		instance.Release(reach)
		if reach == NotReached && ctx.Err() == nil {
			last = err
			continue
		}
		asked++
		out.instance = instance.ID
		out.repeatable = f.Idempotent && out.failure != nil && out.failure.class == onUnreachable
		if reach != ReachedFailed || !f.Idempotent || asked == maxInstances || ctx.Err() != nil {
			return out
		}
		before = &out
		s.noteRerouted(ctx, c, out)
	}
}

// ask posts the input. A function that may go to another instance does not wait for one of them until the execution's limit.
func (s *Service) ask(ctx context.Context, c *claimed, f Function, instance Instance, input []byte) (result, Reach, error) {
	if !f.Idempotent || c.DeadlineAt == nil {
		return s.post(ctx, c, instance, input)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, msDuration(*c.DeadlineAt-s.DB.NowMs())/2, errSlow)
	defer cancel()
	return s.post(ctx, c, instance, input)
}

// noteRerouted keeps in the history that an instance failed, and that the next one is asked if there is one.
func (s *Service) noteRerouted(ctx context.Context, c *claimed, out result) {
	err := s.appendEvent(ctx, c.Execution, event.KindRerouted, map[string]any{"instance_id": out.instance, "code": out.failure.code, "error": cut(out.failure.message, 1024)})
	if err != nil {
		s.Log.Warn("cannot note that an instance failed", "execution_id", c.ID, "error", err)
	}
}

// noInstance is the failure of a call that nobody could be given.
func noInstance(node string, why, last error) *failure {
	if errors.Is(why, ErrCircuitOpen) {
		return &failure{
			code: codeCircuitOpen, category: "agent_unreachable", class: onUnreachable,
			message: "every instance of " + node + " fails its calls and rests: try again in ten seconds",
		}
	}
	return unreachable(node, last)
}

func unreachable(node string, last error) *failure {
	message := fmt.Sprintf("no instance of %s can be reached", node)
	if last != nil {
		message += ": " + plain(last)
	}
	return &failure{code: codeNoInstance, category: "agent_unreachable", message: message, class: onUnreachable}
}

// plain turns a network error into words for a person, without addresses of our own.
func plain(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		return "its host name does not resolve"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed before the answer was complete"
	}
	var n net.Error
	if errors.As(err, &n) && n.Timeout() {
		return "it did not answer in time"
	}
	return err.Error()
}

func (s *Service) inputOf(ctx context.Context, c *claimed) ([]byte, error) {
	if c.input != nil {
		return c.input, nil
	}
	return s.Payload(ctx, c.ID, models.PayloadInput)
}

// without is the outcome of a call that could not even begin because our own store failed: it is put back.
func (s *Service) without(ctx context.Context, c *claimed, err error) result {
	if cause := context.Cause(ctx); cause != nil {
		return ended(cause)
	}
	s.Log.Error("a call could not begin", "execution_id", c.ID, "error", err)
	return result{givenUp: errInterrupted}
}

// ended is the outcome of a call whose context ended. Limits end it too, by way of the status: nothing is left to settle then.
func ended(cause error) result {
	if errors.Is(cause, errEnded) {
		return result{givenUp: errEnded}
	}
	return result{givenUp: errInterrupted}
}

// post makes one HTTP request to an instance.
func (s *Service) post(ctx context.Context, c *claimed, instance Instance, input []byte) (result, Reach, error) {
	request, err := s.request(ctx, c, instance, input)
	if err != nil {
		return failed(&failure{code: "bad_address", category: "internal_error", message: "the address of the agent cannot be used"}), ReachedRefused, err
	}
	response, err := s.Client.Do(request)
	if err != nil {
		return noAnswer(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	limited := io.LimitReader(response.Body, s.ResultLimit+1)
	answer, err := io.ReadAll(limited)
	if err != nil {
		return noAnswer(ctx, err)
	}
	if int64(len(answer)) > s.ResultLimit {
		return failed(badResponse("the agent's answer is larger than %d bytes", s.ResultLimit)), ReachedFailed, nil
	}
	out := read(response, answer)
	if out.failure != nil && out.failure.class == onBadResponse {
		return out, ReachedFailed, nil
	}
	return out, reachOf(response.StatusCode), nil
}

func noAnswer(ctx context.Context, err error) (result, Reach, error) {
	if cause := context.Cause(ctx); cause != nil {
		return brokenOff(cause, err)
	}
	if beforeSending(err) {
		return result{}, NotReached, err
	}
	return failed(&failure{code: "agent_disconnected", category: "bad_response", message: "no answer from the agent: " + plain(err), class: onUnreachable}),
		ReachedFailed, err
}

// brokenOff is a call that we ended. That is the instance's doing when it was too slow.
func brokenOff(cause, err error) (result, Reach, error) {
	switch {
	case errors.Is(cause, errSlow):
		return failed(&failure{code: "agent_timeout", category: "agent_timeout", message: "the instance did not answer in time", class: onUnreachable}), ReachedFailed, err
	case errors.Is(cause, errTimedOut):
		return ended(cause), ReachedFailed, err
	}
	return ended(cause), HungUp, err
}

// beforeSending: a failed dial has not shown the request to anybody, so another instance may have it.
func beforeSending(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func reachOf(status int) Reach {
	switch {
	case status >= 500, status >= 300 && status < 400:
		return ReachedFailed
	case status >= 400:
		return ReachedRefused
	}
	return ReachedOK
}

func badResponse(format string, args ...any) *failure {
	return &failure{code: "bad_response", category: "bad_response", message: fmt.Sprintf(format, args...), class: onBadResponse}
}

// read turns an agent's answer into an outcome (wire.md 3.5 and 4.2).
func read(response *http.Response, answer []byte) result {
	status := response.StatusCode
	switch {
	case status == http.StatusAccepted:
		return result{accepted: true}
	case status >= 300 && status < 400:
		return failed(badResponse("the agent answered with a redirect (%d), which is not followed", status))
	case status >= 400:
		return refusal(status, answer)
	}
	value, err := asResult(response.Header.Get("Content-Type"), answer)
	if err != nil {
		return failed(badResponse("%s", err))
	}
	return result{body: value}
}

// asResult is the JSON value of an answer: as it came when it is JSON, null when empty, else the text as a JSON string.
func asResult(contentType string, answer []byte) ([]byte, error) {
	trimmed := bytes.TrimSpace(answer)
	if len(trimmed) == 0 {
		return []byte("null"), nil
	}
	if !utf8.Valid(trimmed) {
		return nil, errors.New("the agent's answer is neither JSON nor UTF-8 text")
	}
	if json.Valid(trimmed) {
		return trimmed, nil
	}
	if media, _, err := mime.ParseMediaType(contentType); err == nil && (media == "application/json" || strings.HasSuffix(media, "+json")) {
		return nil, errors.New("the agent's answer claims to be JSON and is not")
	}
	return json.Marshal(string(trimmed))
}

// refusal is the outcome of a 4xx or 5xx answer: the agent's own words where it has some.
func refusal(status int, answer []byte) result {
	f := &failure{code: "agent_error", category: "agent_error", status: status, class: onError}
	if status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
		f.class = onClientError
	}
	f.message = fmt.Sprintf("agent error (%d): %s", status, cut(strings.TrimSpace(clean(string(answer))), 1024))
	var details []byte
	if json.Valid(answer) {
		details = bytes.TrimSpace(answer)
		if said := errorText(answer); said != "" {
			f.message = cut(said, 1024)
		}
	}
	return result{failure: f, details: details}
}

// errorText finds the sentence in an error body, under the keys that agents use.
func errorText(answer []byte) string {
	var body map[string]json.RawMessage
	if json.Unmarshal(answer, &body) != nil {
		return ""
	}
	for _, key := range []string{"error", "error_message", "detail", "message"} {
		var text string
		if json.Unmarshal(body[key], &text) == nil && text != "" {
			return clean(text)
		}
	}
	return ""
}

// clean makes foreign text fit for both databases and for a page: valid UTF-8 without NUL.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
}

// request carries the input and the headers of wire.md 4.1.
func (s *Service) request(ctx context.Context, c *claimed, instance Instance, input []byte) (*http.Request, error) {
	if instance.Serverless {
		input = envelope(c, input)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, instance.URL, bytes.NewReader(input))
	if err != nil {
		return nil, err
	}
	h := request.Header
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json")
	h.Set("User-Agent", "agentfield")
	h.Set("X-Run-ID", c.RunID)
	h.Set("X-Workflow-ID", c.Workflow())
	h.Set("X-Execution-ID", c.ID)
	h.Set("X-AgentField-Request-ID", newID("req_"))
	h.Set("X-Attempt", strconv.Itoa(c.Attempt))
	// Not in the usual spelling: with it net/http would send the request again by itself, to an instance that may have had it.
	h["idempotency-key"] = []string{c.ID}
	h.Set("X-Execution-Token", s.token(c.ID, c.Attempt))
	for name, value := range map[string]*string{
		"X-Parent-Execution-ID": c.ParentID, "X-Session-ID": c.SessionID, "X-Actor-ID": c.ActorID, "X-Caller-Agent-ID": c.Caller,
	} {
		if value != nil {
			h.Set(name, *value)
		}
	}
	for name, value := range passedOn(c.Headers) {
		h.Set(name, value)
	}
	h.Set("Traceparent", c.Traceparent().String())
	if s.InternalToken != "" {
		h.Set("Authorization", "Bearer "+s.InternalToken)
	}
	return request, nil
}

// passedOn are the headers of the caller that the agent gets as they came.
func passedOn(stored *string) (headers map[string]string) {
	if stored == nil || json.Unmarshal([]byte(*stored), &headers) != nil {
		return nil
	}
	return headers
}

// envelope is the form in which a serverless node takes its input (wire.md 4.3).
func envelope(c *claimed, input []byte) []byte {
	about := map[string]any{"execution_id": c.ID, "run_id": c.RunID, "workflow_id": c.Workflow()}
	for key, value := range map[string]*string{"parent_execution_id": c.ParentID, "session_id": c.SessionID, "actor_id": c.ActorID} {
		if value != nil {
			about[key] = *value
		}
	}
	whole := map[string]any{
		"path": "/execute/" + c.Function, "target": c.Function, "reasoner": c.Function, "type": c.FunctionKind,
		"input": json.RawMessage(input), "execution_context": about,
	}
	if c.FunctionKind == "skill" {
		whole["skill"] = c.Function
	}
	encoded, err := json.Marshal(whole)
	if err != nil { // the input was valid JSON when it was accepted
		return input
	}
	return encoded
}
