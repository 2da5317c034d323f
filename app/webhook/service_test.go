package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/payload"
	"github.com/agentfield/agentfield/app/secret"
	"github.com/agentfield/agentfield/models"
)

const testSecret = "your-webhook-secret-key"

func TestMain(m *testing.M) {
	dbtest.Main(m)
}

// rig is a service on an empty database with a clock of its own, and a stream of what it records.
type rig struct {
	*Service
	t      *testing.T
	clock  *dbtest.Clock
	stream *event.Stream
	events []models.Event
}

func eachRig(t *testing.T, c Config, fn func(t *testing.T, r *rig)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, config database.Config) {
		clock := dbtest.NewClock(time.Date(2025, 1, 15, 10, 31, 0, 0, time.UTC))
		config.Clock = clock.Now
		fn(t, newRig(t, dbtest.Open(t, config), clock, c))
	})
}

// newRig joins as a replica of its own. It is not started.
func newRig(t *testing.T, db *database.DB, clock *dbtest.Clock, c Config) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	replica, err := lease.Join(t.Context(), db, 1000*time.Hour, log)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := payload.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	box, err := secret.NewBox(make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	hub := event.NewHub()
	t.Cleanup(hub.Close)
	if c.Policy.Timeout == 0 {
		allow, _ := ParseAllowList([]string{"127.0.0.1"})
		c.Policy = ForWebhooks(allow, 20*time.Second)
	}
	s := New(c, Parts{DB: db, Replica: replica, Events: event.NewLog(hub), Codec: codec, Box: box, Log: log})
	t.Cleanup(s.client.CloseIdleConnections)
	return &rig{Service: s, t: t, clock: clock, stream: hub.Follow(0)}
}

func (r *rig) start() {
	r.t.Helper()
	r.Start()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r.Stop(ctx)
	})
}

// insert writes a row as its model says, whatever columns it has.
func insert[T any](t *testing.T, db *database.DB, row *T) {
	t.Helper()
	statement := db.Gorm(t.Context()).Session(&gorm.Session{DryRun: true}).Create(row).Statement
	err := db.Tx(t.Context(), func(tx *database.Tx) error {
		_, err := tx.Exec(t.Context(), statement.SQL.String(), statement.Vars...)
		return err
	})
	if err != nil {
		t.Fatalf("insert %T: %v", row, err)
	}
}

// end stores an execution that has ended with a result, its webhook and the queued delivery, as the execution package does.
func (r *rig) end(id string, spec Spec) {
	r.t.Helper()
	e := endedAs(models.Succeeded)
	e.ID, e.Mode, e.HasWebhook = id, "async", true
	insert(r.t, r.DB, &e)
	insert(r.t, r.DB, &models.ExecutionPayload{ExecutionID: id, Kind: models.PayloadResult, Body: []byte(`{"n": 1.0}`)})
	row, err := r.Prepare(id, spec)
	if err != nil {
		r.t.Fatal(err)
	}
	insert(r.t, r.DB, &row)
	now := r.DB.NowMs()
	insert(r.t, r.DB, &models.WebhookDelivery{
		ID: "wh_" + id, ExecutionID: id, Event: EventCompleted, URL: spec.URL, CreatedAt: now,
		Lease: models.Lease{Status: Queued, AvailableAt: now, MaxAttempts: MaxAttempts},
	})
	r.Wake()
}

// next waits until a further attempt is recorded and returns its event's data.
func (r *rig) next() attemptData {
	r.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		for len(r.events) > 0 {
			e := r.events[0]
			r.events = r.events[1:]
			var data attemptData
			if err := json.Unmarshal([]byte(*e.Data), &data); err != nil || e.Kind != event.KindDelivery {
				r.t.Fatalf("event %+v: %v", e, err)
			}
			return data
		}
		select {
		case <-r.stream.Ready():
			r.events, _ = r.stream.Take()
		case <-limit:
			r.t.Fatal("no attempt was recorded")
		}
	}
}

func (r *rig) delivery(id string) models.WebhookDelivery {
	r.t.Helper()
	list, err := r.Deliveries(r.t.Context(), id)
	if err != nil || len(list) != 1 {
		r.t.Fatalf("%d deliveries, %v", len(list), err)
	}
	return list[0]
}

