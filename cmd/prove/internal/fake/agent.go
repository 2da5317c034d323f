// Package fake plays the other side: agents that behave well or badly, and a webhook receiver. Its one invariant: everything that
// reaches a fake is recorded before it is answered, so what a check finds missing was never sent.
package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Arrival is one call of a function as it reached the agent.
type Arrival struct {
	Function    string
	Kind        string // the path it came by: reasoners or skills
	ExecutionID string
	Attempt     int
	Header      http.Header
	Body        []byte
	At          time.Time
}

// Input reads the body into v.
func (a Arrival) Input(v any) { _ = json.Unmarshal(a.Body, v) }

// Notice is one word of the control plane that an execution was cancelled.
type Notice struct {
	ExecutionID string
	Header      http.Header
	Body        []byte
}

// Function is something a fake agent can do.
type Function struct {
	Name   string
	Skill  bool
	Schema string // JSON Schema of the input, empty for none
	Tags   []string
	Serve  func(a *Agent, w http.ResponseWriter, r *http.Request, call Arrival)
}

// Agent is one instance of a node on a loopback port of its own.
type Agent struct {
	ID           string
	URL          string
	ControlPlane string // where callbacks go

	functions []Function
	server    *http.Server
	client    *http.Client
	life      context.Context
	end       context.CancelFunc
	reports   sync.WaitGroup

	mu       sync.Mutex
	arrivals []Arrival
	notices  []Notice
	attempts map[string]int
	changed  chan struct{}
}

// NewAgent starts an agent with the standard functions and the given ones. An empty id gives it a name of its own.
func NewAgent(id, controlPlane string, extra ...Function) (*Agent, error) {
	return NewAgentAt("127.0.0.1:0", id, controlPlane, extra...)
}

// NewAgentAt is NewAgent at a certain address, as one that comes back after a restart has.
func NewAgentAt(address, id, controlPlane string, extra ...Function) (*Agent, error) {
	if id == "" {
		id = "agent-" + uuid.NewString()[:13]
	}
	life, end := context.WithCancel(context.Background())
	a := &Agent{
		ID: id, ControlPlane: controlPlane, functions: append(Standard(), extra...), client: &http.Client{Timeout: 10 * time.Second},
		life: life, end: end, attempts: map[string]int{}, changed: make(chan struct{}),
	}
	server, url, err := serve(address, http.HandlerFunc(a.serve))
	if err != nil {
		end()
		return nil, fmt.Errorf("start agent %s: %w", id, err)
	}
	a.server, a.URL = server, url
	return a, nil
}

// Close stops listening, drops open calls and waits for reports that are under way.
func (a *Agent) Close() {
	a.end()
	_ = a.server.Close()
	a.reports.Wait()
	a.client.CloseIdleConnections()
}

// Retire is Close after what is under way has been answered, at most as long as ctx lives.
func (a *Agent) Retire(ctx context.Context) {
	_ = a.server.Shutdown(ctx)
	a.Close()
}

// Address is where it listens.
func (a *Agent) Address() string { return strings.TrimPrefix(a.URL, "http://") }

// Target is the name under which callers reach a function of the agent.
func (a *Agent) Target(function string) string { return a.ID + "." + function }

// Registration is the body that makes the agent known to a control plane.
func (a *Agent) Registration() map[string]any {
	reasoners, skills := []any{}, []any{}
	for _, f := range a.functions {
		entry := map[string]any{"id": f.Name}
		if f.Schema != "" {
			entry["input_schema"] = json.RawMessage(f.Schema)
		}
		if len(f.Tags) > 0 {
			entry["tags"] = f.Tags
		}
		if f.Skill {
			skills = append(skills, entry)
		} else {
			reasoners = append(reasoners, entry)
		}
	}
	return map[string]any{"id": a.ID, "base_url": a.URL, "version": "1.0.0", "reasoners": reasoners, "skills": skills}
}

// Arrivals returns the calls that reached the agent so far, of one execution or, with an empty id, of all.
func (a *Agent) Arrivals(executionID string) []Arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	if executionID == "" {
		return slices.Clone(a.arrivals)
	}
	var found []Arrival
	for _, arrival := range a.arrivals {
		if arrival.ExecutionID == executionID {
			found = append(found, arrival)
		}
	}
	return found
}

