package conform

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const maxBody = 16 << 20

// plane is a control plane that does nothing but write down what an agent says to it, and answers as a server does.
type plane struct {
	URL    string
	server *http.Server

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced with everything that arrives
	refused    bool          // the first registration was turned away
	node       *registration
	renewed    int
	goodbye    bool
	executions map[string]*execution
}

// registration is what an agent says about itself.
type registration struct {
	ID        string     `json:"id"`
	BaseURL   string     `json:"base_url"`
	Reasoners []function `json:"reasoners"`
	Skills    []function `json:"skills"`
	malformed string
}

type function struct {
	ID     string          `json:"id"`
	Schema json.RawMessage `json:"input_schema"`
}

// execution is one call that is made to the agent, and what it says about it.
type execution struct {
	id, token string
	turnAway  bool     // the first report is answered with 503
	said      []word   // in the order of arrival
	asked     *request // the decision that it asks for
}

type word struct {
	what   string // status, note, progress, logs, request-approval
	token  string
	body   map[string]any
	result json.RawMessage
	turned bool // it was answered with 503
}

type request struct {
	id       string
	callback string
	decided  bool
}

func newPlane(ctx context.Context, listen string) (*plane, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("the control plane of the check cannot listen: %w; choose another address with --listen, and start the agent with it in AGENTFIELD_SERVER", err)
	}
	p := &plane{URL: "http://" + l.Addr().String(), changed: make(chan struct{}), executions: map[string]*execution{}}
	p.server = &http.Server{Handler: p.routes(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.server.Serve(l) }() // ends with close
	return p, nil
}

func (p *plane) close() { _ = p.server.Close() }

func (p *plane) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/nodes", p.register)
	mux.HandleFunc("POST /api/v1/nodes/register", p.register)
	mux.HandleFunc("GET /api/v1/nodes/{node}", p.readNode)
	mux.HandleFunc("PATCH /api/v1/nodes/{node}/status", p.renew)
	mux.HandleFunc("POST /api/v1/nodes/{node}/heartbeat", p.renew)
	mux.HandleFunc("POST /api/v1/nodes/{node}/shutdown", p.leave)
	for _, base := range []string{"/api/v1/executions/{id}", "/api/v1/agents/{node}/executions/{id}"} {
		mux.HandleFunc("POST "+base+"/request-approval", p.ask)
		mux.HandleFunc("GET "+base+"/approval-status", p.approvalStatus)
	}
	mux.HandleFunc("POST /api/v1/executions/{id}/status", p.report)
	mux.HandleFunc("POST /api/v1/executions/{id}/progress", p.hear("progress", http.StatusOK))
	mux.HandleFunc("POST /api/v1/executions/{id}/logs", p.hear("logs", http.StatusAccepted))
	mux.HandleFunc("POST /api/v1/executions/note", p.hear("note", http.StatusOK))
	mux.HandleFunc("POST /api/ui/v1/executions/note", p.hear("note", http.StatusOK))
	for _, path := range []string{"/health", "/api/v1/health", "/readyz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			answer(w, http.StatusOK, map[string]any{"status": "healthy"})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, map[string]any{"error": "endpoint_not_found", "message": r.Method + " " + r.URL.Path + " is not part of the check"})
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the connection is all that can fail
}

// change does something to what is known, and wakes those who wait for it.
func (p *plane) change(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	close(p.changed)
	p.changed = make(chan struct{})
}

// until waits for something to be known; it is false when patience is over.
func (p *plane) until(ctx context.Context, patience time.Duration, holds func() bool) bool {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		p.mu.Lock()
		good, changed := holds(), p.changed
		p.mu.Unlock()
		if good {
			return true
		}
		select {
		case <-changed:
		case <-limit.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// register turns the first one away as a server does that is not ready, and takes the next.
func (p *plane) register(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return
	}
	var node registration
	if err := json.Unmarshal(text, &node); err != nil {
		node.malformed = err.Error()
	}
	first := false
	p.change(func() {
		if first = !p.refused; first {
			p.refused = true
			return
		}
		p.node = &node
	})
	if first {
		answer(w, http.StatusServiceUnavailable, map[string]any{"error": "Not ready", "message": "the check turns the first registration away", "code": "not_ready"})
		return
	}
	answer(w, http.StatusCreated, map[string]any{ //nolint:gosec // a token that opens nothing
		"success": true, "message": "Node registered successfully", "node_id": node.ID, "resolved_base_url": node.BaseURL, "node_token": "node-token-of-the-check",
		"instance_id": "instance-of-the-check", "status": "ready",
	})
}

// registered is the last registration; nil: there was none.
func (p *plane) registered() *registration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// turnedAway reports whether a first registration came.
func (p *plane) turnedAway() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

func (p *plane) readNode(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]any{"id": r.PathValue("node"), "lifecycle_status": "ready", "health_status": "active"})
}