func (r *rig) bodyOf(id string) ([]byte, error) {
	d := r.delivery(id)
	return r.Body(r.t.Context(), &d)
}

func (r *rig) attempts(id string) []models.WebhookAttempt {
	r.t.Helper()
	list, err := r.Attempts(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// advanceTo moves the clock to the time of the next attempt and returns how long it was away.
func (r *rig) advanceTo(id string) time.Duration {
	r.t.Helper()
	d := r.delivery(id)
	if d.Status != Queued {
		r.t.Fatalf("the delivery is %s", d.Status)
	}
	gap := time.Duration(d.AvailableAt-r.DB.NowMs()) * time.Millisecond
	r.clock.Advance(gap)
	r.Wake()
	return gap
}

// call is a request as a receiver has seen it.
type call struct {
	header http.Header
	body   []byte
}

// receiver answers the n-th call by the n-th function, and all further ones by the last.
type receiver struct {
	*httptest.Server
	calls chan call
	seen  atomic.Int64
}

func newReceiver(t *testing.T, answers ...http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{calls: make(chan call, 1000)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		n := int(r.seen.Add(1))
		r.calls <- call{req.Header, body}
		answers[min(n, len(answers))-1](w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// next is the next call that arrives.
func (r *receiver) next(t *testing.T) call {
	t.Helper()
	select {
	case c := <-r.calls:
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("no call arrived")
		return call{}
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestDeliveredAtTheFirstTry(t *testing.T) {
	receiver := newReceiver(t, answer(200, `{"received":true}`))
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL + "/hook", Secret: testSecret, Headers: map[string]string{"X-Custom-ID": "request-123"}})
		if got := r.next(); got.Status != Delivered || got.Attempt != 1 || *got.HTTPStatus != 200 || got.DeliveryID != "wh_exec_1" {
			t.Errorf("event %+v", got)
		}
		got := receiver.next(t)
		if documented, standard := verified(got.header, got.body, testSecret); !documented || !standard {
			t.Errorf("signatures %v, %v", documented, standard)
		}
		if got.header.Get("webhook-id") != "wh_exec_1" || got.header.Get("X-Custom-ID") != "request-123" || got.header.Get("Content-Type") != "application/json" {
			t.Errorf("headers %v", got.header)
		}
		if want, err := r.bodyOf("exec_1"); err != nil || string(want) != string(got.body) || !strings.Contains(string(want), `"result":{"n": 1.0}`) {
			t.Errorf("sent %s\nwant %s (%v)", got.body, want, err)
		}
		d := r.delivery("exec_1")
		if d.Status != Delivered || d.DeliveredAt == nil || *d.LastStatus != 200 || d.LastError != nil || d.LeaseOwner != nil {
			t.Errorf("delivery %+v", d)
		}
		a := r.attempts("exec_1")
		if len(a) != 1 || *a[0].HTTPStatus != 200 || *a[0].ResponseBody != `{"received":true}` || a[0].Error != nil || a[0].At != r.DB.NowMs() {
			t.Errorf("attempts %+v", a)
		}
	})
}

func TestFailureThenSuccess(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(500, "oops\x00\xff"), answer(200, ""))
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL, Secret: testSecret})
		if got := r.next(); got.Status != Queued || *got.HTTPStatus != 500 || got.ErrorClass != classStatus {
			t.Errorf("event %+v", got)
		}
		first := receiver.next(t)
		r.advanceTo("exec_1")
		if got := r.next(); got.Status != Delivered || got.Attempt != 2 {
			t.Errorf("event %+v", got)
		}
		second := receiver.next(t)
		if string(first.body) != string(second.body) || first.header.Get("webhook-id") != second.header.Get("webhook-id") {
			t.Error("the second attempt differs in body or id")
		}
		if first.header.Get("webhook-timestamp") == second.header.Get("webhook-timestamp") {
			t.Error("the second attempt carries the time of the first")
		}
		if documented, standard := verified(second.header, second.body, testSecret); !documented || !standard {
			t.Errorf("signatures of the second attempt: %v, %v", documented, standard)
		}
		a := r.attempts("exec_1")
		if len(a) != 2 || a[0].Attempt != 1 || *a[0].HTTPStatus != 500 || *a[0].ResponseBody != "oops\uFFFD" || a[1].Attempt != 2 || *a[1].HTTPStatus != 200 {
			t.Errorf("attempts %+v", a)
		}
	})
}

