// Package crash kills the server while it works and looks at what became of everything it had accepted. Its one invariant: a
// submission counts as accepted only when its 202 was read; one whose connection broke is unknown until its repeat is answered.
package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/history"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// Options say how much to submit and how often to kill.
type Options struct {
	Binary      string
	PostgresURL string
	Executions  int
	Kills       int
	Work        time.Duration
	Clients     int
	Seed        uint64
}

// settleLimit is how long everything may take to end after the last restart.
const settleLimit = 30 * time.Second

// ErrBroken is returned when a promise was broken.
var ErrBroken = errors.New("a promise was broken")

// submission is one piece of work to be done.
type submission struct {
	key     string
	worker  *worker
	ids     []string // every id an answer named; more than one is a defect
	unknown bool     // a connection broke before the answer came
}

// run is one crash test under way.
type run struct {
	options     Options
	server      *server.Server
	api         *client.Client
	receiver    *fake.Receiver
	hook        *fake.Hook
	workers     []*worker
	submissions []*submission
	killed      []int // how many were answered at each kill
	restarted   time.Time
	settled     time.Duration
}

// Run submits, kills, restarts, waits and judges, and prints what it found.
func Run(ctx context.Context, options Options, out io.Writer) error {
	r := &run{options: options}
	store, err := server.NewStore(ctx, options.PostgresURL)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	// Repeats of webhooks come soon, so that a delivery that a kill interrupted need not be waited for.
	r.server, err = server.Start(ctx, server.Settings{Binary: options.Binary, Store: store, Env: []string{"AGENTFIELD_WEBHOOK_BACKOFF=500ms"}})
	if err != nil {
		return err
	}
	defer func() { _ = r.server.Kill() }()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	defer r.close()
	if err := r.submitAndKill(ctx); err != nil {
		return err
	}
	if err := r.again(ctx); err != nil {
		return err
	}
	executions, err := r.collect(ctx)
	if err != nil {
		return err
	}
	return r.print(out, executions)
}

func (r *run) prepare(ctx context.Context) (err error) {
	r.api = client.New(r.server.URL)
	if r.receiver, err = fake.NewReceiver(); err != nil {
		return err
	}
	r.hook = r.receiver.Hook()
	for _, m := range []manner{joins, forgets, reports} {
		w, err := newWorker(m, r.options.Work, r.server.URL)
		if err != nil {
			return err
		}
		r.workers = append(r.workers, w)
		answer, err := r.api.Do(ctx, http.MethodPost, "/api/v1/nodes/register", w.agent.Registration())
		if err != nil {
			return err
		}
		if answer.Status != http.StatusCreated {
			return fmt.Errorf("register a fake agent: %s", answer)
		}
	}
	for i := range r.options.Executions {
		r.submissions = append(r.submissions, &submission{key: "crash-" + strconv.Itoa(i), worker: r.workers[i%len(r.workers)]})
	}
	return nil
}

func (r *run) close() {
	for _, w := range r.workers {
		w.agent.Close()
	}
	r.receiver.Close()
	r.api.Close()
}

// submitAndKill sends the work in as many parts as there are kills; each kill falls at a random instant within its part, while the
// submissions of the part go on and those before it run.
func (r *run) submitAndKill(ctx context.Context) error {
	random := rand.New(rand.NewPCG(r.options.Seed, r.options.Seed)) //nolint:gosec // instants of kills, not secrets
	size := (len(r.submissions) + r.options.Kills - 1) / max(r.options.Kills, 1)
	r.restarted = time.Now()
	for part := range slices.Chunk(r.submissions, max(size, 1)) {
		killAfter := max(1, len(part)/4+random.IntN(len(part)/2+1))
		if err := r.submitPart(ctx, part, killAfter); err != nil {
			return err
		}
	}
	return nil
}

// submitPart submits a part; as soon as some of it is answered, the server is killed and started again.
func (r *run) submitPart(ctx context.Context, part []*submission, killAfter int) error {
	next := make(chan *submission, len(part))
	for _, s := range part {
		next <- s
	}
	close(next)
	answered := make(chan error, len(part))
	var submitters sync.WaitGroup
	for range r.options.Clients {
		submitters.Go(func() {
			for s := range next {
				answered <- r.submit(ctx, s)
			}
		})
	}
	var failure error
	for n := 1; n <= len(part); n++ {
		failure = errors.Join(failure, <-answered)
		if n == killAfter && len(r.killed) < r.options.Kills {
			failure = errors.Join(failure, r.kill(ctx))
		}
	}
	submitters.Wait()
	return failure
}

func (r *run) kill(ctx context.Context) error {
	if err := r.server.Kill(); err != nil {
		return err
	}
	r.killed = append(r.killed, len(r.hook.Deliveries()))
	if err := r.server.Restart(ctx); err != nil {
		return err
	}
	r.restarted = time.Now()
	return nil
}

// How long a submission is repeated, and how long it rests in between.
const (
	submitLimit = 30 * time.Second
	submitRest  = 25 * time.Millisecond
)

