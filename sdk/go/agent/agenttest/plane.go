// Package agenttest is a control plane in memory, for tests of agents. It registers nodes, dispatches executions to them over HTTP and
// takes their reports and their requests for decisions, and it can fall over in the middle. It keeps the protocol's forms and none of its durability: an execution is
// dispatched when it is submitted, once, unless the test dispatches it again.
package agenttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for something that must happen.
const patience = 10 * time.Second

// Request is something that an agent asked of the plane.
type Request struct {
	Method, Path string // the path with its query
	Header       http.Header
	Body         map[string]any
}

// Execution is what the plane knows of one call.
type Execution struct {
	ID, Target, Status string
	Result             json.RawMessage
	Error              string
	Header             http.Header // of the submit
	Input              json.RawMessage
	Attempts           int
	Notes              []string
	Progress           []string
}

// Plane is the fake control plane.
type Plane struct {
	URL string

	t         testing.TB
	server    *httptest.Server
	client    *http.Client
	mu        sync.Mutex
	changed   chan struct{} // closed and replaced with every change
	requests  []Request
	nodes     map[string]string // id → base URL
	skills    map[string]bool   // by target
	execs     map[string]*Execution
	byKey     map[string]string // Idempotency-Key → execution id
	order     []string
	approvals []*Approval
	intercept func(http.ResponseWriter, *http.Request) bool
	down      bool
	life      context.Context // of outgoing dispatches
	kill      context.CancelFunc
	dispatch  sync.WaitGroup
}

// New starts a plane that lives as long as the test.
func New(t testing.TB) *Plane {
	p := &Plane{
		t: t, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, changed: make(chan struct{}),
		nodes: map[string]string{}, skills: map[string]bool{}, execs: map[string]*Execution{}, byKey: map[string]string{},
	}
	p.life, p.kill = context.WithCancel(context.Background())
	p.server = httptest.NewServer(p.routes())
	p.URL = p.server.URL
	t.Cleanup(func() {
		p.Crash()
		p.server.Close()
		p.dispatch.Wait()
	})
	return p
}

// Crash makes the plane die: connections break, in both directions, until Restart.
func (p *Plane) Crash() {
	p.change(func() { p.down = true })
	p.kill()
	p.server.CloseClientConnections()
}

// Restart brings it back with what it knew, or without its nodes.
func (p *Plane) Restart(forgetNodes bool) {
	p.change(func() {
		p.down = false
		p.life, p.kill = context.WithCancel(context.Background())
		if forgetNodes {
			clear(p.nodes)
		}
	})
}

// Intercept lets the test answer requests itself: f reports whether it did. nil ends it.
func (p *Plane) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	p.change(func() { p.intercept = f })
}

func (p *Plane) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Await waits until the plane's state satisfies the condition, which runs under its lock.
func (p *Plane) Await(what string, condition func() bool) {
	p.t.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		met, changed := condition(), p.changed
		p.mu.Unlock()
		if met {
			return
		}
		select {
		case <-changed:
		case <-limit:
			p.t.Fatalf("waited %s in vain for: %s", patience, what)
		}
	}
}

// AwaitRequest waits for the n-th request (from 1) with this method and path prefix and returns it.
func (p *Plane) AwaitRequest(method, prefix string, n int) Request {
	p.t.Helper()
	var found Request
	p.Await(fmt.Sprintf("%s %s, number %d", method, prefix, n), func() bool {
		seen := 0
		for _, r := range p.requests {
			if r.Method == method && strings.HasPrefix(r.Path, prefix) {
				if seen++; seen == n {
					found = r
					return true
				}
			}
		}
		return false
	})
	return found
}

// Count tells how many requests with this method and path prefix there were.
func (p *Plane) Count(method, prefix string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, r := range p.requests {
		if r.Method == method && strings.HasPrefix(r.Path, prefix) {
			n++
		}
	}
	return n
}

// Executions lists what was submitted, in that order.
func (p *Plane) Executions() []Execution {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Execution, 0, len(p.order))
	for _, id := range p.order {
		list = append(list, *p.execs[id])
	}
	return list
}

// AwaitStatus waits until an execution has the status and returns it.
func (p *Plane) AwaitStatus(id, status string) Execution {
	p.t.Helper()
	var e Execution
	p.Await(id+" "+status, func() bool {
		if known := p.execs[id]; known != nil && known.Status == status {
			e = *known
			return true
		}
		return false
	})
	return e
}

// Answer is what an agent said to a dispatch. Err is set when the connection broke.
type Answer struct {
	Status int
	Body   string
	Err    error
}

