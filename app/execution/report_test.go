package execution_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// accepted is an execution whose node has answered 202, on a rig without background work.
func accepted(t *testing.T, db *database.DB, change ...func(*execution.Submission)) (*rig, string) {
	t.Helper()
	r := build(t, db, settings{still: true})
	r.nodes.set("http://127.0.0.1:1")
	sub := call(`{}`)
	for _, f := range change {
		f(&sub)
	}
	r.submit(t, sub)
	r.end(t, r.take(t, 1)[0], execution.Accepts, "")
	return r, sub.ID
}

func says(status models.Status, token string) execution.Report {
	r := execution.Report{Status: status, Token: token}
	switch status {
	case models.Succeeded:
		r.Result = []byte(`{"x":1}`)
	case models.Failed:
		r.Error, r.Details = "it broke", []byte(`{"line":7}`)
	default:
	}
	return r
}

func TestAnAcceptedCallIsHeldByNobodyAndEndsByItsReport(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r, id := accepted(t, db)
		row := r.row(t, id)
		wantStatus(t, row, models.Running)
		if row.LeaseOwner != nil || row.InstanceID == nil {
			t.Errorf("held by %v, at %v", row.LeaseOwner, row.InstanceID)
		}
		r.loseLease(t) // nobody's lease, nobody's loss
		if err := r.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
		f, err := r.Report(t.Context(), id, says(models.Succeeded, r.TokenOf(id, 1)))
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, f.Row, models.Succeeded)
		if string(f.Result) != `{"x":1}` {
			t.Errorf("the result is %s", f.Result)
		}
		wantKinds(t, r, id, "[queued running released succeeded]")
	})
}

func TestEveryEndMayBeReported(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		for _, status := range []models.Status{models.Succeeded, models.Failed, models.Timeout, models.Cancelled} {
			id := r.submit(t, call(`{}`))
			r.end(t, r.take(t, 1)[0], execution.Accepts, "")
			f, err := r.Report(t.Context(), id, says(status, ""))
			if err != nil {
				t.Fatal(err)
			}
			wantStatus(t, f.Row, status)
			if status == models.Failed && (*f.Row.ErrorMessage != "it broke" || string(f.Details) != `{"line":7}` || f.Row.Failures != 1) {
				t.Errorf("%s, %s, %d failures", *f.Row.ErrorMessage, f.Details, f.Row.Failures)
			}
			if f.Row.FinishedAt == nil {
				t.Errorf("%s without an end", status)
			}
		}
	})
}

// The order of ends does not matter: the first stands, and whatever else is said is kept in the history and changes nothing.
func TestWhatIsSaidAfterTheEndChangesNothing(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r, id := accepted(t, db)
		token := r.TokenOf(id, 1)
		if _, err := r.Report(t.Context(), id, says(models.Succeeded, token)); err != nil {
			t.Fatal(err)
		}
		before := r.row(t, id)
		for _, c := range []struct {
			report execution.Report
			err    error
		}{
			{says(models.Succeeded, token), nil},
			{says(models.Succeeded, ""), nil},
			{says(models.Failed, ""), nil},
			{says(models.Failed, token), execution.ErrTerminalConflict},
			{says(models.Cancelled, token), execution.ErrTerminalConflict},
			{says(models.Running, token), nil},
			{says(models.Failed, "1.0123456789abcdef0123456789abcdef"), execution.ErrBadToken},
		} {
			f, err := r.Report(t.Context(), id, c.report)
			if !errors.Is(err, c.err) {
				t.Errorf("%s with token %q: %v, want %v", c.report.Status, c.report.Token, err, c.err)
			}
			if err == nil {
				wantStatus(t, f.Row, models.Succeeded)
			}
		}
		half := 0.5
		if _, err := r.Progress(t.Context(), id, token, &half, "half", nil); err == nil {
			t.Error("progress after the end was stored")
		}
		after := r.row(t, id)
		if *after.FinishedAt != *before.FinishedAt || after.Attempt != before.Attempt || after.ErrorMessage != nil || after.Progress != nil {
			t.Errorf("%+v became %+v", before, after)
		}
		f, err := r.Get(t.Context(), id)
		if err != nil || string(f.Result) != `{"x":1}` {
			t.Errorf("the result is %s, %v", f.Result, err)
		}
		wantKinds(t, r, id, "[queued running released succeeded late_report late_report late_report late_report late_report late_report]")
	})
}

