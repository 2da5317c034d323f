package execution_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func keyed(key, hash string) execution.Submission {
	sub := call(`{}`)
	sub.Key = &models.IdempotencyKey{Scope: "async", Key: key, BodyHash: hash}
	return sub
}

// Fifty keys, twenty requests each, all at once, over as many replicas as the engine has.
func TestAKeyStandsForOneExecution(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		const keys, each = 50, 20
		rigs := []*rig{build(t, dbtest.Open(t, c), settings{still: true})}
		if c.URL != "" {
			rigs = append(rigs, build(t, dbtest.Open(t, c), settings{still: true}), build(t, dbtest.Open(t, c), settings{still: true}))
		}
		ids := [keys]sync.Map{}
		var replayed atomic.Int64
		var wg sync.WaitGroup
		start := make(chan struct{})
		begun := time.Now()
		for k := range keys {
			for i := range each {
				wg.Go(func() {
					<-start
					started, err := rigs[i%len(rigs)].Submit(t.Context(), keyed(fmt.Sprint("key ", (k+i)%keys), "h"))
					if err != nil {
						t.Error(err)
						return
					}
					if started.Replayed {
						replayed.Add(1)
					}
					ids[(k+i)%keys].Store(started.Row.ID, true)
				})
			}
		}
		close(start)
		wg.Wait()
		if n := dbtest.Count(t, rigs[0].db, "SELECT count(*) FROM executions"); n != keys {
			t.Errorf("%d executions", n)
		}
		for k := range ids {
			n := 0
			ids[k].Range(func(any, any) bool { n++; return true })
			if n != 1 {
				t.Errorf("key %d was answered with %d ids", k, n)
			}
		}
		if replayed.Load() != keys*(each-1) {
			t.Errorf("%d replays", replayed.Load())
		}
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("took %s: the keys wait for each other", took)
		}
		if _, err := rigs[0].Submit(t.Context(), keyed("key 0", "another")); !errors.Is(err, execution.ErrIdempotencyKey) {
			t.Errorf("another request under the same key: %v", err)
		}
		other := keyed("key 0", "another")
		other.Key.Scope = "of somebody else"
		if started, err := rigs[0].Submit(t.Context(), other); err != nil || started.Replayed {
			t.Errorf("the key of somebody else: %v", err)
		}
		for _, table := range []string{"execution_payloads", "events"} {
			if n := dbtest.Count(t, rigs[0].db, "SELECT count(*) FROM "+table); n != keys+1 {
				t.Errorf("%d rows of %s", n, table)
			}
		}
	})
}

func TestASyncCallIsReplayedWhileItRuns(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 100)
		answer := make(chan struct{})
		r := newRig(t, db, holding(calls, answer))
		first := keyed("k", "h")
		ended := r.callBeside(t, first)
		dbtest.Soon(t, calls)
		var again []<-chan outcome
		for range 20 {
			again = append(again, r.callBeside(t, keyed("k", "h")))
		}
		dbtest.Eventually(t, "somebody waits", func() bool { return dbtest.Count(t, db, "SELECT count(*) FROM executions") == 1 })
		close(answer)
		wantStatus(t, dbtest.Soon(t, ended).Row, models.Succeeded)
		again = append(again, r.callBeside(t, keyed("k", "h"))) // and after the end
		for _, c := range again {
			got := dbtest.Soon(t, c)
			if got.err != nil || !got.Replayed || got.Row.ID != first.ID || string(got.Result) != `{}` {
				t.Errorf("%+v", got)
			}
		}
		if len(calls) != 0 {
			t.Errorf("the agent was called %d times more", len(calls))
		}
	})
}

func TestKeysAreForgottenAfterADay(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := build(t, db, settings{still: true})
		first := r.submit(t, keyed("k", "h"))
		expire := func() {
			t.Helper()
			if err := r.ExpireKeys(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		c.advance(23 * time.Hour)
		expire()
		if id := r.submit(t, keyed("k", "h")); id != first {
			t.Error("the key was forgotten too early")
		}
		c.advance(2 * time.Hour)
		expire()
		if id := r.submit(t, keyed("k", "another")); id == first {
			t.Error("the key was kept too long")
		}
	})
}

