// Package conform checks whether an agent, in whatever language, keeps the contract with the control plane. It plays the control plane on
// a loopback address, calls the agent as a server would, and judges what comes back. Its invariant: what it demands is only what the
// contract says, so that an agent that passes works with a server, and every failure says what to do.
package conform

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The verdicts about a row.
const (
	Pass = "pass"
	Fail = "fail"
	Skip = "skip" // the agent does not do it, or was not asked to; it need not
)

// Row is one thing that was checked.
type Row struct {
	ID     string `json:"id"`
	Title  string `json:"title"`
	Result string `json:"result"`
	Found  string `json:"found"`            // what the agent did
	Advice string `json:"advice,omitempty"` // what to do about a failure
}

// Options is what the check is told about the agent.
type Options struct {
	Listen   string // where the control plane of the check listens
	AgentURL string // empty: that of its registration
	Function string // the one to call; empty: the first
	Input    json.RawMessage
	Slow     string // a function that runs until it is cancelled; empty: there is none
	Pause    string // a function that asks for a decision; empty: there is none
	Patience time.Duration
	// Ready is told where the agent has to register, and may start it.
	Ready func(plane string) error
	// Stop ends the agent, where the check may do so; nil: it may not.
	Stop func()
	// Each is given every row as soon as it is known; may be nil.
	Each func(Row)
}

// check is one run over all rows.
type check struct {
	Options
	plane *plane
	http  *http.Client
	base  string // address of the agent
	rows  []Row
	main  *called
}

// Run checks an agent. An error says that the check itself could not be made.
func Run(ctx context.Context, o Options) ([]Row, error) {
	p, err := newPlane(ctx, o.Listen)
	if err != nil {
		return nil, err
	}
	defer p.close()
	c := &check{Options: o, plane: p, base: strings.TrimRight(o.AgentURL, "/")}
	c.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer c.http.CloseIdleConnections()
	if o.Ready != nil {
		if err := o.Ready(p.URL); err != nil {
			return nil, err
		}
	}
	for _, row := range []func(context.Context){
		c.registers, c.describesItself, c.isWell, c.answers, c.speaksWithItsToken, c.reportsAgain, c.takesSeveral, c.takesTwice, c.refusesBrokenInput,
		c.refusesTheUnknown, c.hearsOfCancels, c.stopsWhenCancelled, c.pauses, c.isStillWell, c.saysGoodbye,
	} {
		row(ctx)
		if ctx.Err() != nil {
			return c.rows, ctx.Err()
		}
	}
	return c.rows, nil
}

func (c *check) pass(id, title, found string, args ...any) {
	c.add(Row{id, title, Pass, fmt.Sprintf(found, args...), ""})
}

func (c *check) skip(id, title, why string) { c.add(Row{id, title, Skip, why, ""}) }

func (c *check) fail(id, title, advice, found string, args ...any) {
	c.add(Row{id, title, Fail, fmt.Sprintf(found, args...), advice})
}

func (c *check) add(r Row) {
	c.rows = append(c.rows, r)
	if c.Each != nil {
		c.Each(r)
	}
}

// reply is what the agent answered.
type reply struct {
	status int
	body   []byte
}

func (r reply) json() bool { return json.Valid(r.body) }

// brief is the body for people.
func (r reply) brief() string {
	text := strings.Join(strings.Fields(string(r.body)), " ")
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	return fmt.Sprintf("%d %s", r.status, text)
}

func (c *check) send(ctx context.Context, method, path string, body []byte, header map[string]string) (reply, error) {
	if c.base == "" {
		return reply{}, errors.New("no address of the agent is known")
	}
	ctx, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		return reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	return reply{response.StatusCode, text}, err
}

// called is a call of a function and how it ended.
type called struct {
	*execution
	reply    reply
	err      error
	deferred bool // it was answered with 202
	ended    bool // a report of the end has come
	status   string
	result   json.RawMessage
}

// succeeded says whether the call has a result, and otherwise what is wrong.
func (d *called) problem() string {
	switch {
	case d.err != nil:
		return "no answer: " + d.err.Error()
	case d.deferred && !d.ended:
		return "202, and no report of the end"
	case d.deferred && d.status != "succeeded":
		return "reported as " + cmp.Or(d.status, "nothing")
	case d.deferred:
		return ""
	case d.reply.status != http.StatusOK:
		return d.reply.brief()
	case !d.reply.json():
		return "200 with a body that is no JSON: " + d.reply.brief()
	}
	return ""
}

// call calls a function as a server does, and waits for the end.
func (c *check) call(ctx context.Context, name string, input json.RawMessage, e *execution, attempt int) *called {
	d := &called{execution: e}
	d.reply, d.err = c.send(ctx, http.MethodPost, c.path(name), input, map[string]string{
		"X-Execution-ID": e.id, "X-Run-ID": "run_of_the_check", "X-Workflow-ID": "workflow_of_the_check", "X-Session-ID": "session_of_the_check",
		"X-Actor-ID": "actor_of_the_check", "X-Attempt": fmt.Sprint(attempt), "Idempotency-Key": e.id, "X-Execution-Token": e.token,
		"X-AgentField-Request-ID": "req_of_the_check", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	})
	if d.err != nil || d.reply.status != http.StatusAccepted {
		return d
	}
	d.deferred = true
	d.ended = c.plane.until(ctx, c.Patience, func() bool {
		for _, w := range e.said {
			if status := text(w.body["status"]); w.what == "status" && !w.turned && terminal(status) {
				d.status, d.result = canonical(status), w.result
				return true
			}
		}
		return false
	})
	return d
}

// canonical is the word for the words of the protocol (wire.md 5.1).
func canonical(status string) string {
	switch strings.ToLower(strings.TrimSpace(status)) {
	case "succeeded", "success", "successful", "completed", "complete", "done", "ok":
		return "succeeded"
	case "failed", "error", "failure", "errored":
		return "failed"
	case "cancelled", "canceled", "cancel":
		return "cancelled"
	case "timeout", "timed_out":
		return "timeout"
	}
	return ""
}

func terminal(status string) bool { return canonical(status) != "" }

// path is where a function is called: skills and reasoners live at different addresses.
func (c *check) path(name string) string {
	kind := "/reasoners/"
	if c.plane.registered() != nil {
		for _, f := range c.plane.registered().Skills {
			if f.ID == name {
				kind = "/skills/"
			}
		}
	}
	return kind + url.PathEscape(name)
}
