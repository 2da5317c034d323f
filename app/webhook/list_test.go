package webhook

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

var olga = audit.Origin{Actor: "user:olga", ActorKind: "user", Channel: audit.UI}

// crowd stores n deliveries that are a second apart: of ten, one is retried and one waits; each
// lost-th is given up, the rest is delivered.
func (r *rig) crowd(n, lost int) {
	r.t.Helper()
	number := "printf('%06d', i)"
	if r.DB.Postgres() {
		number = "lpad(i::text, 6, '0')"
	}
	for from := 1; from <= n; from += 50_000 {
		statement := fmt.Sprintf(`WITH RECURSIVE s(i) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT i + 1 FROM s WHERE i < %d)
			INSERT INTO webhook_deliveries (id, execution_id, event, url, status, available_at, attempt, max_attempts, last_status, last_error,
			last_class, last_latency_ms, created_at, delivered_at)
			SELECT 'whd_' || %[3]s, 'exec_' || %[3]s, CASE WHEN i %% 4 = 0 THEN 'execution.failed' ELSE 'execution.completed' END,
			'https://hooks' || (i %% 5) || '.example:8443/in?x=1', CASE WHEN i %% %[4]d = 0 THEN 'failed' WHEN i %% 10 = 1 THEN 'queued' WHEN i %% 10 = 2 THEN 'queued' ELSE 'delivered' END,
			CAST($1 AS BIGINT) + 3600000, CASE i %% 10 WHEN 0 THEN 5 WHEN 1 THEN 2 WHEN 2 THEN 0 ELSE 1 END, 5,
			CASE WHEN i %% %[4]d = 0 THEN NULL WHEN i %% 10 = 1 THEN 502 WHEN i %% 10 = 2 THEN NULL ELSE 200 END, NULL,
			CASE WHEN i %% %[4]d = 0 THEN 'timeout' WHEN i %% 10 = 1 THEN '5xx' WHEN i %% 10 = 2 THEN NULL ELSE '2xx' END, 12, CAST($1 AS BIGINT) + 1000 * i, NULL FROM s`,
			from, min(from+49_999, n), number, lost)
		err := r.DB.Tx(r.t.Context(), func(tx *database.Tx) error {
			_, err := tx.Exec(r.t.Context(), statement, r.DB.NowMs())
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	err := r.DB.Tx(r.t.Context(), func(tx *database.Tx) error {
		_, err := tx.Exec(r.t.Context(), "ANALYZE webhook_deliveries")
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// found walks through all pages of a filter and returns the ids without their prefix.
func (r *rig) found(f Filter) string {
	r.t.Helper()
	var ids []string
	for {
		page, err := r.List(r.t.Context(), f)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, d := range page.Rows {
			ids = append(ids, strings.TrimLeft(d.ID, "whd_0"))
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return strings.Join(ids, " ")
		}
	}
}

func TestDeliveriesAreListedByWhatCameOfThem(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		start := r.DB.NowMs()
		r.crowd(20, 10)
		for f, want := range map[Filter]string{
			{Limit: 7}:                                  "20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1",
			{State: Failed, Limit: 1}:                   "20 10",
			{State: Retrying}:                           "11 1",
			{State: Pending}:                            "12 2",
			{State: Delivered, Event: EventFailed}:      "16 8 4",
			{Class: "5xx"}:                              "11 1",
			{Class: "timeout"}:                          "20 10",
			{Host: "HOOKS3.example:8443"}:               "18 13 8 3",
			{Host: "hooks3.example"}:                    "",
			{Execution: "exec_000007"}:                  "7",
			{Since: start + 18_000}:                     "20 19 18",
			{Until: start + 3_000}:                      "2 1",
			{State: Failed, Since: start + 11_000}:      "20",
			{Host: "hooks0.example:8443", Class: "2xx"}: "15 5",
		} {
			if got := r.found(f); got != want {
				t.Errorf("%+v finds %s, not %s", f, got, want)
			}
		}
		if c, err := r.Count(t.Context()); err != nil || c != (Counts{Pending: 2, Retrying: 2, Failed: 2}) {
			t.Errorf("counts %+v, %v", c, err)
		}
		if n, more, err := r.Newer(t.Context(), Filter{State: Failed}, "whd_000010"); err != nil || n != 1 || more {
			t.Errorf("%d newer, %v, %v", n, more, err)
		}
		if _, err := r.Delivery(t.Context(), "whd_x"); !errors.Is(err, ErrUnknown) {
			t.Errorf("an unknown one: %v", err)
		}
		if _, err := r.List(t.Context(), Filter{Cursor: "x"}); !errors.Is(err, database.ErrBadCursor) {
			t.Errorf("a bad cursor: %v", err)
		}
	})
}

func TestManyAreSentAgainWithOneEntry(t *testing.T) {
	eachRig(t, Config{MaxAttempts: 3}, func(t *testing.T, r *rig) {
		r.crowd(40, 10)
		done, err := r.RedeliverMatching(t.Context(), olga, Filter{State: Failed})
		if err != nil || done.Queued != 4 {
			t.Fatalf("%+v, %v", done, err)
		}
		d := r.mustFind("whd_000010")
		if d.Status != Queued || d.AvailableAt != r.DB.NowMs() || d.MaxAttempts != 8 || d.State() != Retrying {
			t.Errorf("%+v", d)
		}
		if _, err := r.RedeliverMatching(t.Context(), olga, Filter{State: Failed}); !errors.Is(err, ErrNoDelivery) {
			t.Errorf("nothing is left to send: %v", err)
		}
		if done, err := r.Redeliver(t.Context(), olga, "whd_000003", "whd_000001", "whd_x"); err != nil || done.Queued != 2 {
			t.Errorf("selected ones: %+v, %v", done, err)
		}
		if d := r.mustFind("whd_000001"); d.MaxAttempts != 5 {
			t.Errorf("what waits keeps its budget, and has %d", d.MaxAttempts)
		}
		if _, err := r.Redeliver(t.Context(), olga, make([]string, RedeliverLimit+1)...); !errors.Is(err, ErrTooMany) {
			t.Errorf("too many: %v", err)
		}
		var entries, named int
		err = r.DB.QueryRow(t.Context(), "SELECT count(*), count(CASE WHEN actor = 'user:olga' THEN 1 END) FROM audit_log WHERE action = 'webhook.redelivered'",
			nil, &entries, &named)
		if err != nil || entries != 2 || named != 2 {
			t.Errorf("%d entries, %d of olga, %v", entries, named, err)
		}
	})
}

func (r *rig) mustFind(id string) *models.WebhookDelivery {
	r.t.Helper()
	d, err := r.Delivery(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func TestPlanFollowsTheSchedule(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		now := r.DB.NowMs()
		d := &models.WebhookDelivery{Lease: models.Lease{Status: Queued, AvailableAt: now + 4_000, Attempt: 2, MaxAttempts: 5}}
		if got, want := r.Plan(d), []int64{now + 4_000, now + 24_000, now + 64_000}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		d.MaxAttempts = 7 // sent again after two: the schedule begins anew
		if got, want := r.Plan(d), []int64{now + 4_000, now + 9_000, now + 19_000, now + 39_000, now + 79_000}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		d.Status, d.Attempt, d.MaxAttempts = Running, 4, 5
		if got, want := r.Plan(d), []int64{now + 44_000}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if d.Status = Failed; r.Plan(d) != nil {
			t.Error("what is given up has a plan")
		}
	})
}

func TestRegistrationIsToldWithoutItsSecrets(t *testing.T) {
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		r.end("exec_1", Spec{URL: "https://hooks.example/in", Secret: testSecret, Headers: map[string]string{"X-Token": "t0ken", "Authorization": "Bearer x"}})
		r.end("exec_2", Spec{URL: "https://hooks.example/in"})
		got, err := r.Registration(t.Context(), &models.WebhookDelivery{ExecutionID: "exec_1"})
		if err != nil || !got.Signed || !slices.Equal(got.Headers, []string{"Authorization", "X-Token"}) {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := r.Registration(t.Context(), &models.WebhookDelivery{ExecutionID: "exec_2"}); err != nil || got.Signed || got.Headers != nil {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := r.Registration(t.Context(), &models.WebhookDelivery{ExecutionID: "exec_3"}); !errors.Is(err, ErrNoDelivery) {
			t.Errorf("without one: %v", err)
		}
	})
}

// generous is a bound that only work which grows with the number of deliveries exceeds, on however busy a machine.
const generous = 1500 * time.Millisecond

// TestHalfAMillionDeliveriesCostAPageOnly holds each filter to its index.
func TestHalfAMillionDeliveriesCostAPageOnly(t *testing.T) {
	n := 500_000
	if testing.Short() || underRace {
		n = 20_000
	}
	eachRig(t, Config{}, func(t *testing.T, r *rig) {
		r.crowd(n, 10_000)
		for name, c := range map[string]struct {
			Filter
			index string
		}{
			"all": {Filter{}, "webhook_deliveries_created"}, "given up": {Filter{State: Failed}, "webhook_deliveries_state"},
			"class": {Filter{Class: "dns"}, "webhook_deliveries_class"}, "host": {Filter{Host: "nowhere.example"}, "webhook_deliveries_host"},
			"execution": {Filter{Execution: "exec_000007"}, "webhook_deliveries_once"}, "event": {Filter{Event: EventFailed}, "webhook_deliveries_created"},
			"held": {Filter{State: Held}, "webhook_deliveries_state"}, "endpoint": {Filter{Endpoint: "whe_1"}, "webhook_deliveries_endpoint"},
		} {
			first, err := r.List(t.Context(), c.Filter)
			if err != nil {
				t.Fatal(err)
			}
			var took []time.Duration
			for range 20 {
				from := time.Now()
				if _, err := r.List(t.Context(), Filter{State: c.State, Class: c.Class, Host: c.Host, Event: c.Event, Execution: c.Execution, Endpoint: c.Endpoint, Cursor: first.Next}); err != nil {
					t.Fatal(err)
				}
				took = append(took, time.Since(from))
			}
			slices.Sort(took)
			t.Logf("%s: median %s, p95 %s", name, took[10], took[18])
			if took[18] > generous {
				t.Errorf("%s takes %s at the 95th percentile", name, took[18])
			}
			if plan := r.plan(c.Filter); !strings.Contains(plan, c.index) {
				t.Errorf("%s does not use %s:\n%s", name, c.index, plan)
			}
		}
		from := time.Now()
		if c, err := r.Count(t.Context()); err != nil || c.Failed != n/10_000 || c.Pending != CountLimit {
			t.Errorf("counts %+v, %v", c, err)
		}
		t.Logf("the counts of the tabs: %s", time.Since(from))
	})
}

// plan is how the database reads the first page of a filter.
func (r *rig) plan(f Filter) string {
	r.t.Helper()
	statement := r.filtered(r.t.Context(), f).Order("created_at DESC, id DESC").Limit(26).Session(&gorm.Session{DryRun: true}).Find(&[]models.WebhookDelivery{}).Statement
	explain := "EXPLAIN QUERY PLAN "
	if r.DB.Postgres() {
		explain = "EXPLAIN "
	}
	query := statement.Dialector.Explain(statement.SQL.String(), statement.Vars...)
	if !r.DB.Postgres() {
		query = strings.ReplaceAll(query, `"`, "'") // texts, as GORM prints them for SQLite
	}
	rows, err := r.DB.Query(r.t.Context(), explain+query)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line string
		var a, b, c int
		if r.DB.Postgres() {
			err = rows.Scan(&line)
		} else {
			err = rows.Scan(&a, &b, &c, &line)
		}
		if err != nil {
			r.t.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	return plan.String()
}
