package execution_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// outcome of a call that runs beside the test.
type outcome struct {
	execution.Finished
	err error
}

func (r *rig) callBeside(t *testing.T, sub execution.Submission) <-chan outcome {
	t.Helper()
	ended := make(chan outcome, 1)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	wg.Go(func() {
		f, err := r.Call(t.Context(), sub, false)
		ended <- outcome{f, err}
	})
	return ended
}

func TestASyncCallTimesOutAtItsLimit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 1)
		r := newRig(t, db, holding(calls, nil))
		sub := call(`{}`)
		sub.Timeout = 50 * time.Millisecond
		ended := r.callBeside(t, sub)
		request := dbtest.Soon(t, calls)
		got := dbtest.Soon(t, ended)
		if got.err != nil {
			t.Fatal(got.err)
		}
		wantStatus(t, got.Row, models.Timeout)
		if *got.Row.ErrorMessage != "Execution exceeded 50 ms limit" {
			t.Errorf("%s", *got.Row.ErrorMessage)
		}
		dbtest.Soon(t, request.Context().Done()) // the call was hung up
		dbtest.Eventually(t, "no call is open", func() bool { return r.Open() == 0 })
		if r.Waiters() != 0 {
			t.Errorf("%d wait", r.Waiters())
		}
		wantKinds(t, r, sub.ID, "[running timeout]")
	})
}

func TestASyncCallerLearnsOfACancel(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 1)
		r := newRig(t, db, holding(calls, nil))
		sub := call(`{}`)
		ended := r.callBeside(t, sub)
		request := dbtest.Soon(t, calls)
		if _, err := r.Cancel(t.Context(), sub.ID, "enough"); err != nil {
			t.Fatal(err)
		}
		got := dbtest.Soon(t, ended)
		wantStatus(t, got.Row, models.Cancelled)
		dbtest.Soon(t, request.Context().Done())
	})
}

func TestASyncCallerOfAnAgentThatReportsLater(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		sub := call(`{}`)
		ended := r.callBeside(t, sub)
		dbtest.Eventually(t, "the node has taken it", func() bool { return len(r.kinds(t, sub.ID)) == 2 })
		if _, err := r.Report(t.Context(), sub.ID, says(models.Succeeded, "")); err != nil {
			t.Fatal(err)
		}
		got := dbtest.Soon(t, ended)
		wantStatus(t, got.Row, models.Succeeded)
		if string(got.Result) != `{"x":1}` {
			t.Errorf("%s", got.Result)
		}
	})
}

// Every hint is lost: no event reaches anybody. Waiting costs at most the half second between two looks at the record.
func TestWithoutAnyHint(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		shared := &nodes{}
		shared.set(serve(t, accepts))
		here := build(t, dbtest.Open(t, c), settings{nodes: shared, deaf: true})
		there := build(t, dbtest.Open(t, c), settings{nodes: shared, deaf: true})
		subs := map[models.Status]execution.Submission{}
		ended := map[models.Status]<-chan outcome{}
		for _, status := range []models.Status{models.Succeeded, models.Failed, models.Cancelled, models.Timeout} {
			subs[status] = call(`{}`)
			ended[status] = here.callBeside(t, subs[status])
		}
		for status, sub := range subs {
			dbtest.Eventually(t, "the node has taken it", func() bool {
				return dbtest.Count(t, there.db, "SELECT count(*) FROM events WHERE execution_id = $1 AND kind = 'execution.released'", sub.ID) == 1
			})
			begun := time.Now()
			if status == models.Cancelled {
				if _, err := there.Cancel(t.Context(), sub.ID, ""); err != nil {
					t.Fatal(err)
				}
			} else if _, err := there.Report(t.Context(), sub.ID, says(status, "")); err != nil {
				t.Fatal(err)
			}
			got := dbtest.Soon(t, ended[status])
			wantStatus(t, got.Row, status)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("%s was learnt after %s", status, took)
			}
		}
	})
}

func TestASyncCallerLearnsWhatHappensOnAnotherReplica(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		shared := &nodes{}
		shared.set(serve(t, accepts))
		two := replicas(t, c, settings{nodes: shared}, settings{nodes: shared})
		for _, status := range []models.Status{models.Succeeded, models.Failed, models.Timeout, models.Cancelled} {
			sub := call(`{}`)
			ended := two[0].callBeside(t, sub)
			dbtest.Eventually(t, "the node has taken it", func() bool {
				return dbtest.Count(t, two[1].db, "SELECT count(*) FROM events WHERE execution_id = $1 AND kind = 'execution.released'", sub.ID) == 1
			})
			if _, err := two[1].Report(t.Context(), sub.ID, says(status, "")); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, dbtest.Soon(t, ended).Row, status)
		}
	})
}