func TestFiveAttemptsWithGrowingGaps(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(500, ""))
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL})
		for _, around := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
			r.next()
			if d, due, err := r.queue.NextDue(t.Context()); err != nil || !due || d < around*4/5-time.Millisecond {
				t.Errorf("the next attempt is due in %v, %v, %v", d, due, err)
			}
			if gap := r.advanceTo("exec_1"); gap < around*4/5-time.Millisecond || gap > around*6/5+time.Millisecond {
				t.Errorf("gap %v, want about %v", gap, around)
			}
		}
		if got := r.next(); got.Status != Failed || got.Attempt != 5 {
			t.Errorf("event %+v", got)
		}
		r.clock.Advance(24 * time.Hour)
		if more, err := r.queue.Claim(t.Context(), 10); err != nil || len(more) != 0 {
			t.Errorf("a sixth attempt is due: %v, %v", more, err)
		}
		if d := r.delivery("exec_1"); d.Status != Failed || *d.LastError != "the receiver answered 500" || len(r.attempts("exec_1")) != 5 || receiver.seen.Load() != 5 {
			t.Errorf("delivery %+v, %d calls", d, receiver.seen.Load())
		}
	})
}

func TestGoneEndsTheDelivery(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(410, ""))
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL})
		if got := r.next(); got.Status != Failed || got.Attempt != 1 {
			t.Errorf("event %+v", got)
		}
	})
}

func TestReceiverMayAskForTime(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"60": time.Minute, "86400": 5 * time.Minute, "Wed, 15 Jan 2025 10:33:00 GMT": 2 * time.Minute,
	} {
		eachRig(t, Config{}, func(t *testing.T, r *rig) {
			receiver := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", header)
				w.WriteHeader(http.StatusTooManyRequests)
			})
			r.start()
			r.end("exec_1", Spec{URL: receiver.URL})
			r.next()
			if gap := r.advanceTo("exec_1"); gap != want {
				t.Errorf("Retry-After: %s leads to %v, want %v", header, gap, want)
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		target := newReceiver(t, answer(200, ""))
		receiver := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, target.URL, http.StatusPermanentRedirect)
		})
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL, Secret: testSecret})
		if got := r.next(); got.Status != Queued || *got.HTTPStatus != 308 || got.ErrorClass != classStatus {
			t.Errorf("event %+v", got)
		}
		if target.seen.Load() != 0 {
			t.Error("the target of the redirect was called")
		}
	})
}

// TestPrivateAddressIsBlockedAtTheDial: the row comes from a time, or a name, when the early check let it pass.
func TestPrivateAddressIsBlockedAtTheDial(t *testing.T) {
	eachRig(t, Config{Policy: ForWebhooks(AllowList{}, time.Second)}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(200, ""))
		if _, err := r.Prepare("exec_1", Spec{URL: receiver.URL}); err == nil {
			t.Error("a private address was accepted")
		}
		strict := r.policy
		r.policy.Allow, _ = ParseAllowList([]string{"127.0.0.1"}) // only for Prepare: the client has its own copy
		r.end("exec_1", Spec{URL: receiver.URL})
		r.policy = strict
		r.start()
		if got := r.next(); got.Status != Queued || got.HTTPStatus != nil || got.ErrorClass != classBlocked {
			t.Errorf("event %+v", got)
		}
		if a := r.attempts("exec_1"); receiver.seen.Load() != 0 || len(a) != 1 || strings.Contains(*a[0].Error, "127.0.0.1") {
			t.Errorf("%d calls, attempts %+v", receiver.seen.Load(), a)
		}
	})
}

func TestSlowReceiverTimesOut(t *testing.T) {
	allow, _ := ParseAllowList([]string{"127.0.0.1"})
	eachRig(t, Config{Policy: ForWebhooks(allow, 50*time.Millisecond)}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL})
		if got := r.next(); got.Status != Queued || got.ErrorClass != classTimeout {
			t.Errorf("event %+v", got)
		}
	})
}

func TestLongAnswerIsCut(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(200, strings.Repeat("€", 1<<20)))
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL})
		r.next()
		a := r.attempts("exec_1")
		if body := *a[0].ResponseBody; len(body) > maxResponseKept || len(body) < maxResponseKept-4 || !strings.HasPrefix(body, "€€") {
			t.Errorf("kept %d bytes", len(body))
		}
	})
}

