package event_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

func TestMain(m *testing.M) {
	dbtest.Main(m)
}

func of(execution, kind string) *models.Event {
	data := `{"n":1}`
	return &models.Event{ExecutionID: &execution, NodeID: "n", Kind: kind, Attempt: 1, At: 5, Data: &data}
}

func write(t *testing.T, db *database.DB, log *event.Log, events ...*models.Event) {
	t.Helper()
	if err := db.Tx(t.Context(), func(tx *database.Tx) error { return log.Append(t.Context(), tx, events...) }); err != nil {
		t.Fatal(err)
	}
}

// collector is what a hub has published.
type collector struct {
	mu     sync.Mutex
	events []models.Event
	more   chan struct{}
}

func collect(hub *event.Hub) *collector {
	c := &collector{more: make(chan struct{}, 10_000)}
	hub.Tap(func(events []*models.Event) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, e := range events {
			c.events = append(c.events, *e)
			c.more <- struct{}{}
		}
	})
	return c
}

func (c *collector) kinds() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kinds []string
	for _, e := range c.events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func TestEventsAreStoredInOrderAndPublishedAfterTheCommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		hub := event.NewHub()
		log := event.NewLog(hub)
		seen := collect(hub)
		hub.Tap(func(events []*models.Event) {
			for _, e := range events {
				var kind, data string
				var execution *string
				err := db.QueryRow(t.Context(), "SELECT kind, execution_id, data FROM events WHERE id = $1", []any{e.ID}, &kind, &execution, &data)
				if err != nil || kind != e.Kind || *execution != *e.ExecutionID || data != *e.Data {
					t.Errorf("%s %d is announced; on record is %q, %v", e.Kind, e.ID, kind, err)
				}
			}
		})
		refused := errors.New("refused")
		err := db.Tx(t.Context(), func(tx *database.Tx) error {
			if err := log.Append(t.Context(), tx, of("x", "rolled back")); err != nil {
				return err
			}
			if len(seen.kinds()) != 0 {
				t.Error("announced before the commit")
			}
			return refused
		})
		if !errors.Is(err, refused) {
			t.Error(err)
		}
		var events []*models.Event
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
			events = append(events, of("x", want[i]))
		}
		write(t, db, log, events[:1]...)
		write(t, db, log, events[1:]...)
		write(t, db, log)
		if got := seen.kinds(); !slices.Equal(got, want) {
			t.Errorf("announced %v", got)
		}
		for i := 1; i < len(events); i++ {
			if events[i].ID <= events[i-1].ID {
				t.Errorf("event %d has id %d after %d", i, events[i].ID, events[i-1].ID)
			}
		}
		if hub.Newest() != events[49].ID {
			t.Errorf("the newest is %d", hub.Newest())
		}
	})
}

// Hub.

func publish(hub *event.Hub, from, to int64) {
	for id := from; id <= to; id++ {
		e := of("x", "k")
		e.ID = id
		hub.Publish(e)
	}
}

func ids(events []models.Event) []int64 {
	var all []int64
	for _, e := range events {
		all = append(all, e.ID)
	}
	return all
}

func TestAStreamResumesWhereItWas(t *testing.T) {
	hub := event.NewHub()
	publish(hub, 1, 10)
	fresh := hub.Follow(0)
	resumed := hub.Follow(7)
	newest := hub.Follow(10)
	publish(hub, 11, 12)
	for stream, want := range map[*event.Stream][]int64{fresh: {11, 12}, resumed: {8, 9, 10, 11, 12}, newest: {11, 12}} {
		dbtest.Soon(t, stream.Ready())
		events, resync := stream.Take()
		if resync || !slices.Equal(ids(events), want) {
			t.Errorf("got %v, resync %t, want %v", ids(events), resync, want)
		}
		if events, resync := stream.Take(); len(events) > 0 || resync {
			t.Error("the same again")
		}
		stream.Close()
	}
	if hub.Streams() != 0 {
		t.Errorf("%d streams are open", hub.Streams())
	}
}

func TestAStreamThatWasAwayTooLongStartsAgain(t *testing.T) {
	hub := event.NewHub()
	publish(hub, 1, 3000)
	for _, last := range []int64{1, 900, 5000} {
		stream := hub.Follow(last)
		dbtest.Soon(t, stream.Ready())
		if events, resync := stream.Take(); !resync || len(events) != 0 {
			t.Errorf("after %d: %d events, resync %t", last, len(events), resync)
		}
		publish(hub, 3001, 3001)
		if events, resync := stream.Take(); resync || len(events) != 1 {
			t.Errorf("then: %d events, resync %t", len(events), resync)
		}
		stream.Close()
	}
}

