package conform

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	atOnce       = 5                // calls at the same time
	noticeLimit  = 5 * time.Second  // within which a cancel notice has to be answered
	goodbyeLimit = 10 * time.Second // that an agent has to say that it stops
)

func (c *check) registers(ctx context.Context) {
	const id, title = "register", "registers, and again when the control plane was not ready"
	switch {
	case c.plane.until(ctx, c.Patience, func() bool { return c.plane.node != nil }):
		c.pass(id, title, "as %s, after a first try was answered with 503", c.plane.registered().ID)
	case c.plane.turnedAway():
		c.fail(id, title, "Repeat POST /api/v1/nodes/register until it is answered with 201: agents start before their server, and servers restart.",
			"it came once, was answered with 503 and did not come again")
	default:
		c.fail(id, title, "Start the agent with AGENTFIELD_SERVER="+c.plane.URL+", and let it POST its registration to /api/v1/nodes/register.",
			"nothing came within %s", c.Patience)
	}
}

func (c *check) describesItself(context.Context) {
	const id, title = "describe", "says who it is, where it is, and what it can do"
	n := c.plane.registered()
	if n == nil {
		c.skip(id, title, "it did not register")
		return
	}
	if c.base == "" {
		c.base = strings.TrimRight(n.BaseURL, "/")
	}
	if found, advice := wrongWith(n); found != "" {
		c.fail(id, title, advice, "%s", found)
		return
	}
	c.pass(id, title, "%s at %s with %d functions", n.ID, n.BaseURL, len(n.Reasoners)+len(n.Skills))
}

// wrongWith finds what a server would refuse in a registration.
func wrongWith(n *registration) (found, advice string) {
	u, err := url.Parse(n.BaseURL)
	switch {
	case n.malformed != "":
		return "the body is not understood: " + n.malformed, "Send one JSON object with id, base_url, reasoners and skills."
	case n.ID == "" || strings.ContainsAny(n.ID, "./: "):
		return fmt.Sprintf("its id is %q", n.ID), "Choose an id without dots, slashes and spaces: callers write it before the dot of node.function."
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("its base_url is %q", n.BaseURL), "Give the address at which the server can call the agent, as in http://127.0.0.1:9000."
	case len(n.Reasoners)+len(n.Skills) == 0:
		return "it has no functions", `List them under "reasoners" or "skills", each with an "id".`
	}
	for _, f := range slices.Concat(n.Reasoners, n.Skills) {
		if f.ID == "" || strings.ContainsAny(f.ID, "./: ") {
			return fmt.Sprintf("a function has the id %q", f.ID), "Name functions without dots, slashes and spaces."
		}
		var schema map[string]any
		if given := strings.TrimSpace(string(f.Schema)); given != "" && given != "null" && json.Unmarshal(f.Schema, &schema) != nil {
			return f.ID + " has an input_schema that is no object", "Leave input_schema out, or give a JSON Schema object."
		}
	}
	return "", ""
}

func (c *check) isWell(ctx context.Context) {
	c.well(ctx, "health", "answers the question for its health")
}

func (c *check) isStillWell(ctx context.Context) { c.well(ctx, "alive", "is well after all of this") }

// well asks as the server's monitor does: /status, else /health.
func (c *check) well(ctx context.Context, id, title string) {
	const advice = `Answer GET /status with 200 and {"status":"running"}, or GET /health with 200.`
	status, err := c.send(ctx, http.MethodGet, "/status", nil, nil)
	if err != nil {
		c.fail(id, title, advice, "GET /status: %v", err)
		return
	}
	var said struct {
		Status string `json:"status"`
		Node   string `json:"node_id"`
	}
	if status.status == http.StatusOK && json.Unmarshal(status.body, &said) == nil && said.Status == "running" {
		if c.plane.registered() != nil && said.Node != "" && said.Node != c.plane.registered().ID {
			c.fail(id, title, "Answer with the node_id of the registration.", "/status names the node %q", said.Node)
			return
		}
		c.pass(id, title, "GET /status says running")
		return
	}
	health, err := c.send(ctx, http.MethodGet, "/health", nil, nil)
	if err != nil || health.status != http.StatusOK {
		c.fail(id, title, advice, "GET /status: %s; GET /health: %s", status.brief(), health.brief())
		return
	}
	c.pass(id, title, "GET /health says 200")
}

