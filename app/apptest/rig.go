// Package apptest runs the whole server in a test: every service on an empty database, answering on a port of its own, with demo agents
// whose functions are Go closures. Its invariant: a rig waits on what the server says, never on the time, and leaves nothing running.
package apptest

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app"
	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/app/database/dbtest"
)

// Patience is how long anything in a test may take before it counts as stuck. It is generous because machines that test are busy.
const Patience = 30 * time.Second

// Rig is one running server and a client of it.
type Rig struct {
	URL   string
	App   *app.App
	Clock *Clock
	Store *Store
	// Seen is called with every answer that the client gets, for checks that hold for all of them.
	Seen func(t *testing.T, request *http.Request, sent []byte, answer Answer)

	config config.Config
	client *http.Client
	log    *slog.Logger
}

// Option changes the configuration of the server before it starts.
type Option func(c *config.Config)

// Each runs fn against a server on SQLite and, where TEST_PG_DSN names one, against a server on PostgreSQL.
func Each(t *testing.T, fn func(t *testing.T, r *Rig), options ...Option) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, New(t, options...)) })
	if dsn := os.Getenv("TEST_PG_DSN"); dsn != "" {
		t.Run("postgres", func(t *testing.T) {
			schema := func(c *config.Config) { c.DatabaseURL = dbtest.Schema(t, dsn) }
			fn(t, New(t, append([]Option{schema}, options...)...))
		})
	}
}

// New starts a server with an empty database and stops it when the test ends. Without an option it is on SQLite and demands no
// credentials.
func New(t *testing.T, options ...Option) *Rig {
	t.Helper()
	return NewLogging(t, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})), options...) // shown when the test fails
}

// NewLogging is New with a log of the test's own.
func NewLogging(t *testing.T, log *slog.Logger, options ...Option) *Rig {
	t.Helper()
	c := config.Default()
	c.Listen, c.DataDir = "127.0.0.1:0", t.TempDir()
	c.ShutdownGrace = 4 * time.Second
	c.LeaseTTL = 10_000 * time.Hour // so that a test may move the clock without the server losing its leases
	c.DatabaseMaxConns = 8
	c.WebhookAllowedHosts = []string{"127.0.0.1"}
	for _, change := range options {
		change(&c)
	}
	if c.DatabaseURL == "" {
		copyTemplate(t, c.DataDir)
	}
	r := &Rig{Clock: &Clock{}, config: c, client: newClient(), log: log}
	t.Cleanup(r.client.CloseIdleConnections)
	r.start(t)
	r.Store = openStore(t, c)
	return r
}

func (r *Rig) start(t *testing.T) {
	t.Helper()
	a, err := app.NewWithClock(t.Context(), r.config, r.log, r.Clock.Now)
	if err != nil {
		t.Fatalf("build the server: %v", err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatalf("start the server: %v", err)
	}
	r.App, r.URL = a, a.URL()
	t.Cleanup(func() { r.Stop(t) })
}

// Stop shuts the server down as its process would.
func (r *Rig) Stop(t *testing.T) {
	t.Helper()
	if r.App == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := r.App.Stop(ctx); err != nil {
		t.Errorf("stop the server: %v", err)
	}
	r.App = nil
}

// Restart stops the server and starts it again on the same database, at another address.
func (r *Rig) Restart(t *testing.T) {
	t.Helper()
	r.Stop(t)
	r.client.CloseIdleConnections()
	r.start(t)
}

// Clock is the time as the server sees it: the real one, moved ahead by as much as a test wants.
type Clock struct{ ahead atomic.Int64 }

// Now is the time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Advance moves the time ahead. Nothing that waits in real time is woken by it.
func (c *Clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }
