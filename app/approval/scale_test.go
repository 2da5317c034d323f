package approval_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// crowd stores n waiting executions with their requests, without asking for each by itself.
func (r *rig) crowd(t *testing.T, n int) {
	t.Helper()
	for from := 1; from <= n; from += 5000 {
		r.crowdOf(t, from, min(from+4999, n))
	}
	if r.db.Postgres() {
		r.change(t, "ANALYZE approvals")
		r.change(t, "ANALYZE executions")
	} else {
		r.change(t, "ANALYZE")
	}
}

func (r *rig) crowdOf(t *testing.T, from, to int) {
	t.Helper()
	series := fmt.Sprintf("WITH RECURSIVE s(i) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT i + 1 FROM s WHERE i < %d)", from, to)
	number := "printf('%06d', i)"
	if r.db.Postgres() {
		number = "lpad(i::text, 6, '0')"
	}
	now := r.db.NowMs()
	err := r.db.Tx(t.Context(), func(tx *database.Tx) error {
		for _, statement := range []string{
			series + ` INSERT INTO executions (id, run_id, node_id, function, function_kind, mode, status, available_at, attempt, failures, max_attempts, redeliveries,
				has_webhook, created_at, input_bytes, result_bytes, holds, waiting_since, rounds)
				SELECT 'exec_crowd' || ` + number + `, 'run_crowd' || ` + number + `, 'n', 'f', 'reasoner', 'async', 'waiting', CAST($1 AS BIGINT), 1, 0, 1, 0, false, CAST($1 AS BIGINT), 2, 0, 1, CAST($1 AS BIGINT), 1 FROM s`,
			series + ` INSERT INTO approvals (id, request_id, execution_id, run_id, node_id, function, round, status, version, title, summary, risk, next, shape, editable,
				has_form, url, policy, quorum, on_reject, on_expire, created_at, expires_at)
				SELECT 'appr_crowd' || ` + number + `, 'crowd' || ` + number + `, 'exec_crowd' || ` + number + `, 'run_crowd' || ` + number + `, 'n', 'f', 1, 'pending', 1,
				'Pay claim ' || ` + number + `, 'It is due.', CASE WHEN i % 10 = 0 THEN 'high' ELSE '' END, '', 'shape' || (i % 50), false, false,
				'https://plane.example', '{}', 1, 'resume', 'resume', CAST($1 AS BIGINT) + i, CAST($1 AS BIGINT) + 86400000 + i FROM s`,
		} {
			if _, err := tx.Exec(t.Context(), statement, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// generous is a bound that only work which grows with the queue exceeds, on however busy a machine.
const generous = 1500 * time.Millisecond

func TestAHundredThousandWaitingCostRowsOnly(t *testing.T) {
	n := 100_000
	if testing.Short() || underRace {
		n = 5_000
	}
	each(t, func(t *testing.T, r *rig) {
		r.crowd(t, n)
		r.delivering(t)
		r.Start()
		t.Cleanup(r.Stop)
		r.sweep(t)
		// As many goroutines as with nobody waiting, give or take those of the connections.
		if is := runtime.NumGoroutine(); is > 200 {
			t.Errorf("%d goroutines for %d that wait", is, n)
		}
		if c, err := r.Count(t.Context(), "anna"); err != nil || c.Pending != approval.CountLimit || c.Expiring != 0 {
			t.Errorf("counts: %+v %v", c, err)
		}
		fast := func(what string, do func() error) {
			var took []time.Duration
			for range 20 {
				from := time.Now()
				if err := do(); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				took = append(took, time.Since(from))
			}
			slices.Sort(took)
			t.Logf("%s: median %s, p95 %s", what, took[10], took[18])
			if took[18] > generous {
				t.Errorf("%s takes %s at the 95th percentile", what, took[18])
			}
		}
		ctx := context.WithoutCancel(t.Context())
		list := func(f approval.Filter) func() error {
			return func() error { _, err := r.List(ctx, f); return err }
		}
		fast("the queue", list(approval.Filter{}))
		fast("the newest", list(approval.Filter{Newest: true}))
		fast("mine", list(approval.Filter{State: "mine", Me: "anna"}))
		fast("high risk", list(approval.Filter{Risk: "high"}))
		fast("the counts", func() error { _, err := r.Count(ctx, "anna"); return err })
		fast("what looks alike", func() error { _, err := r.Alike(ctx, []string{"shape1", "shape2", "shape3"}); return err })
		fast("a sweep with nothing due", func() error { return r.Sweep(ctx) })
		i := 0
		fast("a decision", func() error {
			i++
			_, err := r.Decide(ctx, anna, fmt.Sprintf("crowd%06d", 1000+i), approve(""))
			return err
		})
		page, err := r.List(ctx, approval.Filter{Limit: 200})
		if err != nil || len(page.Rows) != 200 || page.Next == "" {
			t.Fatalf("%d rows, next %q, %v", len(page.Rows), page.Next, err)
		}
		next, err := r.List(ctx, approval.Filter{Limit: 200, Cursor: page.Next})
		if err != nil || len(next.Rows) != 200 || next.Rows[0].ID <= page.Rows[199].ID {
			t.Errorf("the next page begins with %v (%v)", next.Rows[0].ID, err)
		}
		r.planned(t)
	})
}

// planned holds the queries that run often to the indexes that are there for them.
func (r *rig) planned(t *testing.T) {
	t.Helper()
	explain := "EXPLAIN QUERY PLAN "
	if r.db.Postgres() {
		explain = "EXPLAIN "
	}
	now := r.db.NowMs()
	for query, indexes := range map[string]string{
		fmt.Sprintf("SELECT * FROM approvals WHERE closed_at IS NULL AND expires_at <= %d ORDER BY expires_at, id LIMIT 200", now):                   "approvals_queue",
		"SELECT min(expires_at) FROM approvals WHERE closed_at IS NULL":                                                                              "approvals_queue",
		fmt.Sprintf("SELECT * FROM approvals WHERE held_until IS NOT NULL AND closed_at IS NULL AND held_until <= %d LIMIT 200", now):                "approvals_held",
		fmt.Sprintf("SELECT * FROM approvals WHERE closed_at IS NOT NULL AND told_at IS NULL AND closed_at <= %d ORDER BY closed_at LIMIT 200", now): "approvals_untold approvals_closed",
		"SELECT * FROM approvals WHERE closed_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 51":                                                 "approvals_newest",
		"SELECT count(*) FROM approvals WHERE closed_at IS NULL AND claimed_by = 'anna' AND claimed_until > 5":                                       "approvals_claimed",
		"SELECT shape, count(*) FROM approvals WHERE closed_at IS NULL AND shape IN ('shape1', 'shape2') GROUP BY shape":                             "approvals_alike",
		"SELECT * FROM approvals WHERE closed_at IS NULL ORDER BY expires_at, id LIMIT 51":                                                           "approvals_queue",
		"SELECT * FROM approvals WHERE id = 'crowd000001' OR request_id = 'crowd000001'":                                                             "approvals_request approvals_open",
		"SELECT * FROM approvals WHERE execution_id = 'exec_crowd000001' ORDER BY round":                                                             "approvals_round",
	} {
		rows, err := r.db.Query(t.Context(), explain+query)
		if err != nil {
			t.Fatal(err)
		}
		var plan strings.Builder
		for rows.Next() {
			var a, b, c int
			var line string
			if r.db.Postgres() {
				err = rows.Scan(&line)
			} else {
				err = rows.Scan(&a, &b, &c, &line)
			}
			if err != nil {
				t.Fatal(err)
			}
			plan.WriteString(line + "\n")
		}
		rows.Close()
		if !slices.ContainsFunc(strings.Fields(indexes), func(index string) bool { return strings.Contains(plan.String(), index) }) {
			t.Errorf("%s does not use %s:\n%s", query, indexes, plan.String())
		}
	}
}

// What expires at the same moment by the thousand is closed page by page, each once.
func TestManyExpireTogether(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.crowd(t, 250)
		r.clock.advance(24*time.Hour + time.Second)
		r.sweep(t)
		if n := r.count(t, "SELECT count(*) FROM approvals WHERE status = 'expired'"); n != 250 {
			t.Errorf("%d have expired, not 250", n)
		}
		if n := r.count(t, "SELECT count(*) FROM audit_log WHERE action = 'approval.expired'"); n != 250 {
			t.Errorf("%d audit entries, not 250", n)
		}
		if n := r.count(t, "SELECT count(*) FROM executions WHERE status = $1", string(models.Running)); n != 250 {
			t.Errorf("%d are resumed, not 250", n)
		}
	})
}
