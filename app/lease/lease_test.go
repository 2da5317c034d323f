package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/lease"
)

func TestMain(m *testing.M) {
	dbtest.Main(m)
}

var quiet = slog.New(slog.DiscardHandler)

func join(t *testing.T, db *database.DB, ttl time.Duration) *lease.Replica {
	t.Helper()
	r, err := lease.Join(t.Context(), db, ttl, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Leave(context.Background()) })
	return r
}

const forever = 10_000 * time.Hour

// Backoff.

func TestBackoff(t *testing.T) {
	b := lease.Backoff{First: time.Second, Max: 10 * time.Second, Jitter: -1}
	for n, want := range map[int]time.Duration{-1: 1, 0: 1, 1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10, 1000: 10, 1 << 40: 10} {
		if got := b.Delay(n); got != want*time.Second {
			t.Errorf("after failure %d: %s", n, got)
		}
	}
	b.Factor = 1
	if b.Delay(1) != time.Second || b.Delay(9) != time.Second {
		t.Error("a factor of 1 does not keep the pause")
	}
	if got := (lease.Backoff{First: time.Hour, Jitter: -1}).Delay(3); got != 5*time.Minute {
		t.Errorf("the default limit is %s", got)
	}
}

func TestBackoffStaysWithinItsJitter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := lease.Backoff{
			First:  time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(rt, "first")),
			Max:    time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(rt, "max")),
			Factor: rapid.Float64Range(1, 10).Draw(rt, "factor"),
			Jitter: rapid.Float64Range(0.01, 0.9).Draw(rt, "jitter"),
		}
		n := rapid.IntRange(1, 1000).Draw(rt, "n")
		plain := b
		plain.Jitter = -1
		middle := float64(plain.Delay(n))
		got := float64(b.Delay(n))
		if got < middle*(1-b.Jitter)-1 || got > middle*(1+b.Jitter)+1 {
			rt.Fatalf("%+v: %f, without jitter %f", b, got, middle)
		}
		if next := plain.Delay(n + 1); next < plain.Delay(n) || next > b.Max {
			rt.Fatalf("%s follows %s", next, plain.Delay(n))
		}
	})
}

// Loop.

func loop(t *testing.T, every time.Duration, do func(context.Context) (bool, error)) *lease.Loop {
	t.Helper()
	l := &lease.Loop{Name: "test", Every: every, Do: do, Log: quiet}
	t.Cleanup(l.Stop)
	return l
}

func TestALoopRunsAtOnceAndWhenWoken(t *testing.T) {
	runs := make(chan struct{})
	l := loop(t, forever, func(ctx context.Context) (bool, error) {
		select {
		case runs <- struct{}{}:
		case <-ctx.Done():
		}
		return false, nil
	})
	l.Wake() // before the start it is not lost, and blocks nobody
	l.Wake()
	l.Start()
	dbtest.Soon(t, runs)
	dbtest.Soon(t, runs)
	l.Wake()
	dbtest.Soon(t, runs)
	l.Stop()
	l.Stop()
	l.Wake()
}

func TestALoopGoesOnAtOnceWhileThereIsMore(t *testing.T) {
	var n atomic.Int64
	done := make(chan struct{})
	l := loop(t, forever, func(context.Context) (bool, error) {
		if n.Add(1) == 100 {
			close(done)
			return false, nil
		}
		return true, nil
	})
	l.Start()
	dbtest.Soon(t, done)
}

func TestALoopSurvivesErrorsAndPanics(t *testing.T) {
	var n atomic.Int64
	var times []time.Time
	done := make(chan struct{})
	l := loop(t, forever, func(context.Context) (bool, error) {
		times = append(times, time.Now())
		switch n.Add(1) {
		case 1, 3:
			return true, errors.New("away")
		case 2:
			panic("oh")
		}
		select {
		case <-done:
		default:
			close(done)
		}
		return false, nil
	})
	begun := time.Now()
	l.Wake() // what fails is not tried faster because there is more of it
	l.Start()
	dbtest.Soon(t, done)
	l.Stop()
	for i, least := range []time.Duration{80, 160, 320} { // 100, 200 and 400 ms, less a fifth
		if got := times[i+1].Sub(times[i]); got < least*time.Millisecond {
			t.Errorf("after failure %d it paused %s", i+1, got)
		}
	}
	if !l.LastSuccess().After(begun.Add(500 * time.Millisecond)) {
		t.Errorf("the last success was at %s, it began at %s", l.LastSuccess(), begun)
	}
}

