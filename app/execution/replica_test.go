package execution_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func TestAReplicasDeathIsNoFailureOfTheAgent(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		id := r.submit(t, call(`{}`)) // one attempt allowed
		for lost := 1; lost <= 3; lost++ {
			w := r.take(t, 1)[0]
			if w.ID() != id || w.Attempt() != lost {
				t.Fatalf("claimed %s, attempt %d", w.ID(), w.Attempt())
			}
			r.loseLease(t)
			if err := r.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			row := r.becomes(t, id, models.Queued)
			if row.Failures != 0 || row.Redeliveries != lost || row.LeaseOwner != nil {
				t.Errorf("failures %d, redeliveries %d, owner %v", row.Failures, row.Redeliveries, row.LeaseOwner)
			}
			dbtest.Eventually(t, "it is due again", func() bool { return r.row(t, id).AvailableAt <= db.NowMs() })
		}
		r.end(t, r.take(t, 1)[0], execution.Answers, `"done"`)
		row := r.row(t, id)
		wantStatus(t, row, models.Succeeded)
		if row.Attempt != 4 {
			t.Errorf("attempt %d", row.Attempt)
		}
		wantKinds(t, r, id, "[queued running redelivered running redelivered running redelivered running succeeded]")
	})
}

func TestWhoeverAskedNotToBeRepeatedIsNot(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true, options: func(o *execution.Options) { o.MaxRedeliveries = 2 }})
		r.nodes.set("http://127.0.0.1:1")
		never := false
		once := call(`{}`)
		once.Retry.OnReplicaLoss = &never
		only := r.submit(t, once)
		capped := r.submit(t, call(`{}`))
		for lost := range 3 {
			r.take(t, 2-min(lost, 1))
			r.loseLease(t)
			if err := r.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, r.row(t, only), models.Failed)
			dbtest.Eventually(t, "it is due again", func() bool { return r.row(t, capped).AvailableAt <= db.NowMs() })
		}
		for id, kinds := range map[string]string{only: "[queued running failed]", capped: "[queued running redelivered running redelivered running failed]"} {
			row := r.row(t, id)
			wantStatus(t, row, models.Failed)
			if row.ErrorCode == nil || *row.ErrorCode != "replica_lost" || row.StatusReason == nil || *row.StatusReason != "replica_lost" {
				t.Errorf("error code %v, reason %v", row.ErrorCode, row.StatusReason)
			}
			wantKinds(t, r, id, kinds)
		}
	})
}

// A replica that lost its lease and is still alive says what came of its call, too late.
func TestAZombieIsFenced(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		id := r.submit(t, call(`{}`))
		zombie := r.take(t, 1)[0]
		r.loseLease(t)
		if err := r.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.end(t, zombie, execution.Answers, `"of the zombie, before the second attempt"`)
		wantStatus(t, r.row(t, id), models.Queued)
		dbtest.Eventually(t, "it is due again", func() bool { return r.row(t, id).AvailableAt <= db.NowMs() })
		second := r.take(t, 1)[0]
		r.end(t, zombie, execution.Fails, "of the zombie, during the second attempt")
		wantStatus(t, r.row(t, id), models.Running)
		r.end(t, second, execution.Answers, `"of the second"`)
		r.end(t, zombie, execution.Answers, `"of the zombie, after the end"`)
		f, err := r.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, f.Row, models.Succeeded)
		if string(f.Result) != `"of the second"` {
			t.Errorf("the result is %s", f.Result)
		}
		if r.Fenced() != 3 {
			t.Errorf("%d outcomes were fenced, want 3", r.Fenced())
		}
		wantKinds(t, r, id, "[queued running redelivered late_report running late_report succeeded late_report]")
	})
}

// The call of a replica that lost its lease is hung up, and the node sees the second attempt under the same id.
func TestTheCallOfALostTermIsHungUpAndRepeated(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 10)
		answer := make(chan struct{})
		r := build(t, db, settings{agent: holding(calls, answer)})
		id := r.submit(t, call(`{"a":1}`))
		first := dbtest.Soon(t, calls)
		r.loseLease(t)
		if err := r.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := dbtest.Soon(t, calls)
		select {
		case <-first.Context().Done():
		case <-time.After(dbtest.Patience):
			t.Fatal("the first call was not hung up")
		}
		for n, request := range []*http.Request{first, second} {
			if got := request.Header.Get("X-Execution-ID"); got != id {
				t.Errorf("call %d is of %s", n, got)
			}
			if got := request.Header.Get("X-Attempt"); got != []string{"1", "2"}[n] {
				t.Errorf("call %d is attempt %s", n, got)
			}
			if got := request.Header.Get("Idempotency-Key"); got != id {
				t.Errorf("call %d has the key %s", n, got)
			}
		}
		close(answer)
		f := r.finish(t, id)
		wantStatus(t, f.Row, models.Succeeded)
		// A claim that was under way when the term ended is lost with it: then there is one attempt more.
		if f.Row.Failures != 0 || f.Row.Redeliveries != f.Row.Attempt-1 {
			t.Errorf("failures %d, redeliveries %d", f.Row.Failures, f.Row.Redeliveries)
		}
	})
}

