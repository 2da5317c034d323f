package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// longPoll is how long one question for the end of an execution stays open.
const longPoll = 30 * time.Second

// call is one call of a function as the flags describe it.
type call struct {
	async, wait    bool
	file           string
	timeout        time.Duration
	attempts       int
	context        string
	hook, secret   string
	hookHeaders    []string
	session, actor string
	run, workflow  string
	idempotency    string
}

func (p program) exec() *cobra.Command {
	var e call
	c := some(&cobra.Command{
		Use:   "exec TARGET [INPUT]",
		Short: "Call a function of an agent",
		Long: "Calls node.function and prints its result. INPUT is a JSON object, @FILE, - for the standard input, or words like name=Alice (text) and " +
			"count:=3 (JSON).\n\nWithout more it waits for the result at most 90 seconds. --async only starts the execution and prints its id; --wait starts it " +
			"and asks for the end however long that takes, over lost connections too; --webhook has the end told to an address.\n\n" +
			"Exit code 0: it succeeded, was accepted, or waits for a person; 1: it failed.",
		Example: `  agentfield exec hello-world.greet name=Alice
  agentfield exec research-agent.deep_analysis '{"topic": "quantum computing"}' --wait
  agentfield exec doc-processor.analyze @input.json --async --webhook https://your-app.com/hooks`,
		ValidArgsFunction: p.completeTargets,
	}, "a target: node.function")
	c = p.reaching(c, e.do)
	f := c.Flags()
	f.BoolVar(&e.async, "async", false, "start it and print its id")
	f.BoolVar(&e.wait, "wait", false, "start it and wait for its end without a limit")
	f.StringVarP(&e.file, "file", "f", "", "file to read the input from; - is the standard input")
	f.DurationVar(&e.timeout, "timeout", 0, "limit of the execution (default 90s, none with --async and --wait)")
	f.IntVar(&e.attempts, "attempts", 0, "how often it may be tried")
	f.StringVar(&e.context, "context", "", "JSON that comes back in the webhook")
	f.StringVar(&e.hook, "webhook", "", "URL to tell the end to")
	f.StringVar(&e.secret, "webhook-secret", "", "secret to sign that with (default $AGENTFIELD_WEBHOOK_SECRET)")
	f.StringArrayVar(&e.hookHeaders, "webhook-header", nil, "header to send with it, as in 'X-Custom-ID: 7'; may be repeated")
	f.StringVar(&e.session, "session", "", "session it belongs to")
	f.StringVar(&e.actor, "actor", "", "actor it is done for")
	f.StringVar(&e.run, "run", "", "run it belongs to")
	f.StringVar(&e.workflow, "workflow", "", "your own name of the run it belongs to")
	f.StringVar(&e.idempotency, "idempotency-key", "", "makes it safe to send the same call again")
	return c
}

func (e *call) do(ctx context.Context, r *reach, args []string) error {
	body, err := e.body(r.program, args[1:])
	if err != nil {
		return err
	}
	request := remote.Request{Method: http.MethodPost, Path: remote.Path("execute", args[0]), Header: e.headers(), Body: body, Patience: -1}
	if e.async || e.wait {
		request.Path = remote.Path("execute", "async", args[0])
		request.Patience = 0
	}
	answer, err := r.Do(ctx, request)
	if err != nil {
		return err
	}
	var x executed
	if err := answer.Decode(&x); err != nil {
		return err
	}
	switch {
	case e.wait:
		return r.await(ctx, x.ID)
	case e.async:
		return r.accepted(answer.Body, x)
	}
	return r.outcome(answer.Body, x)
}

func (e *call) headers() map[string]string {
	headers := map[string]string{}
	for name, value := range map[string]string{
		"X-Session-ID": e.session, "X-Actor-ID": e.actor, "X-Run-ID": e.run, "X-Workflow-ID": e.workflow, "Idempotency-Key": e.idempotency,
	} {
		if value != "" {
			headers[name] = value
		}
	}
	return headers
}

func (e *call) body(p program, words []string) (map[string]any, error) {
	input, err := e.input(p, words)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"input": input}
	if e.timeout > 0 {
		body["timeout_seconds"] = e.timeout.Seconds()
	}
	if e.attempts > 0 {
		body["retry"] = map[string]any{"max_attempts": e.attempts}
	}
	if e.context != "" {
		if !json.Valid([]byte(e.context)) {
			return nil, usageError{errors.New("--context is no JSON")}
		}
		body["context"] = json.RawMessage(e.context)
	}
	if e.hook != "" {
		if body["webhook"], err = e.webhook(p); err != nil {
			return nil, err
		}
	}
	return body, nil
}

func (e *call) webhook(p program) (map[string]any, error) {
	hook := map[string]any{"url": e.hook}
	if e.secret == "" {
		e.secret = p.variable("AGENTFIELD_WEBHOOK_SECRET")
	}
	if e.secret != "" {
		hook["secret"] = e.secret
	}
	headers := map[string]string{}
	for _, line := range e.hookHeaders {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, usageError{fmt.Errorf("--webhook-header is %q: write it as 'Name: value'", line)}
		}
		headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	if len(headers) > 0 {
		hook["headers"] = headers
	}
	return hook, nil
}

// input reads what the function gets: from a file, from the standard input, or from words.
func (e *call) input(p program, words []string) (json.RawMessage, error) {
	switch {
	case e.file != "" && len(words) > 0:
		return nil, usageError{errors.New("the input is given twice: by --file and after the target")}
	case e.file != "":
		return p.inputFile(e.file)
	case len(words) == 0:
		return json.RawMessage("{}"), nil
	case len(words) == 1 && words[0] == "-":
		return p.inputFile("-")
	case len(words) == 1 && strings.HasPrefix(words[0], "@"):
		return p.inputFile(words[0][1:])
	case len(words) == 1 && strings.HasPrefix(strings.TrimSpace(words[0]), "{"):
		return object("the input", []byte(words[0]))
	}
	return members(words)
}