func (p *plane) renew(w http.ResponseWriter, r *http.Request) {
	known := false
	p.change(func() {
		known = p.node != nil && p.node.ID == r.PathValue("node")
		p.renewed++
	})
	if !known {
		answer(w, http.StatusNotFound, map[string]any{"error": "node not found", "code": "node_not_found"})
		return
	}
	answer(w, http.StatusOK, map[string]any{"success": true, "message": "heartbeat received", "lease_seconds": 300, "next_lease_renewal": "2100-01-01T00:00:00.000Z"})
}

func (p *plane) leave(w http.ResponseWriter, _ *http.Request) {
	p.change(func() { p.goodbye = true })
	answer(w, http.StatusAccepted, map[string]any{"lease_seconds": 0, "message": "shutdown acknowledged"})
}

// begin makes an execution known, so that the agent may speak about it.
func (p *plane) begin(turnAway bool) *execution {
	e := &execution{id: "exec_" + strings.ToLower(rand.Text()), token: rand.Text(), turnAway: turnAway}
	p.change(func() { p.executions[e.id] = e })
	return e
}

// listen writes down what is said about an execution. The id comes from the path, the header or the body.
func (p *plane) listen(w http.ResponseWriter, r *http.Request, what string) (*execution, *word) {
	var parts struct {
		Result json.RawMessage `json:"result"`
	}
	spoken := word{what: what, token: r.Header.Get("X-Execution-Token"), body: map[string]any{}}
	if text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err == nil {
		_ = json.Unmarshal(text, &spoken.body) // what is no object shows as one without members
		_ = json.Unmarshal(text, &parts)
	}
	spoken.result = parts.Result
	id := r.PathValue("id")
	for _, other := range []string{r.Header.Get("X-Execution-ID"), r.URL.Query().Get("execution_id"), text(spoken.body["execution_id"])} {
		if id == "" {
			id = other
		}
	}
	var e *execution
	p.change(func() {
		if e = p.executions[id]; e == nil {
			return
		}
		if what == "status" && e.turnAway {
			e.turnAway, spoken.turned = false, true
		}
		e.said = append(e.said, spoken)
	})
	if e == nil {
		answer(w, http.StatusNotFound, map[string]any{"error": "execution not found", "code": "execution_not_found"})
		return nil, nil
	}
	return e, &spoken
}

func text(value any) string {
	s, _ := value.(string)
	return s
}

func (p *plane) hear(what string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if e, _ := p.listen(w, r, what); e != nil {
			answer(w, status, map[string]any{"success": true, "execution_id": e.id, "accepted": 1, "status": "running"})
		}
	}
}

func (p *plane) report(w http.ResponseWriter, r *http.Request) {
	e, spoken := p.listen(w, r, "status")
	switch {
	case e == nil:
	case spoken.turned:
		answer(w, http.StatusServiceUnavailable, map[string]any{"error": "Shutting down", "code": "draining"})
	default:
		answer(w, http.StatusOK, map[string]any{"execution_id": e.id, "run_id": "run_of_the_check", "status": spoken.body["status"]})
	}
}

// ask takes a request for a decision, which nobody but the check will decide.
func (p *plane) ask(w http.ResponseWriter, r *http.Request) {
	e, spoken := p.listen(w, r, "request-approval")
	if e == nil {
		return
	}
	id := text(spoken.body["approval_request_id"])
	if id == "" {
		id = "req_" + strings.ToLower(rand.Text())
	}
	p.change(func() { e.asked = &request{id: id, callback: text(spoken.body["callback_url"])} })
	answer(w, http.StatusOK, map[string]any{
		"approval_request_id": id, "approval_request_url": p.URL + "/approvals/" + id, "approval_id": "appr_of_the_check", "execution_id": e.id,
		"status": "pending", "round": 1, "expires_at": "2100-01-01T00:00:00.000Z",
	})
}

// approvalStatus answers a long poll, too, when it is decided.
func (p *plane) approvalStatus(w http.ResponseWriter, r *http.Request) {
	wait := time.Duration(0)
	if r.URL.Query().Get("wait") != "" {
		wait = 10 * time.Second // any poll may come back early
	}
	var asked request
	found := false
	p.until(r.Context(), wait, func() bool {
		e := p.executions[r.PathValue("id")]
		if found = e != nil && e.asked != nil; found {
			asked = *e.asked
		}
		return !found || asked.decided
	})
	if !found {
		answer(w, http.StatusNotFound, map[string]any{"error": "no_approval_request", "code": "no_approval_request"})
		return
	}
	body := map[string]any{
		"status": "pending", "approval_request_id": asked.id, "approval_id": "appr_of_the_check", "request_url": p.URL + "/approvals/" + asked.id,
		"requested_at": "2026-01-01T00:00:00.000Z", "expires_at": "2100-01-01T00:00:00.000Z",
	}
	if asked.decided {
		body["status"], body["decision"], body["feedback"], body["decided_by"] = "approved", "approved", "go on", "the check"
		body["responded_at"] = "2026-01-01T00:00:00.000Z"
	}
	answer(w, http.StatusOK, body)
}