func TestRunsAreGrouped(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		run := func(change func(*execution.Submission)) *models.Execution {
			t.Helper()
			sub := call(`{}`)
			change(&sub)
			return r.row(t, r.submit(t, sub))
		}
		alone := run(func(*execution.Submission) {})
		if !strings.HasPrefix(alone.RunID, "run_") || alone.Workflow() != alone.RunID {
			t.Errorf("%+v", alone)
		}
		named := run(func(s *execution.Submission) { s.WorkflowID = "wf" })
		same := run(func(s *execution.Submission) { s.WorkflowID = "wf" })
		if same.RunID != named.RunID || named.RunID == "wf" || same.Workflow() != "wf" {
			t.Errorf("%s and %s, %s", named.RunID, same.RunID, same.Workflow())
		}
		if byRun := run(func(s *execution.Submission) { s.WorkflowID = named.RunID }); byRun.RunID != named.RunID || byRun.Workflow() != "wf" {
			t.Errorf("a run id as workflow id: %s", byRun.RunID)
		}
		both := run(func(s *execution.Submission) { s.WorkflowID, s.RunID = "wf", "run_mine" })
		if both.RunID != "run_mine" || both.Workflow() != "wf" {
			t.Errorf("the run id does not decide: %s, %s", both.RunID, both.Workflow())
		}
		if named.RunID != run(func(s *execution.Submission) { s.WorkflowID = "wf" }).RunID {
			t.Error("the name was given to another run")
		}
		child := run(func(s *execution.Submission) { s.ParentID = named.ID })
		if child.RunID != named.RunID || child.Workflow() != "wf" {
			t.Errorf("a child is in run %s of %s", child.RunID, child.Workflow())
		}
		orphan := run(func(s *execution.Submission) { s.ParentID = "exec_unknown" })
		if orphan.RunID == "" || orphan.RunID == named.RunID {
			t.Errorf("an orphan is in run %s", orphan.RunID)
		}
		page, err := r.List(t.Context(), execution.Filter{Run: "wf"})
		if err != nil || len(page.Rows) != 5 {
			t.Errorf("%d executions of wf, %v", len(page.Rows), err)
		}
	})
}

func TestTheFirstUseOfAWorkflowIDMakesOneRun(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		rigs := []*rig{build(t, dbtest.Open(t, c), settings{still: true})}
		if c.URL != "" {
			rigs = append(rigs, build(t, dbtest.Open(t, c), settings{still: true}))
		}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 100 {
			wg.Go(func() {
				<-start
				sub := call(`{}`)
				sub.WorkflowID = fmt.Sprint("wf", (i*7)%5)
				if i%3 == 0 {
					sub.Key = &models.IdempotencyKey{Scope: "s", Key: fmt.Sprint(i % 11), BodyHash: "h"}
				}
				if _, err := rigs[i%len(rigs)].Submit(t.Context(), sub); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if n := dbtest.Count(t, rigs[0].db, "SELECT count(DISTINCT run_id) FROM executions"); n != 5 {
			t.Errorf("%d runs for 5 names", n)
		}
	})
}

func TestRefusalsLeaveNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		sub := call(`{}`)
		sub.Function = "missing"
		if _, err := r.Submit(t.Context(), sub); !errors.Is(err, errNoSuchFunction) {
			t.Error(err)
		}
		if _, err := r.Call(t.Context(), sub, false); !errors.Is(err, errNoSuchFunction) {
			t.Error(err)
		}
		for _, table := range []string{"executions", "events", "execution_payloads", "run_aliases", "idempotency_keys"} {
			if n := dbtest.Count(t, db, "SELECT count(*) FROM "+table); n != 0 {
				t.Errorf("%d rows of %s", n, table)
			}
		}
	})
}

// What is written down survives as it came: bytes of any size, compressed or not.
func TestInputAndResultAreTheBytesThatCame(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, echo)
		for _, input := range []string{
			`{}`, ` {"a" : "<b>&\u0000\ud83d\ude00" } `, `{"a":"` + strings.Repeat("long ", 5000) + `"}`, `{"n":12345678901234567890.10}`,
		} {
			f := r.finish(t, r.submit(t, call(input)))
			stored, err := r.Payload(t.Context(), f.Row.ID, models.PayloadInput)
			if err != nil || string(stored) != input || string(f.Result) != strings.TrimSpace(input) {
				t.Errorf("%.60q became %.60q and %.60q (%v)", input, stored, f.Result, err)
			}
			if f.Row.InputBytes != int64(len(input)) || f.Row.ResultBytes != int64(len(f.Result)) {
				t.Errorf("sizes %d and %d", f.Row.InputBytes, f.Row.ResultBytes)
			}
		}
	})
}
