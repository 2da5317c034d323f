// Package webhooks kills the server while it delivers webhooks to a receiver that often fails, and holds every attempt on record to what
// arrived and to the schedule. Its one invariant: the receiver and the kills are as random as the seed says, and nothing is forgiven that
// no kill explains.
package webhooks

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// Options say how much to deliver, how often to kill, and how bad the receiver is.
type Options struct {
	Binary      string
	PostgresURL string
	Webhooks    int // half of them registered with their executions, half of an endpoint that is told of all
	Kills       int
	Failures    int // percent of the answers: five in six are 500s, the rest never comes
	Seed        uint64
}

// ErrBroken is returned when a promise was broken.
var ErrBroken = errors.New("a promise was broken")

const (
	backoff  = time.Second
	longest  = 30 * time.Second
	timeout  = time.Second
	attempts = 12 // so that a receiver that fails three times in ten takes everything in the end
	slots    = 64 // of the server: what one kill can interrupt
	limit    = 5 * time.Minute
	clients  = 8
	takeover = 5 * time.Second  // until what a dead server held is taken up: its lease, and some
	calm     = 12 * time.Second // after a kill
)

// run is one proof under way.
type run struct {
	options    Options
	server     *server.Server
	api        *client.Client
	receiver   *receiver
	agent      *fake.Agent
	random     *rand.Rand
	executions []string
	away       []outage
	lasted     time.Duration
}

// Run submits, kills, restarts, waits and judges, and prints what it found.
func Run(ctx context.Context, options Options, out io.Writer) error {
	r := &run{options: options, random: rand.New(rand.NewPCG(options.Seed, options.Seed))}
	store, err := server.NewStore(ctx, options.PostgresURL)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	r.server, err = server.Start(ctx, server.Settings{Binary: options.Binary, Store: store, Env: []string{
		"AGENTFIELD_WEBHOOK_BACKOFF=" + backoff.String(), "AGENTFIELD_WEBHOOK_MAX_BACKOFF=" + longest.String(),
		"AGENTFIELD_WEBHOOK_TIMEOUT=" + timeout.String(), "AGENTFIELD_WEBHOOK_MAX_ATTEMPTS=" + strconv.Itoa(attempts), "AGENTFIELD_LEASE_TTL=3s",
	}})
	if err != nil {
		return err
	}
	defer func() { _ = r.server.Kill() }()
	r.api = client.New(r.server.URL)
	defer r.api.Close()
	r.receiver = newReceiver(options.Failures, options.Seed)
	defer r.receiver.close()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	defer r.agent.Close()
	if err := r.deliver(ctx); err != nil {
		return err
	}
	deliveries, err := r.records(ctx)
	if err != nil {
		return err
	}
	return r.print(out, deliveries)
}

func (r *run) prepare(ctx context.Context) (err error) {
	if r.agent, err = fake.NewAgent("", r.server.URL); err != nil {
		return err
	}
	for _, made := range []struct {
		path string
		body any
	}{
		{"/api/v1/nodes/register", r.agent.Registration()},
		{"/api/v1/webhooks/endpoints", map[string]any{"name": "all", "url": r.receiver.url("/all"), "events": []string{"execution.completed", "execution.failed"}}},
	} {
		answer, err := r.api.Do(ctx, http.MethodPost, made.path, made.body)
		if err != nil {
			return err
		}
		if answer.Status != http.StatusCreated {
			return fmt.Errorf("prepare: %s", answer)
		}
	}
	return nil
}

// deliver submits in as many parts as there are kills. Each kill falls while its part is on its way; then the server has a while in which
// nothing keeps it from its schedule.
func (r *run) deliver(ctx context.Context) error {
	began := time.Now()
	numbers := make([]int, r.options.Webhooks/2)
	r.executions = make([]string, len(numbers))
	for n := range numbers {
		numbers[n] = n
	}
	for part := range slices.Chunk(numbers, max(len(numbers)/max(r.options.Kills, 1), 1)) {
		if err := r.submit(ctx, part); err != nil {
			return err
		}
		if len(r.away) == r.options.Kills {
			continue
		}
		if err := r.receiver.await(ctx, 1+r.random.IntN(len(part))); err != nil {
			return err
		}
		if err := r.kill(ctx); err != nil {
			return err
		}
		time.Sleep(calm)
	}
	return r.awaitAll(ctx, began)
}

