// Package server starts, kills and restarts the program under test and knows nothing of its inside. Its one invariant: whatever a run
// creates — processes, data directories, databases — is gone when the run is closed.
package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Store is the place where servers of one run keep their data: a temporary directory and, for PostgreSQL, a database of its own.
type Store struct {
	Dir         string
	DatabaseURL string // empty for SQLite

	admin string
	name  string
}

// NewStore makes a fresh store. postgresURL may name any database of a server on which databases may be created; empty means SQLite.
func NewStore(ctx context.Context, postgresURL string) (*Store, error) {
	dir, err := os.MkdirTemp("", "prove-")
	if err != nil {
		return nil, fmt.Errorf("make a data directory: %w", err)
	}
	s := &Store{Dir: dir}
	if postgresURL == "" {
		return s, nil
	}
	s.admin = postgresURL
	s.name = "prove_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := s.onServer(ctx, `CREATE DATABASE `+s.name); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if s.DatabaseURL, err = withDatabase(postgresURL, s.name); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Postgres reports whether the store is a PostgreSQL database.
func (s *Store) Postgres() bool { return s.DatabaseURL != "" }

// Close removes the directory and drops the database.
func (s *Store) Close() error {
	err := os.RemoveAll(s.Dir)
	if s.name == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(err, s.onServer(ctx, `DROP DATABASE IF EXISTS `+s.name+` WITH (FORCE)`))
}

func (s *Store) onServer(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// withDatabase names another database in a connection string, which may be a URL or a list of key=value pairs.
func withDatabase(dsn, name string) (string, error) {
	if !strings.Contains(dsn, "://") {
		return dsn + " dbname=" + name, nil
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("read the PostgreSQL URL: %w", err)
	}
	u.Path = "/" + name
	return u.String(), nil
}
