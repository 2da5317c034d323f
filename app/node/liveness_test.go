package node

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestCallsAreSpreadEvenly(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for _, url := range []string{"http://a:1", "http://b:1", "http://c:1"} {
			r.add(url)
		}
		served := map[string]int{}
		for range 300 {
			c := r.claim()
			served[c.Instance.BaseURL]++
			c.Release(OK)
		}
		for url, n := range served {
			if n != 100 {
				t.Errorf("%s served %d of 300", url, n)
			}
		}
		busy := r.claim()
		for range 6 {
			c := r.claim()
			if c.Instance.ID == busy.Instance.ID {
				t.Error("a busy instance was chosen before an idle one")
			}
			c.Release(OK)
		}
		busy.Release(OK)
		busy.Release(OK)
		if stats, err := r.Stats(t.Context()); err != nil || len(stats.InFlight) != 0 || stats.Nodes != 1 {
			t.Errorf("after everything was released: %+v %v", stats, err)
		}
	})
}

func TestTriedInstancesAreNotTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		tried := map[string]bool{r.add("http://a:1"): true}
		b := r.add("http://b:1")
		c, err := r.Claim("hello", "greet", tried)
		if err != nil || c.Instance.ID != b {
			t.Fatalf("claimed %+v, %v", c, err)
		}
		tried[b] = true
		if _, err := r.Claim("hello", "greet", tried); !errors.Is(err, ErrNoInstance) {
			t.Errorf("all are tried: %v", err)
		}
		if _, err := r.Claim("nobody", "greet", nil); !errors.Is(err, ErrUnknownNode) || r.Usable("nobody") {
			t.Errorf("unknown node: %v", err)
		}
	})
}

func TestAnInstanceThatIsNotReachedLeavesTheRotation(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a, b := r.add("http://a:1"), r.add("http://b:1")
		tried := map[string]bool{b: true}
		for range 2 {
			c, _ := r.Claim("hello", "greet", tried)
			c.Release(Unreachable)
		}
		c, _ := r.Claim("hello", "greet", tried)
		c.Release(OK) // the row of misses is broken
		for range 3 {
			c, err := r.Claim("hello", "greet", tried)
			if err != nil {
				t.Fatalf("out of rotation too early: %v", err)
			}
			c.Release(Unreachable)
		}
		if _, err := r.Claim("hello", "greet", tried); !errors.Is(err, ErrNoInstance) {
			t.Errorf("out of rotation at once, before anything is written: %v", err)
		}
		r.settle()
		if i := r.instance(a); i.HealthStatus != Inactive || i.HealthReason == nil || i.StoppedAt == nil {
			t.Errorf("stored as %+v", i)
		}
		if !r.Usable("hello") {
			t.Error("the other instance must stay")
		}
		if got := r.changes(); !reflect.DeepEqual(got, []string{"registered", "registered", "unreachable"}) {
			t.Errorf("one change is one event: %v", got)
		}
		last, err := r.ClaimAny("hello", "greet", tried)
		if err != nil || last.Instance.ID != a {
			t.Fatalf("a sync call tries every address: %+v %v", last, err)
		}
		before := r.availableCount()
		last.Release(OK)
		r.settle()
		if i := r.instance(a); i.HealthStatus != Active || i.LifecycleStatus != Ready || i.StoppedAt != nil || r.availableCount() != before+1 {
			t.Errorf("a successful call brings it back: %+v, available %v", i, r.available)
		}
	})
}

func TestCallersMistakesAndFailuresCondemnNobody(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		for range breakAlone - 1 {
			r.claim().Release(AgentError)
			r.claim().Release(Failed)
		}
		r.settle()
		if !r.Usable("hello") {
			t.Error("out of rotation because of answers")
		}
	})
}

