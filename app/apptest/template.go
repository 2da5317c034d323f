package apptest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/database"
)

const databaseFile = "agentfield.db"

// template is an empty SQLite database with its schema, made once: migrating takes longer than most tests.
var template = sync.OnceValues(func() ([]byte, error) { //nolint:gochecknoglobals // made once for all tests of a process
	dir, err := os.MkdirTemp("", "agentfield-template-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	db, err := database.Open(context.Background(), database.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	db.Close()
	return os.ReadFile(filepath.Join(dir, databaseFile)) //nolint:gosec // a file of our own
})

func copyTemplate(t *testing.T, dir string) {
	t.Helper()
	content, err := template()
	if err != nil {
		t.Fatalf("make an empty database: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, databaseFile), content, 0o600); err != nil {
		t.Fatal(err)
	}
}
