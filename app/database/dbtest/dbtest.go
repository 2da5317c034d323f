// Package dbtest runs a test on both engines: always on SQLite, and on PostgreSQL where TEST_PG_DSN names a server (`make test`
// starts one). Each test has a database, or a schema, of its own.
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/agentfield/agentfield/app/database"
)

// Each runs fn once per engine.
func Each(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	EachConfig(t, func(t *testing.T, c database.Config) { fn(t, Open(t, c)) })
}

// EachConfig runs fn once per engine with the settings of an empty database, for tests that open it more than once.
func EachConfig(t *testing.T, fn func(t *testing.T, c database.Config)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { fn(t, database.Config{DataDir: Dir(t), Log: quiet()}) })
	if dsn := os.Getenv("TEST_PG_DSN"); dsn != "" {
		t.Run("postgres", func(t *testing.T) { fn(t, database.Config{URL: Schema(t, dsn), Log: quiet()}) })
	}
}

// Dir is a data directory for this test with an empty database in it. The tables are made once per process and copied: under the race
// detector making them takes longer than most tests.
func Dir(t *testing.T) string {
	t.Helper()
	file, err := template()
	if err != nil {
		t.Fatalf("make an empty database: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "agentfield.db"), file, 0o600); err != nil {
		t.Fatalf("copy an empty database: %v", err)
	}
	return dir
}

var template = sync.OnceValues(func() (file []byte, err error) {
	dir, err := os.MkdirTemp("", "empty")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	db, err := database.Open(context.Background(), database.Config{DataDir: dir, Log: quiet()})
	if err != nil {
		return nil, err
	}
	db.Close()                                              // moves everything into the one file
	return os.ReadFile(filepath.Join(dir, "agentfield.db")) //nolint:gosec // of our own making
})

// Open opens the database and closes it when the test ends.
func Open(t *testing.T, c database.Config) *database.DB {
	t.Helper()
	db, err := database.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("open the database: %v", err)
	}
	t.Cleanup(db.Close)
	return db
}

// Schema makes a schema for this test, dropped when it ends, and returns the URL that leads to it.
func Schema(t *testing.T, dsn string) string {
	t.Helper()
	name := "t_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
	admin := func(statement string) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatalf("connect to PostgreSQL: %v", err)
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	admin("CREATE SCHEMA " + name)
	t.Cleanup(func() { admin("DROP SCHEMA " + name + " CASCADE") })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatalf("TEST_PG_DSN is not a URL: %v", err)
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return fmt.Sprint(u)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
