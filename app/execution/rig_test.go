package execution_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
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

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", rounds); err != nil {
		panic(err)
	}
	dbtest.Main(m)
}

// rig is the service with nodes whose function "f" is a Go handler.
type rig struct {
	*execution.Service
	db      *database.DB
	nodes   *nodes
	hub     *event.Hub
	replica *lease.Replica
}

// nodes is a registry in memory: every node has the same addresses unless set apart, and the cap of its node.
type nodes struct {
	mu     sync.Mutex
	urls   []string
	of     map[string][]string
	cap    int
	usable func(node string) bool
	// idempotent functions may see an execution twice.
	idempotent bool
	resting    atomic.Bool // all breakers are open
	// nodeDepth and depth are the limits of what may wait, set by an operator.
	nodeDepth, depth int
}

func (n *nodes) set(urls ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.urls = urls
}

var errNoSuchFunction = errors.New("no such function")

func (n *nodes) Lookup(_ context.Context, node, function string) (execution.Function, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if function == "missing" {
		return execution.Function{}, errNoSuchFunction
	}
	return execution.Function{NodeID: node, Name: function, Kind: "reasoner", Limited: n.cap > 0, NodeDepth: n.nodeDepth, Depth: n.depth, Idempotent: n.idempotent, Validate: func([]byte) error { return nil }}, nil
}

func (n *nodes) addresses(node string) []string {
	if urls, apart := n.of[node]; apart {
		return urls
	}
	return n.urls
}

func (n *nodes) Claim(f execution.Function, tried map[string]bool, _ bool) (execution.Instance, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.resting.Load() {
		return execution.Instance{}, execution.ErrCircuitOpen
	}
	for _, url := range n.addresses(f.NodeID) {
		if !tried[url] {
			return execution.Instance{ID: url, URL: url + "/reasoners/" + f.Name, Release: func(execution.Reach) {}}, nil
		}
	}
	return execution.Instance{}, execution.ErrNoInstance
}

func (n *nodes) Usable(node string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.usable != nil {
		return n.usable(node)
	}
	return len(n.addresses(node)) > 0
}

func (n *nodes) Addresses(_ context.Context, node string, instance *string) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if instance != nil && slices.Contains(n.addresses(node), *instance) {
		return []string{*instance}, nil
	}
	return n.addresses(node), nil
}

// settings of a rig; the zero value of each field is the ordinary one.
type settings struct {
	agent   http.HandlerFunc
	ttl     time.Duration
	cap     int
	deaf    bool   // nobody is told of any event
	still   bool   // no background work: the test takes each step itself
	mute    bool   // a replica that never renews its lease
	nodes   *nodes // shared by several replicas
	options func(*execution.Options)
}

func newRig(t *testing.T, db *database.DB, agent http.HandlerFunc, change ...func(*execution.Options)) *rig {
	t.Helper()
	return build(t, db, settings{agent: agent, options: func(o *execution.Options) {
		for _, f := range change {
			f(o)
		}
	}})
}

func build(t *testing.T, db *database.DB, with settings) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if with.ttl == 0 {
		with.ttl = 10_000 * time.Hour // so that a test may move the clock without losing the lease
	}
	replica, err := lease.Join(t.Context(), db, with.ttl, log)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := payload.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	n := with.nodes
	if n == nil {
		n = &nodes{cap: with.cap}
	}
	register(t, db, "n", with.cap)
	if with.agent != nil {
		n.set(serve(t, with.agent))
	}
	for _, url := range n.urls {
		dbtest.Change(t, db, `INSERT INTO nodes (id, team_id, group_id, version, deployment, registration, registered_at, updated_at)
			VALUES ('n', '', '', '', 'long_running', '', 0, 0) ON CONFLICT DO NOTHING`)
		dbtest.Change(t, db, `INSERT INTO instances (id, node_id, base_url, version, lifecycle, health, heartbeats, registered_at, heartbeat_at)
			VALUES ($1, 'n', $1, '', 'ready', 'active', true, 0, 0) ON CONFLICT DO NOTHING`, url)
	}
	hub := event.NewHub()
	published := hub
	if with.deaf {
		published = event.NewHub()
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	o := execution.Options{
		DB: db, Events: event.NewLog(published), Hub: hub, Replica: replica, Nodes: n, Client: client, Codec: codec, Log: log,
		TokenKey: []byte("key"), AllowUnsigned: true, Workers: 64, QueueDepth: 100000, NodeDepth: 100000, SyncTimeout: 20 * time.Second,
		MaxTimeout: time.Hour, ResultLimit: 1 << 20, WebhookAttempts: 5, MaxRedeliveries: 10, RedeliveryBackoff: lease.Backoff{First: time.Millisecond, Max: time.Millisecond},
	}
	if with.options != nil {
		with.options(&o)
	}
	s := execution.New(o)
	r := &rig{Service: s, db: db, nodes: n, hub: hub, replica: replica}
	if !with.mute {
		replica.Start()
	}
	if !with.still {
		s.Start()
	}
	t.Cleanup(func() {
		s.Drain(past())
		s.Stop()
		replica.Leave(context.Background())
		client.CloseIdleConnections()
		totalsHold(t, db)
	})
	return r
}