func TestACancelElsewhereHangsUpTheCall(t *testing.T) {
	onPostgres(t, func(t *testing.T, c database.Config) {
		calls := make(chan *http.Request, 1)
		shared := &nodes{}
		shared.set(serve(t, holding(calls, nil)))
		two := replicas(t, c, settings{nodes: shared}, settings{nodes: shared})
		sub := call(`{}`)
		ended := two[0].callBeside(t, sub)
		request := dbtest.Soon(t, calls)
		if _, err := two[1].Cancel(t.Context(), sub.ID, ""); err != nil {
			t.Fatal(err)
		}
		dbtest.Soon(t, request.Context().Done())
		wantStatus(t, dbtest.Soon(t, ended).Row, models.Cancelled)
	})
}

func TestLongPolling(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r, id := accepted(t, db)
		f, err := r.Wait(t.Context(), id, time.Millisecond, "")
		if err != nil || f.Row.Status != models.Running {
			t.Fatalf("%v, %v", f.Row, err)
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				f, err := r.Wait(t.Context(), id, dbtest.Patience, "")
				if err != nil {
					t.Error(err)
					return
				}
				wantStatus(t, f.Row, models.Succeeded)
			})
		}
		dbtest.Eventually(t, "somebody waits", func() bool { return r.Waiters() == 1 })
		if _, err := r.Report(t.Context(), id, says(models.Succeeded, "")); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if r.Waiters() != 0 {
			t.Error("somebody still waits")
		}
		if _, err := r.Wait(t.Context(), "exec_none", time.Second, ""); err == nil {
			t.Error("what does not exist was found")
		}
	})
}

// A pause answers a waiting caller at once, unless it waits through.
func TestAPauseAnswersTheCaller(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		sub := call(`{}`)
		ended := r.callBeside(t, sub)
		dbtest.Eventually(t, "the node has taken it", func() bool { return len(r.kinds(t, sub.ID)) == 2 })
		if _, err := r.Report(t.Context(), sub.ID, says(models.Waiting, "")); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, dbtest.Soon(t, ended).Row, models.Waiting)
	})
}

// The agent holds the connection, pauses by a report, goes on by a report, and answers at last.
func TestAHeldCallThatPausedStillBringsItsResult(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 1)
		answer := make(chan struct{})
		r := newRig(t, db, holding(calls, answer))
		id := r.submit(t, call(`{"a":1}`))
		dbtest.Soon(t, calls)
		for _, status := range []models.Status{models.Waiting, models.Running} {
			if _, err := r.Report(t.Context(), id, says(status, "")); err != nil {
				t.Fatal(err)
			}
		}
		close(answer)
		f := r.finish(t, id)
		wantStatus(t, f.Row, models.Succeeded)
		if string(f.Result) != `{"a":1}` {
			t.Errorf("%s", f.Result)
		}
		audit(t, r)
	})
}

// The agent goes away while a person decides. Whoever asked for another attempt gets it with the decision, others their failure.
func TestACallThatFailsDuringTheWaitIsTriedAgainIfThatWasAskedFor(t *testing.T) {
	for attempts, want := range map[int]models.Status{1: models.Failed, 2: models.Succeeded} {
		dbtest.Each(t, func(t *testing.T, db *database.DB) {
			calls, leave := make(chan *http.Request, 2), make(chan struct{})
			r := newRig(t, db, func(w http.ResponseWriter, q *http.Request) {
				calls <- q
				if q.Header.Get("X-Attempt") == "1" {
					<-leave
					http.Error(w, `{"error":"the agent is stopping"}`, http.StatusServiceUnavailable)
					return
				}
				echo(w, q)
			})
			sub := call(`{"a":1}`)
			sub.Retry = retry(attempts)
			id := r.submit(t, sub)
			dbtest.Soon(t, calls)
			inTx := func(move func(tx *database.Tx) error) {
				if err := db.Tx(t.Context(), move); err != nil {
					t.Fatal(err)
				}
			}
			inTx(func(tx *database.Tx) error {
				row, err := r.Lock(t.Context(), tx, id)
				if err != nil {
					return err
				}
				_, err = r.Suspend(t.Context(), tx, row)
				return err
			})
			close(leave)
			dbtest.Eventually(t, "what the agent said is kept", func() bool { return slices.Contains(r.kinds(t, id), "report_kept") })
			wantStatus(t, r.row(t, id), models.Waiting)
			inTx(func(tx *database.Tx) error {
				_, err := r.Resume(t.Context(), tx, id, "approved")
				return err
			})
			row := r.finish(t, id).Row
			wantStatus(t, row, want)
			if row.Attempt != attempts {
				t.Errorf("attempt %d of %d", row.Attempt, attempts)
			}
		})
	}
}
