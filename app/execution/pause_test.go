package execution_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	record "github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

func (r *rig) pause(t *testing.T, id string, previous models.Status) {
	t.Helper()
	done, err := r.Pause(t.Context(), id, "look first", &record.Origin{Actor: "anna"})
	if err != nil || done.Previous != previous || done.Row.Status != models.Paused {
		t.Fatalf("paused: %+v, %v", done, err)
	}
}

func (r *rig) unpause(t *testing.T, id string, to models.Status) {
	t.Helper()
	done, err := r.Unpause(t.Context(), id, nil)
	if err != nil || done.Previous != models.Paused || done.Row.Status != to {
		t.Fatalf("resumed: %+v, %v", done, err)
	}
}

func TestWhatIsPausedBeforeItsDispatchIsDispatchedWhenResumed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		id := r.submit(t, call(`{}`))
		r.pause(t, id, models.Queued)
		if taken, err := r.Take(t.Context(), 1); err != nil || len(taken) != 0 {
			t.Fatalf("what is paused was dispatched: %v, %v", taken, err)
		}
		r.unpause(t, id, models.Queued)
		taken := r.take(t, 1)
		if len(taken) != 1 || taken[0].ID() != id {
			t.Fatal("what was resumed is not dispatched")
		}
		r.end(t, taken[0], execution.Answers, `1`)
		wantKinds(t, r, id, "[queued paused queued running succeeded]")
		if n := dbtest.Count(t, db, "SELECT count(*) FROM audit_log WHERE action = 'execution.paused' AND object = $1 AND reason = 'look first'", id); n != 1 {
			t.Errorf("%d entries on the record", n)
		}
	})
}

func TestAResultThatComesWhilePausedCountsWhenResumed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		calls := make(chan *http.Request, 1)
		open := make(chan struct{})
		r := newRig(t, db, func(w http.ResponseWriter, req *http.Request) {
			calls <- req
			<-open
			echo(w, req)
		})
		held := r.submit(t, call(`{"x":1}`))
		dbtest.Soon(t, calls)
		r.pause(t, held, models.Running)
		close(open)
		dbtest.Eventually(t, "the answer to be kept", func() bool {
			return dbtest.Count(t, db, "SELECT count(*) FROM events WHERE execution_id = $1 AND kind = 'execution.report_kept'", held) == 1
		})
		wantStatus(t, r.row(t, held), models.Paused)
		r.unpause(t, held, models.Succeeded)
		wantKinds(t, r, held, "[queued running paused report_kept running succeeded]")
	})
}

func TestAnAgentThatReportsWhilePausedDoesNotResume(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := newRig(t, db, accepts)
		id := r.submit(t, call(`{}`))
		dbtest.Eventually(t, "the agent to take the call", func() bool {
			return dbtest.Count(t, db, "SELECT count(*) FROM events WHERE execution_id = $1 AND kind = 'execution.released'", id) == 1
		})
		r.pause(t, id, models.Running)
		token := r.TokenOf(id, 1)
		half := 0.5
		if _, err := r.Progress(t.Context(), id, token, &half, "half", nil); err != nil {
			t.Error(err)
		}
		for _, status := range []models.Status{models.Running, models.Succeeded} {
			if f, err := r.Report(t.Context(), id, says(status, token)); err != nil || f.Row.Status != models.Paused {
				t.Errorf("after the report of %s: %v, %v", status, f.Row, err)
			}
		}
		var state *execution.StateError
		if _, err := r.Pause(t.Context(), id, "", nil); !errors.As(err, &state) {
			t.Errorf("paused twice: %v", err)
		}
		r.unpause(t, id, models.Succeeded)
		if _, err := r.Unpause(t.Context(), id, nil); !errors.As(err, &state) {
			t.Errorf("resumed what has ended: %v", err)
		}
	})
}

func TestNoDeadlineRunsWhilePaused(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := newRig(t, db, accepts)
		parent := call(`{}`)
		parent.Timeout = time.Hour
		top := r.submit(t, parent)
		child := call(`{}`)
		child.Timeout, child.ParentID = time.Hour, top
		below := r.submit(t, child)
		for _, id := range []string{top, below} {
			r.becomes(t, id, models.Running)
		}
		r.pause(t, below, models.Running)
		c.advance(2 * time.Hour)
		if err := r.SweepDeadlines(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, below), models.Paused)
		wantStatus(t, r.row(t, top), models.Running)
		r.unpause(t, below, models.Running)
		for _, id := range []string{top, below} {
			if row := r.row(t, id); row.DeadlineAt == nil || *row.DeadlineAt < db.NowMs()+30*60_000 || row.Holds != 0 || row.WaitingSince != nil {
				t.Errorf("%s goes on until %v with %d holds", id, row.DeadlineAt, row.Holds)
			}
		}
		if _, err := r.Pause(t.Context(), below, "", nil); err != nil {
			t.Fatal(err)
		}
		if done, err := r.Cancel(t.Context(), below, ""); err != nil || done.Previous != models.Paused {
			t.Errorf("%+v, %v", done, err)
		}
		if row := r.row(t, top); row.Holds != 0 || row.DeadlineAt == nil {
			t.Errorf("above what was cancelled rest %d", row.Holds)
		}
		totalsHold(t, db)
	})
}

func TestARunIsPausedAndResumed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		first := r.submit(t, call(`{}`))
		taken := r.take(t, 1)
		sub := call(`{}`)
		sub.RunID = r.row(t, first).RunID
		second := r.submit(t, sub)
		other := r.submit(t, call(`{}`))
		paused, err := r.PauseRun(t.Context(), sub.RunID, "stop here")
		if err != nil || len(paused) != 2 || paused[0].Err != nil || paused[1].Status != models.Paused {
			t.Fatalf("%+v, %v", paused, err)
		}
		wantStatus(t, r.row(t, other), models.Queued)
		r.end(t, taken[0], execution.Answers, `1`)
		wantStatus(t, r.row(t, first), models.Paused)
		resumed, err := r.UnpauseRun(t.Context(), sub.RunID)
		if err != nil || len(resumed) != 2 {
			t.Fatalf("%+v, %v", resumed, err)
		}
		wantStatus(t, r.row(t, first), models.Succeeded)
		wantStatus(t, r.row(t, second), models.Queued)
		totalsHold(t, db)
	})
}
