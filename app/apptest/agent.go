package apptest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Call is one call of a function as it reached the agent.
type Call struct {
	ExecutionID string
	Attempt     int
	Token       string // X-Execution-Token, with which the agent reports
	Path        string
	Header      http.Header
	Input       []byte
}

// Function is what an agent does when it is called. The request ends when the server hangs up or the test does.
type Function struct {
	Name   string
	Skill  bool
	Schema string // JSON Schema of the input; empty: none
	Serve  func(w http.ResponseWriter, r *http.Request, call Call)
}

// Agent is one instance of a node, on a port of its own.
type Agent struct {
	ID    string
	URL   string
	Token string // the node token that its registration was answered with

	functions []Function
	others    map[string]http.HandlerFunc
	server    *httptest.Server
	mu        sync.Mutex
	calls     []Call
	notices   []Call
	arrived   chan struct{}
}

// Agent starts an agent and registers it. It stops when the test ends.
func (r *Rig) Agent(t *testing.T, id string, functions ...Function) *Agent {
	t.Helper()
	a := NewAgent(t, id, functions...)
	a.Register(t, r)
	return a
}

// NewAgent starts an agent that nobody knows yet.
func NewAgent(t *testing.T, id string, functions ...Function) *Agent {
	t.Helper()
	a := &Agent{ID: id, functions: functions, arrived: make(chan struct{})}
	a.server = httptest.NewServer(http.HandlerFunc(a.serve))
	a.URL = a.server.URL
	t.Cleanup(a.Close)
	return a
}

// Close drops the open calls and stops listening.
func (a *Agent) Close() {
	a.server.CloseClientConnections()
	a.server.Close()
}

// Registration is the body that makes the agent known; more adds to it or replaces parts.
func (a *Agent) Registration(more map[string]any) map[string]any {
	reasoners, skills := []any{}, []any{}
	for _, f := range a.functions {
		entry := map[string]any{"id": f.Name}
		if f.Schema != "" {
			entry["input_schema"] = json.RawMessage(f.Schema)
		}
		if f.Skill {
			skills = append(skills, entry)
		} else {
			reasoners = append(reasoners, entry)
		}
	}
	body := map[string]any{"id": a.ID, "base_url": a.URL, "version": "1.0.0", "reasoners": reasoners, "skills": skills}
	maps.Copy(body, more)
	return body
}

// Register makes the agent known to the server.
func (a *Agent) Register(t *testing.T, r *Rig, headers ...string) {
	t.Helper()
	answer := r.Do(t, http.MethodPost, "/api/v1/nodes/register", a.Registration(nil), headers...)
	if answer.Status != http.StatusCreated {
		t.Fatalf("register %s: %d %s", a.ID, answer.Status, answer.Body)
	}
	a.Token = answer.Text("node_token")
}

// Serves makes the agent answer at one more path of its own. Call it before anybody asks there.
func (a *Agent) Serves(path string, handler http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.others == nil {
		a.others = map[string]http.HandlerFunc{}
	}
	a.others[path] = handler
}

// Calls are those that have reached the agent, of one execution or, with an empty id, of all.
func (a *Agent) Calls(id string) []Call {
	a.mu.Lock()
	defer a.mu.Unlock()
	return of(a.calls, id)
}

// Called waits until n calls of an execution (of all, with an empty id) have reached the agent, and returns the last of them.
func (a *Agent) Called(t *testing.T, id string, n int) Call {
	t.Helper()
	return a.await(t, "call", func() []Call { return of(a.calls, id) }, n)
}

// Cancelled waits until the agent has been told that an execution was cancelled.
func (a *Agent) Cancelled(t *testing.T, id string) Call {
	t.Helper()
	return a.await(t, "cancel notice", func() []Call { return of(a.notices, id) }, 1)
}

func of(calls []Call, id string) []Call {
	var found []Call
	for _, c := range calls {
		if id == "" || c.ExecutionID == id {
			found = append(found, c)
		}
	}
	return found
}

func (a *Agent) await(t *testing.T, what string, arrivals func() []Call, n int) Call {
	t.Helper()
	limit := time.After(Patience)
	for {
		a.mu.Lock()
		found, arrived := arrivals(), a.arrived
		a.mu.Unlock()
		if len(found) >= n {
			return found[n-1]
		}
		select {
		case <-arrived:
		case <-limit:
			t.Fatalf("agent %s has got %d of %d: %s", a.ID, len(found), n, what)
		}
	}
}

