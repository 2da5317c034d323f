package execution_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// gate counts how many calls of an agent are open at once.
type gate struct {
	open, most atomic.Int64
}

func (g *gate) enter() {
	n := g.open.Add(1)
	for {
		most := g.most.Load()
		if n <= most || g.most.CompareAndSwap(most, n) {
			return
		}
	}
}

func (g *gate) counted(agent http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.enter()
		defer g.open.Add(-1)
		agent(w, r)
	}
}

// neverAbove samples what the database says about the calls of a node while a test runs.
func neverAbove(t *testing.T, db *database.DB, limit int) (stop func() (samples int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var samples, most int
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			var n int
			if db.QueryRow(ctx, "SELECT count(*) FROM executions WHERE node_id = 'n' AND status = 'running'", nil, &n) == nil {
				samples++
				most = max(most, n)
			}
		}
	}()
	return func() int {
		cancel()
		<-ended
		if most > limit {
			t.Errorf("%d executions were running at once, the cap is %d", most, limit)
		}
		return samples
	}
}

func TestACapIsNeverExceededAndEveryEndMakesRoomAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var g gate
		r := build(t, db, settings{agent: g.counted(echo), cap: 2})
		sampled := neverAbove(t, db, 2)
		begun := time.Now()
		var ids []string
		for range 40 {
			ids = append(ids, r.submit(t, call(`{}`)))
		}
		for _, id := range ids {
			wantStatus(t, r.finish(t, id).Row, models.Succeeded)
		}
		if sampled() == 0 {
			t.Error("nothing was sampled")
		}
		if g.most.Load() > 2 {
			t.Errorf("the agent had %d calls at once", g.most.Load())
		}
		// Twenty rounds of two calls that take no time: a claim that waited for the poll after each would take twenty seconds.
		if took := time.Since(begun); took > 8*time.Second {
			t.Errorf("took %s: the end of a call did not let the next one in", took)
		}
	})
}

func TestACapHoldsOverReplicas(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		var g gate
		with := settings{cap: 5, nodes: &nodes{cap: 5}}
		with.nodes.set(serve(t, g.counted(echo)))
		two := replicas(t, c, with, with)
		sampled := neverAbove(t, two[0].db, 5)
		var wg sync.WaitGroup
		ids := make([]string, 100)
		for i := range ids {
			wg.Go(func() { ids[i] = two[i%2].submit(t, call(`{}`)) })
		}
		wg.Wait()
		for i, id := range ids {
			wantStatus(t, two[(i+1)%2].finish(t, id).Row, models.Succeeded)
		}
		if n := sampled(); n < 20 {
			t.Errorf("only %d samples", n)
		}
		if g.most.Load() > 5 {
			t.Errorf("the agent had %d calls at once", g.most.Load())
		}
	})
}

func TestASyncCallToACappedNodeTakesItsTurn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var g gate
		r := build(t, db, settings{agent: g.counted(echo), cap: 1})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				f, err := r.Call(t.Context(), call(`{}`), false)
				if err != nil {
					t.Error(err)
					return
				}
				wantStatus(t, f.Row, models.Succeeded)
			})
		}
		wg.Wait()
		if g.most.Load() > 1 {
			t.Errorf("the agent had %d calls at once", g.most.Load())
		}
	})
}

// One worker, one node with a long queue and one with a short one that came later: the short one is not made to wait for the long one.
func TestALongQueueDoesNotStarveAShortOne(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		for _, node := range []string{"a", "z"} {
			register(t, db, node, 0)
		}
		submit := func(node string, n int) {
			for range n {
				sub := call(`{}`)
				sub.NodeID = node
				r.submit(t, sub)
			}
		}
		r.nodes.set("http://127.0.0.1:1")
		for _, greedy := range []string{"a", "z"} {
			quiet := map[string]string{"a": "z", "z": "a"}[greedy]
			submit(greedy, 60)
			submit(quiet, 5)
			served, claims := 0, 0
			for ; served < 5; claims++ {
				if claims > 30 {
					t.Fatalf("after %d claims %d of 5 executions of %s were taken while %s had a long queue", claims, served, quiet, greedy)
				}
				for _, w := range r.take(t, 1) {
					if r.row(t, w.ID()).NodeID == quiet {
						served++
					}
					r.end(t, w, execution.Answers, "null")
				}
			}
			drainQueue(t, r)
		}
	})
}