func TestServerlessNodesAreAlwaysUsable(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.register(`{"id":"hello","deployment_type":"serverless","invocation_url":"http://fn.example/execute","reasoners":[{"id":"greet"}]}`)
		for range 10 {
			r.claim().Release(Unreachable)
		}
		r.settle()
		r.clock.advance(time.Hour)
		if due, _, err := r.dueProbes(t.Context()); err != nil || len(due) != 0 {
			t.Errorf("nothing to probe there: %v %v", due, err)
		}
		c := r.claim()
		f, err := r.Lookup(t.Context(), "hello", "greet")
		if err != nil || c.Instance.URL(f) != "http://fn.example/execute" || !c.Instance.Serverless {
			t.Errorf("%+v %v", c.Instance, err)
		}
	})
}

func TestURLsOfCalls(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.register(`{"id":"hello","base_url":"http://a:1/x/","reasoners":[{"id":"say hi?"}]}`)
		f, err := r.Lookup(t.Context(), "hello", "say hi?")
		if err != nil {
			t.Fatal(err)
		}
		i := r.claim().Instance
		if got := i.URL(f); got != "http://a:1/x/reasoners/say%20hi%3F" {
			t.Error(got)
		}
		if got := i.CancelURL("exec_1"); got != "http://a:1/x/_internal/executions/exec_1/cancel" {
			t.Error(got)
		}
	})
}

func TestHeartbeatsInEveryForm(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		id := r.add("http://a:1")
		r.clock.advance(time.Second)
		r.beats("")
		if i := r.instance(id); i.HealthStatus != Active || i.LifecycleStatus != Starting {
			t.Errorf("a bare heartbeat is a sign of life: %+v", i)
		}
		r.beats(`{"status":"ready","health_score":"odd","timestamp":5,"extra":{}}`)
		if i := r.instance(id); i.LifecycleStatus != Ready {
			t.Errorf("ready: %+v", i)
		}
		reply, err := r.RenewLease(t.Context(), "hello", Beat{Phase: "degraded"}, "")
		if err != nil || reply.LeaseSeconds != 300 || r.instance(id).HealthStatus != Degraded || !r.Usable("hello") {
			t.Errorf("degraded: %+v %v", reply, err)
		}
		var wrong *InvalidError
		if _, err := r.RenewLease(t.Context(), "hello", Beat{Phase: "flying"}, ""); !errors.As(err, &wrong) || wrong.Message != "unsupported phase: flying" {
			t.Errorf("unknown phase: %v", err)
		}
		if err := r.SetLifecycle(t.Context(), "hello", Beat{LifecycleStatus: "offline"}, ""); err != nil || r.Usable("hello") || len(r.lost) != 0 {
			t.Errorf("offline by its own word, nothing is lost: %v %v", err, r.lost)
		}
		before := r.availableCount()
		if r.beats(`{"status":"ready"}`); !r.Usable("hello") || r.availableCount() != before+1 {
			t.Error("back by its own word")
		}
		if _, err := r.Heartbeat(t.Context(), "nobody", Beat{}, ""); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("unknown node: %v", err)
		}
	})
}

func TestHeartbeatsAreWrittenSeldom(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		id := r.add("http://a:1")
		r.beats(`{"status":"ready"}`)
		events := len(r.changes())
		r.clock.advance(3 * time.Second)
		r.beats("")
		seen := r.instance(id).LastHeartbeat
		r.clock.advance(time.Second)
		r.beats("")
		if got := r.instance(id).LastHeartbeat; got != seen {
			t.Errorf("written again after a second: %s, before %s", got, seen)
		}
		r.clock.advance(time.Second)
		r.beats("")
		if got := r.instance(id).LastHeartbeat; got == seen {
			t.Error("not written after two seconds")
		}
		if len(r.changes()) != events {
			t.Error("plain heartbeats are no events")
		}
	})
}

func TestAHeartbeatIsBelievedOnce(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		r.condemn()
		if r.beats(""); !r.Usable("hello") {
			t.Fatal("a heartbeat brings it back")
		}
		r.condemn()
		if r.beats(`{"status":"ready"}`); r.Usable("hello") {
			t.Error("nothing but heartbeats ever came from there: it must not flap")
		}
		if r.add("http://a:1"); !r.Usable("hello") {
			t.Error("a registration brings it back")
		}
	})
}

