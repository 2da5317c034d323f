package instances

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
)

// sickness is how an instance fails its calls.
type sickness int32

const (
	well sickness = iota
	fails
	hangs
	refuses // nobody listens at its address
)

func (s sickness) String() string {
	return [...]string{"is well", "answers 500", "hangs", "refuses connections"}[s]
}

// instance is one copy of the agent.
type instance struct {
	name  string
	agent *fake.Agent
	ill   *atomic.Int32
}

// Its functions: the first may see a call twice, the second may not.
const (
	repeatable = "repeatable"
	once       = "once"
)

const work = 20 * time.Millisecond

func newInstance(address, node, name, controlPlane string) (*instance, error) {
	c := &instance{name: name, ill: &atomic.Int32{}}
	var err error
	c.agent, err = fake.NewAgentAt(address, node, controlPlane,
		fake.Function{Name: repeatable, Tags: []string{"idempotent"}, Serve: c.serve}, fake.Function{Name: once, Serve: c.serve})
	return c, err
}

func (c *instance) serve(_ *fake.Agent, w http.ResponseWriter, r *http.Request, call fake.Arrival) {
	switch sickness(c.ill.Load()) {
	case fails:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case hangs:
		<-r.Context().Done()
		return
	case well, refuses:
	}
	select {
	case <-time.After(work):
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(call.Body)
}

// fleet starts and registers three instances of a new node.
func fleet(ctx context.Context, api *client.Client) ([]*instance, error) {
	var all []*instance
	node := ""
	for n := range 3 {
		c, err := newInstance("127.0.0.1:0", node, "copy-"+strconv.Itoa(n), api.Base)
		if err == nil {
			all, node = append(all, c), c.agent.ID
			err = register(ctx, api, c)
		}
		if err != nil {
			dismiss(all)
			return nil, err
		}
	}
	return all, nil
}

func dismiss(all []*instance) {
	for _, c := range all {
		c.agent.Close()
	}
}

// fallIll makes one of three instances sick for a while, and cures it.
func fallIll(ctx context.Context, api *client.Client, ill sickness, options Options) (outcome, error) {
	all, err := fleet(ctx, api)
	if err != nil {
		return outcome{}, err
	}
	defer func() { dismiss(all) }()
	o := outcome{ill: ill}
	stop := callSteadily(ctx, api, all[0].agent.Target(repeatable), options.Rate)
	pause(ctx, 2*time.Second)
	sick := all[2]
	before := len(sick.agent.Arrivals(""))
	sick.ill.Store(int32(ill))
	if ill == refuses {
		sick.agent.Close()
	}
	pause(ctx, options.Sick)
	arrivals := sick.agent.Arrivals("")[before:]
	cured := time.Now()
	sick.ill.Store(int32(well))
	if ill == refuses {
		if all[2], err = newInstance(sick.agent.Address(), sick.agent.ID, sick.name, api.Base); err != nil {
			all = all[:2]
			return o, err
		}
	}
	o.back = awaitCalls(ctx, all[2], cured)
	o.calls = stop()
	o.begun, o.probes = judge(arrivals, ill.failsAfter())
	return o, nil
}

// Calls may last callLimit. Of a function that may see them twice, an instance gets half of that.
const callLimit = 10 * time.Second

// failsAfter is how long a call takes to fail.
func (s sickness) failsAfter() time.Duration {
	if s == hangs {
		return callLimit / 2
	}
	return 0
}

// enough failures in a row have an instance left alone.
const enough = 5

// judge splits what reached a sick instance into what it took to notice, which is until so many calls have failed, and the most that
// reached it in any ten seconds afterwards.
func judge(arrivals []fake.Arrival, failsAfter time.Duration) (begun, probes int) {
	if len(arrivals) < enough {
		return len(arrivals), 0
	}
	noticed := arrivals[enough-1].At.Add(failsAfter + 500*time.Millisecond)
	for i, a := range arrivals {
		if a.At.Before(noticed) {
			begun++
			continue
		}
		n := 0
		for _, later := range arrivals[i:] {
			if later.At.Sub(a.At) < probeEvery-100*time.Millisecond { // the two clocks are read at different moments
				n++
			}
		}
		probes = max(probes, n)
	}
	return begun, probes
}

// awaitCalls returns how long it took until the instance got ten calls again, 0 for never.
func awaitCalls(ctx context.Context, c *instance, since time.Time) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, backWithin+5*time.Second)
	defer cancel()
	n := 0
	for seen := 1; ; seen++ {
		arrivals := c.agent.AwaitArrivals(ctx, "", seen)
		if len(arrivals) < seen {
			return 0
		}
		if arrivals[seen-1].At.After(since) {
			n++
		}
		if n == 10 {
			return time.Since(since)
		}
	}
}

// calls is what callers have seen.
type calls struct {
	sent     int
	failures []string
}

// callSteadily calls at a fixed rate, however long the answers take. The returned function stops it and waits for the last answers.
func callSteadily(ctx context.Context, api *client.Client, target string, rate int) (stop func() calls) {
	var seen calls
	var mu sync.Mutex
	var open, caller sync.WaitGroup
	ended := make(chan struct{})
	call := client.Call{Target: target, Input: map[string]any{"n": 1}, Fields: map[string]any{"timeout_seconds": callLimit.Seconds()}}
	caller.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			open.Go(func() {
				answer, err := api.Execute(ctx, call)
				mu.Lock()
				defer mu.Unlock()
				seen.take(answer, err)
			})
		}
	})
	return func() calls {
		close(ended)
		caller.Wait()
		open.Wait()
		return seen
	}
}

func (c *calls) take(answer client.Answer, err error) {
	c.sent++
	switch {
	case err != nil:
		c.failures = append(c.failures, err.Error())
	case answer.Text("status") != "succeeded":
		c.failures = append(c.failures, answer.String())
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