func drainQueue(t *testing.T, r *rig) {
	t.Helper()
	for {
		taken, err := r.Take(t.Context(), 64)
		if err != nil {
			t.Fatal(err)
		}
		if len(taken) == 0 {
			return
		}
		for _, w := range taken {
			r.end(t, w, execution.Answers, "null")
		}
	}
}

func TestTheQueueOfANodeIsTakenInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		var want []string
		for range 20 {
			want = append(want, r.submit(t, call(`{}`)))
		}
		for i, id := range want {
			if got := r.take(t, 1)[0].ID(); got != id {
				t.Fatalf("number %d in the queue was not taken at its turn", i)
			}
		}
	})
}

func TestAFullQueueRefusesAndLeavesNoRow(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		const depth, burst = 100, 1000
		r := build(t, db, settings{still: true, options: func(o *execution.Options) { o.NodeDepth = depth }})
		r.nodes.set("http://127.0.0.1:1")
		accepted, refused := submitAll(t, r, burst)
		if accepted != dbtest.Count(t, db, "SELECT count(*) FROM executions") {
			t.Errorf("%d were accepted, %d rows are there", accepted, dbtest.Count(t, db, "SELECT count(*) FROM executions"))
		}
		for table, where := range map[string]string{"execution_payloads": "", "events": " WHERE execution_id IS NOT NULL"} {
			if n := dbtest.Count(t, db, "SELECT count(*) FROM "+table+where); n != accepted {
				t.Errorf("%d rows of %s for %d executions", n, table, accepted)
			}
		}
		if accepted > depth || accepted < depth*9/10 { // what is on its way takes room, too
			t.Errorf("%d were accepted at a depth of %d", accepted, depth)
		}
		for _, err := range refused {
			var full *execution.QueueFullError
			if !errors.As(err, &full) || full.Node != "n" || full.RetryAfter < time.Second || full.RetryAfter > time.Minute {
				t.Fatalf("refused with %v", err)
			}
		}
		drainQueue(t, r)
		if err := r.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.submit(t, call(`{}`)) // there is room again
	})
}

// What an operator has set goes before what the server allows, for the node and for one of its functions.
func TestTheDepthOfANodeAndOfAFunctionIsKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		n := &nodes{nodeDepth: 30, depth: 10}
		r := build(t, db, settings{still: true, nodes: n, options: func(o *execution.Options) { o.NodeDepth = 5 }})
		r.nodes.set("http://127.0.0.1:1")
		var full *execution.QueueFullError
		fill := func(queue string, functions int) (accepted int) {
			for i := range 100 {
				sub := call(`{}`)
				sub.Function = [...]string{"f", "g", "h", "i", "j"}[i%functions]
				if _, err := r.Submit(t.Context(), sub); err == nil {
					accepted++
				} else if !errors.As(err, &full) || full.RetryAfter < time.Second {
					t.Fatalf("refused with %v", err)
				}
			}
			if full == nil || full.Node != queue {
				t.Errorf("the last refusal was for %+v, not for %s", full, queue)
			}
			return accepted
		}
		if n := fill("n.f", 1); n != 10 {
			t.Errorf("%d were accepted for a function of depth 10", n)
		}
		if n := fill("n", 5); n != 20 || dbtest.Count(t, db, "SELECT count(*) FROM executions") != 30 {
			t.Errorf("%d more were accepted for a node of depth 30", n)
		}
		limitDepth(t, db, 10)
		if err := r.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Submit(t.Context(), call(`{}`)); !errors.As(err, &full) {
			t.Errorf("after all were counted: %v", err)
		}
		drainQueue(t, r)
		if err := r.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.submit(t, call(`{}`))
	})
}

func limitDepth(t *testing.T, db *database.DB, depth int) {
	t.Helper()
	dbtest.Change(t, db, `INSERT INTO function_queues (node_id, function, max_concurrency, max_depth, max_per_minute, open_at) VALUES ('n', 'f', 0, $1, 0, 0)`, depth)
}

