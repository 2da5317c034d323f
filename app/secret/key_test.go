package secret_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/secret"
)

func TestConfiguredKeyIsUsed(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		raw := bytes.Repeat([]byte{7}, secret.KeySize)
		for _, text := range []string{base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw) + "\n"} {
			key, warning, err := secret.LoadKey(t.Context(), secret.Config{Configured: text}, db)
			if err != nil || warning != "" || !bytes.Equal(key, raw) {
				t.Errorf("%q: %x, %q, %v", text, key, warning, err)
			}
		}
		a, _, err := secret.LoadKey(t.Context(), secret.Config{Configured: "sixteen letters!"}, db)
		if err != nil || len(a) != secret.KeySize {
			t.Fatalf("a text as key: %x, %v", a, err)
		}
		b, _, err := secret.LoadKey(t.Context(), secret.Config{Configured: "sixteen letters?"}, db)
		if err != nil || bytes.Equal(a, b) {
			t.Errorf("two texts give one key: %v", err)
		}
		if _, _, err := secret.LoadKey(t.Context(), secret.Config{Configured: "short"}, db); !errors.Is(err, secret.ErrWeakKey) {
			t.Errorf("a short text: %v", err)
		}
	})
}

func TestKeyIsMadeOnceAndKept(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		dir := t.TempDir()
		first, warning, err := secret.LoadKey(t.Context(), secret.Config{DataDir: dir}, db)
		if err != nil || len(first) != secret.KeySize {
			t.Fatalf("%x, %v", first, err)
		}
		if db.Postgres() != (warning != "") {
			t.Errorf("warning %q", warning)
		}
		again, _, err := secret.LoadKey(t.Context(), secret.Config{DataDir: dir}, db)
		if err != nil || !bytes.Equal(first, again) {
			t.Errorf("the second start has another key: %v", err)
		}
	})
}

func TestReplicasAgreeOnTheKey(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		if !db.Postgres() {
			return // one process, one file: TestKeyIsMadeOnceAndKept
		}
		var wg sync.WaitGroup
		keys := make([][]byte, 8)
		for i := range keys {
			wg.Go(func() { keys[i], _, _ = secret.LoadKey(t.Context(), secret.Config{}, db) })
		}
		wg.Wait()
		for _, key := range keys {
			if len(key) != secret.KeySize || !bytes.Equal(key, keys[0]) {
				t.Errorf("keys differ: %x and %x", keys[0], key)
			}
		}
	})
}

func TestKeyFileIsPrivateAndChecked(t *testing.T) {
	db := dbtest.Open(t, database.Config{DataDir: t.TempDir()})
	dir := t.TempDir()
	load := func() (string, error) {
		_, warning, err := secret.LoadKey(t.Context(), secret.Config{DataDir: dir}, db)
		return warning, err
	}
	if _, err := load(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "agentfield.key")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if warning, err := load(); err != nil || !strings.Contains(warning, "chmod 600") {
		t.Errorf("a key file open to all: %q, %v", warning, err)
	}
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(); !errors.Is(err, secret.ErrKeyFile) {
		t.Errorf("a damaged key file: %v", err)
	}
}