// AwaitArrivals returns as soon as n calls (of the execution, or of all) have arrived, or with what there is when ctx ends.
func (a *Agent) AwaitArrivals(ctx context.Context, executionID string, n int) []Arrival {
	for {
		changed, count := a.count(executionID)
		if count >= n {
			return a.Arrivals(executionID)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return a.Arrivals(executionID)
		}
	}
}

// AwaitNotice returns the cancel notice of an execution, or false when none has come before ctx ends.
func (a *Agent) AwaitNotice(ctx context.Context, executionID string) (Notice, bool) {
	for {
		changed := a.change()
		a.mu.Lock()
		i := slices.IndexFunc(a.notices, func(n Notice) bool { return n.ExecutionID == executionID })
		var found Notice
		if i >= 0 {
			found = a.notices[i]
		}
		a.mu.Unlock()
		if i >= 0 {
			return found, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Notice{}, false
		}
	}
}

// count tells how many calls have arrived, and hands out what is closed when something more does.
func (a *Agent) count(executionID string) (<-chan struct{}, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if executionID == "" {
		return a.changed, len(a.arrivals)
	}
	n := 0
	for i := range a.arrivals {
		if a.arrivals[i].ExecutionID == executionID {
			n++
		}
	}
	return a.changed, n
}

func (a *Agent) change() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// announce wakes whoever waits for something to arrive; the caller holds the mutex.
func (a *Agent) announce() {
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *Agent) serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) == 2 && (parts[0] == "reasoners" || parts[0] == "skills"):
		a.invoke(w, r, parts[0], parts[1])
	case len(parts) == 4 && parts[0] == "_internal" && parts[3] == "cancel":
		a.cancelled(w, r, parts[2])
	case r.URL.Path == "/status":
		answerJSON(w, http.StatusOK, map[string]any{"status": "running", "node_id": a.ID})
	case r.URL.Path == "/health":
		answerJSON(w, http.StatusOK, map[string]any{"status": "ok"})
	default:
		answerJSON(w, http.StatusNotFound, map[string]any{"error": "no such path"})
	}
}

func (a *Agent) invoke(w http.ResponseWriter, r *http.Request, kind, name string) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	attempt, _ := strconv.Atoi(r.Header.Get("X-Attempt"))
	call := Arrival{
		Function: name, Kind: kind, ExecutionID: r.Header.Get("X-Execution-ID"), Attempt: attempt,
		Header: r.Header.Clone(), Body: body, At: time.Now(),
	}
	a.mu.Lock()
	a.arrivals = append(a.arrivals, call)
	a.announce()
	a.mu.Unlock()
	i := slices.IndexFunc(a.functions, func(f Function) bool { return f.Name == name })
	if i < 0 {
		answerJSON(w, http.StatusNotFound, map[string]any{"error": "no such function"})
		return
	}
	a.functions[i].Serve(a, w, r, call)
}

func (a *Agent) cancelled(w http.ResponseWriter, r *http.Request, id string) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.notices = append(a.notices, Notice{ExecutionID: id, Header: r.Header.Clone(), Body: body})
	a.announce()
	a.mu.Unlock()
	answerJSON(w, http.StatusOK, map[string]any{"cancelled": true, "execution_id": id})
}

// try counts how often an execution was begun here, the present time included.
func (a *Agent) try(executionID string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attempts[executionID]++
	return a.attempts[executionID]
}

// reportLimit is the pause at which an agent gives up repeating a report.
const reportLimit = 10 * time.Second

// Report sends a status callback after a delay, in the background; a refused or failed callback is sent again a few times.
func (a *Agent) Report(executionID string, after time.Duration, report map[string]any) {
	a.reports.Go(func() {
		payload, err := json.Marshal(report)
		if err != nil {
			return
		}
		wait := after
		for again := 100 * time.Millisecond; again < reportLimit; again *= 2 {
			if !sleep(a.life, wait) || a.post("/api/v1/executions/"+executionID+"/status", payload) {
				return
			}
			wait = again
		}
	})
}

func (a *Agent) post(path string, payload []byte) bool {
	req, err := http.NewRequestWithContext(a.life, http.MethodPost, a.ControlPlane+path, bytes.NewReader(payload))
	if err != nil {
		return false
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode < 300
}

func answerJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// sleep waits and tells whether it was let to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
