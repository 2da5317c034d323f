package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/database"
)

func TestPeopleAndKeysFromTheCommandLine(t *testing.T) {
	for engine, where := range databases(t) {
		t.Run(engine, func(t *testing.T) {
			must := func(args ...string) string {
				t.Helper()
				got := run(t, nil, append(args, where...)...)
				if got.code != exitOK {
					t.Fatalf("%v: exit code %d, %s", args, got.code, got.stderr)
				}
				return got.stdout
			}
			added := must("user", "add", "root", "--role", "admin")
			if !strings.Contains(added, "root can sign in as admin.") || !regexp.MustCompile(`once: \w{26}\n`).MatchString(added) {
				t.Errorf("add: %q", added)
			}
			must("user", "add", "Rex@example.org", "--role", "reviewer", "--group", "claims,night")
			must("user", "role", "rex@example.org", "operator")
			must("user", "disable", "rex@example.org")
			if list := must("user", "list"); !strings.Contains(list, "rex@example.org  operator  claims,night  true") {
				t.Errorf("list:\n%s", list)
			}
			must("user", "enable", "rex@example.org")
			must("user", "passwd", "rex@example.org")

			key := strings.TrimSpace(must("token", "create", "--name", "nightly", "--scope", "read,execute", "--expires", "never"))
			if !regexp.MustCompile(`^af_[a-z2-7]{16}_[a-z2-7]{52}$`).MatchString(key) {
				t.Fatalf("key %q", key)
			}
			var listed []keyShown
			if err := json.Unmarshal([]byte(must("token", "list", "--json")), &listed); err != nil || len(listed) != 1 ||
				!slices.Equal(listed[0].Scopes, []string{"execute", "read"}) || listed[0].RevokedAt != "-" || !strings.HasPrefix(listed[0].CreatedBy, "cli:") {
				t.Errorf("%+v %v", listed, err)
			}
			must("token", "revoke", key)

			if text := must("audit", "export", "--action", "key"); strings.Count(text, "\n") != 2 || strings.Contains(text, key) {
				t.Errorf("export:\n%s", text)
			}
			if text := must("audit", "export", "--format", "csv", "--since", "2026-01-01T00:00:00+02:00"); strings.Count(text, "\n") != 9 {
				t.Errorf("export:\n%s", text)
			}
			verified := must("audit", "verify")
			anchor := regexp.MustCompile(`8:[0-9a-f]{64}`).FindString(verified)
			if !strings.HasPrefix(verified, "8 entries, all as they were written.") || anchor == "" {
				t.Errorf("verify: %q", verified)
			}
			must("audit", "verify", "--anchor", anchor)
			foreign := run(t, nil, append([]string{"audit", "verify", "--anchor", "8:" + strings.Repeat("0", 64)}, where...)...)
			if foreign.code != exitFailed || !strings.Contains(foreign.stderr, "tampered with at entry 8") {
				t.Errorf("a foreign anchor: %d %s", foreign.code, foreign.stderr)
			}
		})
	}
}

func TestPasswordsAreReadFromTheStandardInput(t *testing.T) {
	for engine, where := range databases(t) {
		t.Run(engine, func(t *testing.T) {
			t.Chdir(t.TempDir())
			var stdout, stderr bytes.Buffer
			p := program{stdin: strings.NewReader("correct horse battery\nmore"), stdout: &stdout, stderr: &stderr}
			if code := p.run(t.Context(), append([]string{"user", "add", "root", "--role", "admin", "--password-stdin"}, where...)); code != exitOK {
				t.Fatalf("exit code %d: %s", code, stderr.String())
			}
			if strings.Contains(stdout.String(), "assword") {
				t.Errorf("%s", stdout.String())
			}
			p.stdin = strings.NewReader("short\n")
			if code := p.run(t.Context(), append([]string{"user", "passwd", "root", "--password-stdin"}, where...)); code != exitUsage {
				t.Errorf("a short password: exit code %d", code)
			}
		})
	}
}

func TestMistakesWithPeopleAndKeys(t *testing.T) {
	where := []string{"--data-dir", t.TempDir()}
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"user", "add"}, exitUsage, "accepts 1 arg"},
		{[]string{"user", "role", "x"}, exitUsage, "accepts 2 arg"},
		{[]string{"user", "add", "x", "--role", "king"}, exitUsage, "viewer, reviewer"},
		{[]string{"user", "add", "x"}, exitFailed, access.ErrFirstAdmin.Error()},
		{[]string{"user", "disable", "nobody"}, exitFailed, access.ErrNoUser.Error()},
		{[]string{"token", "create", "--name", "k"}, exitUsage, "one or more of the scopes"},
		{[]string{"token", "create", "--name", "k", "--scope", "agent,approve"}, exitUsage, "agents never approve"},
		{[]string{"token", "create", "--name", "k", "--scope", "read", "--expires", "soon"}, exitUsage, "no time span"},
		{[]string{"token", "revoke", "nothing"}, exitFailed, access.ErrNoKey.Error()},
		{[]string{"audit", "verify", "--anchor", "x"}, exitUsage, "an anchor is"},
		{[]string{"audit", "export", "--format", "xml"}, exitUsage, "csv or ndjson"},
		{[]string{"audit", "export", "--since", "yesterday"}, exitUsage, "no time"},
		{[]string{"audit", "export", "stray"}, exitUsage, "unknown command"},
	} {
		got := run(t, nil, append(c.args, where...)...)
		if got.code != c.code || !strings.Contains(got.stderr, c.says) {
			t.Errorf("%v: exit code %d, want %d: %s", c.args, got.code, c.code, got.stderr)
		}
	}
}

func TestARunningServerKeepsItsDatabaseAndSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	db, err := database.Open(t.Context(), database.Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	got := run(t, nil, "user", "list", "--data-dir", dir)
	if got.code != exitFailed || !strings.Contains(got.stderr, "a server runs on this data directory") || !strings.Contains(got.stderr, "/api/v1/settings") {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
}