// submit sends one piece of work until it is accepted: again with the same key after a broken connection, which leaves open whether it
// was taken, and after a refusal for lack of room.
func (r *run) submit(ctx context.Context, s *submission) error {
	call := client.Call{
		Target: s.worker.agent.Target("work"), Input: map[string]any{"key": s.key},
		Fields:  map[string]any{"webhook": map[string]any{"url": r.hook.URL, "secret": "crash-secret"}},
		Headers: []string{"Idempotency-Key", s.key},
	}
	for began := time.Now(); time.Since(began) < submitLimit; time.Sleep(submitRest) {
		answer, err := r.api.Submit(ctx, call)
		switch {
		case err != nil:
			s.unknown = true
		case answer.Status == http.StatusAccepted:
			s.ids = append(s.ids, answer.Text("execution_id"))
			return nil
		case answer.Status != http.StatusTooManyRequests && answer.Status != http.StatusServiceUnavailable:
			return fmt.Errorf("submit: %s", answer)
		}
	}
	return fmt.Errorf("submission %s was not accepted within %s", s.key, submitLimit)
}

// again asks once more for a submission whose first answer broke: the key must lead to the same execution.
func (r *run) again(ctx context.Context) error {
	for _, s := range r.submissions {
		if !s.unknown {
			continue
		}
		if err := r.submit(ctx, s); err != nil {
			return err
		}
		slices.Sort(s.ids)
		s.ids = slices.Compact(s.ids)
	}
	return nil
}

// collect waits for the end of everything and gathers what was seen.
func (r *run) collect(ctx context.Context) ([]history.Execution, error) {
	executions := make([]history.Execution, len(r.submissions))
	for i, s := range r.submissions {
		executions[i] = history.Execution{Key: s.key, IDs: s.ids, HasWebhook: true}
	}
	if err := r.awaitEnds(ctx, executions); err != nil {
		return nil, err
	}
	r.settled = time.Since(r.restarted)
	deliveries := r.awaitDeliveries(ctx, executions)
	for i := range executions {
		e := &executions[i]
		if len(e.IDs) == 0 || !e.Found {
			continue
		}
		events, err := r.api.Events(ctx, e.IDs[0])
		if err != nil {
			return nil, err
		}
		for _, event := range events {
			if client.Terminal(event.Status()) {
				e.Terminals++
			}
		}
		e.Calls, e.Runs, e.EndedAt = r.submissions[i].worker.seen(e.IDs[0], e.Key)
		e.Deliveries = deliveries[e.IDs[0]]
	}
	return executions, nil
}

// awaitEnds reads all executions until they have ended or the limit after the last restart is over.
func (r *run) awaitEnds(ctx context.Context, executions []history.Execution) error {
	for {
		open, err := r.read(ctx, executions)
		if err != nil {
			return err
		}
		if open == 0 || time.Since(r.restarted) > settleLimit {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// read asks for everything that is not known to have ended and returns how much that still is.
func (r *run) read(ctx context.Context, executions []history.Execution) (int, error) {
	var open []*history.Execution
	for i := range executions {
		if e := &executions[i]; len(e.IDs) > 0 && !client.Terminal(e.Status) {
			open = append(open, e)
		}
	}
	left := 0
	for part := range slices.Chunk(open, 500) {
		ids := make([]string, len(part))
		for i, e := range part {
			ids[i] = e.IDs[0]
		}
		answer, err := r.api.BatchStatus(ctx, ids)
		if err != nil {
			return 0, err
		}
		if answer.Status != http.StatusOK {
			return 0, fmt.Errorf("batch status: %s", answer)
		}
		left += take(part, answer)
	}
	return left, nil
}

func take(part []*history.Execution, batch client.Answer) int {
	all, _ := batch.Value("")
	left := 0
	for _, e := range part {
		status, _ := client.Lookup(all, e.IDs[0]+".status")
		word, _ := status.(string)
		e.Found = client.KnownStatus(word)
		e.Status = word
		if !client.Terminal(word) {
			left++
		}
	}
	return left
}

// awaitDeliveries waits until every ended execution has been announced, or the limit after the last restart is over.
func (r *run) awaitDeliveries(ctx context.Context, executions []history.Execution) map[string][]history.Delivery {
	for {
		byID := map[string][]history.Delivery{}
		for _, d := range r.hook.Deliveries() {
			id := d.Field("execution_id")
			byID[id] = append(byID[id], history.Delivery{ID: d.Header.Get("Webhook-Id"), Event: d.Field("event"), Status: d.Field("status"), At: d.At})
		}
		missing := 0
		for _, e := range executions {
			if client.Terminal(e.Status) && len(byID[e.IDs[0]]) == 0 {
				missing++
			}
		}
		if missing == 0 || time.Since(r.restarted) > settleLimit || ctx.Err() != nil {
			return byID
		}
		time.Sleep(100 * time.Millisecond)
	}
}