// TestDeadReplicaIsTakenOver: one replica claims and dies; another sends under the same id, as the same attempt.
func TestDeadReplicaIsTakenOver(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, dead *rig) {
		receiver := newReceiver(t, answer(200, ""))
		dead.end("exec_1", Spec{URL: receiver.URL})
		claimed, err := dead.queue.Claim(t.Context(), 10)
		if err != nil || len(claimed) != 1 {
			t.Fatalf("claimed %v, %v", claimed, err)
		}
		dead.Replica.Leave(t.Context())
		alive := newRig(t, dead.DB, dead.clock, Config{})
		alive.start()
		if got := alive.next(); got.Status != Delivered || got.Attempt != 1 {
			t.Errorf("event %+v", got)
		}
		if got := receiver.next(t); got.header.Get("webhook-id") != "wh_exec_1" {
			t.Errorf("id %s", got.header.Get("webhook-id"))
		}
	})
}

// TestLateAnswerOfADeadReplicaIsNotRecorded: it was declared dead in the middle of its attempt and another has delivered meanwhile.
func TestLateAnswerOfADeadReplicaIsNotRecorded(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, dead *rig) {
		release := make(chan struct{})
		receiver := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { <-release; w.WriteHeader(500) }, answer(200, ""))
		free := sync.OnceFunc(func() { close(release) })
		t.Cleanup(free)
		dead.worker.Start() // without its reaper, which might come late and find the row of its own replica gone
		t.Cleanup(func() { dead.Stop(context.Background()) })
		dead.end("exec_1", Spec{URL: receiver.URL})
		first := receiver.next(t)
		err := dead.DB.Tx(t.Context(), func(tx *database.Tx) error {
			_, err := tx.Exec(t.Context(), "DELETE FROM replicas")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		alive := newRig(t, dead.DB, dead.clock, Config{})
		alive.start()
		if got := alive.next(); got.Status != Delivered || got.Attempt != 1 {
			t.Errorf("event %+v", got)
		}
		second := receiver.next(t)
		free()
		dead.Stop(t.Context())
		if first.header.Get("webhook-id") != second.header.Get("webhook-id") {
			t.Error("the two sent different ids")
		}
		if a := dead.attempts("exec_1"); len(a) != 1 || *a[0].HTTPStatus != 200 {
			t.Errorf("attempts %+v", a)
		}
		if d := dead.delivery("exec_1"); d.Status != Delivered || *d.LastStatus != 200 {
			t.Errorf("delivery %+v", d)
		}
		if events, _ := dead.stream.Take(); len(events) != 0 {
			t.Errorf("the dead one published %+v", events)
		}
	})
}

// TestStopPutsBackWhatHangs: a delivery that does not end in time waits for the next start, with its attempt given back.
func TestStopPutsBackWhatHangs(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
		r.Start()
		r.end("exec_1", Spec{URL: receiver.URL})
		receiver.next(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r.Stop(ctx)
		if d := r.delivery("exec_1"); d.Status != Queued || d.Attempt != 0 || d.LeaseOwner != nil || len(r.attempts("exec_1")) != 0 {
			t.Errorf("delivery %+v", d)
		}
	})
}

// TestLostTermEndsTheAttempt: who may no longer record an answer does not wait for it either.
func TestLostTermEndsTheAttempt(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		cancelled := make(chan struct{})
		receiver := newReceiver(t, func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done(); close(cancelled) })
		r.worker.Start()
		t.Cleanup(func() { r.Stop(context.Background()) })
		r.end("exec_1", Spec{URL: receiver.URL})
		receiver.next(t)
		r.Replica.Leave(t.Context())
		select {
		case <-cancelled:
		case <-time.After(15 * time.Second):
			t.Error("the request went on")
		}
		r.Stop(t.Context())
		if len(r.attempts("exec_1")) != 0 {
			t.Error("an attempt was recorded")
		}
	})
}

// again sends the deliveries of an execution again, as an operator does.
func (r *rig) again(execution string) error {
	deliveries, err := r.Deliveries(r.t.Context(), execution)
	if err != nil {
		return err
	}
	var ids []string
	for _, d := range deliveries {
		ids = append(ids, d.ID)
	}
	_, err = r.Redeliver(r.t.Context(), audit.Origin{Actor: "user:olga", ActorKind: "user", Channel: audit.UI}, ids...)
	return err
}