func TestAReportOfAnEarlierAttemptIsStale(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r, id := accepted(t, db, func(s *execution.Submission) { s.Retry = retry(3) })
		if f, err := r.Report(t.Context(), id, says(models.Failed, r.TokenOf(id, 1))); err != nil || f.Row.Status != models.Queued || f.Row.Failures != 1 {
			t.Fatalf("%+v, %v", f.Row, err)
		}
		dbtest.Eventually(t, "it is due", func() bool { return r.row(t, id).AvailableAt <= db.NowMs() })
		second := r.take(t, 1)[0]
		r.end(t, second, execution.Accepts, "")
		for _, status := range []models.Status{models.Succeeded, models.Failed, models.Running} {
			if _, err := r.Report(t.Context(), id, says(status, r.TokenOf(id, 1))); !errors.Is(err, execution.ErrStaleAttempt) {
				t.Errorf("%s of the first attempt: %v", status, err)
			}
		}
		wantStatus(t, r.row(t, id), models.Running)
		if _, err := r.Report(t.Context(), id, says(models.Succeeded, second.Token(r.Service))); err != nil {
			t.Fatal(err)
		}
		wantKinds(t, r, id, "[queued running released attempt_failed running released succeeded]")
	})
}

// The control plane died during the call; the agent did not, and reports before it is asked again. Even if its node looks unhealthy by then.
func TestAnAttemptThatWasPutBackMayStillEndByItself(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		for _, status := range []models.Status{models.Queued, models.Pending} {
			for _, token := range []bool{true, false} {
				r := build(t, db, settings{still: true})
				r.nodes.set("http://127.0.0.1:1")
				id := r.submit(t, call(`{}`))
				w := r.take(t, 1)[0]
				r.loseLease(t)
				if err := r.Reap(t.Context()); err != nil {
					t.Fatal(err)
				}
				kinds := "[queued running redelivered running succeeded]"
				if status == models.Pending {
					r.nodes.set()
					if err := r.SweepPending(t.Context()); err != nil {
						t.Fatal(err)
					}
					kinds = "[queued running redelivered pending running succeeded]"
				}
				wantStatus(t, r.row(t, id), status)
				report := says(models.Succeeded, "")
				if token {
					report.Token = w.Token(r.Service)
				}
				f, err := r.Report(t.Context(), id, report)
				if err != nil {
					t.Fatalf("%s: %v", status, err)
				}
				wantStatus(t, f.Row, models.Succeeded)
				wantKinds(t, r, id, kinds)
				r.nodes.set("http://127.0.0.1:1")
				r.take(t, 0)
			}
		}
	})
}