func (p program) inputFile(name string) (json.RawMessage, error) {
	if name == "-" {
		text, err := io.ReadAll(p.stdin)
		if err != nil {
			return nil, fmt.Errorf("read the input: %w", err)
		}
		return object("the standard input", text)
	}
	text, err := os.ReadFile(name) //nolint:gosec // the file that whoever types the command wants read
	if err != nil {
		return nil, usageError{fmt.Errorf("read the input: %w", err)}
	}
	return object(name, text)
}

func object(what string, text []byte) (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, usageError{fmt.Errorf("%s is no JSON object: %w; put it in single quotes, as in '{\"name\": \"Alice\"}'", what, err)}
	}
	return text, nil
}

// members reads name=Alice as text and count:=3 as JSON.
func members(words []string) (json.RawMessage, error) {
	input := map[string]any{}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		asJSON := strings.HasSuffix(name, ":")
		name = strings.TrimSuffix(name, ":")
		switch {
		case !ok || name == "":
			return nil, usageError{fmt.Errorf("the input %q is not understood: write name=text, name:=JSON, a JSON object, @FILE or -", word)}
		case !asJSON:
			input[name] = value
		case !json.Valid([]byte(value)):
			return nil, usageError{fmt.Errorf("%s is no JSON: %s; for text write %s=…", name, value, name)}
		default:
			input[name] = json.RawMessage(value)
		}
	}
	return json.Marshal(input)
}

// executed is what the verbs look at in any answer about an execution.
type executed struct {
	ID         string          `json:"execution_id"`
	Status     string          `json:"status"`
	Target     string          `json:"target"`
	Result     json.RawMessage `json:"result"`
	Error      string          `json:"error"`
	Code       string          `json:"code"`
	Reason     string          `json:"status_reason"`
	DurationMS *int64          `json:"duration_ms"`
	ApprovalID string          `json:"approval_request_id"`
	WaitingFor *struct {
		ID  string `json:"approval_request_id"`
		URL string `json:"approval_request_url"`
	} `json:"waiting_for"`
}

func (x executed) ended() bool {
	return slices.Contains([]string{"succeeded", "failed", "timeout", "cancelled"}, x.Status)
}

func (r *reach) accepted(body []byte, x executed) error {
	if r.json {
		return r.show(body)
	}
	r.tell("%s is %s; `agentfield watch %s` follows it.", x.ID, x.Status, x.ID)
	return r.say("%s", x.ID)
}

// outcome prints how an execution went; one that failed is an error of the command.
func (r *reach) outcome(body []byte, x executed) error {
	if r.json {
		if err := r.show(body); err != nil {
			return err
		}
	} else if x.Status == "succeeded" {
		if err := r.show(orNull(x.Result)); err != nil {
			return err
		}
		r.tell("%s succeeded%s", x.ID, x.after())
	}
	switch {
	case x.Status == "waiting":
		r.waiting(x)
	case x.Status != "succeeded":
		return x.failure()
	}
	return nil
}

func orNull(text json.RawMessage) []byte {
	if len(text) == 0 {
		return []byte("null")
	}
	return text
}

func (x executed) after() string {
	if x.DurationMS == nil {
		return ""
	}
	return " in " + (time.Duration(*x.DurationMS) * time.Millisecond).String()
}

// failure is an execution that did not succeed, as the error of the verb that wanted its result.
func (x executed) failure() error {
	text := x.ID + " " + map[string]string{"failed": "failed", "timeout": "exceeded its limit", "cancelled": "was cancelled"}[x.Status]
	text += x.after()
	if why := first(x.Error, x.Reason); why != "" {
		text += ": " + why
	}
	if x.Code != "" {
		text += " (" + x.Code + ")"
	}
	return errors.New(text)
}

func (r *reach) waiting(x executed) {
	if x.WaitingFor == nil {
		r.tell("%s waits for a person.", x.ID)
		return
	}
	r.tell("%s waits for a person: %s\n`agentfield approve %s` or `agentfield reject %s` decides.", x.ID, x.WaitingFor.URL, x.WaitingFor.ID, x.WaitingFor.ID)
}

// await asks for the end of an execution until it is there, and prints it.
func (r *reach) await(ctx context.Context, id string) error {
	known, pause := "", r.FirstPause
	for {
		answer, err := r.Do(ctx, remote.Request{
			Method: http.MethodGet, Path: remote.Path("executions", id), Patience: 2 * longPoll,
			Query: url.Values{"wait": {longPoll.String()}, "status": {known}},
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if pause, err = r.again(ctx, err, pause); err != nil {
				return err
			}
			continue
		}
		var x executed
		if err := answer.Decode(&x); err != nil {
			return err
		}
		if x.ended() {
			return r.outcome(answer.Body, x)
		}
		if x.Status == "waiting" && known != x.Status {
			r.waiting(x)
		}
		known, pause = x.Status, r.FirstPause
	}
}

// again waits before a question is repeated whose answer did not come; what was refused for good is returned.
func (r *reach) again(ctx context.Context, err error, last time.Duration) (time.Duration, error) {
	if remote.Final(err) {
		return 0, err
	}
	pause := min(max(2*last, 500*time.Millisecond), 10*time.Second)
	r.lost(err, pause)
	if !remote.Sleep(ctx, pause) {
		return 0, ctx.Err()
	}
	return pause, nil
}