func TestAnotherReplicaTakesOver(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		calls := make(chan *http.Request, 100)
		answer := make(chan struct{})
		shared := &nodes{}
		shared.set(serve(t, holding(calls, answer)))
		// The first replica never renews its lease: to the others it is dead after a second.
		dead := build(t, dbtest.Open(t, c), settings{nodes: shared, ttl: time.Second, mute: true, still: true})
		var ids []string
		for range 20 {
			ids = append(ids, dead.submit(t, call(`{}`)))
		}
		dead.take(t, 20)
		heir := build(t, dbtest.Open(t, c), settings{nodes: shared, ttl: time.Second})
		close(answer)
		for _, id := range ids {
			f := heir.finish(t, id)
			wantStatus(t, f.Row, models.Succeeded)
			if f.Row.Attempt != 2 || f.Row.Redeliveries != 1 {
				t.Errorf("attempt %d, redeliveries %d", f.Row.Attempt, f.Row.Redeliveries)
			}
		}
	})
}

// A claim whose commit succeeded and whose answer was lost leaves rows that are ours and that nobody works on. The replica lives, so
// its lease never passes on by itself.
func TestWorkThatIsOursAndThatNobodyDoesIsFound(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		id := r.submit(t, call(`{}`)) // pending: the node is not there yet
		dbtest.Change(t, db, "UPDATE executions SET status = 'running', attempt = 1, lease_owner = $1 WHERE id = $2", r.replica.ID(), id)
		held := call(`{}`)
		r.nodes.set("http://127.0.0.1:1")
		r.submit(t, held)
		r.take(t, 1)
		for _, want := range []models.Status{models.Running, models.Queued} { // a claim is committed a moment before it is known
			if err := r.Reap(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, r.row(t, id), want)
		}
		row := r.row(t, id)
		if row.Failures != 0 || row.Redeliveries != 1 {
			t.Errorf("failures %d, redeliveries %d", row.Failures, row.Redeliveries)
		}
		wantStatus(t, r.row(t, held.ID), models.Running)
	})
}

// An agent that answers on the connection cannot reach anybody when the replica that had it open is gone by the time of the decision.
func TestACallThatWasOpenDuringTheWaitIsRepeatedWhenItsReplicaIsGone(t *testing.T) {
	for name, died := range map[string]bool{"its replica died": true, "its replica lives": false} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, db *database.DB) { waitWithAnOpenCall(t, db, died) })
		})
	}
}

func waitWithAnOpenCall(t *testing.T, db *database.DB, died bool) {
	r := build(t, db, settings{still: true})
	r.nodes.set("http://127.0.0.1:1")
	id := r.submit(t, call(`{}`))
	w := r.take(t, 1)[0]
	owner := *r.row(t, id).LeaseOwner
	if _, err := r.Report(t.Context(), id, says(models.Waiting, "")); err != nil {
		t.Fatal(err)
	}
	if row := r.row(t, id); row.HeldBy == nil || *row.HeldBy != owner || row.LeaseOwner != nil {
		t.Fatalf("while it waits it is held by %v, leased by %v", row.HeldBy, row.LeaseOwner)
	}
	if died {
		r.loseLease(t)
	}
	if _, err := r.Report(t.Context(), id, says(models.Running, "")); err != nil {
		t.Fatal(err)
	}
	if row := r.row(t, id); row.HeldBy != nil || row.LeaseOwner == nil || *row.LeaseOwner != owner {
		t.Fatalf("after the decision it is held by %v, leased by %v", row.HeldBy, row.LeaseOwner)
	}
	if err := r.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if died {
		if row := r.becomes(t, id, models.Queued); row.Redeliveries != 1 || row.Failures != 0 {
			t.Errorf("redeliveries %d, failures %d", row.Redeliveries, row.Failures)
		}
		return
	}
	r.end(t, w, execution.Answers, `"done"`)
	wantStatus(t, r.row(t, id), models.Succeeded)
}