func TestReportsOfOneInstanceDoNotTouchItsSiblings(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		one := r.register(`{"id":"hello","base_url":"http://10.1.2.3:1","instance_id":"k1","version":"1"}`).InstanceID
		two := r.register(`{"id":"hello","base_url":"http://10.1.2.4:1","version":"2"}`).InstanceID
		three := r.register(`{"id":"hello","base_url":"http://10.1.2.5:1","version":"2"}`).InstanceID
		state := func() string {
			var words []string
			for _, id := range []string{one, two, three} {
				words = append(words, r.instance(id).LifecycleStatus)
			}
			return strings.Join(words, " ")
		}
		for _, step := range []struct{ key, version, ip, want string }{
			{"k1", "", "", "ready starting starting"},
			{"", "2", "10.1.2.4", "ready ready starting"},
			{three, "", "", "ready ready ready"},
		} {
			b := Beat{Status: Ready, InstanceID: Word(step.key), Version: Word(step.version)}
			if _, err := r.Heartbeat(t.Context(), "hello", b, step.ip); err != nil || state() != step.want {
				t.Errorf("%+v: %s (%v)", step, state(), err)
			}
		}
		if _, err := r.Shutdown(t.Context(), "hello", Farewell{}, "10.9.9.9"); err != nil || state() != "ready ready ready" {
			t.Errorf("a farewell of nobody in particular: %s %v", state(), err)
		}
		if due, next, err := r.dueProbes(t.Context()); err != nil || len(due) != 0 || next == 0 {
			t.Errorf("probes will find out who left: due %d, next %d, %v", len(due), next, err)
		}
		if _, err := r.Shutdown(t.Context(), "hello", Farewell{InstanceID: "k1"}, ""); err != nil || state() != "offline ready ready" {
			t.Errorf("its own farewell: %s %v", state(), err)
		}
		if _, err := r.Shutdown(t.Context(), "hello", Farewell{InstanceID: "k1"}, ""); err != nil || !reflect.DeepEqual(r.lost, []string{one}) {
			t.Errorf("repeated: lost %v, %v", r.lost, err)
		}
	})
}

func TestAHeartbeatThatWasUnderWayDoesNotUndoAShutdown(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		reply, err := r.Shutdown(t.Context(), "hello", Farewell{Reason: "shutdown"}, "")
		if err != nil || reply.LeaseSeconds != 0 || reply.Message != "shutdown acknowledged" {
			t.Fatalf("%+v %v", reply, err)
		}
		if r.beats(`{"status":"ready"}`); r.Usable("hello") {
			t.Error("late words brought it back")
		}
		r.clock.advance(lastWords)
		if r.beats(`{"status":"ready"}`); !r.Usable("hello") {
			t.Error("it lives, and must come back")
		}
	})
}

func TestProbesBringAnInstanceBack(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := newAgent(t)
		a.dead.Store(true)
		r.add(a.URL)
		r.condemn()
		if r.look(); a.asked.Load() != 0 {
			t.Error("probed before a second had passed")
		}
		r.clock.advance(time.Second)
		r.look()
		asked := a.asked.Load()
		if asked == 0 || r.Usable("hello") {
			t.Fatalf("asked %d times, usable %v", asked, r.Usable("hello"))
		}
		if r.look(); a.asked.Load() != asked {
			t.Error("probed again without a pause")
		}
		a.dead.Store(false)
		before := r.availableCount()
		r.clock.advance(12 * time.Second)
		if r.look(); !r.Usable("hello") || r.availableCount() != before+1 {
			t.Error("it answers and is still out of rotation")
		}
		asked = a.asked.Load()
		r.clock.advance(time.Hour)
		if r.look(); a.asked.Load() != asked {
			t.Error("an active instance that sends no heartbeats is left in peace")
		}
	})
}

