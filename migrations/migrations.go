// Package migrations is the only place that defines tables. One templated SQL source is rendered for SQLite and for PostgreSQL
// and applied by goose; the models are compared with the outcome in a test.
package migrations

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"
	"text/template"

	"github.com/pressly/goose/v3"
)

//go:embed *.sql.tmpl
var sources embed.FS

// ErrNewerSchema says that the database was migrated by a newer release; this one must not touch it.
var ErrNewerSchema = errors.New("the database has a newer schema than this program knows: run the newer release, or restore a backup")

// macros are the few words in which the dialects differ.
type macros struct {
	Postgres                      bool
	ID, Bytes, Hot, Small, Serial string
}

func dialect(postgres bool) macros {
	if postgres {
		return macros{
			Postgres: true,
			ID:       `TEXT COLLATE "C"`,
			Bytes:    "BYTEA",
			Hot:      "WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
			Small:    "WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
			Serial:   "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
		}
	}
	return macros{
		ID:     "TEXT",
		Bytes:  "BLOB",
		Hot:    "WITHOUT ROWID",
		Serial: "INTEGER PRIMARY KEY AUTOINCREMENT",
	}
}

// Render returns the migrations as goose reads them, in the words of one dialect.
func Render(postgres bool) (fs.FS, error) {
	names, err := fs.Glob(sources, "*.sql.tmpl")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	out := fstest.MapFS{}
	for _, name := range names {
		t, err := template.ParseFS(sources, name)
		if err != nil {
			return nil, fmt.Errorf("parse migration %s: %w", name, err)
		}
		var sql bytes.Buffer
		if err := t.Execute(&sql, dialect(postgres)); err != nil {
			return nil, fmt.Errorf("render migration %s: %w", name, err)
		}
		out[strings.TrimSuffix(path.Base(name), ".tmpl")] = &fstest.MapFile{Data: sql.Bytes()}
	}
	return out, nil
}

// Step is one migration and whether the database has it.
type Step struct {
	Version int64
	Name    string
	Applied bool
}

// Up applies what is missing. Replicas that start together migrate once: on PostgreSQL a session lock lets one go first.
func Up(ctx context.Context, db *sql.DB, postgres bool) error {
	p, err := provider(db, postgres)
	if err != nil {
		return err
	}
	if err := refuseNewer(ctx, p); err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

// Status lists all migrations this program knows, oldest first.
func Status(ctx context.Context, db *sql.DB, postgres bool) ([]Step, error) {
	p, err := provider(db, postgres)
	if err != nil {
		return nil, err
	}
	states, err := p.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the state of the migrations: %w", err)
	}
	steps := make([]Step, 0, len(states))
	for _, s := range states {
		steps = append(steps, Step{Version: s.Source.Version, Name: s.Source.Path, Applied: s.State == goose.StateApplied})
	}
	return steps, nil
}

func provider(db *sql.DB, postgres bool) (*goose.Provider, error) {
	rendered, err := Render(postgres)
	if err != nil {
		return nil, err
	}
	kind := goose.DialectSQLite3
	var options []goose.ProviderOption
	if postgres {
		kind = goose.DialectPostgres
		options = append(options, goose.WithSessionLocker(turn{}))
	}
	p, err := goose.NewProvider(kind, db, rendered, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return p, nil
}

// turn lets one replica at a time migrate a schema of PostgreSQL. The others wait in the database and go on at once; goose's own lock
// is one for all schemas and looks every five seconds. While it holds its turn the session has no time limits: a migration takes as long as
// it takes.
type turn struct{}

// SessionLock waits for the turn.
func (turn) SessionLock(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SET statement_timeout = 0; SET lock_timeout = 0"); err != nil {
		return fmt.Errorf("lift the limits of the migrating session: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock("+turnKey+")"); err != nil {
		return fmt.Errorf("wait for the turn to migrate: %w", err)
	}
	return nil
}

// SessionUnlock gives the turn to the next.
func (turn) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock("+turnKey+")"); err != nil {
		return fmt.Errorf("end the turn to migrate: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "RESET statement_timeout; RESET lock_timeout"); err != nil {
		return fmt.Errorf("restore the limits of the session: %w", err)
	}
	return nil
}

const turnKey = "hashtext('agentfield migrations of ' || coalesce(current_schema(), ''))"

func refuseNewer(ctx context.Context, p *goose.Provider) error {
	current, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version: %w", err)
	}
	known := p.ListSources()
	if len(known) > 0 && current > known[len(known)-1].Version {
		return fmt.Errorf("schema %d, known up to %d: %w", current, known[len(known)-1].Version, ErrNewerSchema)
	}
	return nil
}