// totalsHold counts every run anew, however the test has treated it, and compares that with what is kept. Replicas that share the
// database are stopped one after the other, so it takes a picture of one instant.
func totalsHold(t *testing.T, db *database.DB) {
	t.Helper()
	rows, err := db.Query(context.Background(), `SELECT r.id, r.status, r.total, r.waiting, r.succeeded, r.failed, r.timeout, r.cancelled, r.roots,
			CASE WHEN r.finished_at IS NULL THEN 0 ELSE 1 END,
			count(*), sum(CASE WHEN e.status = 'waiting' THEN 1 ELSE 0 END), sum(CASE WHEN e.status = 'succeeded' THEN 1 ELSE 0 END),
			sum(CASE WHEN e.status = 'failed' THEN 1 ELSE 0 END), sum(CASE WHEN e.status = 'timeout' THEN 1 ELSE 0 END),
			sum(CASE WHEN e.status = 'cancelled' THEN 1 ELSE 0 END), sum(CASE WHEN e.parent_id IS NULL THEN 1 ELSE 0 END),
			sum(CASE WHEN e.finished_at IS NULL THEN 1 ELSE 0 END),
			max(CASE WHEN e.parent_id IS NOT NULL THEN 0 WHEN e.status = 'failed' THEN 3 WHEN e.status = 'timeout' THEN 2
				WHEN e.status = 'cancelled' THEN 1 ELSE 0 END)
		FROM executions e LEFT JOIN runs r ON r.id = e.run_id GROUP BY r.id, r.status, r.total, r.waiting, r.succeeded, r.failed, r.timeout, r.cancelled,
			r.roots, r.finished_at`)
	if err != nil {
		t.Errorf("count the runs: %v", err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var id, status *string
		var kept, counted [7]*int64
		var over, open, worst *int64
		err := rows.Scan(&id, &status, &kept[0], &kept[1], &kept[2], &kept[3], &kept[4], &kept[5], &kept[6], &over,
			&counted[0], &counted[1], &counted[2], &counted[3], &counted[4], &counted[5], &counted[6], &open, &worst)
		if err != nil {
			t.Errorf("count the runs: %v", err)
			return
		}
		if id == nil {
			t.Error("an execution has no run")
			continue
		}
		for i, name := range []string{"total", "waiting", "succeeded", "failed", "timeout", "cancelled", "roots"} {
			if *kept[i] != *counted[i] {
				t.Errorf("run %s: %s is kept as %d, counted %d", *id, name, *kept[i], *counted[i])
			}
		}
		want := [...]string{"succeeded", "cancelled", "timeout", "failed"}[*worst]
		switch {
		case *open > *counted[1]:
			want = "running"
		case *open > 0:
			want = "waiting"
		}
		if *counted[6] > 0 && *status != want {
			t.Errorf("run %s: the status is %s, its executions make it %s", *id, *status, want)
		}
		if (*over == 1) != (*open == 0) {
			t.Errorf("run %s: finished is %d with %d open executions", *id, *over, *open)
		}
	}
	if err := rows.Err(); err != nil {
		t.Errorf("count the runs: %v", err)
	}
}

// past is a context that has ended.
func past() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// register gives a node its queue, as registration does.
func register(t *testing.T, db *database.DB, node string, limit int) {
	t.Helper()
	dbtest.Change(t, db, `INSERT INTO node_queues (node_id, max_concurrency, max_depth, last_claim_at) VALUES ($1, $2, 0, 0)
		ON CONFLICT (node_id) DO UPDATE SET max_concurrency = excluded.max_concurrency`, node, limit)
}

// serve is an agent on a port of its own.
func serve(t *testing.T, agent http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(agent)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// replicas are two or more control planes on one PostgreSQL, connected by their tails.
func replicas(t *testing.T, c database.Config, with ...settings) []*rig {
	t.Helper()
	rigs := make([]*rig, len(with))
	for i, w := range with {
		rigs[i] = build(t, dbtest.Open(t, c), w)
		tail := event.NewTail(rigs[i].db, rigs[i].hub, slog.New(slog.DiscardHandler), rigs[i].replica.Others, rigs[i].Wake)
		tail.Start()
		t.Cleanup(tail.Stop)
	}
	for _, r := range rigs {
		r.replica.Loop().Wake()
		dbtest.Eventually(t, "the replicas know each other", func() bool { return r.replica.Others() == len(with)-1 })
	}
	return rigs
}

// onPostgres runs fn where TEST_PG_DSN names a server: several replicas share nothing but it.
func onPostgres(t *testing.T, fn func(t *testing.T, c database.Config)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		if c.URL != "" {
			fn(t, c)
		}
	})
}

