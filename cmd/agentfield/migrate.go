package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	_ "github.com/jackc/pgx/v5/stdlib"       // registers "pgx"
	_ "github.com/ncruces/go-sqlite3/driver" // registers "sqlite3"
	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/migrations"
)

func (p program) migrate() *cobra.Command {
	up := &cobra.Command{
		Use:   "up",
		Short: "Apply the migrations that are missing; the server does so too when it starts",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.settings(c)
			if err != nil {
				return err
			}
			steps, err := p.applyMigrations(c.Context(), cfg)
			if err != nil {
				return err
			}
			return p.printSteps(steps)
		},
	}
	status := &cobra.Command{
		Use:   "status",
		Short: "List the migrations and whether the database has them",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.settings(c)
			if err != nil {
				return err
			}
			steps, err := readSteps(c.Context(), cfg)
			if err != nil {
				return err
			}
			return p.printSteps(steps)
		},
	}
	for _, verb := range []*cobra.Command{up, status} {
		config.AddFlags(verb.Flags())
	}
	return group("migrate", "Look after the schema of the database", up, status)
}

// applyMigrations opens the database as the server does, which migrates it.
func (p program) applyMigrations(ctx context.Context, cfg config.Config) ([]migrations.Step, error) {
	db, err := database.Open(ctx, database.Config{DataDir: cfg.DataDir, URL: cfg.DatabaseURL, Log: p.log(cfg)})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return db.Migrations(ctx)
}

// readSteps looks at the database without opening it as the server does: that would migrate it, and on SQLite would need the data
// directory for itself.
func readSteps(ctx context.Context, cfg config.Config) ([]migrations.Step, error) {
	db, err := openForReading(cfg)
	if errors.Is(err, fs.ErrNotExist) {
		return allPending()
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	return migrations.Status(ctx, db, cfg.DatabaseURL != "")
}

// allPending is the answer for a SQLite database that does not exist yet.
func allPending() ([]migrations.Step, error) {
	rendered, err := migrations.Render(false)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(rendered, "*.sql")
	if err != nil {
		return nil, fmt.Errorf("list the migrations: %w", err)
	}
	steps := make([]migrations.Step, 0, len(names))
	for _, name := range names {
		steps = append(steps, migrations.Step{Name: name})
	}
	return steps, nil
}

func openForReading(cfg config.Config) (*sql.DB, error) {
	if cfg.DatabaseURL != "" {
		return sql.Open("pgx", cfg.DatabaseURL)
	}
	path := filepath.Join(cfg.DataDir, "agentfield.db")
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("look for the database: %w", err)
	}
	file := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "mode=ro&_pragma=busy_timeout(5000)"}
	return sql.Open("sqlite3", file.String())
}

func (p program) printSteps(steps []migrations.Step) error {
	for _, s := range steps {
		state := "pending"
		if s.Applied {
			state = "applied"
		}
		if _, err := fmt.Fprintf(p.stdout, "%s  %s\n", state, s.Name); err != nil {
			return err
		}
	}
	return nil
}