func TestNobodyReportsWhatWasNotBegun(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		id := r.submit(t, call(`{}`))
		var state *execution.StateError
		if _, err := r.Report(t.Context(), id, says(models.Succeeded, "")); !errors.As(err, &state) || state.Status != models.Queued {
			t.Errorf("%v", err)
		}
		wantStatus(t, r.row(t, id), models.Queued)
		if _, err := r.Report(t.Context(), "exec_none", says(models.Succeeded, "")); !errors.Is(err, execution.ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

func TestTokensAreOfOneAttemptOfOneExecution(t *testing.T) {
	db := dbtest.Open(t, database.Config{DataDir: dbtest.Dir(t)})
	r := build(t, db, settings{still: true, options: func(o *execution.Options) { o.AllowUnsigned = false }})
	r.nodes.set("http://127.0.0.1:1")
	id, other := r.submit(t, call(`{}`)), r.submit(t, call(`{}`))
	for _, w := range r.take(t, 2) {
		r.end(t, w, execution.Accepts, "")
	}
	good := r.TokenOf(id, 1)
	for _, bad := range []string{
		"", "1", "1.", "1." + strings.Repeat("0", 32), r.TokenOf(other, 1), good[:len(good)-1], good + "0", "+" + good, " " + good,
		"2" + good[1:], "0" + good, "-1." + good[2:], "9999999999999999999.0", strings.ToUpper(good),
	} {
		if bad == good {
			continue
		}
		if _, err := r.Report(t.Context(), id, says(models.Succeeded, bad)); !errors.Is(err, execution.ErrBadToken) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := r.Progress(t.Context(), id, bad, nil, "x", nil); !errors.Is(err, execution.ErrBadToken) {
			t.Errorf("progress with %q: %v", bad, err)
		}
		if _, err := r.Note(t.Context(), id, bad, "x", nil); !errors.Is(err, execution.ErrBadToken) {
			t.Errorf("a note with %q: %v", bad, err)
		}
	}
	if _, err := r.Report(t.Context(), id, says(models.Succeeded, good)); err != nil {
		t.Error(err)
	}
}

// PostgreSQL refuses NUL in texts; one such report must neither fail nor take its neighbours along.
func TestTextsOfAgentsFitBothDatabases(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r := build(t, db, settings{still: true})
		r.nodes.set("http://127.0.0.1:1")
		for _, status := range []models.Status{models.Succeeded, models.Failed, models.Timeout, models.Cancelled} {
			id := r.submit(t, call(`{}`))
			r.end(t, r.take(t, 1)[0], execution.Accepts, "")
			half := 0.5
			f, err := r.Report(t.Context(), id, execution.Report{
				Status: status, Reason: "why\x00 \xff", Error: "bad\x00 \xff", Message: "half\x00 \xff", Progress: &half, Result: []byte(`"\u0000"`),
			})
			if err != nil {
				t.Errorf("%s: %v", status, err)
				continue
			}
			wantStatus(t, f.Row, status)
		}
		id := r.submit(t, call(`{}`))
		if _, err := r.Cancel(t.Context(), id, "why\x00 \xff"); err != nil {
			t.Error(err)
		}
	})
}

func TestProgressIsKeptAndShown(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r, id := accepted(t, db)
		for n, fraction := range []float64{0.1, 0.6} {
			row, err := r.Progress(t.Context(), id, r.TokenOf(id, 1), &fraction, []string{"a", "b"}[n], []byte(`{"part":1}`))
			if err != nil {
				t.Fatal(err)
			}
			if *row.Progress != fraction || *row.ProgressNote != []string{"a", "b"}[n] {
				t.Errorf("%v %v", *row.Progress, *row.ProgressNote)
			}
		}
		partial, err := r.Payload(t.Context(), id, models.PayloadPartial)
		if err != nil || string(partial) != `{"part":1}` {
			t.Errorf("%s, %v", partial, err)
		}
		if _, err := r.Note(t.Context(), id, "", "look", []string{"tag"}); err != nil {
			t.Fatal(err)
		}
		wantKinds(t, r, id, "[queued running released progress progress note]")
	})
}

func TestALostInstanceTakesWithItWhatItHadAccepted(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r, plain := accepted(t, db)
		retried := call(`{}`)
		retried.Retry = retry(2, "unreachable")
		r.submit(t, retried)
		r.end(t, r.take(t, 1)[0], execution.Accepts, "")
		held := r.submit(t, call(`{}`)) // a call that is open is not the instance's to lose: its connection breaks
		r.take(t, 1)
		if err := r.InstanceLost(t.Context(), "another instance", "gone"); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, plain), models.Running)
		if err := r.InstanceLost(t.Context(), "an instance", "agent_restart_orphaned: gone"); err != nil {
			t.Fatal(err)
		}
		row := r.row(t, plain)
		wantStatus(t, row, models.Failed)
		if *row.ErrorCode != "instance_lost" || !strings.HasPrefix(*row.StatusReason, "agent_restart_orphaned: ") {
			t.Errorf("%s, %s", *row.ErrorCode, *row.StatusReason)
		}
		row = r.row(t, retried.ID)
		wantStatus(t, row, models.Queued)
		if row.Failures != 1 {
			t.Errorf("%d failures", row.Failures)
		}
		wantStatus(t, r.row(t, held), models.Running)
	})
}

