// Package fairness lets one caller queue far more than an agent can do and looks at how long another waits, and offers a burst to an agent
// with a cap while it looks at how many executions are running. Its one invariant: a caller's wait is what the agent saw, the time from the
// request to the arrival of its call.
package fairness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// Options say how greedy the first caller is and how much the agent does.
type Options struct {
	Binary      string
	PostgresURL string
	Queued      int // executions that the greedy caller has in the queue
	Asks        int // executions that the other one asks for, one a second
	Cap         int // executions the agent works on at once
	Burst       int // executions of the burst
}

// ErrBroken is returned when a promise was broken.
var ErrBroken = errors.New("a promise was broken")

const (
	work       = 50 * time.Millisecond // of one execution
	pickup     = time.Second           // what the modest caller may wait, at its p95
	submitters = 32
)

// replicas are the servers under test: two on PostgreSQL, which share nothing but it.
type replicas struct {
	store   *server.Store
	servers []*server.Server
	clients []*client.Client
}

func start(ctx context.Context, options Options) (*replicas, error) {
	store, err := server.NewStore(ctx, options.PostgresURL)
	if err != nil {
		return nil, err
	}
	r := &replicas{store: store}
	n := 1
	if store.Postgres() {
		n = 2
	}
	for i := range n {
		s, err := server.Start(ctx, server.Settings{Binary: options.Binary, Store: store, Name: "replica-" + strconv.Itoa(i), Env: []string{
			"AGENTFIELD_NODE_DEPTH=" + strconv.Itoa(2*options.Queued+options.Burst), "AGENTFIELD_QUEUE_DEPTH=" + strconv.Itoa(3*options.Queued+options.Burst),
			"AGENTFIELD_NODE_CONCURRENCY=" + strconv.Itoa(options.Cap),
		}})
		if err != nil {
			r.close()
			return nil, err
		}
		api := client.New(s.URL)
		r.servers, r.clients = append(r.servers, s), append(r.clients, api)
	}
	return r, nil
}

func (r *replicas) close() {
	for _, api := range r.clients {
		api.Close()
	}
	for _, s := range r.servers {
		_ = s.Kill()
	}
	_ = r.store.Close()
}

// Run does both and prints what it found.
func Run(ctx context.Context, options Options, out io.Writer) error {
	r, err := start(ctx, options)
	if err != nil {
		return err
	}
	defer r.close()
	burst, err := offerBurst(ctx, r, options)
	if err != nil {
		return err
	}
	greedy, err := crowdOut(ctx, r, options)
	if err != nil {
		return err
	}
	engine := "SQLite"
	if r.store.Postgres() {
		engine = "PostgreSQL, two replicas"
	}
	_, _ = fmt.Fprintf(out, "%s, an agent of %s that works on %d at once\n\n", engine, work, options.Cap)
	table := report.NewTable("what", "value", "must be")
	table.Section("one caller has more in the queue than the agent can do, another asks once a second")
	table.Add("executions of the greedy caller in the queue", report.Count(greedy.queued), "≥ "+report.Count(options.Queued-options.Cap))
	table.Add("the other's calls begun after, p50 / p95 / max ms", fmt.Sprintf("%s / %s / %s",
		report.Ms(greedy.waits.Percentile(50)), report.Ms(greedy.waits.Percentile(95)), report.Ms(greedy.waits.Max())), "p95 ≤ "+report.Ms(pickup))
	table.Add("  of them", report.Count(len(greedy.waits)), report.Count(options.Asks))
	table.Section("a burst at the cap")
	table.Add("submits", report.Count(options.Burst), "")
	table.Add("succeeded", report.Count(burst.succeeded), report.Count(options.Burst))
	table.Section("over all of it")
	most := max(burst.most, greedy.most)
	if samples := burst.samples + greedy.samples; samples > 0 {
		table.Add("most running at once by the database", report.Count(most), "≤ "+report.Count(options.Cap))
		table.Add("  samples", report.Count(samples), "")
	}
	table.Add("most calls at the agent at once", report.Count(max(burst.atAgent, greedy.atAgent)), "≤ "+report.Count(options.Cap))
	if err := table.Write(out); err != nil {
		return err
	}
	good := greedy.queued >= options.Queued-options.Cap && len(greedy.waits) == options.Asks && greedy.waits.Percentile(95) <= pickup &&
		burst.succeeded == options.Burst && most <= options.Cap && max(burst.atAgent, greedy.atAgent) <= options.Cap
	if !good {
		_, _ = fmt.Fprintln(out, "FAILED")
		return ErrBroken
	}
	_, err = fmt.Fprintln(out, "ok")
	return err
}

// outcome of one of the two parts.
type outcome struct {
	watched

	atAgent   int
	queued    int
	succeeded int
	waits     report.Durations
}

// busy is an agent that counts its open calls.
type busy struct {
	agent *fake.Agent
	opens chan struct{} // closed when it begins to work on what it has

	mu         sync.Mutex
	open, most int
	arrived    map[string]time.Time // by the name in the input
}