func TestRedeliveryReallySends(t *testing.T) {
	eachRig(t, Config{MaxAttempts: 2}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(410, ""), answer(500, ""), answer(500, ""), answer(200, ""), answer(200, ""))
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL})
		redeliver := func() {
			t.Helper()
			if err := r.again("exec_1"); err != nil {
				t.Fatal(err)
			}
		}
		expect := func(status string, attempt int) {
			t.Helper()
			if got := r.next(); got.Status != status || got.Attempt != attempt {
				t.Errorf("event %+v, want %s after attempt %d", got, status, attempt)
			}
		}
		expect(Failed, 1)
		redeliver() // a failed one, with a new budget of two
		expect(Queued, 2)
		if gap := r.advanceTo("exec_1"); gap > 6*time.Second+time.Millisecond {
			t.Errorf("the schedule did not begin anew: %v", gap)
		}
		expect(Failed, 3)
		redeliver()
		expect(Delivered, 4)
		redeliver() // a delivered one
		expect(Delivered, 5)
		if n := len(r.attempts("exec_1")); n != 5 || receiver.seen.Load() != 5 {
			t.Errorf("%d attempts, %d calls", n, receiver.seen.Load())
		}
		ids := map[string]bool{}
		for range 5 {
			ids[receiver.next(t).header.Get("webhook-id")] = true
		}
		if len(ids) != 1 {
			t.Errorf("ids %v", ids)
		}
	})
}

func TestRedeliveryBringsAWaitingOneForward(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		release := make(chan struct{})
		receiver := newReceiver(t, answer(500, ""), func(http.ResponseWriter, *http.Request) { <-release })
		free := sync.OnceFunc(func() { close(release) })
		t.Cleanup(free)
		r.start()
		if err := r.again("exec_1"); !errors.Is(err, ErrNoDelivery) {
			t.Errorf("without a delivery: %v", err)
		}
		r.end("exec_1", Spec{URL: receiver.URL})
		r.next()
		receiver.next(t)
		if err := r.again("exec_1"); err != nil {
			t.Fatal(err)
		}
		receiver.next(t)
		if err := r.again("exec_1"); !errors.Is(err, ErrInFlight) {
			t.Errorf("in flight: %v", err)
		}
		free()
		if got := r.next(); got.Status != Delivered || got.Attempt != 2 {
			t.Errorf("event %+v", got)
		}
	})
}

// TestHangingReceiverLeavesRoom: forty deliveries wait for a receiver that never answers; another one's arrive all the same.
func TestHangingReceiverLeavesRoom(t *testing.T) {
	eachRig(t, Config{Slots: 8}, func(t *testing.T, r *rig) {
		release := make(chan struct{})
		var held, most atomic.Int64
		hanging := newReceiver(t, func(http.ResponseWriter, *http.Request) {
			if n := held.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-release
		})
		free := sync.OnceFunc(func() { close(release) })
		t.Cleanup(free)
		healthy := newReceiver(t, answer(200, ""))
		for i := range 40 {
			r.end("exec_hanging_"+string(rune('A'+i)), Spec{URL: hanging.URL})
		}
		r.clock.Advance(time.Millisecond)
		for _, id := range []string{"exec_1", "exec_2", "exec_3"} {
			r.end(id, Spec{URL: healthy.URL})
		}
		r.start()
		for range 3 {
			if got := r.next(); got.Status != Delivered || strings.Contains(got.DeliveryID, "hanging") {
				t.Errorf("event %+v", got)
			}
		}
		if n := most.Load(); n != 2 {
			t.Errorf("the hanging receiver held %d of 8 slots", n)
		}
		free()
	})
}

// TestUnsendableIsGivenUp: the key has been exchanged, so the secret cannot be opened; sending unsigned would be worse.
func TestUnsendableIsGivenUp(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(200, ""))
		r.end("exec_1", Spec{URL: receiver.URL, Secret: testSecret})
		r.Box, _ = secret.NewBox([]byte(strings.Repeat("k", secret.KeySize)))
		r.start()
		if got := r.next(); got.Status != Failed || got.ErrorClass != classUnsendable {
			t.Errorf("event %+v", got)
		}
		d := r.delivery("exec_1")
		if receiver.seen.Load() != 0 || len(r.attempts("exec_1")) != 0 || !strings.Contains(*d.LastError, "another secret key") {
			t.Errorf("delivery %+v", d)
		}
	})
}