func TestWhatALostInstanceHadOfAnIdempotentFunctionIsGivenToAnother(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		r, id := accepted(t, db)
		r.nodes.idempotent = true
		if err := r.InstanceLost(t.Context(), "an instance", "agent_restart_orphaned: gone"); err != nil {
			t.Fatal(err)
		}
		row := r.row(t, id)
		wantStatus(t, row, models.Queued)
		if row.Failures != 0 || row.Redeliveries != 1 || row.ErrorCode != nil {
			t.Errorf("failures %d, redeliveries %d, error %v", row.Failures, row.Redeliveries, row.ErrorCode)
		}
	})
}

func TestOrphansAreFoundAfterAGrace(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r, id := accepted(t, db)
		dbtest.Change(t, db, "INSERT INTO nodes (id, team_id, group_id, version, deployment, registration, registered_at, updated_at) VALUES ('n', '', '', '', 'long_running', '', 0, 0)")
		dbtest.Change(t, db, `INSERT INTO instances (id, node_id, base_url, version, lifecycle, health, heartbeats, registered_at, heartbeat_at)
			VALUES ('an instance', 'n', '', '', 'ready', 'active', true, 0, 0)`)
		sweep := func(want models.Status) {
			t.Helper()
			if err := r.SweepOrphans(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, r.row(t, id), want)
		}
		sweep(models.Running)
		dbtest.Change(t, db, "UPDATE instances SET lifecycle = 'offline', stopped_at = $1 WHERE id = 'an instance'", db.NowMs())
		sweep(models.Running)
		c.advance(61 * time.Second)
		sweep(models.Failed)
	})
}

func TestDeadlinesEndWhateverIsOpen(t *testing.T) {
	eachWithClock(t, func(t *testing.T, db *database.DB, c *clock) {
		r := build(t, db, settings{still: true})
		limited := func() execution.Submission {
			sub := call(`{}`)
			sub.Timeout = time.Minute
			return sub
		}
		pending := r.submit(t, limited())
		r.nodes.set("http://127.0.0.1:1")
		open := r.submit(t, limited())
		r.take(t, 1)
		accepted := r.submit(t, limited())
		r.end(t, r.take(t, 1)[0], execution.Accepts, "")
		waiting := r.submit(t, limited())
		r.end(t, r.take(t, 1)[0], execution.Accepts, "")
		queued := r.submit(t, limited())
		unlimited := r.submit(t, call(`{}`))
		if err := r.SweepDeadlines(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{pending, open, accepted, waiting, queued, unlimited} {
			if r.row(t, id).Status.Terminal() {
				t.Errorf("%s ended before its limit", id)
			}
		}
		c.advance(59 * time.Second)
		if err := r.SweepDeadlines(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, r.row(t, queued), models.Queued)
		c.advance(2 * time.Second)
		if err := r.SweepDeadlines(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{pending, open, accepted, waiting, queued} {
			row := r.row(t, id)
			wantStatus(t, row, models.Timeout)
			if row.StatusReason == nil || *row.StatusReason != "agent_timeout" || *row.ErrorMessage != "Execution exceeded 60 second limit" {
				t.Errorf("%v: %v", row.StatusReason, *row.ErrorMessage)
			}
		}
		wantStatus(t, r.row(t, unlimited), models.Queued)
		// The agents that had the two running calls are told.
		if n := dbtest.Count(t, db, "SELECT count(*) FROM notices WHERE execution_id IN ($1, $2)", open, accepted); n != 2 {
			t.Errorf("%d notices", n)
		}
		audit(t, r)
	})
}