// chosen is the function that most rows call, and its input.
func (c *check) chosen() (name string, input json.RawMessage) {
	name = c.Function
	schema := json.RawMessage(nil)
	if n := c.plane.registered(); n != nil {
		for _, f := range slices.Concat(n.Reasoners, n.Skills) {
			if name == "" {
				name = f.ID
			}
			if f.ID == name {
				schema = f.Schema
			}
		}
	}
	if len(c.Input) > 0 {
		return name, c.Input
	}
	return name, sample(schema)
}

// inputOf is the input for a function other than the chosen one.
func (c *check) inputOf(name string) json.RawMessage {
	other := *c
	other.Function, other.Input = name, nil
	_, input := other.chosen()
	return input
}

func (c *check) answers(ctx context.Context) {
	const id, title = "call", "answers a call with a result"
	name, input := c.chosen()
	if name == "" {
		c.skip(id, title, "no function is known; name one with --function")
		return
	}
	c.main = c.call(ctx, name, input, c.plane.begin(true), 1)
	if problem := c.main.problem(); problem != "" {
		c.fail(id, title, "Answer POST "+c.path(name)+" with 200 and the result as JSON; or with 202, and then POST {\"status\":\"succeeded\",\"result\":…} to "+
			"/api/v1/executions/{X-Execution-ID}/status. The body of the call is the input itself. --function and --input choose another call.",
			"%s with the input %s: %s", name, input, problem)
		return
	}
	if c.main.deferred {
		c.pass(id, title, "%s was accepted with 202 and reported later", name)
		return
	}
	c.pass(id, title, "%s answered %s", name, c.main.reply.brief())
}

func (c *check) speaksWithItsToken(context.Context) {
	const id, title = "token", "shows the token of the execution with everything it says about it"
	if c.main == nil {
		c.skip(id, title, "nothing was called")
		return
	}
	c.plane.mu.Lock()
	defer c.plane.mu.Unlock()
	for _, w := range c.main.said {
		if w.token != c.main.token {
			c.fail(id, title, "Repeat the header X-Execution-Token of the call in every request about its execution: servers that demand credentials refuse it otherwise.",
				"its %s carries %q", w.what, w.token)
			return
		}
	}
	if len(c.main.said) == 0 {
		c.skip(id, title, "it said nothing besides its answer")
		return
	}
	c.pass(id, title, "%d times", len(c.main.said))
}

func (c *check) reportsAgain(context.Context) {
	const id, title = "report", "reports again when a report was not taken"
	switch {
	case c.main == nil || !c.main.deferred:
		c.skip(id, title, "it answers directly and reports nothing")
	case !c.main.ended:
		c.fail(id, title, "Repeat a report that is answered with anything but 2xx, with growing pauses: 1, 2, 4, 8 seconds.", "the first report was answered with 503, and no other came")
	default:
		c.pass(id, title, "the first report was answered with 503, the next came")
	}
}

func (c *check) takesSeveral(ctx context.Context) {
	const id, title = "parallel", "works on several calls at once"
	name, input := c.chosen()
	if c.main == nil || c.main.problem() != "" {
		c.skip(id, title, "one call does not work")
		return
	}
	problems := make([]string, atOnce)
	var calls sync.WaitGroup
	for i := range problems {
		calls.Go(func() { problems[i] = c.call(ctx, name, input, c.plane.begin(false), 1).problem() })
	}
	calls.Wait()
	for _, problem := range problems {
		if problem != "" {
			c.fail(id, title, "Take calls while others are under way; a limit of your own belongs into max_concurrency of the registration.", "of %d at once one got: %s", atOnce, problem)
			return
		}
	}
	c.pass(id, title, "%d at once", atOnce)
}

