package execution_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/payload"
	"github.com/agentfield/agentfield/models"
)

// rig is the service with one node "n" whose function "f" is a Go handler.
type rig struct {
	*execution.Service
	db    *database.DB
	nodes *nodes
}

// nodes is a registry of one node with replaceable addresses.
type nodes struct {
	mu   sync.Mutex
	urls []string
	cap  int
}

func (n *nodes) set(urls ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.urls = urls
}

func (n *nodes) Lookup(_ context.Context, node, function string) (execution.Function, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return execution.Function{NodeID: node, Name: function, Kind: "reasoner", Concurrency: n.cap, Validate: func([]byte) error { return nil }}, nil
}

func (n *nodes) Claim(f execution.Function, tried map[string]bool, _ bool) (execution.Instance, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, url := range n.urls {
		if !tried[url] {
			return execution.Instance{ID: url, URL: url + "/reasoners/" + f.Name, Release: func(execution.Reach) {}}, nil
		}
	}
	return execution.Instance{}, execution.ErrNoInstance
}

func (n *nodes) Usable(string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.urls) > 0
}

func (n *nodes) Addresses(context.Context, string, *string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.urls, nil
}

func newRig(t *testing.T, db *database.DB, agent http.HandlerFunc, change ...func(*execution.Options)) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	replica, err := lease.Join(t.Context(), db, 10*time.Second, log)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := payload.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	// Registration gives each node its queue.
	if err := db.Tx(t.Context(), func(tx *database.Tx) error {
		_, err := tx.Exec(t.Context(), "INSERT INTO node_queues (node_id, max_concurrency, max_depth, last_claim_at) VALUES ('n', 0, 0, 0) ON CONFLICT DO NOTHING")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	n := &nodes{}
	if agent != nil {
		server := httptest.NewServer(agent)
		t.Cleanup(server.Close)
		n.set(server.URL)
	}
	hub := event.NewHub()
	o := execution.Options{
		DB: db, Events: event.NewLog(hub), Hub: hub, Replica: replica, Nodes: n, Client: &http.Client{}, Codec: codec, Log: log,
		TokenKey: []byte("key"), AllowUnsigned: true, Workers: 64, QueueDepth: 100000, NodeDepth: 100000, SyncTimeout: 20 * time.Second,
		MaxTimeout: time.Hour, ResultLimit: 1 << 20, WebhookAttempts: 5, MaxRedeliveries: 10, RedeliveryBackoff: lease.Backoff{First: time.Millisecond, Max: time.Millisecond},
	}
	for _, f := range change {
		f(&o)
	}
	s := execution.New(o)
	replica.Start()
	s.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Drain(ctx)
		s.Stop()
		replica.Leave(context.Background())
	})
	return &rig{Service: s, db: db, nodes: n}
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

func call(input string) execution.Submission {
	return execution.Submission{ID: execution.NewID(), NodeID: "n", Function: "f", Input: []byte(input)}
}

// finish waits until the execution has ended.
func (r *rig) finish(t *testing.T, id string) execution.Finished {
	t.Helper()
	for range 40 {
		f, err := r.Wait(t.Context(), id, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if f.Row.Status.Terminal() {
			return f
		}
	}
	t.Fatalf("%s did not end", id)
	return execution.Finished{}
}

func (r *rig) kinds(t *testing.T, id string) []string {
	t.Helper()
	history, err := r.History(t.Context(), id, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range history {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestSyncAndAsyncGiveTheSameResult(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		f, err := r.Call(t.Context(), call(`{"name":"Alice"}`), false)
		if err != nil {
			t.Fatal(err)
		}
		started, err := r.Submit(t.Context(), call(`{"name":"Alice"}`))
		if err != nil {
			t.Fatal(err)
		}
		g := r.finish(t, started.Row.ID)
		for _, x := range []execution.Finished{f, g} {
			if x.Row.Status != models.Succeeded || string(x.Result) != `{"name":"Alice"}` {
				t.Errorf("got %s %s", x.Row.Status, x.Result)
			}
		}
		if got := fmt.Sprint(r.kinds(t, g.Row.ID)); got != "[execution.queued execution.running execution.succeeded]" {
			t.Errorf("history is %s", got)
		}
	})
}

func TestManyAtOnceAllEndOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				if i%2 == 0 {
					f, err := r.Call(t.Context(), call(`{}`), false)
					if err != nil || f.Row.Status != models.Succeeded {
						t.Errorf("sync: %v %v", f.Row, err)
					}
					return
				}
				started, err := r.Submit(t.Context(), call(`{}`))
				if err != nil {
					t.Errorf("async: %v", err)
					return
				}
				if f := r.finish(t, started.Row.ID); f.Row.Status != models.Succeeded {
					t.Errorf("async ended %s", f.Row.Status)
				}
			})
		}
		wg.Wait()
	})
}