// clock is real time that a test may put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// eachWithClock is dbtest.Each under a clock that the test holds.
func eachWithClock(t *testing.T, fn func(t *testing.T, db *database.DB, c *clock)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		hands := &clock{}
		c.Clock = hands.now
		fn(t, dbtest.Open(t, c), hands)
	})
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

func accepts(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }

// holding is an agent that reports each call and answers it when told to. Calls whose client goes away end by themselves.
func holding(calls chan *http.Request, answer <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- r
		select {
		case <-answer:
			_, _ = w.Write(body)
		case <-r.Context().Done():
		}
	}
}

func call(input string) execution.Submission {
	return execution.Submission{ID: execution.NewID(), NodeID: "n", Function: "f", Input: []byte(input)}
}

func (r *rig) submit(t *testing.T, sub execution.Submission) string {
	t.Helper()
	started, err := r.Submit(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	return started.Row.ID
}

// finish waits until the execution has ended.
func (r *rig) finish(t *testing.T, id string) execution.Finished {
	t.Helper()
	for range 40 {
		f, err := r.Wait(t.Context(), id, time.Second, "")
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

func (r *rig) row(t *testing.T, id string) *models.Execution {
	t.Helper()
	row, err := r.Row(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// becomes waits until the row has a status.
func (r *rig) becomes(t *testing.T, id string, status models.Status) *models.Execution {
	t.Helper()
	var row *models.Execution
	dbtest.Eventually(t, fmt.Sprintf("%s is %s", id, status), func() bool {
		row = r.row(t, id)
		return row.Status == status
	})
	return row
}

// take claims exactly n executions by hand.
func (r *rig) take(t *testing.T, n int) []execution.Taken {
	t.Helper()
	taken, err := r.Take(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if len(taken) != n {
		t.Fatalf("claimed %d, want %d", len(taken), n)
	}
	return taken
}

func (r *rig) end(t *testing.T, w execution.Taken, o execution.Outcome, text string) {
	t.Helper()
	if err := r.End(w, o, text); err != nil {
		t.Fatal(err)
	}
}

// loseLease is what happens to a replica that could not renew its lease in time.
func (r *rig) loseLease(t *testing.T) {
	t.Helper()
	term := r.replica.Term()
	dbtest.Change(t, r.db, "UPDATE replicas SET expires_at = 0 WHERE id = $1", term.ID)
	r.replica.Loop().Wake()
	<-term.Context().Done()
	dbtest.Eventually(t, "a new term", func() bool { return r.replica.ID() != term.ID })
}

func (r *rig) kinds(t *testing.T, id string) []string {
	t.Helper()
	history, err := r.History(t.Context(), id, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range history {
		kinds = append(kinds, e.Kind[len("execution."):])
	}
	return kinds
}

func wantKinds(t *testing.T, r *rig, id, want string) {
	t.Helper()
	if got := fmt.Sprint(r.kinds(t, id)); got != want {
		t.Errorf("the history of %s is %s, want %s", id, got, want)
	}
}

func wantStatus(t *testing.T, got *models.Execution, want models.Status) {
	t.Helper()
	if got.Status != want {
		reason, message := "", ""
		if got.StatusReason != nil {
			reason = *got.StatusReason
		}
		if got.ErrorMessage != nil {
			message = *got.ErrorMessage
		}
		t.Errorf("%s is %s (%s; %s), want %s", got.ID, got.Status, reason, message, want)
	}
}
