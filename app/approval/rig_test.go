package approval_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/approval"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/app/payload"
	"github.com/agentfield/agentfield/models"
)

func TestMain(m *testing.M) {
	dbtest.Main(m)
}

// rig is one replica's approvals on executions of which nothing runs by itself, under a clock that stands still.
type rig struct {
	*approval.Service
	executions *execution.Service
	db         *database.DB
	clock      *clock
}

// clock stands still until a test moves it.
type clock struct{ ms atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ms.Store(time.Date(2026, 1, 15, 10, 0, 0, 0, time.UTC).UnixMilli())
	return c
}

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// each runs fn on both engines.
func each(t *testing.T, fn func(t *testing.T, r *rig), change ...func(*approval.Options)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		hands := newClock()
		c.Clock = hands.now
		fn(t, build(t, dbtest.Open(t, c), hands, change...))
	})
}

// noNodes is a registry without nodes: tests here put executions into the store as they need them.
type noNodes struct{}

var errNoNodes = errors.New("there are no nodes here")

func (noNodes) Lookup(context.Context, string, string) (execution.Function, error) {
	return execution.Function{}, errNoNodes
}

func (noNodes) Claim(execution.Function, map[string]bool, bool) (execution.Instance, error) {
	return execution.Instance{}, execution.ErrNoInstance
}
func (noNodes) Usable(string) bool                                           { return true }
func (noNodes) Addresses(context.Context, string, *string) ([]string, error) { return nil, nil }

const (
	grace = 10 * time.Minute
	hold  = 5 * time.Second
)

// build is a replica on a database that others may share.
func build(t *testing.T, db *database.DB, hands *clock, change ...func(*approval.Options)) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	replica, err := lease.Join(t.Context(), db, 10_000*time.Hour, log)
	if err != nil {
		t.Fatal(err)
	}
	codec, err := payload.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{db: db, clock: hands}
	hub := event.NewHub()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	r.executions = execution.New(execution.Options{
		DB: db, Events: event.NewLog(hub), Hub: hub, Replica: replica, Nodes: noNodes{}, Client: client, Codec: codec, Log: log, TokenKey: []byte("key"),
		AllowUnsigned: true, Workers: 4, QueueDepth: 1000, NodeDepth: 1000, SyncTimeout: 20 * time.Second, MaxTimeout: time.Hour, ResultLimit: 1 << 20,
		MaxRedeliveries: 10, RedeliveryBackoff: lease.Backoff{First: time.Millisecond, Max: time.Millisecond},
		LeftWaiting: func(ctx context.Context, tx *database.Tx, row *models.Execution, now int64) error {
			return r.LeftWaiting(ctx, tx, row, now)
		},
		Told: func(ctx context.Context, n *models.Notice, answer []byte) { r.Told(ctx, n, answer) },
	})
	o := approval.Options{
		DB: db, Events: event.NewLog(hub), Executions: r.executions, Codec: codec, Log: log, PublicURL: func() string { return "https://plane.example" },
		DefaultExpiry: 72 * time.Hour, OnReject: "resume", OnExpire: "resume", Grace: grace, Hold: hold, CheckCallback: func(string) error { return nil },
	}
	for _, f := range change {
		f(&o)
	}
	r.Service = approval.New(o)
	t.Cleanup(func() {
		replica.Leave(context.Background())
		client.CloseIdleConnections()
	})
	return r
}

// delivering starts what carries decisions to agents, until the test ends.
func (r *rig) delivering(t *testing.T) {
	t.Helper()
	r.executions.Start()
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		r.executions.Drain(ended)
		r.executions.Stop()
	})
}

// seed is an execution as a test needs it; the zero value runs in its first attempt and has no limit.
type seed struct {
	parent   string
	node     string
	actor    string
	starter  string
	deadline int64
	status   models.Status
}