func TestALoopComesBackWhenSomethingIsDue(t *testing.T) {
	var l *lease.Loop
	runs := make(chan struct{}, 10)
	l = loop(t, forever, func(context.Context) (bool, error) {
		runs <- struct{}{}
		if len(runs) < 3 {
			l.DueIn(10 * time.Millisecond)
		}
		return false, nil
	})
	l.Start()
	dbtest.Eventually(t, "three runs", func() bool { return len(runs) == 3 })
}

func TestStopEndsTheRun(t *testing.T) {
	begun := make(chan struct{})
	l := loop(t, forever, func(ctx context.Context) (bool, error) {
		close(begun)
		<-ctx.Done()
		return false, ctx.Err()
	})
	l.Start()
	dbtest.Soon(t, begun)
	l.Stop() // returns, because the run does
}

// Worker.

// crowd is work that says when it begins and ends when told to.
type crowd struct {
	mu      sync.Mutex
	waiting int
	begun   chan struct{}
	end     chan struct{}
	open    atomic.Int64
	most    atomic.Int64
}

func (c *crowd) claim(_ context.Context, n int) ([]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = min(n, c.waiting)
	c.waiting -= n
	return make([]int, n), nil
}

func (c *crowd) run(ctx context.Context, _ int) {
	n := c.open.Add(1)
	defer c.open.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	c.begun <- struct{}{}
	select {
	case <-c.end:
	case <-ctx.Done():
	}
}

func worker(t *testing.T, slots, waiting int) (*lease.Worker[int], *crowd) {
	t.Helper()
	c := &crowd{waiting: waiting, begun: make(chan struct{}, 10_000), end: make(chan struct{}, 10_000)}
	w := &lease.Worker[int]{Name: "test", Slots: slots, Poll: forever, Claim: c.claim, Run: c.run, Log: quiet}
	w.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w.Drain(ctx)
	})
	return w, c
}

func TestAWorkerNeverRunsMoreThanItHasSlots(t *testing.T) {
	w, c := worker(t, 5, 100)
	for range 100 { // each end lets the next one in, without any poll
		dbtest.Soon(t, c.begun)
		c.end <- struct{}{}
	}
	dbtest.Eventually(t, "all have ended", func() bool { return w.InUse() == 0 })
	if c.most.Load() > 5 {
		t.Errorf("%d at once", c.most.Load())
	}
	c.mu.Lock()
	c.waiting = 1
	c.mu.Unlock()
	w.Wake()
	dbtest.Soon(t, c.begun)
}

func TestDrainWaitsAndThenCancels(t *testing.T) {
	w, c := worker(t, 5, 5)
	for range 5 {
		dbtest.Soon(t, c.begun)
	}
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan struct{})
	go func() { w.Drain(ctx); close(drained) }()
	c.end <- struct{}{}
	dbtest.Eventually(t, "one has ended", func() bool { return w.InUse() == 4 })
	select {
	case <-drained:
		t.Fatal("it did not wait")
	default:
	}
	cancel()
	dbtest.Soon(t, drained)
	if c.open.Load() != 0 {
		t.Errorf("%d still run", c.open.Load())
	}
	c.mu.Lock()
	c.waiting = 3
	c.mu.Unlock()
	w.Wake()
	if len(c.begun) != 0 {
		t.Error("it claimed after it was drained")
	}
}