// A node that takes the call over while it waits reports later: nobody has the call open then, and nothing is to be repeated.
func TestACallThatIsTakenOverDuringTheWaitIsInNobodysHand(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls, accept := make(chan *http.Request, 1), make(chan struct{})
		r := newRig(t, db, func(w http.ResponseWriter, q *http.Request) {
			calls <- q
			<-accept
			w.WriteHeader(http.StatusAccepted)
		})
		id := r.submit(t, call(`{}`))
		dbtest.Soon(t, calls)
		if _, err := r.Report(t.Context(), id, says(models.Waiting, "")); err != nil {
			t.Fatal(err)
		}
		close(accept)
		dbtest.Eventually(t, "nobody has the call open", func() bool { return r.row(t, id).HeldBy == nil })
		if _, err := r.Report(t.Context(), id, says(models.Running, "")); err != nil {
			t.Fatal(err)
		}
		if row := r.row(t, id); row.LeaseOwner != nil {
			t.Errorf("leased by %s", *row.LeaseOwner)
		}
		if _, err := r.Report(t.Context(), id, says(models.Succeeded, "")); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, id), models.Succeeded)
	})
}

func TestDrainingPutsBackWhatDoesNotEnd(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 10)
		r := build(t, db, settings{agent: holding(calls, nil)})
		id := r.submit(t, call(`{}`))
		var f execution.Finished
		var callErr error
		waited := make(chan struct{})
		sync := call(`{}`)
		go func() {
			defer close(waited)
			f, callErr = r.Call(context.Background(), sync, false)
		}()
		dbtest.Soon(t, calls)
		dbtest.Soon(t, calls)
		r.Drain(past())
		dbtest.Soon(t, waited)
		if callErr != nil {
			t.Fatal(callErr)
		}
		if f.Row.ID != sync.ID || f.Row.Status != models.Queued {
			t.Errorf("the waiting caller was told %s %s", f.Row.ID, f.Row.Status)
		}
		for _, id := range []string{id, sync.ID} {
			row := r.row(t, id)
			wantStatus(t, row, models.Queued)
			if row.LeaseOwner != nil || row.Failures != 0 || row.Redeliveries != 1 {
				t.Errorf("owner %v, failures %d, redeliveries %d", row.LeaseOwner, row.Failures, row.Redeliveries)
			}
		}
		if _, err := r.Submit(t.Context(), call(`{}`)); !errors.Is(err, execution.ErrDraining) {
			t.Errorf("a draining server said %v", err)
		}
		if _, err := r.Call(t.Context(), call(`{}`), false); !errors.Is(err, execution.ErrDraining) {
			t.Errorf("a draining server said %v", err)
		}
	})
}

func TestDrainingLetsCallsEnd(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 10)
		answer := make(chan struct{})
		r := build(t, db, settings{agent: holding(calls, answer)})
		id := r.submit(t, call(`{}`))
		dbtest.Soon(t, calls)
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			r.Drain(context.Background())
		}()
		dbtest.Eventually(t, "it drains", r.Draining)
		close(answer)
		dbtest.Soon(t, drained)
		wantStatus(t, r.row(t, id), models.Succeeded)
	})
}

// Submissions and sync calls that come while the service drains are either refused or written down; none is left running for nobody.
func TestCallsThatComeWhileDraining(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{agent: echo})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					if _, err := r.Call(context.Background(), call(`{}`), false); err != nil {
						return
					}
				}
			})
		}
		dbtest.Eventually(t, "calls flow", func() bool {
			return dbtest.Count(t, db, "SELECT count(*) FROM (SELECT 1 FROM executions LIMIT 20) e") == 20
		})
		r.Drain(past())
		wg.Wait()
		if n := dbtest.Count(t, db, "SELECT count(*) FROM executions WHERE status NOT IN ('queued', 'succeeded')"); n != 0 {
			t.Errorf("%d executions are neither ended nor queued", n)
		}
	})
}

// owner is a role of PostgreSQL that a test may shut out: to whoever connects as this role the database is away.
type owner struct {
	t     *testing.T
	admin *pgx.Conn
	name  string
}

func newOwner(t *testing.T, c *database.Config) *owner {
	t.Helper()
	u, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(t.Context(), c.URL)
	if err != nil {
		t.Fatal(err)
	}
	schema := u.Query().Get("search_path")
	o := &owner{t: t, admin: admin, name: schema + "_owner"}
	o.exec("CREATE ROLE " + o.name + " LOGIN")
	o.exec("GRANT ALL ON SCHEMA " + schema + " TO " + o.name)
	t.Cleanup(func() {
		o.exec("DROP OWNED BY " + o.name)
		o.exec("DROP ROLE " + o.name)
		_ = admin.Close(context.Background())
	})
	u.User = url.User(o.name)
	c.URL = u.String()
	return o
}