func newBusy(ctx context.Context, r *replicas) (*busy, error) {
	b := &busy{arrived: map[string]time.Time{}, opens: make(chan struct{})}
	var err error
	if b.agent, err = fake.NewAgent("", r.servers[0].URL, fake.Function{Name: "work", Serve: b.serve}); err != nil {
		return nil, err
	}
	answer, err := r.clients[0].Do(ctx, http.MethodPost, "/api/v1/nodes/register", b.agent.Registration())
	if err == nil && answer.Status != http.StatusCreated {
		err = fmt.Errorf("register the agent: %s", answer)
	}
	if err != nil {
		b.agent.Close()
		return nil, err
	}
	return b, nil
}

func (b *busy) serve(_ *fake.Agent, w http.ResponseWriter, r *http.Request, call fake.Arrival) {
	var in struct{ Name string }
	call.Input(&in)
	b.mu.Lock()
	b.open++
	b.most = max(b.most, b.open)
	if in.Name != "" {
		b.arrived[in.Name] = call.At
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open--
	}()
	select {
	case <-b.opens:
	case <-r.Context().Done():
	}
	select {
	case <-time.After(work):
	case <-r.Context().Done():
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"done":true}`)
}

func (b *busy) at(name string) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.arrived[name]
	return at, ok
}

// submitAll sends n submissions as fast as some clients can, to one replica after the other, and returns the ids of those that were taken.
func submitAll(ctx context.Context, r *replicas, call client.Call, n int) ([]string, error) {
	next := make(chan int, n)
	for i := range n {
		next <- i
	}
	close(next)
	var mu sync.Mutex
	var ids []string
	var failure error
	var clients sync.WaitGroup
	for range submitters {
		clients.Go(func() {
			for i := range next {
				answer, err := r.clients[i%len(r.clients)].Submit(ctx, call)
				mu.Lock()
				switch {
				case err != nil:
					failure = err
				case answer.Status != http.StatusAccepted:
					failure = fmt.Errorf("submit: %s", answer)
				default:
					ids = append(ids, answer.Text("execution_id"))
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return ids, failure
}

func offerBurst(ctx context.Context, r *replicas, options Options) (o outcome, err error) {
	b, err := newBusy(ctx, r)
	if err != nil {
		return o, err
	}
	defer b.agent.Close()
	close(b.opens)
	stop := watch(ctx, r.store, b.agent.ID)
	ids, err := submitAll(ctx, r, client.Call{Target: b.agent.Target("work"), Input: map[string]any{}}, options.Burst)
	for _, id := range ids {
		if err != nil {
			break
		}
		var end client.Answer
		if end, err = r.clients[0].End(ctx, id); end.Text("status") == "succeeded" {
			o.succeeded++
		}
	}
	o.watched = stop()
	o.atAgent = b.most
	return o, err
}

func crowdOut(ctx context.Context, r *replicas, options Options) (o outcome, err error) {
	b, err := newBusy(ctx, r)
	if err != nil {
		return o, err
	}
	defer b.agent.Close()
	greedy := client.Call{Target: b.agent.Target("work"), Input: map[string]any{}, Headers: []string{"X-Actor-ID", "greedy"}}
	if _, err := submitAll(ctx, r, greedy, options.Queued); err != nil {
		return o, err
	}
	o.queued = options.Queued - len(b.agent.Arrivals(""))
	stop := watch(ctx, r.store, b.agent.ID)
	close(b.opens)
	for n := range options.Asks {
		name := "modest-" + strconv.Itoa(n)
		asked := time.Now()
		call := client.Call{Target: b.agent.Target("work"), Input: map[string]any{"name": name}, Headers: []string{"X-Actor-ID", "modest"}}
		answer, err := r.clients[n%len(r.clients)].Submit(ctx, call)
		if err == nil && answer.Status != http.StatusAccepted {
			err = fmt.Errorf("submit: %s", answer)
		}
		if err != nil {
			stop()
			return o, err
		}
		time.Sleep(time.Until(asked.Add(time.Second)))
		if at, ok := b.at(name); ok {
			o.waits = append(o.waits, at.Sub(asked))
		} else {
			o.waits = append(o.waits, time.Hour) // it waits still
		}
	}
	o.watched = stop()
	o.atAgent = b.most
	return o, nil
}

// watched is what the database said about running executions.
type watched struct{ samples, most int }

// watch samples how many executions of a node are running, on PostgreSQL; SQLite lets no other program in.
func watch(ctx context.Context, store *server.Store, node string) (stop func() watched) {
	var w watched
	if !store.Postgres() {
		return func() watched { return w }
	}
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		conn, err := pgx.Connect(ctx, store.DatabaseURL)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		for ctx.Err() == nil {
			var n int
			if conn.QueryRow(ctx, "SELECT count(*) FROM executions WHERE node_id = $1 AND status = 'running'", node).Scan(&n) == nil {
				w.samples++
				w.most = max(w.most, n)
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	return func() watched {
		cancel()
		watcher.Wait()
		return w
	}
}