func TestASlotCanBeGivenBackEarly(t *testing.T) {
	begun := make(chan int, 10)
	end := make(chan struct{})
	var next atomic.Int64
	w := &lease.Worker[int]{
		Name: "test", Slots: 1, Poll: forever, Log: quiet,
		Claim: func(context.Context, int) ([]int, error) {
			if n := int(next.Add(1)); n <= 2 {
				return []int{n}, nil
			}
			return nil, nil
		},
		Run: func(ctx context.Context, n int) {
			lease.FreeSlot(ctx)
			lease.FreeSlot(ctx) // once is enough
			begun <- n
			<-end
		},
	}
	lease.FreeSlot(t.Context()) // nobody's slot
	w.Start()
	if dbtest.Soon(t, begun) != 1 || dbtest.Soon(t, begun) != 2 {
		t.Error("out of order")
	}
	close(end)
	w.Drain(t.Context())
	if w.InUse() != 0 {
		t.Errorf("%d slots are in use", w.InUse())
	}
}

// A row that is ours by the record and that nobody works on, be it that the answer to its claim was lost, that its outcome could not be
// recorded or that the work panicked: it is found, though this replica lives.
func TestWorkThatIsOursAndThatNobodyDoesIsFound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := join(t, db, forever)
		q := lease.NewQueue(db, r, "notices")
		for _, id := range []string{"lost", "dropped", "held"} {
			dbtest.Change(t, db, insert, id, 0)
		}
		dbtest.Change(t, db, "UPDATE notices SET status = 'running', attempt = 1, lease_owner = $1 WHERE id = 'lost'", r.ID())
		held := make(chan struct{})
		begun := make(chan string, 10)
		w := &lease.Worker[lease.Claimed]{
			Name: "test", Slots: 10, Poll: forever, Claim: q.Claim, Log: quiet,
			Run: func(_ context.Context, c lease.Claimed) {
				begun <- c.ID
				if c.ID == "held" {
					<-held
					return
				}
				panic("oh")
			},
		}
		w.Start()
		dbtest.Soon(t, begun)
		dbtest.Soon(t, begun)
		dbtest.Eventually(t, "one runs", func() bool { return w.InUse() == 1 })
		for look, want := range []int64{0, 2, 0} { // a claim is committed a moment before it is known
			if n, err := q.Reap(t.Context()); err != nil || n != want {
				t.Errorf("look %d found %d, want %d, %v", look, n, want, err)
			}
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM notices WHERE id <> 'held' AND status = 'queued' AND attempt = 0 AND lease_owner IS NULL"); n != 2 {
			t.Errorf("%d were put back", n)
		}
		close(held)
		w.Drain(t.Context())
	})
}

func TestAWorkerSurvivesAClaimThatFails(t *testing.T) {
	var n atomic.Int64
	begun := make(chan struct{})
	w := &lease.Worker[int]{
		Name: "test", Slots: 1, Poll: forever, Log: quiet,
		Claim: func(context.Context, int) ([]int, error) {
			switch n.Add(1) {
			case 1:
				return nil, errors.New("away")
			case 2:
				return []int{1}, nil
			}
			return nil, nil
		},
		Run:     func(context.Context, int) { close(begun) },
		NextDue: func(context.Context) (time.Duration, bool, error) { return 0, false, nil },
	}
	w.Start()
	dbtest.Soon(t, begun)
	w.Drain(t.Context())
}

// Replica.

func TestAReplicaThatIsDeclaredDeadBeginsANewTerm(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := join(t, db, forever)
		r.Start()
		term := r.Term()
		if term.Context().Err() != nil || r.ID() != term.ID {
			t.Error("the first term is none")
		}
		dbtest.Change(t, db, "UPDATE replicas SET expires_at = 0")
		r.Loop().Wake()
		dbtest.Soon(t, term.Context().Done())
		dbtest.Eventually(t, "a new term", func() bool { return r.ID() != term.ID })
		if r.Term().Context().Err() != nil {
			t.Error("the new term has ended")
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM replicas WHERE id = $1 AND expires_at > $2", r.ID(), db.NowMs()); n != 1 {
			t.Error("the new term is not on record")
		}
		last := r.Term()
		r.Leave(t.Context())
		dbtest.Soon(t, last.Context().Done())
		if n := dbtest.Count(t, db, "SELECT count(*) FROM replicas WHERE id = $1", last.ID); n != 0 {
			t.Error("the row is still there")
		}
	})
}