func (o *owner) exec(statement string) {
	o.t.Helper()
	if _, err := o.admin.Exec(context.Background(), statement); err != nil {
		o.t.Fatalf("%s: %v", statement, err)
	}
}

func (o *owner) away() {
	o.exec("ALTER ROLE " + o.name + " NOLOGIN")
	o.cut()
}

func (o *owner) back() { o.exec("ALTER ROLE " + o.name + " LOGIN") }

func (o *owner) cut() {
	o.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + o.name + "'")
}

func TestTheDatabaseIsAwayForAWhile(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		own := newOwner(t, &c)
		r := build(t, dbtest.Open(t, c), settings{agent: echo, ttl: 2 * time.Second})
		var accepted sync.Map
		var refused atomic.Int64
		var wg sync.WaitGroup
		load, stop := context.WithCancel(t.Context())
		for range 8 {
			wg.Go(func() {
				for load.Err() == nil {
					sub := call(`{}`)
					if _, err := r.Submit(context.Background(), sub); err == nil {
						accepted.Store(sub.ID, true)
					} else {
						refused.Add(1)
					}
				}
			})
		}
		some := func(n int) func() bool {
			start := 0
			accepted.Range(func(any, any) bool { start++; return true })
			return func() bool {
				now := 0
				accepted.Range(func(any, any) bool { now++; return true })
				return now >= start+n
			}
		}
		dbtest.Eventually(t, "work is accepted", some(30))
		own.cut() // connections break in the middle of everything
		dbtest.Eventually(t, "work is accepted again", some(30))
		own.away()
		failures := refused.Load()
		dbtest.Eventually(t, "submissions fail", func() bool { return refused.Load() > failures+10 })
		own.back()
		dbtest.Eventually(t, "work is accepted again", some(30))
		stop()
		wg.Wait()
		accepted.Range(func(id, _ any) bool {
			wantStatus(t, r.finish(t, id.(string)).Row, models.Succeeded)
			return true
		})
		dbtest.Eventually(t, "nothing is left open, accepted or not", func() bool {
			return dbtest.Count(t, r.db, "SELECT count(*) FROM executions WHERE finished_at IS NULL") == 0
		})
		audit(t, r)
	})
}

// audit is what holds at all times: one terminal event per ended execution and none for others, legal moves only, one delivery per ended
// execution with a webhook.
func audit(t *testing.T, r *rig) {
	t.Helper()
	rows, err := r.db.Query(t.Context(), `SELECT e.id, e.status, e.mode, v.kind, v.data FROM executions e LEFT JOIN events v ON v.execution_id = e.id ORDER BY e.id, v.id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	current, last := "", models.Status("")
	var want models.Status
	finish := func() {
		if current != "" && last != want {
			t.Errorf("%s is %s, its history ends with %s", current, want, last)
		}
	}
	for rows.Next() {
		var id, mode string
		var status models.Status
		var kind, data *string
		if err := rows.Scan(&id, &status, &mode, &kind, &data); err != nil {
			t.Fatal(err)
		}
		if id != current {
			finish()
			current, last, want = id, "", status
		}
		if kind == nil {
			t.Errorf("%s has no history", id)
			continue
		}
		next := models.Status(strings.TrimPrefix(*kind, "execution."))
		if *kind == "execution.attempt_failed" || *kind == "execution.redelivered" {
			next = models.Queued
		}
		if !slices.Contains(models.Statuses, next) {
			continue
		}
		if last != "" && !last.CanBecome(next) {
			t.Errorf("%s went from %s to %s (%s)", id, last, next, text(data))
		}
		last = next
	}
	finish()
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if n := dbtest.Count(t, r.db, `SELECT count(*) FROM executions e WHERE e.has_webhook AND (e.finished_at IS NOT NULL) <>
		((SELECT count(*) FROM webhook_deliveries d WHERE d.execution_id = e.id) = 1)`); n != 0 {
		t.Errorf("%d executions have too many or too few webhooks", n)
	}
	if n := dbtest.Count(t, r.db, "SELECT count(*) FROM executions WHERE (finished_at IS NOT NULL) <> (status IN ('succeeded', 'failed', 'timeout', 'cancelled'))"); n != 0 {
		t.Errorf("%d executions have an end and no end", n)
	}
}

func text(data *string) string {
	if data == nil {
		return ""
	}
	if !json.Valid([]byte(*data)) {
		return "broken: " + *data
	}
	return *data
}