func TestOneQueryForManyExecutions(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(200, ""))
		r.start()
		for _, id := range []string{"exec_b", "exec_a", "exec_c"} {
			r.end(id, Spec{URL: receiver.URL})
			r.next()
		}
		attempts, err := r.Attempts(t.Context(), "exec_a", "exec_b", "exec_unknown")
		if err != nil || len(attempts) != 2 || attempts[0].ExecutionID != "exec_a" {
			t.Errorf("attempts %+v, %v", attempts, err)
		}
		deliveries, err := r.Deliveries(t.Context(), "exec_c", "exec_b")
		if err != nil || len(deliveries) != 2 || !slices.IsSortedFunc(deliveries, func(a, b models.WebhookDelivery) int { return strings.Compare(a.ID, b.ID) }) {
			t.Errorf("deliveries %+v, %v", deliveries, err)
		}
		if none, err := r.Attempts(t.Context()); err != nil || len(none) != 0 {
			t.Errorf("for no execution: %v, %v", none, err)
		}
	})
}

// TestLargeResultArrivesUntouched: stored compressed, sent as it came, within the budget of memory for large bodies.
func TestLargeResultArrivesUntouched(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		receiver := newReceiver(t, answer(200, ""))
		r.end("exec_1", Spec{URL: receiver.URL, Secret: testSecret})
		result := `{ "rows": [` + strings.Repeat(`{"a" : 1.50},`, 100_000) + `0] }`
		encoding, stored := r.Codec.Encode([]byte(result))
		if encoding != payload.Zstd {
			t.Fatalf("encoding %d", encoding)
		}
		err := r.DB.Tx(t.Context(), func(tx *database.Tx) error {
			if _, err := tx.Exec(t.Context(), "UPDATE execution_payloads SET encoding = $1, body = $2", encoding, stored); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), "UPDATE executions SET result_bytes = $1", len(result))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		r.start()
		if got := r.next(); got.Status != Delivered {
			t.Errorf("event %+v", got)
		}
		got := receiver.next(t)
		if !strings.Contains(string(got.body), `"result":`+result+`,`) {
			t.Errorf("the result was changed; %d bytes arrived", len(got.body))
		}
		if documented, standard := verified(got.header, got.body, testSecret); !documented || !standard {
			t.Errorf("signatures %v, %v", documented, standard)
		}
	})
}

// TestDatabaseThatIsAwayIsWaitedFor: a held delivery is nobody else's, so its work is repeated until the store answers.
func TestDatabaseThatIsAwayIsWaitedFor(t *testing.T) {
	s := &Service{Parts: Parts{Log: slog.New(slog.DiscardHandler)}}
	tries := 0
	err := s.patiently(t.Context(), "test", func() error {
		if tries++; tries < 3 {
			return database.ErrBusy
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx context.Context
		err error
	}{"stopping": {ended, database.ErrBusy}, "gone": {t.Context(), errExecutionGone}, "damaged": {t.Context(), errUnreadable}} {
		tries = 0
		err := s.patiently(c.ctx, "test", func() error { tries++; return c.err })
		if !errors.Is(err, c.err) || tries != 1 {
			t.Errorf("%s: %v after %d tries", name, err, tries)
		}
	}
}

// TestLogsKeepSecrets: whatever happens, neither the secret nor a header value nor the result appears in the log.
func TestLogsKeepSecrets(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		var log safeBuffer
		r.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		receiver := newReceiver(t, answer(410, "t0ken"))
		r.start()
		r.end("exec_1", Spec{URL: receiver.URL + "/?key=urlkey", Secret: testSecret, Headers: map[string]string{"Authorization": "Bearer t0ken"}})
		r.next()
		r.Stop(t.Context())
		text := log.String()
		if !strings.Contains(text, "exec_1") {
			t.Errorf("a webhook that was given up is not in the log: %s", text)
		}
		for _, hidden := range []string{testSecret, "t0ken", "urlkey", `\"n\"`} {
			if strings.Contains(text, hidden) {
				t.Errorf("the log shows %q: %s", hidden, text)
			}
		}
	})
}

type safeBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
