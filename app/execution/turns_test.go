package execution_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// asked is a submission by somebody, of some urgency.
func asked(who, function string, priority int) execution.Submission {
	sub := call(`{}`)
	sub.Function, sub.ActorID, sub.Priority = function, who, &priority
	return sub
}

// quiet is a rig without background work, whose node is up.
func quiet(t *testing.T, db *database.DB) *rig {
	t.Helper()
	r := build(t, db, settings{still: true})
	r.nodes.set("http://127.0.0.1:1")
	return r
}

// order claims one after the other and returns whom each served, as its input says.
func order(t *testing.T, r *rig, n int) string {
	t.Helper()
	var served []string
	for range n {
		w := r.take(t, 1)[0]
		row := r.row(t, w.ID())
		served = append(served, row.AskedBy)
		r.end(t, w, execution.Answers, "null")
	}
	return strings.Join(served, "")
}

func TestCallersTakeTurns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := quiet(t, db)
		for who, n := range map[string]int{"a": 9, "b": 2, "c": 4} {
			for range n {
				r.submit(t, asked(who, "f", 5))
			}
		}
		if got := order(t, r, 15); got != "abcabcacacaaaaa" {
			t.Errorf("served in the order %s", got)
		}
	})
}

// What a claim takes at once is shared out as what many take one by one, and nothing is left over while there is room.
func TestOneClaimServesEverybody(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := quiet(t, db)
		for range 100 {
			r.submit(t, asked("greedy", "f", 5))
		}
		for i := range 7 {
			r.submit(t, asked(fmt.Sprintf("guest %d", i), "f", 5))
		}
		served := map[string]int{}
		taken := r.take(t, 8)
		for _, w := range taken {
			served[r.row(t, w.ID()).AskedBy]++
		}
		if len(served) != 8 {
			t.Errorf("eight places for eight callers went to %v", served)
		}
		more, err := r.Take(t.Context(), 64)
		if err != nil || len(more) != 64 {
			t.Errorf("64 places, %d taken: %v", len(more), err)
		}
	})
}

// More callers than places: each claim goes on where the last one stopped.
func TestManyCallersAreAllServed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := quiet(t, db)
		for i := range 30 {
			for range 2 {
				r.submit(t, asked(fmt.Sprintf("%02d", i), "f", 5))
			}
		}
		served := map[string]int{}
		for range 10 {
			for _, w := range r.take(t, 3) {
				served[r.row(t, w.ID()).AskedBy]++
			}
		}
		if len(served) != 30 {
			t.Errorf("after 30 places %d of 30 callers were served", len(served))
		}
	})
}

func TestTheMoreUrgentGoesFirst(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := quiet(t, db)
		for _, s := range []struct {
			who      string
			priority int
		}{{"d", 0}, {"c", 5}, {"c", 5}, {"b", 6}, {"a", 9}, {"d", 0}, {"a", 9}} {
			r.submit(t, asked(s.who, "f", s.priority))
		}
		r.submit(t, asked("e", "g", 7))
		plain := call(`{}`)
		plain.ActorID = "x"
		r.submit(t, plain)
		if got := order(t, r, 9); got != "aaebcxcdd" {
			t.Errorf("served in the order %s", got)
		}
		if row := r.row(t, plain.ID); row.Priority() != models.DefaultPriority {
			t.Errorf("the default priority is %d", row.Priority())
		}
	})
}

func TestTheFunctionsOfANodeTakeTurns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := quiet(t, db)
		for _, f := range []string{"f", "f", "f", "g", "h", "h"} {
			r.submit(t, asked(f, f, 5))
		}
		if got := order(t, r, 6); got != "fghfhf" {
			t.Errorf("served in the order %s", got)
		}
	})
}

// A retry that is not due is in nobody's way, and has its turn when it is.
func TestWhatIsPutOffWaitsOutsideTheQueue(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		sub := asked("a", "f", 9)
		sub.Retry = execution.RetryPolicy{MaxAttempts: 2, Backoff: execution.RetryBackoff{InitialMs: 60_000, MaxMs: 60_000, Factor: 1}}
		r.submit(t, sub)
		r.end(t, r.take(t, 1)[0], execution.Fails, "not yet")
		r.submit(t, asked("b", "f", 0))
		if got := order(t, r, 1); got != "b" {
			t.Errorf("%s was served", got)
		}
		r.take(t, 0)
		c.advance(2 * time.Minute)
		if w := r.take(t, 1)[0]; w.ID() != sub.ID || w.Attempt() != 2 {
			t.Errorf("attempt %d of %s", w.Attempt(), w.ID())
		}
	})
}

