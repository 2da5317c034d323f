package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/event"
)

// clock is a time that stands still until it is told to move.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// rig is a registry on a database of its own, with a clock of its own and without background loops: tests run them by hand.
type rig struct {
	*Service
	t         *testing.T
	clock     *clock
	db        *database.DB
	mu        sync.Mutex
	lost      []string // instance ids
	reasons   []string
	available []string // node ids
}

func each(t *testing.T, fn func(t *testing.T, r *rig)) {
	t.Helper()
	eachWith(t, Options{AllowUnsigned: true}, fn)
}

func eachWith(t *testing.T, o Options, fn func(t *testing.T, r *rig)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		r := &rig{t: t, clock: &clock{}}
		r.clock.ms.Store(1_800_000_000_000)
		c.Clock = r.clock.now
		r.db = dbtest.Open(t, c)
		r.Service = r.another(o)
		fn(t, r)
	})
}

// another is a service on the same database, as a second replica has it.
func (r *rig) another(o Options) *Service {
	hub := event.NewHub()
	o.DB, o.Events, o.Hub, o.TokenKey, o.Log = r.db, event.NewLog(hub), hub, []byte("0123456789abcdef"), slog.New(slog.DiscardHandler)
	o.OnInstanceLost = func(_ context.Context, id, reason string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lost, r.reasons = append(r.lost, id), append(r.reasons, reason)
	}
	o.OnAvailable = func(id string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.available = append(r.available, id)
	}
	return New(o)
}

func (r *rig) register(body string) *Registered {
	r.t.Helper()
	reg, err := DecodeRegistration([]byte(body))
	if err != nil {
		r.t.Fatalf("decode %s: %v", body, err)
	}
	done, err := r.Register(r.t.Context(), reg, "10.1.2.3")
	if err != nil {
		r.t.Fatalf("register %s: %v", body, err)
	}
	return done
}

// add registers an instance of "hello" with one reasoner "greet".
func (r *rig) add(baseURL string) string {
	r.t.Helper()
	return r.register(`{"id":"hello","base_url":"` + baseURL + `","reasoners":[{"id":"greet"}]}`).InstanceID
}

func (r *rig) get(nodeID string) *AgentJSON {
	r.t.Helper()
	a, err := r.Service.Get(r.t.Context(), nodeID, "")
	if err != nil {
		r.t.Fatalf("get %s: %v", nodeID, err)
	}
	return a
}

func (r *rig) instance(id string) InstanceJSON {
	r.t.Helper()
	for _, i := range r.get("hello").Instances {
		if i.ID == id {
			return i
		}
	}
	r.t.Fatalf("instance %s is gone", id)
	return InstanceJSON{}
}

func (r *rig) claim() *Claimed {
	r.t.Helper()
	c, err := r.Claim("hello", "greet", nil)
	if err != nil {
		r.t.Fatalf("claim: %v", err)
	}
	return c
}

// settle runs the loop that writes verdicts once.
func (r *rig) settle() {
	r.t.Helper()
	if _, err := r.writeVerdicts(r.t.Context()); err != nil {
		r.t.Fatalf("write verdicts: %v", err)
	}
}

// look runs the probing loop once and writes what came of it.
func (r *rig) look() {
	r.t.Helper()
	if _, err := r.probeDue(r.t.Context()); err != nil {
		r.t.Fatalf("probe: %v", err)
	}
	r.settle()
}

// condemn lets three calls fail.
func (r *rig) condemn() {
	r.t.Helper()
	for range 3 {
		r.claim().Release(Unreachable)
	}
	r.settle()
}

func (r *rig) beats(body string) {
	r.t.Helper()
	b, err := DecodeBeat([]byte(body))
	if err != nil {
		r.t.Fatalf("decode %s: %v", body, err)
	}
	if _, err := r.Heartbeat(r.t.Context(), "hello", b, "10.1.2.3"); err != nil {
		r.t.Fatalf("heartbeat: %v", err)
	}
}

func (r *rig) changes() []string {
	r.t.Helper()
	rows, err := r.db.Query(r.t.Context(), "SELECT data FROM events WHERE kind = 'node.changed' ORDER BY id")
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	var words []string
	for rows.Next() {
		var data string
		if err := rows.Scan(&data); err != nil {
			r.t.Fatal(err)
		}
		var c change
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			r.t.Fatal(err)
		}
		words = append(words, c.Change)
	}
	return words
}

func (r *rig) availableCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.available)
}

// agent is a server that can play dead.
type agent struct {
	*httptest.Server
	dead   atomic.Bool
	health atomic.Int64 // status of /health; 0: 200
	status atomic.Int64 // of /status; 0: 404
	body   string
	asked  atomic.Int64
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{body: `{"status":"ok"}`}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *agent) serve(w http.ResponseWriter, r *http.Request) {
	a.asked.Add(1)
	if a.dead.Load() {
		panic(http.ErrAbortHandler)
	}
	code := int(a.health.Load())
	if r.URL.Path == "/status" {
		if code = int(a.status.Load()); code == 0 {
			code = http.StatusNotFound
		}
	}
	if code == 0 {
		code = http.StatusOK
	}
	w.WriteHeader(code)
	_, _ = w.Write([]byte(a.body))
}
