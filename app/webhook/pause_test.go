package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/models"
)

// outage is a receiver that can be dead: then it hangs up without an answer. It keeps what it took, by the second of the rig's clock.
type outage struct {
	*receiver
	dead atomic.Bool
	mu   sync.Mutex
	ids  map[string]int // how often each was taken
	rate map[int64]int  // taken in each second
}

func newOutage(t *testing.T, now func() time.Time) *outage {
	t.Helper()
	o := &outage{ids: map[string]int{}, rate: map[int64]int{}}
	o.receiver = newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		<-o.calls
		if o.dead.Load() {
			panic(http.ErrAbortHandler)
		}
		o.mu.Lock()
		o.ids[req.Header.Get(headerID)]++
		o.rate[now().Unix()]++
		o.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	return o
}

func (o *outage) host() string { return strings.TrimPrefix(o.URL, "http://") }

func (r *rig) hostNow(name string) HostStatus {
	r.t.Helper()
	list, _, err := r.Hosts(r.t.Context(), name)
	if err != nil || len(list) != 1 {
		r.t.Fatalf("%d hosts, %v", len(list), err)
	}
	return list[0]
}

// settled waits until nothing is due and nothing on its way.
func (r *rig) settled() {
	r.t.Helper()
	limit := time.Now().Add(60 * time.Second)
	for {
		var busy int
		err := r.DB.QueryRow(r.t.Context(), "SELECT count(*) FROM webhook_deliveries WHERE status = 'running' OR (status = 'queued' AND available_at <= $1)", []any{r.DB.NowMs()}, &busy)
		if err != nil {
			r.t.Fatal(err)
		}
		if busy == 0 {
			return
		}
		if time.Now().After(limit) {
			r.t.Fatalf("%d deliveries are stuck", busy)
		}
		r.Wake()
		<-time.After(2 * time.Millisecond)
	}
}

// startByHand starts all but the loop that releases what is held: that has its turn with each tick, so that none falls between two times.
func (r *rig) startByHand() {
	r.t.Helper()
	r.worker.Start()
	r.t.Cleanup(func() { r.worker.Drain(context.Background()) })
}

// tick moves the clock, lets the hosts have their turn, and waits until what is due has been tried.
func (r *rig) tick(d time.Duration) {
	r.t.Helper()
	r.clock.Advance(d)
	if _, err := r.release(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.settled()
}

func TestHostsArePausedAfterTenFailuresAndSomeTime(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		h := &models.WebhookHost{State: Open}
		dead := seen{dead: true, text: "connection refused"}
		for n := range int64(12) {
			if r.observe(h, dead, 1000*n) {
				t.Fatalf("paused after %d failures in %d s", n+1, n)
			}
		}
		r.observe(h, seen{}, 20_000)
		if r.observe(h, dead, 40_000) || h.Failures != 1 {
			t.Errorf("one answer begins the count anew: %+v", h)
		}
		for n := range int64(8) {
			r.observe(h, dead, 41_000+n)
		}
		if !r.observe(h, dead, 70_000) || h.State != Paused || *h.PausedBy != byServer {
			t.Fatalf("%+v", h)
		}
		last := int64(0)
		for n := range 6 {
			wait := *h.ProbeAt - 70_000*int64(n+1)
			if due := min(int64(30_000)<<n, 300_000); wait < due*8/10-1 || wait > due*12/10+1 {
				t.Errorf("probe %d after %d ms, the one before after %d ms", n, wait, last)
			}
			last = wait
			r.observe(h, seen{dead: true, probe: true}, 70_000*int64(n+2))
		}
		r.observe(h, seen{}, 600_000)
		if h.State != Recovering || h.ProbeAt != nil {
			t.Errorf("%+v", h)
		}
		r.observe(h, dead, 601_000)
		r.observe(h, dead, 602_000)
		if !r.observe(h, dead, 603_000) || h.State != Paused {
			t.Errorf("who falls back is paused at once: %+v", h)
		}
	})
}

func TestWhatCountsAsDead(t *testing.T) {
	status := func(n int) outcome { return outcome{status: &n, class: classStatus} }
	for _, c := range []struct {
		o    outcome
		dead bool
	}{
		{status(500), false},
		{status(404), false},
		{status(429), false},
		{status(204), false},
		{status(502), true},
		{status(503), true},
		{status(504), true},
		{outcome{class: classTimeout}, true},
		{outcome{class: classDNS}, true},
		{outcome{class: classRefused}, true},
		{outcome{class: classBlocked}, false},
	} {
		if got := c.o.dead(); got != c.dead {
			t.Errorf("%s: %v", c.o.word(), got)
		}
	}
}