func limitFunction(t *testing.T, db *database.DB, function string, concurrency, perMinute int) {
	t.Helper()
	dbtest.Change(t, db, `INSERT INTO function_queues (node_id, function, max_concurrency, max_depth, max_per_minute, open_at) VALUES ('n', $1, $2, 0, $3, 0)
		ON CONFLICT (node_id, function) DO UPDATE SET max_concurrency = excluded.max_concurrency, max_per_minute = excluded.max_per_minute, open_at = 0`,
		function, concurrency, perMinute)
}

func TestAFunctionHasACapOfItsOwn(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := quiet(t, db)
		limitFunction(t, db, "f", 2, 0)
		for range 50 {
			r.submit(t, asked("a", "f", 9))
		}
		for range 3 {
			r.submit(t, asked("b", "g", 0))
		}
		taken := r.take(t, 2)
		taken = append(taken, r.take(t, 3)...) // the function at its cap is passed over, whatever its priority
		r.take(t, 0)
		if n := dbtest.Count(t, db, "SELECT count(*) FROM executions WHERE status = 'running' AND function = 'f'"); n != 2 {
			t.Errorf("%d are running, the cap is 2", n)
		}
		r.end(t, taken[0], execution.Answers, "null")
		if w := r.take(t, 1)[0]; r.row(t, w.ID()).Function != "f" {
			t.Error("the place of one that ended was given to another function")
		}
	})
}

func TestARateIsKept(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		for name, limited := range map[string]func(t *testing.T, perMinute int){
			"node": func(t *testing.T, perMinute int) {
				dbtest.Change(t, db, "UPDATE node_queues SET max_per_minute = $1, open_at = 0 WHERE node_id = 'n'", perMinute)
			},
			"function": func(t *testing.T, perMinute int) {
				dbtest.Change(t, db, "UPDATE node_queues SET max_per_minute = 0 WHERE node_id = 'n'")
				limitFunction(t, db, "f", 0, perMinute)
			},
		} {
			t.Run(name, func(t *testing.T) {
				r := build(t, db, settings{still: true})
				r.nodes.set("http://127.0.0.1:1")
				begun := func(perMinute int) (n int) {
					limited(t, perMinute)
					for range 60 {
						r.submit(t, asked("a", "f", 5))
					}
					defer drainAll(t, r, limited)
					for range 25 { // five seconds, five looks each
						taken, err := r.Take(t.Context(), 64)
						if err != nil {
							t.Fatal(err)
						}
						n += len(taken)
						for _, w := range taken {
							r.end(t, w, execution.Answers, "null")
						}
						c.advance(200 * time.Millisecond)
					}
					return n
				}
				if n := begun(120); n < 11 || n > 13 { // two at once, then two a second
					t.Errorf("%d began in five seconds at 2 per second", n)
				}
				if n := begun(12); n < 1 || n > 2 {
					t.Errorf("%d began in five seconds at one per five seconds", n)
				}
			})
		}
	})
}

func drainAll(t *testing.T, r *rig, limited func(*testing.T, int)) {
	t.Helper()
	limited(t, 0)
	drainQueue(t, r)
}

func TestAPacedNodeIsServedAgainWithoutBeingWoken(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		dbtest.Change(t, db, "UPDATE node_queues SET max_per_minute = 600 WHERE node_id = 'n'")
		var ids []string
		for range 15 {
			ids = append(ids, r.submit(t, asked("a", "f", 5)))
		}
		for _, id := range ids {
			wantStatus(t, r.finish(t, id).Row, models.Succeeded)
		}
	})
}

func withKey(key string, limit int) execution.Submission {
	sub := call(`{}`)
	sub.Along = execution.Concurrency{Key: key, Limit: limit}
	return sub
}