func (c *check) takesTwice(ctx context.Context) {
	const id, title = "again", "takes the same execution a second time"
	name, input := c.chosen()
	if c.main == nil || c.main.problem() != "" {
		c.skip(id, title, "one call does not work")
		return
	}
	e := c.plane.begin(false)
	c.call(ctx, name, input, e, 1)
	c.plane.change(func() { e.said = nil })
	if problem := c.call(ctx, name, input, e, 2).problem(); problem != "" {
		c.fail(id, title, "A call that a crash interrupted is made again with the same X-Execution-ID and a higher X-Attempt: answer it with the same result, or run it again.",
			"the second time: %s", problem)
		return
	}
	c.pass(id, title, "with X-Attempt: 2")
}

func (c *check) refusesBrokenInput(ctx context.Context) {
	const id, title = "input", "refuses input that is no JSON"
	name, _ := c.chosen()
	if name == "" {
		c.skip(id, title, "no function is known")
		return
	}
	got, err := c.send(ctx, http.MethodPost, c.path(name), []byte(`{"broken`), map[string]string{"X-Execution-ID": c.plane.begin(false).id})
	switch {
	case err != nil:
		c.fail(id, title, "Answer with 400 instead of closing the connection.", "%v", err)
	case got.status < 400 || got.status > 499:
		c.fail(id, title, "Answer input that cannot be read with 400, or 422.", "%s", got.brief())
	default:
		c.pass(id, title, "with %d", got.status)
	}
}

func (c *check) refusesTheUnknown(ctx context.Context) {
	const id, title = "unknown", "refuses a function that it does not have"
	got, err := c.send(ctx, http.MethodPost, "/reasoners/no_such_function_of_the_check", []byte(`{}`), map[string]string{"X-Execution-ID": c.plane.begin(false).id})
	switch {
	case err != nil:
		c.fail(id, title, "Answer with 404.", "%v", err)
	case got.status < 400 || got.status > 499:
		c.fail(id, title, "Answer a call of an unknown function with 404.", "%s", got.brief())
	default:
		c.pass(id, title, "with %d", got.status)
	}
}

func (c *check) notice(ctx context.Context, execution string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, noticeLimit)
	defer cancel()
	body := fmt.Sprintf(`{"execution_id":%q,"workflow_id":"workflow_of_the_check","reason":"the check","emitted_at":"2026-01-01T00:00:00.000Z"}`, execution)
	return c.send(ctx, http.MethodPost, "/_internal/executions/"+execution+"/cancel", []byte(body),
		map[string]string{"X-Execution-ID": execution, "X-Workflow-ID": "workflow_of_the_check", "X-AgentField-Source": "cancel-dispatcher"})
}

func (c *check) hearsOfCancels(ctx context.Context) {
	const id, title = "cancel", "hears that an execution was cancelled"
	const advice = "Answer POST /_internal/executions/{id}/cancel within 5 seconds: 200 with {\"cancelled\":true} or {\"cancelled\":false}, or 404."
	got, err := c.notice(ctx, "exec_that_the_agent_never_got")
	switch {
	case err != nil:
		c.fail(id, title, advice, "%v", err)
	case got.status != http.StatusNotFound && (got.status < 200 || got.status > 299):
		c.fail(id, title, advice, "%s", got.brief())
	default:
		c.pass(id, title, "about an execution that it does not have: %s", got.brief())
	}
}