// put stores an execution and returns its id.
func (r *rig) put(t *testing.T, s seed) string {
	t.Helper()
	id := execution.NewID()
	if s.node == "" {
		s.node = "n"
	}
	if s.status == "" {
		s.status = models.Running
	}
	now := r.db.NowMs()
	var finished, deadline *int64
	if s.status.Terminal() {
		finished = &now
	}
	if s.deadline > 0 {
		deadline = &s.deadline
	}
	r.change(t, `INSERT INTO executions (id, run_id, parent_id, actor_id, node_id, function, function_kind, mode, status, available_at, attempt, failures,
		max_attempts, redeliveries, has_webhook, created_at, started_at, finished_at, deadline_at, input_bytes, result_bytes, started_by)
		VALUES ($1, $2, $3, $4, $5, 'f', 'reasoner', 'async', $6, $7, 1, 0, 1, 0, false, $7, $7, $8, $9, 2, 0, $10)`,
		id, "run_"+id[5:], optional(s.parent), optional(s.actor), s.node, string(s.status), now, finished, deadline, optional(s.starter))
	return id
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// running stores an execution that an agent works on.
func (r *rig) running(t *testing.T) string {
	t.Helper()
	return r.put(t, seed{})
}

// asked is a fresh execution that waits, and its request.
func (r *rig) asked(t *testing.T, q approval.Request) *models.Approval {
	t.Helper()
	return r.ask(t, r.running(t), q)
}

func (r *rig) ask(t *testing.T, id string, q approval.Request) *models.Approval {
	t.Helper()
	a, err := r.Ask(t.Context(), id, q)
	if err != nil {
		t.Fatalf("ask: %v", err)
	}
	return a
}

// anna, bert and carl are reviewers.
var anna, bert, carl = reviewer("anna"), reviewer("bert"), reviewer("carl")

func reviewer(name string) approval.Person {
	return approval.Person{
		ID: "user:" + name, Name: name, Role: "reviewer", May: true,
		Origin: audit.Origin{Actor: "user:" + name, ActorKind: "user", Channel: audit.UI},
	}
}

func approve(feedback string) approval.Decision {
	return approval.Decision{Word: models.Approved, Feedback: feedback}
}

func (r *rig) decide(t *testing.T, who approval.Person, id string, d approval.Decision) approval.Outcome {
	t.Helper()
	done, err := r.Decide(t.Context(), who, id, d)
	if err != nil {
		t.Fatalf("%s decides %s: %v", who.Name, d.Word, err)
	}
	return done
}

// late decides, must come too late, and returns what stands.
func (r *rig) late(t *testing.T, who approval.Person, id string, d approval.Decision) *approval.DecidedError {
	t.Helper()
	_, err := r.Decide(t.Context(), who, id, d)
	var late *approval.DecidedError
	if !errors.As(err, &late) {
		t.Fatalf("%s decides %s and gets %v, not that it is decided", who.Name, d.Word, err)
	}
	return late
}

// refused decides and must be refused with want.
func (r *rig) refused(t *testing.T, who approval.Person, id string, d approval.Decision, want error) {
	t.Helper()
	if _, err := r.Decide(t.Context(), who, id, d); !errors.Is(err, want) {
		t.Errorf("%s decides %s and gets %v, not %v", who.Name, d.Word, err, want)
	}
}

func (r *rig) read(t *testing.T, id string) *models.Approval {
	t.Helper()
	a, err := r.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (r *rig) row(t *testing.T, id string) *models.Execution {
	t.Helper()
	row, err := r.executions.Row(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func (r *rig) wantRow(t *testing.T, id string, status models.Status, reason string) {
	t.Helper()
	row := r.row(t, id)
	got := ""
	if row.StatusReason != nil {
		got = *row.StatusReason
	}
	if row.Status != status || got != reason {
		t.Errorf("%s is %s (%s), not %s (%s)", id, row.Status, got, status, reason)
	}
}

func (r *rig) wantStatus(t *testing.T, id string, want models.ApprovalStatus) *models.Approval {
	t.Helper()
	a := r.read(t, id)
	if a.Status != want {
		t.Errorf("the request is %s, not %s", a.Status, want)
	}
	return a
}

// acts are the audit entries about a request, oldest first, without the prefix "approval.".
func (r *rig) acts(t *testing.T, a *models.Approval) []string {
	t.Helper()
	return r.texts(t, "SELECT substr(action, 10) FROM audit_log WHERE object_kind = 'approval' AND object = $1 ORDER BY id", a.ID)
}

func (r *rig) wantActs(t *testing.T, a *models.Approval, want ...string) {
	t.Helper()
	if got := r.acts(t, a); !slices.Equal(got, want) {
		t.Errorf("the audit log of %s has %v, not %v", a.ID, got, want)
	}
}

// kinds are the events of an execution without their prefix.
func (r *rig) kinds(t *testing.T, id string) []string {
	t.Helper()
	kinds := r.texts(t, "SELECT kind FROM events WHERE execution_id = $1 ORDER BY id", id)
	for i, kind := range kinds {
		kinds[i] = strings.TrimPrefix(kind, "execution.")
	}
	return kinds
}

func (r *rig) texts(t *testing.T, query string, args ...any) []string {
	t.Helper()
	rows, err := r.db.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			t.Fatal(err)
		}
		list = append(list, one)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func (r *rig) count(t *testing.T, query string, args ...any) int {
	t.Helper()
	var n int
	if err := r.db.QueryRow(t.Context(), query, args, &n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (r *rig) change(t *testing.T, statement string, args ...any) {
	t.Helper()
	err := r.db.Tx(t.Context(), func(tx *database.Tx) error {
		_, err := tx.Exec(t.Context(), statement, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (r *rig) sweep(t *testing.T) {
	t.Helper()
	if err := r.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) giveUp(t *testing.T) {
	t.Helper()
	if err := r.SweepUntold(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// cancel ends an execution by hand.
func (r *rig) cancel(t *testing.T, id string) {
	t.Helper()
	if _, err := r.executions.Cancel(t.Context(), id, "no longer needed"); err != nil {
		t.Fatal(err)
	}
}

func text(v any) string {
	switch v := v.(type) {
	case *string:
		if v == nil {
			return "nothing"
		}
		return *v
	case *int64:
		if v == nil {
			return "nothing"
		}
		return strconv.FormatInt(*v, 10)
	}
	return fmt.Sprint(v)
}