// Publishing never waits for anybody, and who is too slow is told so instead of missing something without knowing.
func TestASlowStreamHoldsUpNobody(t *testing.T) {
	hub := event.NewHub()
	slow := hub.Follow(0)
	publish(hub, 1, 512)
	if events, resync := slow.Take(); resync || len(events) != 512 {
		t.Errorf("%d events, resync %t", len(events), resync)
	}
	publish(hub, 513, 1100)
	if events, resync := slow.Take(); !resync || len(events) > 512 {
		t.Errorf("%d events, resync %t", len(events), resync)
	}
	publish(hub, 1101, 1101)
	if events, resync := slow.Take(); resync || len(events) != 1 {
		t.Errorf("%d events, resync %t", len(events), resync)
	}
}

func TestClosingTheHubEndsItsStreams(t *testing.T) {
	hub := event.NewHub()
	stream := hub.Follow(0)
	hub.Close()
	hub.Close()
	dbtest.Soon(t, stream.Done())
	dbtest.Soon(t, hub.Follow(0).Done())
	publish(hub, 1, 1)
	stream.Close()
}

func TestWatchersHearOfTheirExecutionOnly(t *testing.T) {
	hub := event.NewHub()
	mine, stopMine := hub.Watch("mine")
	other, stopOther := hub.Watch("other")
	defer stopOther()
	hub.Publish(of("mine", "k"), of("mine", "k"), &models.Event{Kind: "of a node"})
	dbtest.Soon(t, mine)
	if len(other) != 0 || len(mine) != 0 {
		t.Error("signals are folded, and for their execution only")
	}
	stopMine()
	hub.Publish(of("mine", "k"))
	if len(mine) != 0 {
		t.Error("heard after it had stopped")
	}
}

func TestManyPublishersAndStreams(t *testing.T) {
	hub := event.NewHub()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				stream := hub.Follow(0)
				changed, stop := hub.Watch("x")
				publish(hub, 1, 3)
				dbtest.Soon(t, stream.Ready())
				dbtest.Soon(t, changed)
				stream.Take()
				stop()
				stream.Close()
			}
		})
	}
	wg.Wait()
}

// Tail.

// peer is one replica as far as events are concerned.
type peer struct {
	db   *database.DB
	log  *event.Log
	seen *collector
	woke chan struct{}
	tail *event.Tail
}

func newPeer(t *testing.T, c database.Config, others int) *peer {
	t.Helper()
	hub := event.NewHub()
	p := &peer{db: dbtest.Open(t, c), log: event.NewLog(hub), seen: collect(hub), woke: make(chan struct{}, 100_000)}
	p.tail = event.NewTail(p.db, hub, slog.New(slog.DiscardHandler), func() int { return others }, func() { p.woke <- struct{}{} })
	p.tail.Start()
	t.Cleanup(p.tail.Stop)
	return p
}

func onPostgres(t *testing.T, fn func(t *testing.T, c database.Config)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		if c.URL == "" {
			return
		}
		// Channels are of the whole database: a name of our own tells our listeners from those of other tests.
		u, err := url.Parse(c.URL)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		q.Set("application_name", q.Get("search_path"))
		u.RawQuery = q.Encode()
		c.URL = u.String()
		fn(t, c)
	})
}

// begin writes until the peer hears of it: its tail has found its place and listens.
func begin(t *testing.T, from, to *peer) {
	t.Helper()
	end := time.After(dbtest.Patience)
	for {
		write(t, from.db, from.log, of("x", "begin"))
		select {
		case <-to.seen.more:
			return
		case <-time.After(50 * time.Millisecond):
		case <-end:
			t.Fatal("the tail does not begin")
		}
	}
}

func (c *collector) waitFor(t *testing.T, kind string) models.Event {
	t.Helper()
	end := time.After(dbtest.Patience)
	for {
		c.mu.Lock()
		at := slices.IndexFunc(c.events, func(e models.Event) bool { return e.Kind == kind })
		if at >= 0 {
			e := c.events[at]
			c.mu.Unlock()
			return e
		}
		c.mu.Unlock()
		select {
		case <-c.more:
		case <-end:
			t.Fatalf("%s did not come", kind)
		}
	}
}