// Dispatch calls an agent as the control plane does, with further headers as name, value, name, value. It runs until the agent
// answers, ctx ends or the plane crashes.
func (p *Plane) Dispatch(ctx context.Context, target, input, id string, attempt int, pairs ...string) Answer {
	p.mu.Lock()
	life := p.life
	node, function, _ := strings.Cut(target, ".")
	base, kind := p.nodes[node], "/reasoners/"
	if p.skills[target] {
		kind = "/skills/"
	}
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)() //nolint:contextcheck // whichever ends first
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+kind+function, strings.NewReader(input))
	if err != nil {
		return Answer{Err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Execution-ID", id)
	request.Header.Set("X-Attempt", strconv.Itoa(attempt))
	request.Header.Set("X-Execution-Token", fmt.Sprintf("%d.%s", attempt, id))
	for i := 0; i+1 < len(pairs); i += 2 {
		request.Header.Set(pairs[i], pairs[i+1])
	}
	response, err := p.client.Do(request)
	if err != nil {
		return Answer{Err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Body: string(bytes.TrimSpace(body)), Err: err}
}

func (p *Plane) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/nodes/register", p.register)
	mux.HandleFunc("PATCH /api/v1/nodes/{id}/status", p.renew)
	mux.HandleFunc("POST /api/v1/nodes/{id}/shutdown", p.shutdown)
	mux.HandleFunc("POST /api/v1/execute/async/{target}", p.submit)
	mux.HandleFunc("POST /api/v1/execute/{target}", p.execute)
	mux.HandleFunc("GET /api/v1/executions/{id}", p.show)
	mux.HandleFunc("POST /api/v1/executions/{id}/status", p.report)
	mux.HandleFunc("POST /api/v1/executions/{id}/progress", p.progress)
	mux.HandleFunc("POST /api/v1/executions/{id}/request-approval", p.requestApproval)
	mux.HandleFunc("GET /api/v1/executions/{id}/approval-status", p.approvalStatus)
	mux.HandleFunc("POST /api/v1/webhooks/approval", p.decide)
	mux.HandleFunc("POST /api/v1/executions/note", p.note)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down, intercept := p.down, p.intercept
		p.mu.Unlock()
		if down {
			panic(http.ErrAbortHandler) // the connection breaks
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		seen := Request{Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone()}
		_ = json.Unmarshal(body, &seen.Body) // tests that look at the body see that it is empty
		p.change(func() { p.requests = append(p.requests, seen) })
		if intercept == nil || !intercept(w, r) {
			mux.ServeHTTP(w, r)
		}
	})
}

// Reply writes a JSON answer.
func Reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func read(r *http.Request, into any) { _ = json.NewDecoder(r.Body).Decode(into) }

func (p *Plane) register(w http.ResponseWriter, r *http.Request) {
	var node struct {
		ID     string `json:"id"`
		Base   string `json:"base_url"`
		Skills []struct {
			ID string `json:"id"`
		} `json:"skills"`
	}
	read(r, &node)
	p.change(func() {
		p.nodes[node.ID] = node.Base
		for _, skill := range node.Skills {
			p.skills[node.ID+"."+skill.ID] = true
		}
	})
	Reply(w, http.StatusCreated, map[string]any{"success": true, "message": "Node registered successfully", "node_id": node.ID, "node_token": "node_" + node.ID})
}

func (p *Plane) known(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nodes[id] != ""
}

func (p *Plane) renew(w http.ResponseWriter, r *http.Request) {
	if !p.known(r.PathValue("id")) {
		Reply(w, http.StatusNotFound, map[string]any{"error": "node not found"})
		return
	}
	Reply(w, http.StatusOK, map[string]any{"lease_seconds": 300})
}

func (p *Plane) shutdown(w http.ResponseWriter, _ *http.Request) {
	Reply(w, http.StatusAccepted, map[string]any{"lease_seconds": 0, "message": "shutdown acknowledged"})
}

// accept stores and dispatches a submit, or finds the execution of an earlier one with the same key.
func (p *Plane) accept(ctx context.Context, r *http.Request) (e Execution, ok bool) {
	var body struct {
		Input json.RawMessage `json:"input"`
		Retry struct {
			MaxAttempts int `json:"max_attempts"`
		} `json:"retry"`
	}
	read(r, &body)
	key, target := r.Header.Get("Idempotency-Key"), r.PathValue("target")
	node, _, _ := strings.Cut(target, ".")
	fresh := false
	p.change(func() {
		if id := p.byKey[key]; id != "" {
			e, ok = *p.execs[id], true
			return
		}
		if ok = p.nodes[node] != ""; !ok {
			return
		}
		e = Execution{
			ID: fmt.Sprintf("exec_%d", len(p.order)+1), Target: target, Status: "queued", Header: r.Header.Clone(), Input: body.Input,
		}
		stored := e
		p.execs[e.ID] = &stored
		p.order = append(p.order, e.ID)
		if key != "" {
			p.byKey[key] = e.ID
		}
		fresh = true
	})
	if fresh {
		p.dispatch.Go(func() { p.work(context.WithoutCancel(ctx), e, max(body.Retry.MaxAttempts, 1)) })
	}
	return e, ok
}