func (c *check) stopsWhenCancelled(ctx context.Context) {
	const id, title = "stop", "stops work that was cancelled"
	const advice = "Remember the work by its X-Execution-ID and end it when POST /_internal/executions/{id}/cancel comes; then answer the call with an error, or report failed."
	if c.Slow == "" {
		c.skip(id, title, "name a function that takes long with --slow")
		return
	}
	e := c.plane.begin(false)
	ended := make(chan *called, 1)
	go func() { ended <- c.call(ctx, c.Slow, c.inputOf(c.Slow), e, 1) }()
	told := c.tellUntilHeard(ctx, e.id)
	d := <-ended
	switch {
	case !told:
		c.fail(id, title, advice, "it never answered that %s was cancelled", c.Slow)
	case d.err != nil || d.deferred && !d.ended:
		c.fail(id, title, advice, "%s did not end: %s", c.Slow, d.problem())
	case d.problem() == "":
		c.fail(id, title, advice, "%s went on to its end", c.Slow)
	default:
		c.pass(id, title, "%s ended with: %s", c.Slow, d.problem())
	}
}

// tellUntilHeard sends the notice until the agent knows the execution: the call may be on its way.
func (c *check) tellUntilHeard(ctx context.Context, execution string) bool {
	for range 50 {
		got, err := c.notice(ctx, execution)
		var said struct {
			Cancelled bool `json:"cancelled"`
		}
		if err == nil && json.Unmarshal(got.body, &said) == nil && said.Cancelled {
			return true
		}
		c.plane.until(ctx, 100*time.Millisecond, func() bool { return false })
	}
	return false
}

func (c *check) pauses(ctx context.Context) {
	const id, title = "pause", "waits for the decision of a person"
	if c.Pause == "" {
		c.skip(id, title, "name a function that asks for one with --pause")
		return
	}
	e := c.plane.begin(false)
	ended := make(chan *called, 1)
	go func() { ended <- c.call(ctx, c.Pause, c.inputOf(c.Pause), e, 1) }()
	if !c.plane.until(ctx, c.Patience, func() bool { return e.asked != nil }) {
		c.fail(id, title, "POST to /api/v1/executions/{X-Execution-ID}/request-approval before the function ends.", "%s asked for nothing", c.Pause)
		<-ended
		return
	}
	c.decide(ctx, e)
	d := <-ended
	c.plane.mu.Lock()
	defer c.plane.mu.Unlock()
	for _, w := range e.said {
		if w.what == "request-approval" && w.token != e.token {
			c.fail(id, title, "Repeat the header X-Execution-Token of the call in the request for a decision.", "the request carries %q", w.token)
			return
		}
	}
	if problem := d.problem(); problem != "" {
		c.fail(id, title, "Ask GET /api/v1/executions/{id}/approval-status?wait=30s until the status is no longer pending, and go on then.", "after the decision: %s", problem)
		return
	}
	c.pass(id, title, "%s asked, was approved and went on", c.Pause)
}

// decide approves, and tells the agent where it wants to be told. Whether it listens there does not matter: it may ask.
func (c *check) decide(ctx context.Context, e *execution) {
	var asked request
	c.plane.change(func() {
		e.asked.decided = true
		asked = *e.asked
	})
	if path, ok := strings.CutPrefix(asked.callback, c.base); ok && asked.callback != "" {
		body := fmt.Sprintf(`{"execution_id":%q,"decision":"approved","new_status":"running","feedback":"go on","approval_request_id":%q}`, e.id, asked.id)
		_, _ = c.send(ctx, http.MethodPost, path, []byte(body), nil)
	}
}

func (c *check) saysGoodbye(ctx context.Context) {
	const id, title = "goodbye", "tells the control plane that it stops"
	if c.Stop == nil {
		c.skip(id, title, "the check has not started it, and does not stop it")
		return
	}
	c.Stop()
	if c.plane.until(ctx, goodbyeLimit, func() bool { return c.plane.goodbye }) {
		c.pass(id, title, "POST /api/v1/nodes/%s/shutdown came", c.plane.registered().ID)
		return
	}
	c.skip(id, title, "it does not; a server finds out by failed calls, which costs its callers a moment")
}