func (r *run) awaitAll(ctx context.Context, began time.Time) error {
	for {
		answer, err := r.api.Do(ctx, http.MethodGet, "/api/v1/webhooks.ndjson", nil)
		if err != nil {
			return err
		}
		open := r.options.Webhooks - bytes.Count(answer.Body, []byte(`"state":"delivered"`)) - bytes.Count(answer.Body, []byte(`"state":"failed"`))
		if open <= 0 || time.Since(began) > limit {
			r.lasted = time.Since(began)
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (r *run) submit(ctx context.Context, numbers []int) error {
	next := make(chan int, len(numbers))
	for _, n := range numbers {
		next <- n
	}
	close(next)
	failures := make(chan error, clients)
	var submitters sync.WaitGroup
	for range clients {
		submitters.Go(func() {
			for n := range next {
				answer, err := r.api.Submit(ctx, client.Call{
					Target: r.agent.Target("echo"), Input: map[string]any{"n": n},
					Fields: map[string]any{"webhook": map[string]any{"url": r.receiver.url("/own"), "secret": "a secret of the proof"}},
				})
				if err == nil && answer.Status != http.StatusAccepted {
					err = fmt.Errorf("submit: %s", answer)
				}
				if err != nil {
					failures <- err
					return
				}
				r.executions[n] = answer.Text("execution_id")
			}
		})
	}
	submitters.Wait()
	close(failures)
	return <-failures
}

func (r *run) kill(ctx context.Context) error {
	o := outage{from: time.Now()}
	if err := r.server.Kill(); err != nil {
		return err
	}
	if err := r.server.Restart(ctx); err != nil {
		return err
	}
	o.until = time.Now().Add(takeover)
	r.away = append(r.away, o)
	return nil
}

// records reads all deliveries with their attempts.
func (r *run) records(ctx context.Context) ([]delivery, error) {
	answer, err := r.api.Do(ctx, http.MethodGet, "/api/v1/webhooks.ndjson", nil)
	if err != nil {
		return nil, err
	}
	var all []delivery
	lines := bufio.NewScanner(bytes.NewReader(answer.Body))
	for lines.Scan() {
		var d delivery
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return nil, fmt.Errorf("read a delivery: %w", err)
		}
		one, err := r.api.Do(ctx, http.MethodGet, "/api/v1/webhooks/"+d.ID, nil)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(one.Body, &d); err != nil {
			return nil, fmt.Errorf("read %s: %w", one, err)
		}
		all = append(all, d)
	}
	return all, lines.Err()
}

func (r *run) print(out io.Writer, deliveries []delivery) error {
	v := judge(r.executions, []string{r.receiver.url("/own"), r.receiver.url("/all")}, deliveries, r.receiver.ids(), r.away, schedule{backoff, longest, time.Second})
	engine := "SQLite"
	if r.options.PostgresURL != "" {
		engine = "PostgreSQL"
	}
	_, _ = fmt.Fprintf(out, "%s, %s webhooks to a receiver that fails %d %%, %d × kill -9, seed %d\n\n",
		engine, report.Count(r.options.Webhooks), r.options.Failures, len(r.away), r.options.Seed)
	most := slots * len(r.away)
	table := report.NewTable("what", "count", "must be")
	for _, line := range []struct {
		what string
		n    int
		must string
	}{
		{"delivered", len(deliveries) - v.undelivered, report.Count(r.options.Webhooks)},
		{"never announced", v.missing, "0"},
		{"under more than one webhook-id", v.doubled, "0"},
		{"arrived at the receiver", r.receiver.count(), ""},
		{"attempts on record", v.attempts, ""},
		{"  that failed", v.failed, ""},
		{"  logs with a gap or without a success at their end", v.brokenLogs, "0"},
		{"arrived, and a kill came before the record", v.unrecorded, "≤ " + report.Count(most)},
		{"pauses between two attempts", v.pauses, ""},
		{"  shorter than the schedule less 20 %", v.early, "0"},
		{"  longer than the schedule and 20 %, and 1 s", v.late, "0"},
		{"  longer because of a kill in between", v.across, ""},
	} {
		table.Add(line.what, report.Count(line.n), line.must)
	}
	table.Add("all delivered within", r.lasted.Round(100*time.Millisecond).String(), "≤ "+limit.String())
	if err := table.Write(out); err != nil {
		return err
	}
	for _, problem := range v.problems {
		_, _ = fmt.Fprintln(out, "  ", problem)
	}
	if !v.good(most) {
		_, _ = fmt.Fprintln(out, "FAILED")
		return ErrBroken
	}
	_, err := fmt.Fprintln(out, "ok")
	return err
}

// receiver takes webhooks in a bad mood.
type receiver struct {
	server *httptest.Server

	mu       sync.Mutex
	random   *rand.Rand
	failures int
	arrived  map[string][]string // webhook-ids by execution and address
	n        int
	changed  chan struct{}
}

func newReceiver(failures int, seed uint64) *receiver {
	r := &receiver{random: rand.New(rand.NewPCG(seed, 1)), failures: failures, arrived: map[string][]string{}, changed: make(chan struct{})}
	r.server = httptest.NewServer(http.HandlerFunc(r.take))
	return r
}

func (r *receiver) url(path string) string { return r.server.URL + path }

func (r *receiver) close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Execution string `json:"execution_id"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		return // killed in the middle of the request
	}
	r.mu.Lock()
	mood := r.random.IntN(600)
	key := body.Execution + " " + r.url(req.URL.Path)
	r.arrived[key] = append(r.arrived[key], req.Header.Get("Webhook-Id"))
	r.n++
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	switch {
	case mood < r.failures*5:
		w.WriteHeader(http.StatusInternalServerError)
	case mood < r.failures*6:
		<-req.Context().Done() // never answers
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// await waits until so many more have arrived, or for as long as the longest pause.
func (r *receiver) await(ctx context.Context, more int) error {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	until := r.count() + more
	for {
		r.mu.Lock()
		n, changed := r.n, r.changed
		r.mu.Unlock()
		if n >= until {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func (r *receiver) ids() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	copied := make(map[string][]string, len(r.arrived))
	for key, ids := range r.arrived {
		copied[key] = slices.Clone(ids)
	}
	return copied
}