func TestExecutionsWithAKeyRunOneAfterTheOther(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := quiet(t, db)
		var want []string
		for range 4 {
			want = append(want, r.submit(t, withKey("customer 7", 0)))
		}
		other := r.submit(t, withKey("customer 8", 1))
		first := r.take(t, 2)
		if got := fmt.Sprint(first[0].ID() == other || first[1].ID() == other); got != "true" {
			t.Error("another key has to wait")
		}
		running := first[0]
		if running.ID() == other {
			running = first[1]
		}
		for i, id := range want {
			if running.ID() != id {
				t.Fatalf("number %d of the key did not come at its turn", i)
			}
			r.take(t, 0)
			how := []execution.Outcome{execution.Answers, execution.Refuses, execution.Answers, execution.Answers}[i]
			r.end(t, running, how, `"so"`)
			if i < 3 {
				running = r.take(t, 1)[0]
			}
		}
	})
}

// Whatever way the holder of a key takes, the next one waits until it has ended.
func TestAKeyIsHeldUntilTheEnd(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		holder := withKey("k", 1)
		holder.Retry = retry(2)
		r.submit(t, holder)
		second, third, fourth := r.submit(t, withKey("k", 1)), r.submit(t, withKey("k", 1)), r.submit(t, withKey("k", 1))
		r.end(t, r.take(t, 1)[0], execution.Fails, "not yet")
		r.take(t, 0) // a retry keeps its key
		c.advance(time.Second)
		w := r.take(t, 1)[0]
		if w.ID() != holder.ID {
			t.Fatal("the retry lost its key")
		}
		if _, err := r.Cancel(t.Context(), third, ""); err != nil { // it waits still, and goes without a word
			t.Fatal(err)
		}
		r.take(t, 0)
		if _, err := r.Cancel(t.Context(), holder.ID, ""); err != nil {
			t.Fatal(err)
		}
		next := r.take(t, 1)[0]
		if next.ID() != second {
			t.Error("the second did not get the key")
		}
		// The node goes away and comes back: what waits for the key goes on waiting for it.
		r.nodes.set()
		sweep(t, r)
		r.nodes.set("http://127.0.0.1:1")
		sweep(t, r)
		r.take(t, 0)
		r.end(t, next, execution.Answers, "null")
		if r.take(t, 1)[0].ID() != fourth {
			t.Error("the fourth did not get the key")
		}
	})
}

func sweep(t *testing.T, r *rig) {
	t.Helper()
	if err := r.SweepPending(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAKeyMayAllowSeveral(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		var g gate
		with := settings{nodes: &nodes{}}
		with.nodes.set(serve(t, g.counted(echo)))
		two := replicas(t, c, with, with)
		var wg sync.WaitGroup
		ids := make([]string, 80)
		for i := range ids {
			wg.Go(func() { ids[i] = two[i%2].submit(t, withKey("k", 3)) })
		}
		sync := make(chan execution.Finished, 1)
		wg.Go(func() {
			f, err := two[0].Call(context.WithoutCancel(t.Context()), withKey("k", 3), false)
			if err != nil {
				t.Error(err)
			}
			sync <- f
		})
		wg.Wait()
		for i, id := range ids {
			wantStatus(t, two[(i+1)%2].finish(t, id).Row, models.Succeeded)
		}
		wantStatus(t, (<-sync).Row, models.Succeeded)
		if g.most.Load() > 3 {
			t.Errorf("%d calls with the key at once", g.most.Load())
		}
	})
}

func TestAKeyIsCheckedAtTheDoor(t *testing.T) {
	for _, c := range []struct {
		concurrency execution.Concurrency
		good        bool
	}{
		{execution.Concurrency{Key: "k"}, true},
		{execution.Concurrency{Key: "k", Limit: 1000}, true},
		{execution.Concurrency{Limit: 3}, false},
		{execution.Concurrency{Key: "k", Limit: -1}, false},
		{execution.Concurrency{Key: "k", Limit: 1001}, false},
		{execution.Concurrency{Key: strings.Repeat("k", 256)}, false},
		{execution.Concurrency{Key: "a\x00b"}, false},
	} {
		if err := c.concurrency.Check(); (err == nil) != c.good {
			t.Errorf("%+v: %v", c.concurrency, err)
		}
	}
}
