package conformance

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

// gate is a function that holds every call until it is opened.
type gate struct {
	open chan struct{}
	held atomic.Int32
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) function() fake.Function {
	return fake.Function{Name: "gate", Serve: func(_ *fake.Agent, w http.ResponseWriter, r *http.Request, _ fake.Arrival) {
		g.held.Add(1)
		select {
		case <-g.open:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"held":true}`))
		case <-r.Context().Done():
		}
	}}
}

func thousandsInFlight(t *Trial) {
	const held, taken = 2500, 2500
	s := t.Own(workers+"6000", nodeDepth+"10000")
	g := newGate()
	a := t.Agent(g.function())
	started := make([]string, held+taken)
	t.Pool(64, len(started), func(i int) {
		function := "gate"
		if i%2 == 1 {
			function = "later"
		}
		started[i] = t.Start(call(a, function, fields{}))
	})
	a.AwaitArrivals(t.ctx, "", len(started))
	t.True(int(g.held.Load()) == held, "%d calls held open at once, got %d", held, g.held.Load())
	rss, err := s.RSS()
	t.Must(err)
	close(g.open)
	t.Pool(32, taken, func(i int) {
		t.Status(t.Report(started[2*i+1], fields{"status": "succeeded"}), http.StatusOK)
	})
	t.Pool(16, len(started), func(i int) { t.Is(t.End(started[i]), "status", "succeeded") })
	t.Pool(16, 200, func(i int) { t.oneTerminalEvent(started[i*25]) })
	t.True(len(a.Arrivals("")) == len(started), "each called once, got %d calls for %d", len(a.Arrivals("")), len(started))
	t.Notef("%.0f MB with 5,000 in flight", float64(rss)/1e6)
}

// steadyRate submits at a rate that does not depend on the answers.
func steadyRate(t *Trial) {
	a := t.Agent()
	t.Pool(16, 200, func(int) { t.Start(call(a, "echo", fields{})) })
	t.Within(50*time.Millisecond, "p99 at 500/s", func() time.Duration { return t.submitAtRate(a, 500, 1500).Percentile(99) })
}

func (t *Trial) submitAtRate(a *fake.Agent, perSecond, n int) report.Durations {
	var mu sync.Mutex
	var took report.Durations
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for range n {
		<-tick.C
		all.Go(func() {
			answer, err := t.api.Submit(t.ctx, call(a, "echo", fields{}))
			if err != nil || answer.Status != http.StatusAccepted {
				t.Failf("expected 202 at %d/s, got %s %v", perSecond, answer, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, answer.Took)
		})
	}
	all.Wait()
	return took
}

// nodeShareIsBounded submits to a node that works on one execution at a time until its share is full.
func nodeShareIsBounded(t *Trial) {
	t.Own(nodeCap+"1", nodeDepth+"20", serverDepth+"1000")
	a, quiet := t.Agent(), t.Agent()
	g := newGate()
	busy := t.Agent(g.function())
	accepted := t.fill(busy, 60)
	t.True(len(accepted) >= 20 && len(accepted) <= 22, "about 21 accepted (20 waiting, 1 running), got %d", len(accepted))
	listed, err := t.api.ListAll(t.ctx, "node", busy.ID)
	t.Must(err)
	t.True(len(listed) == len(accepted), "no row for a refused one: %d accepted, %d in the list", len(accepted), len(listed))
	refused := t.TrySubmit(call(busy, "gate", fields{}))
	t.Refused(refused, http.StatusTooManyRequests, "agent_queue_full")
	t.Is(refused, "error_category", "concurrency_limit")
	t.Refused(t.Execute(call(busy, "gate", fields{})), http.StatusTooManyRequests, "agent_queue_full")
	for _, other := range []*fake.Agent{a, quiet} {
		t.Is(t.End(t.Start(call(other, "echo", fields{}))), "status", "succeeded")
	}
	close(g.open)
	for _, id := range accepted {
		t.Is(t.End(id), "status", "succeeded")
	}
}

// fill submits n calls of "gate" and returns the accepted ones.
func (t *Trial) fill(a *fake.Agent, n int) []string {
	var accepted []string
	for range n {
		answer := t.TrySubmit(call(a, "gate", fields{}))
		switch answer.Status {
		case http.StatusAccepted:
			accepted = append(accepted, answer.Text("execution_id"))
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			t.True(answer.Header.Get("Retry-After") != "", "Retry-After on %s", answer)
		default:
			t.Fatalf("expected 202, 429 or 503, got %s", answer)
		}
	}
	return accepted
}

func serverQueueIsBounded(t *Trial) {
	t.Own(nodeCap+"1", nodeDepth+"1000", serverDepth+"30")
	g := newGate()
	one, two := t.Agent(g.function()), t.Agent(g.function())
	accepted := append(t.fill(one, 25), t.fill(two, 25)...)
	t.True(len(accepted) >= 30 && len(accepted) <= 34, "about 32 accepted (30 waiting, 2 running), got %d", len(accepted))
	refused := t.TrySubmit(call(two, "gate", fields{}))
	t.Refused(refused, http.StatusServiceUnavailable, "queue_full")
	listed, err := t.api.ListAll(t.ctx)
	t.Must(err)
	t.True(len(listed) == len(accepted), "no row for a refused one: %d accepted, %d in the list", len(accepted), len(listed))
	close(g.open)
	for _, id := range accepted {
		t.Is(t.End(id), "status", "succeeded")
	}
}

// overload offers far more than a small queue takes, for a while.
func overload(t *Trial) {
	s := t.Own(nodeCap+"5", nodeDepth+"100")
	a := t.Agent()
	var accepted ids
	var refused atomic.Int32
	until := time.Now().Add(4 * time.Second)
	t.Together(16, func(int) {
		for time.Now().Before(until) {
			answer := t.TrySubmit(call(a, "sleep", fields{"ms": 20}))
			switch answer.Status {
			case http.StatusAccepted:
				accepted.add(answer.Text("execution_id"))
			case http.StatusTooManyRequests, http.StatusServiceUnavailable:
				refused.Add(1)
				if answer.Header.Get("Retry-After") == "" {
					t.Failf("expected Retry-After on %s", answer)
				}
			default:
				t.Failf("expected 202, 429 or 503, got %s", answer)
			}
		}
	})
	peak, err := s.PeakRSS()
	t.Must(err)
	drains := time.Now()
	t.Pool(16, len(accepted.all()), func(i int) { t.Is(t.End(accepted.all()[i]), "status", "succeeded") })
	t.True(time.Since(drains) < 5*time.Second, "the 100 that wait, 20 ms each and 5 at once, to end within 5 s, they took %s",
		time.Since(drains).Round(100*time.Millisecond))
	t.True(refused.Load() > int32(len(accepted.all())), "more refused than accepted, else this was no overload: %d and %d", refused.Load(), len(accepted.all()))
	t.True(peak < 200e6, "memory below 200 MB, the peak was %.0f MB", float64(peak)/1e6)
	t.Notef("%d accepted, %d refused, peak %.0f MB", len(accepted.all()), refused.Load(), float64(peak)/1e6)
}

func quietAgentIsServed(t *Trial) {
	t.Own(nodeCap+"20", nodeDepth+"5000")
	noisy, quiet := t.Agent(), t.Agent()
	idle := t.waits(quiet, 40)
	limit := max(2*idle.Percentile(95), 50*time.Millisecond)
	t.Notef("p95 wait idle %s ms", report.Ms(idle.Percentile(95)))
	t.Within(limit, "p95 wait beside a noisy agent", func() time.Duration {
		t.Pool(32, 1500, func(int) { t.Start(call(noisy, "sleep", fields{"ms": 20})) })
		busy := t.waits(quiet, 40)
		left, err := t.api.List(t.ctx, "node", noisy.ID, "status", "queued", "limit", "1")
		t.Must(err)
		t.True(len(client.ListedIDs(left)) == 1, "the noisy agent to have a queue still")
		return busy.Percentile(95)
	})
}

func keyKeepsOrder(t *Trial) {
	a := t.Agent()
	const n = 20
	var ids [n]string
	for i := range ids {
		c := call(a, "sleep", fields{"ms": 10})
		c.Fields = fields{"concurrency": fields{"key": "customer-7"}}
		ids[i] = t.Start(c)
	}
	for _, id := range ids {
		t.Is(t.End(id), "status", "succeeded")
	}
	seen := a.Arrivals("")
	t.True(len(seen) == n, "%d calls, got %d", n, len(seen))
	for i := range seen {
		t.True(seen[i].ExecutionID == ids[i], "execution %d of the key to come at its turn", i+1)
		t.True(i == 0 || seen[i].At.Sub(seen[i-1].At) >= 10*time.Millisecond, "execution %d to begin after the end of the one before", i+1)
	}
}

// waits measures n times how long an execution takes from submit to the agent.
func (t *Trial) waits(a *fake.Agent, n int) report.Durations {
	var waits report.Durations
	for range n {
		began := time.Now()
		id := t.Start(call(a, "echo", fields{}))
		seen := a.AwaitArrivals(t.ctx, id, 1)
		if len(seen) == 0 {
			t.Fatalf("expected %s to reach the agent", id)
		}
		waits = append(waits, seen[0].At.Sub(began))
		t.Pause(10 * time.Millisecond)
	}
	return waits
}

func largeValues(t *Trial) {
	s := t.Own()
	a := t.Agent()
	before, err := s.RSS()
	t.Must(err)
	answer := t.Execute(call(a, "huge", fields{"megabytes": 10}))
	t.Status(answer, http.StatusOK)
	t.Is(answer, "status", "succeeded")
	t.True(len(answer.Text("result.blob")) == 10<<20, "10 MiB of result back, got %d bytes", len(answer.Text("result.blob")))
	t.True(len(t.Get(answer.Text("execution_id")).Text("result.blob")) == 10<<20, "10 MiB of result from the store")
	t.tooLarge(a)
	refused := t.Execute(call(a, "huge", fields{"megabytes": 100}))
	t.Is(refused, "status", "failed")
	peak, err := s.PeakRSS()
	t.Must(err)
	t.True(peak < before+200e6, "memory bounded while 100 MB pass by, it rose from %.0f to %.0f MB", float64(before)/1e6, float64(peak)/1e6)
	t.Notef("peak %.0f MB", float64(peak)/1e6)
}

// tooLarge sends 100 MB. A server may answer before it has read all, and then the sender's connection breaks: ask again with a body
// that is only announced.
func (t *Trial) tooLarge(a *fake.Agent) {
	body := append(append([]byte(`{"input":{"blob":"`), bytes.Repeat([]byte("x"), 100<<20)...), `"}}`...)
	ctx, cancel := context.WithTimeout(t.ctx, 20*time.Second)
	defer cancel()
	answer, err := t.api.Do(ctx, http.MethodPost, "/api/v1/execute/"+a.Target("echo"), body, "Expect", "100-continue")
	if err == nil {
		t.Refused(answer, http.StatusRequestEntityTooLarge, "payload_too_large")
	} else {
		t.True(strings.Contains(err.Error(), "broken pipe") || strings.Contains(err.Error(), "reset"), "413 or a closed connection, got %v", err)
	}
	t.True(len(a.Arrivals("")) <= 1, "the agent not to be called with 100 MB")
	t.Status(t.Do(http.MethodGet, "/livez", nil), http.StatusOK)
}
