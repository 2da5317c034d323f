package apptest

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/config"
)

// Store looks into the database of a rig from outside: what an answer claims can be compared with what was written.
type Store struct {
	db       *sql.DB
	postgres bool
}

// openStore uses the drivers that the database package has registered.
func openStore(t *testing.T, c config.Config) *Store {
	t.Helper()
	s := &Store{postgres: c.DatabaseURL != ""}
	driver, source := "sqlite3", "file:"+filepath.Join(c.DataDir, databaseFile)+"?mode=ro&_pragma=busy_timeout(5000)"
	if s.postgres {
		driver, source = "pgx", c.DatabaseURL
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatalf("look into the database: %v", err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	s.db = db
	return s
}

// Value reads one value with a query whose arguments are $1, $2 ….
func (s *Store) Value(t *testing.T, query string, args ...any) string {
	t.Helper()
	if !s.postgres {
		query = strings.ReplaceAll(query, "$", "?")
	}
	var value sql.NullString
	if err := s.db.QueryRowContext(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value.String
}

// Status is the status of an execution as it is stored, "" when there is no such row.
func (s *Store) Status(t *testing.T, id string) string {
	t.Helper()
	return s.Value(t, "SELECT max(status) FROM executions WHERE id = $1", id)
}

// Rows counts everything that a submission may write. It is the same text before and after a request that was refused.
func (s *Store) Rows(t *testing.T) string {
	t.Helper()
	var counts []string
	for _, table := range []string{
		"executions", "execution_payloads", "run_aliases", "idempotency_keys", "events", "webhook_registrations", "webhook_deliveries", "notices",
		"nodes", "functions", "instances",
	} {
		query := "SELECT count(*) FROM " + table //nolint:gosec // the names are those above
		if table == "events" {
			query += " WHERE execution_id IS NOT NULL AND kind NOT IN ('execution.notice', 'execution.released', 'webhook.attempted')" // whenever somebody answers
		}
		counts = append(counts, table+" "+s.Value(t, query))
	}
	return strings.Join(counts, ", ")
}