func TestReplicasHearOfEachOther(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		one, two := newPeer(t, c, 1), newPeer(t, c, 1)
		begin(t, one, two)
		begin(t, two, one)
		for i := range 20 {
			from, to := one, two
			if i%2 == 1 {
				from, to = two, one
			}
			kind := fmt.Sprint("event ", i)
			write(t, from.db, from.log, of("x", kind))
			e := to.seen.waitFor(t, kind)
			if *e.ExecutionID != "x" || *e.Data != `{"n":1}` || e.Attempt != 1 || e.At != 5 || e.ID == 0 {
				t.Errorf("%+v", e)
			}
		}
		dbtest.Soon(t, one.woke)
		dbtest.Soon(t, two.woke)
		for _, p := range []*peer{one, two} { // each event once, whoever wrote it
			kinds := slices.DeleteFunc(p.seen.kinds(), func(k string) bool { return k == "begin" })
			slices.Sort(kinds)
			if unique := slices.Compact(slices.Clone(kinds)); len(kinds) != 20 || len(unique) != 20 {
				t.Errorf("heard %v", kinds)
			}
		}
	})
}

// No answer to an answer: what a replica has from another it does not announce again.
func TestThereIsNoEcho(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		one, two := newPeer(t, c, 1), newPeer(t, c, 1)
		begin(t, one, two)
		begin(t, two, one)
		for i := range 10 {
			write(t, one.db, one.log, of("x", fmt.Sprint(i)))
			two.seen.waitFor(t, fmt.Sprint(i))
		}
		// Two more rounds of the poll, seen as two events that come by it alone, and then silence about what was before.
		before := len(two.woke) + len(one.woke)
		for i := range 2 {
			silent(t, one.db, fmt.Sprint("silent ", i))
			one.seen.waitFor(t, fmt.Sprint("silent ", i))
			two.seen.waitFor(t, fmt.Sprint("silent ", i))
		}
		if n := len(two.woke) + len(one.woke) - before; n > 4 {
			t.Errorf("the replicas woke each other %d times over nothing", n)
		}
	})
}

// silent is an event that nobody announces: its writer died before it could.
func silent(t *testing.T, db *database.DB, kind string) {
	t.Helper()
	write(t, db, event.NewLog(event.NewHub()), of("x", kind))
}

func TestWithoutNotificationsThePollFindsEverything(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		one, two := newPeer(t, c, 1), newPeer(t, c, 1)
		begin(t, one, two)
		silent(t, one.db, "nobody says so")
		two.seen.waitFor(t, "nobody says so")
		one.seen.waitFor(t, "nobody says so")

		// Every listening connection dies, and the replicas go on.
		admin, err := pgx.Connect(t.Context(), c.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = admin.Close(context.Background()) }()
		var cut int
		err = admin.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE application_name = current_setting('search_path') AND pid <> pg_backend_pid()`).Scan(&cut)
		if err != nil || cut < 2 {
			t.Fatalf("%d connections cut, %v", cut, err)
		}
		write(t, one.db, one.log, of("x", "after the cut"))
		two.seen.waitFor(t, "after the cut")
		for len(two.woke) > 0 {
			<-two.woke
		}
		end := time.After(dbtest.Patience)
		for back := false; !back; { // the listeners come back, and with them the notifications
			write(t, one.db, one.log, of("x", "again"))
			select {
			case <-two.woke:
				back = true
			case <-time.After(100 * time.Millisecond):
			case <-end:
				t.Fatal("the notifications did not come back")
			}
		}
	})
}

// A transaction with an earlier number that commits later is not overlooked.
func TestLateCommitsAreNotOverlooked(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		one, two := newPeer(t, c, 1), newPeer(t, c, 1)
		begin(t, one, two)
		err := one.db.Tx(t.Context(), func(tx *database.Tx) error {
			if err := one.log.Append(t.Context(), tx, of("x", "early number, late commit")); err != nil {
				return err
			}
			write(t, one.db, one.log, of("x", "in between"))
			two.seen.waitFor(t, "in between")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		two.seen.waitFor(t, "early number, late commit")
	})
}

// Alone there is nobody to follow: nothing is published twice, and nobody is woken by oneself for ever.
func TestAReplicaThatIsAloneRests(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		alone := newPeer(t, c, 0)
		for i := range 10 {
			write(t, alone.db, alone.log, of("x", fmt.Sprint(i)))
		}
		if n := len(alone.seen.kinds()); n != 10 {
			t.Errorf("%d events", n)
		}
	})
}

// A backlog of several pages arrives whole.
func TestABacklogArrivesWhole(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		one, two := newPeer(t, c, 1), newPeer(t, c, 1)
		begin(t, one, two)
		events := make([]*models.Event, 5000)
		for i := range events {
			events[i] = of("x", fmt.Sprint("backlog ", i))
		}
		write(t, one.db, one.log, events...)
		two.seen.waitFor(t, "backlog 4999")
		kinds := slices.DeleteFunc(two.seen.kinds(), func(k string) bool { return k == "begin" })
		slices.Sort(kinds)
		if n := len(slices.Compact(kinds)); n != 5000 {
			t.Errorf("%d of 5000 arrived", n)
		}
	})
}