// A request that is repeated with its key was accepted long ago: the queue being full now does not concern it.
func TestAFullQueueStillKnowsWhatItAccepted(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true, options: func(o *execution.Options) { o.NodeDepth = 3 }})
		r.nodes.set("http://127.0.0.1:1")
		keyed := func(hash string) execution.Submission {
			sub := call(`{}`)
			sub.Key = &models.IdempotencyKey{Scope: "s", Key: "k", BodyHash: hash}
			return sub
		}
		first := keyed("h")
		r.submit(t, first)
		submitAll(t, r, 20)
		again, err := r.Submit(t.Context(), keyed("h"))
		if err != nil || !again.Replayed || again.Row.ID != first.ID {
			t.Errorf("the repetition: %+v %v", again, err)
		}
		var full *execution.QueueFullError
		if _, err := r.Submit(t.Context(), keyed("another body")); !errors.As(err, &full) {
			t.Errorf("another request with the same key: %v", err)
		}
	})
}

func TestAFullServerRefusesAndLeavesNoRow(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		const depth, burst = 100, 500
		r := build(t, db, settings{still: true, options: func(o *execution.Options) { o.QueueDepth = depth }})
		r.nodes.set("http://127.0.0.1:1")
		accepted, refused := submitAll(t, r, burst)
		if n := dbtest.Count(t, db, "SELECT count(*) FROM executions"); n != accepted {
			t.Errorf("%d were accepted, %d rows are there", accepted, n)
		}
		if accepted > depth || accepted < depth*9/10 { // what is on its way takes room, too
			t.Errorf("%d were accepted at a depth of %d", accepted, depth)
		}
		for _, err := range refused {
			var full *execution.QueueFullError
			if !errors.As(err, &full) || full.Node != "" || full.RetryAfter < time.Second {
				t.Fatalf("refused with %v", err)
			}
		}
	})
}

// submitAll submits n executions at once, each to the node "n".
func submitAll(t *testing.T, r *rig, n int) (accepted int, refused []error) {
	t.Helper()
	var wg sync.WaitGroup
	results := make([]error, n)
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			_, results[i] = r.Submit(t.Context(), call(fmt.Sprintf(`{"i":%d}`, i)))
		})
	}
	close(start)
	wg.Wait()
	for _, err := range results {
		if err == nil {
			accepted++
		} else {
			refused = append(refused, err)
		}
	}
	return accepted, refused
}

func TestABurstBelowTheDepthIsAcceptedWhole(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var g gate
		r := build(t, db, settings{agent: g.counted(echo), cap: 10})
		accepted, refused := submitAll(t, r, 300)
		if accepted != 300 {
			t.Fatalf("accepted %d: %v", accepted, refused[0])
		}
		dbtest.Eventually(t, "all have ended", func() bool {
			return dbtest.Count(t, db, "SELECT count(*) FROM executions WHERE status = 'succeeded'") == 300
		})
		if g.most.Load() > 10 {
			t.Errorf("the agent had %d calls at once", g.most.Load())
		}
	})
}

func TestPendingFollowsTheHealthOfTheNode(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		id := r.submit(t, call(`{}`))
		wantStatus(t, r.row(t, id), models.Pending)
		r.nodes.set("http://127.0.0.1:1")
		if err := r.SweepPending(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, id), models.Queued)
		r.nodes.set()
		if err := r.SweepPending(t.Context()); err != nil {
			t.Fatal(err)
		}
		row := r.row(t, id)
		wantStatus(t, row, models.Pending)
		if row.StatusReason == nil || *row.StatusReason != "no healthy instance of n" {
			t.Errorf("the reason is %v", row.StatusReason)
		}
		r.nodes.set("http://127.0.0.1:1")
		if err := r.NodeAvailable(t.Context(), "n"); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, id), models.Queued)
		wantKinds(t, r, id, "[pending queued pending queued]")
	})
}

func TestPendingWorkRunsWhenTheNodeComes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{})
		id := r.submit(t, call(`{}`))
		r.nodes.set(serve(t, echo))
		wantStatus(t, r.finish(t, id).Row, models.Succeeded)
	})
}

// A call that is queued when the last instance dies gives its attempt back and waits; the agent has not failed.
func TestNoInstanceIsNoFailure(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		id := r.submit(t, call(`{}`))
		r.end(t, r.take(t, 1)[0], execution.Unreached, "refused")
		row := r.row(t, id)
		wantStatus(t, row, models.Queued)
		if row.Attempt != 0 || row.Failures != 0 {
			t.Errorf("attempt %d, failures %d", row.Attempt, row.Failures)
		}
	})
}