// The store is away for longer than the lease. By our own clock the term is over and what was claimed in it is given up; should the store
// have stood still meanwhile and think the lease valid, it must not be renewed for a term that has ended.
func TestATermThatHasEndedIsNotRenewed(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		still := time.Now()
		c.Clock = func() time.Time { return still }
		db := dbtest.Open(t, c)
		r := join(t, db, 200*time.Millisecond)
		r.Start()
		term := r.Term()
		dbtest.Change(t, db, "ALTER TABLE replicas RENAME TO away")
		dbtest.Soon(t, term.Context().Done())
		dbtest.Change(t, db, "ALTER TABLE away RENAME TO replicas")
		dbtest.Eventually(t, "a new term", func() bool { return r.ID() != term.ID && r.Term().Context().Err() == nil })
	})
}

func TestReplicasCountEachOther(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		if c.URL == "" {
			return // one process has the file
		}
		one, two := join(t, dbtest.Open(t, c), forever), join(t, dbtest.Open(t, c), forever)
		one.Start()
		two.Start()
		for _, r := range []*lease.Replica{one, two} {
			r.Loop().Wake()
			dbtest.Eventually(t, "they know of each other", func() bool { return r.Others() == 1 })
		}
		two.Leave(t.Context())
		one.Loop().Wake()
		dbtest.Eventually(t, "one is alone", func() bool { return one.Others() == 0 })
	})
}

func TestOnSQLiteEveryEarlierReplicaIsDead(t *testing.T) {
	db := dbtest.Open(t, database.Config{DataDir: dbtest.Dir(t)})
	first := join(t, db, forever)
	dbtest.Change(t, db, insert, "a", 0)
	if got, err := lease.NewQueue(db, first, "notices").Claim(t.Context(), 1); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	second := lease.NewQueue(db, join(t, db, forever), "notices")
	if n, err := second.Reap(t.Context()); err != nil || n != 1 {
		t.Errorf("took back %d, %v", n, err)
	}
}

func TestTheDeadAreBuried(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := join(t, db, time.Second)
		now := db.NowMs()
		for id, expires := range map[string]int64{"just dead": now - 1000, "long dead": now - 11_000} {
			dbtest.Change(t, db, "INSERT INTO replicas (id, host, started_at, expires_at) VALUES ($1, '', 0, $2)", id, expires)
		}
		if err := r.Bury(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := dbtest.Count(t, db, "SELECT count(*) FROM replicas WHERE id IN ('just dead', 'long dead')"); n != 1 {
			t.Errorf("%d are left", n)
		}
	})
}

// Queue.

const insert = `INSERT INTO notices (id, execution_id, kind, node_id, body, status, available_at, attempt, max_attempts, created_at)
	VALUES ($1, '', '', '', '', 'queued', $2, 0, 4, 0)`