func TestAnInstanceThatJustRegisteredIsLookedAt(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := newAgent(t)
		id := r.add(a.URL)
		if r.look(); a.asked.Load() != 0 {
			t.Error("some agents begin to listen after they have registered")
		}
		r.clock.advance(time.Second)
		if r.look(); r.instance(id).HealthStatus != Active || r.instance(id).LifecycleStatus != Ready {
			t.Errorf("%+v", r.instance(id))
		}
	})
}

func TestSilenceLeadsToAProbeNotToAVerdict(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := newAgent(t)
		id := r.register(`{"id":"hello","base_url":"` + a.URL + `","communication_config":{"heartbeat_interval":"5s"}}`).InstanceID
		r.beats(`{"status":"ready"}`)
		r.clock.advance(14 * time.Second)
		if r.look(); a.asked.Load() != 0 {
			t.Error("three intervals have not passed")
		}
		r.clock.advance(2 * time.Second)
		if r.look(); a.asked.Load() != 1 || r.instance(id).HealthStatus != Active {
			t.Errorf("asked %d, %+v", a.asked.Load(), r.instance(id))
		}
		if r.look(); a.asked.Load() != 1 {
			t.Error("the answer was a sign of life: no second probe")
		}
		a.dead.Store(true)
		for range 3 {
			if !r.Usable("hello") {
				t.Fatal("condemned too early")
			}
			r.clock.advance(16 * time.Second)
			r.look()
		}
		if r.Usable("hello") {
			t.Error("silent and not answering: out of rotation")
		}
	})
}

func TestWhatCountsAsAGoodProbe(t *testing.T) {
	cases := []struct {
		name           string
		health, status int64
		body           string
		good           bool
	}{
		{"health", 200, 0, `{"status":"ok"}`, true},
		{"only status", 404, 200, `{"status":"running","node_id":"hello"}`, true},
		{"neither, but it answers", 404, 404, "", true},
		{"sick", 503, 404, "", false},
		{"sick but running", 503, 200, `{"status":"running"}`, true},
		{"sick both ways", 503, 500, "", false},
		{"someone else", 200, 0, `{"status":"running","node_id":"other"}`, false},
	}
	each(t, func(t *testing.T, r *rig) {
		for _, c := range cases {
			a := newAgent(t)
			a.body = c.body
			a.health.Store(c.health)
			a.status.Store(c.status)
			if problem := r.ask(t.Context(), &Instance{NodeID: "hello", BaseURL: a.URL}); (problem == "") != c.good {
				t.Errorf("%s: %q", c.name, problem)
			}
		}
	})
}

func TestRefreshAsksAtOnce(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := newAgent(t)
		r.add(a.URL)
		status, err := r.Refresh(t.Context(), "hello")
		if err != nil || status.Status.State != Active || status.Status.HealthScore != 100 {
			t.Fatalf("%+v %v", status, err)
		}
		bulk, err := r.BulkStatus(t.Context(), []string{"hello", "nobody"})
		if err != nil || bulk.Success || bulk.Failed != 1 || bulk.Results["hello"] != status.Status {
			t.Errorf("%+v %v", bulk, err)
		}
	})
}

func TestEverythingAtOnce(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.add("http://a:1")
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				for k := range 25 {
					if k%5 == 0 {
						reg := Registration{ID: "hello", BaseURL: "http://a:1", Reasoners: []FunctionEntry{{ID: "greet"}}}
						if n%2 == 0 {
							reg.BaseURL = "http://b:1"
						}
						if _, err := r.Register(t.Context(), reg, ""); err != nil {
							t.Errorf("register: %v", err)
						}
					}
					if _, err := r.Lookup(t.Context(), "hello", "greet"); err != nil {
						t.Errorf("lookup: %v", err)
					}
					c, err := r.ClaimAny("hello", "greet", nil)
					if errors.Is(err, ErrCircuitOpen) {
						continue
					}
					if err != nil {
						t.Errorf("claim: %v", err)
						continue
					}
					c.Release(Outcome((n + k) % 4))
					if _, err := r.Heartbeat(t.Context(), "hello", Beat{Status: Ready}, ""); err != nil {
						t.Errorf("heartbeat: %v", err)
					}
					if _, err := r.writeVerdicts(t.Context()); err != nil {
						t.Errorf("verdicts: %v", err)
					}
				}
			})
		}
		wg.Wait()
		if stats, err := r.Stats(t.Context()); err != nil || len(stats.InFlight) != 0 {
			t.Errorf("%+v %v", stats, err)
		}
	})
}