// note keeps an arrival before it is answered, so that what a test does not find was never sent.
func (a *Agent) note(list *[]Call, c Call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*list = append(*list, c)
	close(a.arrived)
	a.arrived = make(chan struct{})
}

func (a *Agent) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	attempt, _ := strconv.Atoi(r.Header.Get("X-Attempt"))
	call := Call{
		ExecutionID: r.Header.Get("X-Execution-ID"), Attempt: attempt, Token: r.Header.Get("X-Execution-Token"),
		Path: r.URL.Path, Header: r.Header.Clone(), Input: body,
	}
	a.mu.Lock()
	other := a.others[r.URL.Path]
	a.mu.Unlock()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case other != nil:
		r.Body = io.NopCloser(bytes.NewReader(body))
		other(w, r)
	case len(parts) == 2 && (parts[0] == "reasoners" || parts[0] == "skills"):
		a.note(&a.calls, call)
		i := slices.IndexFunc(a.functions, func(f Function) bool { return f.Name == parts[1] })
		if i < 0 {
			http.Error(w, "no such function", http.StatusNotFound)
			return
		}
		a.functions[i].Serve(w, r, call)
	case len(parts) == 4 && parts[0] == "_internal" && parts[3] == "cancel":
		call.ExecutionID = parts[2]
		a.note(&a.notices, call)
		_, _ = io.WriteString(w, `{"cancelled":true}`)
	case r.URL.Path == "/status":
		_, _ = io.WriteString(w, `{"status":"running"}`)
	default:
		http.NotFound(w, r)
	}
}

// JSON is a function that answers with a JSON text.
func JSON(name string, status int, text string) Function {
	return Function{Name: name, Serve: func(w http.ResponseWriter, _ *http.Request, _ Call) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}}
}

// Echo is a function that answers with its input.
func Echo(name string) Function {
	return Function{Name: name, Serve: func(w http.ResponseWriter, _ *http.Request, call Call) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(call.Input)
	}}
}

// Taking is a function that takes the call and leaves the report to the test.
func Taking(name string) Function { return JSON(name, http.StatusAccepted, `{"status":"processing"}`) }

// Hanging is a function that never answers.
func Hanging(name string) Function {
	return Function{Name: name, Serve: func(_ http.ResponseWriter, r *http.Request, _ Call) { <-r.Context().Done() }}
}

// Held is a function that answers with JSON once the returned release is called.
func Held(name, text string) (f Function, release func()) {
	open := make(chan struct{})
	f = Function{Name: name, Serve: func(w http.ResponseWriter, r *http.Request, _ Call) {
		select {
		case <-open:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, text)
		case <-r.Context().Done():
		}
	}}
	return f, sync.OnceFunc(func() { close(open) })
}

// Receiver is where webhooks go. The n-th delivery is answered with the n-th status, all further ones with the last.
type Receiver struct {
	URL string

	mu      sync.Mutex
	got     []Call
	arrived chan struct{}
}

// NewReceiver starts a receiver; without statuses it answers 200.
func NewReceiver(t *testing.T, statuses ...int) *Receiver {
	t.Helper()
	if len(statuses) == 0 {
		statuses = []int{http.StatusOK}
	}
	r := &Receiver{arrived: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		r.got = append(r.got, Call{Path: request.URL.Path, Header: request.Header.Clone(), Input: body})
		n := len(r.got)
		close(r.arrived)
		r.arrived = make(chan struct{})
		r.mu.Unlock()
		w.WriteHeader(statuses[min(n, len(statuses))-1])
	}))
	r.URL = server.URL + "/hook"
	t.Cleanup(server.Close)
	return r
}

// Got waits for the n-th delivery. Input is its body.
func (r *Receiver) Got(t *testing.T, n int) Call {
	t.Helper()
	limit := time.After(Patience)
	for {
		r.mu.Lock()
		got, arrived := r.got, r.arrived
		r.mu.Unlock()
		if len(got) >= n {
			return got[n-1]
		}
		select {
		case <-arrived:
		case <-limit:
			t.Fatalf("the receiver has got %d of %d deliveries", len(got), n)
		}
	}
}

// Count is how many deliveries have come.
func (r *Receiver) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}