// TestAReceiverThatIsDeadForSixHoursGetsEverythingAfterwards lets a delivery come every minute of an outage, on a clock of its own: none is
// given up for good, few probes are sent, and afterwards all arrive, never more in a second than the rate.
func TestAReceiverThatIsDeadForSixHoursGetsEverythingAfterwards(t *testing.T) {
	const every, hours, rate = time.Minute, 6, 15
	eachRig(t, Config{RecoveryRate: rate}, func(t *testing.T, r *rig) {
		to := newOutage(t, r.clock.Now)
		to.dead.Store(true)
		r.startByHand()
		began := r.clock.Now()
		n := 0
		for r.clock.Now().Sub(began) < hours*time.Hour {
			if r.clock.Now().Sub(began) >= time.Duration(n)*every {
				r.end(fmt.Sprintf("exec_%04d", n), Spec{URL: to.URL + "/hook", Secret: testSecret})
				n++
				r.settled()
			}
			r.tick(5 * time.Second)
		}
		during := int(to.seen.Load())
		h := r.hostNow(to.host())
		counts, err := r.Count(t.Context())
		if err != nil || h.State != Paused || h.Held != n || counts.Held != n || counts.Failed != 0 {
			t.Fatalf("after %d h %d of %d are held, the host is %s, counts %+v, %v", hours, h.Held, n, h.State, counts, err)
		}
		if most := 40 + hours*60/4; during > most {
			t.Errorf("the dead receiver was tried %d times, more than %d", during, most)
		}
		to.dead.Store(false)
		back := r.clock.Now()
		for r.hostNow(to.host()).State != Open {
			r.tick(time.Second)
			if r.clock.Now().Sub(back) > time.Hour {
				t.Fatalf("the host is %+v", r.hostNow(to.host()))
			}
		}
		took := r.clock.Now().Sub(back)
		highest := 0
		for _, taken := range to.rate {
			highest = max(highest, taken)
		}
		twice := 0
		for _, times := range to.ids {
			if times > 1 {
				twice++
			}
		}
		var notDelivered, noted int
		err = r.DB.QueryRow(t.Context(), "SELECT count(*) FROM webhook_deliveries WHERE status <> 'delivered'", nil, &notDelivered)
		if err != nil || notDelivered != 0 || len(to.ids) != n || twice != 0 || highest > rate {
			t.Errorf("%d of %d arrived, %d twice, %d not delivered, %d in a second, %v", len(to.ids), n, twice, notDelivered, highest, err)
		}
		if err := r.DB.QueryRow(t.Context(), "SELECT count(*) FROM webhook_attempts", nil, &noted); err != nil || noted != int(to.seen.Load()) {
			t.Errorf("%d attempts are on record, %d were made, %v", noted, to.seen.Load(), err)
		}
		t.Logf("%d deliveries in %d h of outage, %d attempts meanwhile; all delivered %s after the receiver was back, at most %d in a second", n, hours, during, took, highest)
	})
}

func TestAHostIsPausedAndResumedByHand(t *testing.T) {
	eachRig(t, Config{RecoveryRate: 2}, func(t *testing.T, r *rig) {
		to := newOutage(t, r.clock.Now)
		r.startByHand()
		r.end("exec_0", Spec{URL: to.URL})
		r.settled()
		if err := r.PauseHost(t.Context(), olga, "nowhere.example"); !errors.Is(err, ErrNoHost) {
			t.Errorf("a stranger: %v", err)
		}
		if err := r.ResumeHost(t.Context(), olga, to.host()); !errors.Is(err, ErrHostState) {
			t.Errorf("it is open: %v", err)
		}
		if err := r.PauseHost(t.Context(), olga, to.host()); err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			r.end(fmt.Sprintf("exec_1%d", n), Spec{URL: to.URL})
		}
		r.settled()
		r.tick(24 * time.Hour) // no probe ends what a person has begun
		if h := r.hostNow(to.host()); h.State != Paused || h.Held != 5 || *h.PausedBy != "user:olga" {
			t.Errorf("%+v", h)
		}
		d := r.delivery("exec_10")
		if d.State() != Held || d.Attempt != 0 || r.Plan(&d) != nil {
			t.Errorf("%+v", d)
		}
		if _, err := r.Redeliver(t.Context(), olga, d.ID); !errors.Is(err, ErrHeld) {
			t.Errorf("sent to a host that is paused: %v", err)
		}
		if err := r.ResumeHost(t.Context(), olga, to.host()); err != nil {
			t.Fatal(err)
		}
		for r.hostNow(to.host()).State != Open {
			r.tick(time.Second)
		}
		if len(to.ids) != 6 || slices.Max(slices.Collect(mapValues(to.rate))) > 2 {
			t.Errorf("%d arrived, by second %v", len(to.ids), to.rate)
		}
		if r.entries("webhook_host.paused") != 1 || r.entries("webhook_host.resumed") != 1 {
			t.Error("the audit log does not tell of it")
		}
	})
}

func mapValues(m map[int64]int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestATestReachesAHostThatIsPaused: and if it is answered, the host recovers.
func TestATestReachesAHostThatIsPaused(t *testing.T) {
	eachRig(t, Config{PauseAfter: time.Millisecond}, func(t *testing.T, r *rig) {
		to := newOutage(t, r.clock.Now)
		to.dead.Store(true)
		r.startByHand()
		e, _ := r.subscribe(to.URL, EventCompleted)
		for n := range 5 {
			r.happened(fmt.Sprintf("exec_%d", n), models.Succeeded)
		}
		for r.stateOfHost(to.host()) != Paused {
			r.tick(time.Second)
		}
		to.dead.Store(false)
		if _, err := r.TestEndpoint(t.Context(), olga, e.ID); err != nil {
			t.Fatal(err)
		}
		r.settled()
		for counts := (Counts{Held: 1}); counts != (Counts{}); {
			r.tick(time.Second)
			var err error
			if counts, err = r.Count(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(to.ids) != 6 || r.stateOfHost(to.host()) != Open {
			t.Errorf("%d arrived, the host is %s", len(to.ids), r.stateOfHost(to.host()))
		}
	})
}

// stateOfHost is the state of a host that may not be known yet.
func (r *rig) stateOfHost(name string) string {
	r.t.Helper()
	list, _, err := r.Hosts(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(list) == 0 {
		return ""
	}
	return list[0].State
}