func fill(t *testing.T, db *database.DB, n int) {
	t.Helper()
	err := db.Tx(t.Context(), func(tx *database.Tx) error {
		for i := range n {
			if _, err := tx.Exec(t.Context(), insert, fmt.Sprintf("%06d", i), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// R9 in small: ten thousand rows claimed by many at once over two replicas, and on SQLite, whose one writer makes a race impossible,
// two thousand. Nobody gets what another has.
func TestNoRowIsClaimedTwice(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		rows := 2000
		db := dbtest.Open(t, c)
		queues := []*lease.Queue{lease.NewQueue(db, join(t, db, forever), "notices")}
		if c.URL != "" {
			rows = 10_000
			other := dbtest.Open(t, c)
			queues = append(queues, lease.NewQueue(other, join(t, other, forever), "notices"))
		}
		fill(t, db, rows)
		var mu sync.Mutex
		claimed := map[string]int{}
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				for {
					got, err := queues[i%len(queues)].Claim(context.Background(), 64)
					if err != nil {
						t.Error(err)
						return
					}
					if len(got) == 0 {
						return
					}
					mu.Lock()
					for _, g := range got {
						claimed[g.ID]++
						if g.Attempt != 1 || g.MaxAttempts != 4 {
							t.Errorf("%+v", g)
						}
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id, n := range claimed {
			if n > 1 {
				t.Errorf("%s was claimed %d times", id, n)
			}
		}
		// A replica may find nothing while the other holds the last rows; what is left is claimed now.
		left := 0
		for got := 1; got > 0; left += got {
			rest, err := queues[0].Claim(t.Context(), rows)
			if err != nil {
				t.Fatal(err)
			}
			got = len(rest)
		}
		if len(claimed)+left != rows {
			t.Errorf("%d were claimed, %d left", len(claimed), left)
		}
	})
}

func TestRowsAreClaimedWhenTheyAreDueAndInOrder(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		q := lease.NewQueue(db, join(t, db, forever), "notices")
		if _, ok, err := q.NextDue(t.Context()); ok || err != nil {
			t.Errorf("an empty queue has something due: %v", err)
		}
		now := db.NowMs()
		dbtest.Change(t, db, insert, "later", now+60_000)
		d, ok, err := q.NextDue(t.Context())
		if err != nil || !ok || d < 50*time.Second || d > time.Minute {
			t.Errorf("due in %s, %t, %v", d, ok, err)
		}
		for id, at := range map[string]int64{"second": now - 1, "first": now - 2, "third": now} {
			dbtest.Change(t, db, insert, id, at)
		}
		if d, ok, err := q.NextDue(t.Context()); err != nil || !ok || d != 0 {
			t.Errorf("due in %s, %t, %v", d, ok, err)
		}
		var order []string
		for range 3 {
			got, err := q.Claim(t.Context(), 1)
			if err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			order = append(order, got[0].ID)
		}
		if !slices.Equal(order, []string{"first", "second", "third"}) {
			t.Errorf("%v", order)
		}
		if got, err := q.Claim(t.Context(), 1); err != nil || len(got) != 0 {
			t.Error(got, err)
		}
	})
}

// A dead replica's rows pass on with their attempt given back, and what the dead one says later changes nothing.
func TestWhatTheDeadHeldPassesOn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := join(t, db, forever)
		r.Start()
		q := lease.NewQueue(db, r, "notices")
		dbtest.Change(t, db, insert, "a", 0)
		claim := func() lease.Claimed {
			t.Helper()
			got, err := q.Claim(t.Context(), 10)
			if err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			return got[0]
		}
		settle := func(c lease.Claimed, status string) (ours bool) {
			t.Helper()
			err := db.Tx(t.Context(), func(tx *database.Tx) (err error) {
				ours, err = q.Settle(t.Context(), tx, c, status, 0)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return ours
		}
		first := claim()
		if n, err := q.Reap(t.Context()); n != 0 || err != nil {
			t.Errorf("took %d from a living replica, %v", n, err)
		}
		term := r.Term()
		dbtest.Change(t, db, "UPDATE replicas SET expires_at = 0")
		r.Loop().Wake()
		dbtest.Soon(t, term.Context().Done())
		dbtest.Eventually(t, "a new term", func() bool { return r.ID() != term.ID })
		if n, err := q.Reap(t.Context()); n != 1 || err != nil {
			t.Errorf("took %d from a dead replica, %v", n, err)
		}
		if settle(first, "delivered") {
			t.Error("the dead one settled what had been taken back")
		}
		second := claim()
		if second.Attempt != 1 || second.Owner == first.Owner {
			t.Errorf("%+v after %+v", second, first)
		}
		if settle(first, "failed") {
			t.Error("the dead one settled the row of its heir")
		}
		if !settle(second, "queued") {
			t.Error("the heir could not put it back")
		}
		third := claim()
		if third.Attempt != 2 {
			t.Errorf("%+v", third)
		}
		if settle(second, "failed") {
			t.Error("an earlier attempt settled a later one")
		}
		if !settle(third, "delivered") || settle(third, "delivered") {
			t.Error("it is settled once")
		}
	})
}
