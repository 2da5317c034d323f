package main

import (
	"os"
	"testing"

	"github.com/agentfield/agentfield/app/database/dbtest"
)

// databases returns the flags that lead to an empty database of each engine at hand.
func databases(t *testing.T) map[string][]string {
	t.Helper()
	engines := map[string][]string{"sqlite": {"--data-dir", t.TempDir()}}
	if dsn := os.Getenv("TEST_PG_DSN"); dsn != "" {
		engines["postgres"] = []string{"--database-url", dbtest.Schema(t, dsn)}
	}
	return engines
}