// work dispatches an execution until it succeeds or has no attempts left.
func (p *Plane) work(ctx context.Context, e Execution, attempts int) {
	run := e.Header.Get("X-Run-ID")
	if run == "" {
		run = "run_of_" + e.ID
	}
	pairs := []string{"X-Run-ID", run, "X-Workflow-ID", run}
	for _, name := range []string{"X-Workflow-ID", "X-Session-ID", "X-Actor-ID", "X-Parent-Execution-ID", "X-Caller-Agent-ID", "Traceparent"} {
		if value := e.Header.Get(name); value != "" {
			pairs = append(pairs, name, value)
		}
	}
	for attempt := 1; attempt <= attempts; attempt++ {
		p.update(e.ID, func(e *Execution) { e.Status, e.Attempts = "running", attempt })
		answer := p.Dispatch(ctx, e.Target, string(e.Input), e.ID, attempt, pairs...)
		if answer.Err != nil {
			return // what happens now is the test's affair
		}
		if answer.Status < 300 {
			p.update(e.ID, func(e *Execution) { e.Status, e.Result = "succeeded", json.RawMessage(answer.Body) })
			return
		}
		var said struct{ Error string }
		_ = json.Unmarshal([]byte(answer.Body), &said)
		if attempt == attempts {
			p.update(e.ID, func(e *Execution) { e.Status, e.Error = "failed", said.Error })
		}
	}
}

func (p *Plane) update(id string, f func(*Execution)) {
	p.change(func() {
		if e := p.execs[id]; e != nil {
			f(e)
		}
	})
}

func (p *Plane) submit(w http.ResponseWriter, r *http.Request) {
	e, ok := p.accept(r.Context(), r)
	if !ok {
		Reply(w, http.StatusNotFound, map[string]any{"error": "Unknown target", "details": "no such node", "code": "target_not_found"})
		return
	}
	Reply(w, http.StatusAccepted, map[string]any{"execution_id": e.ID, "status": "queued", "target": e.Target})
}

func (p *Plane) execute(w http.ResponseWriter, r *http.Request) {
	e, ok := p.accept(r.Context(), r)
	if !ok {
		Reply(w, http.StatusNotFound, map[string]any{"error": "Unknown target", "details": "no such node", "code": "target_not_found"})
		return
	}
	Reply(w, http.StatusOK, p.waitFor(r, e.ID, "waiting"))
}

func (p *Plane) show(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	e := p.execs[r.PathValue("id")]
	p.mu.Unlock()
	if e == nil {
		Reply(w, http.StatusNotFound, map[string]any{"error": "execution not found"})
		return
	}
	Reply(w, http.StatusOK, p.waitFor(r, r.PathValue("id"), ""))
}

// waitFor returns the execution as GET shows it, when it has ended, has the other status, or the client has waited for long enough.
func (p *Plane) waitFor(r *http.Request, id, other string) map[string]any {
	wait, err := time.ParseDuration(r.URL.Query().Get("wait"))
	if err != nil {
		wait = patience
	}
	limit := time.After(wait)
	for {
		p.mu.Lock()
		e, changed, life := *p.execs[id], p.changed, p.life
		body := map[string]any{"execution_id": e.ID, "status": e.Status, "error": e.Error, "result": e.Result}
		if a := p.open(id); a != nil {
			body["waiting_for"] = map[string]any{"type": "approval", "approval_request_id": a.ID, "approval_request_url": p.reviewPage(a.ID)}
		}
		p.mu.Unlock()
		if e.Status == other || e.Status == "succeeded" || e.Status == "failed" || e.Status == "cancelled" || e.Status == "timeout" {
			return body
		}
		select {
		case <-changed:
		case <-limit:
			return body
		case <-life.Done():
			panic(http.ErrAbortHandler)
		}
	}
}

func (p *Plane) report(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Status string          `json:"status"`
		Result json.RawMessage `json:"result"`
		Error  string          `json:"error"`
	}
	read(r, &body)
	id := r.PathValue("id")
	p.change(func() {
		if p.execs[id] == nil {
			p.execs[id] = &Execution{ID: id}
			p.order = append(p.order, id)
		}
		p.execs[id].Status, p.execs[id].Result, p.execs[id].Error = body.Status, body.Result, body.Error
	})
	Reply(w, http.StatusOK, map[string]any{"execution_id": id, "status": body.Status})
}

func (p *Plane) progress(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Progress float64 `json:"progress"`
		Message  string  `json:"message"`
	}
	read(r, &body)
	p.update(r.PathValue("id"), func(e *Execution) {
		e.Progress = append(e.Progress, fmt.Sprintf("%.2f %s", body.Progress, body.Message))
	})
	Reply(w, http.StatusOK, map[string]any{"success": true})
}

func (p *Plane) note(w http.ResponseWriter, r *http.Request) {
	var body struct{ Message string }
	read(r, &body)
	p.update(r.Header.Get("X-Execution-ID"), func(e *Execution) { e.Notes = append(e.Notes, body.Message) })
	Reply(w, http.StatusOK, map[string]any{"success": true, "note": map[string]any{"message": body.Message}})
}