// The loops themselves, with the real clock: an instance dies and comes back without anybody's help.
func TestTheLoopsDoItByThemselves(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")) // GORM never ends its own
	each(t, func(t *testing.T, r *rig) {
		a := newAgent(t)
		s := r.another(Options{AllowUnsigned: true, HealthCheckInterval: 50 * time.Millisecond})
		back := make(chan struct{}, 8)
		s.o.OnAvailable = func(string) { back <- struct{}{} }
		tick := r.clock.advance
		s.Start()
		defer s.Stop()
		if _, err := s.Register(t.Context(), Registration{ID: "hello", BaseURL: a.URL}, ""); err != nil {
			t.Fatal(err)
		}
		<-back
		for range 3 {
			c, err := s.Claim("hello", "greet", nil)
			if err != nil {
				t.Fatal(err)
			}
			c.Release(Unreachable)
		}
		tick(2 * time.Second)
		select {
		case <-back:
		case <-time.After(20 * time.Second):
			t.Fatal("nobody brought it back")
		}
		if !s.Usable("hello") {
			t.Error("available and yet not usable")
		}
	})
}

// An agent that answers calls may still know better than we whether it should get any.
func TestANodeThatAsksForItIsProbedAtItsOwnPath(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		a := newAgent(t)
		body := `{"id":"hello","base_url":"` + a.URL + `","lifecycle_status":"ready","reasoners":[{"id":"greet"}],
			"metadata":{"custom":{"health_check":{"path":"/healthz","interval_seconds":5}}}}`
		id := r.register(body).InstanceID
		r.claim().Release(OK)
		r.settle()
		r.look()
		for range 3 {
			before := a.asked.Load()
			r.look()
			if n := a.asked.Load() - before; n != 0 {
				t.Errorf("probed %d times before its time", n)
			}
			r.clock.advance(5 * time.Second)
			if r.look(); a.asked.Load() == before {
				t.Error("not probed at its time")
			}
		}
		a.health.Store(http.StatusServiceUnavailable)
		for range 6 {
			r.clock.advance(5 * time.Second)
			r.look()
		}
		if i := r.instance(id); i.HealthStatus != Inactive || i.HealthReason == nil || *i.HealthReason != "/healthz answers 503" {
			t.Errorf("it says that it is not well, and is held for %+v", i)
		}
		a.health.Store(http.StatusOK)
		r.clock.advance(time.Minute)
		if r.look(); r.instance(id).HealthStatus != Active {
			t.Error("it says that it is well again, and gets no calls")
		}
	})
}

func TestWhatANodeMayAskToBeProbed(t *testing.T) {
	for text, want := range map[string]struct {
		path  string
		every int64
	}{
		`{}`:                        {"/health", 10_000},
		`{"path":"/live?deep=yes"}`: {"/live?deep=yes", 10_000},
		`{"path":"http://x/y","interval_seconds":0.1}`: {"/health", 1000},
		`{"path":"x","interval_seconds":"30"}`:         {"/health", 30_000},
		`{"interval_seconds":1e9}`:                     {"/health", 3_600_000},
	} {
		c := customOf([]byte(`{"custom":{"health_check":` + text + `}}`))
		if c.HealthPath != want.path || c.HealthEveryMs != want.every {
			t.Errorf("%s is read as %s every %d ms", text, c.HealthPath, c.HealthEveryMs)
		}
	}
	if c := customOf([]byte(`{"custom":{}}`)); c.HealthPath != "" || c.HealthEveryMs != 0 {
		t.Errorf("a node that asks for nothing: %+v", c)
	}
}
