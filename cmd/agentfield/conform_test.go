package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/conform"
)

// TestTheAgentsOfTheExamplesKeepTheContract runs them as they stand in the repository, in languages without an SDK of ours, and in Python.
func TestTheAgentsOfTheExamplesKeepTheContract(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PYTHONPATH", root+"/sdk/python")
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	for name, c := range map[string]struct {
		args  []string
		wants []string // rows that must pass beside those that every agent passes
	}{
		"shell":  {[]string{"--pause", "decide", "--", "sh", root + "/examples/shell/agent.sh"}, []string{"pause"}},
		"node":   {[]string{"--slow", "crunch", "--", "node", root + "/examples/node/agent.mjs"}, []string{"stop"}},
		"start":  {[]string{"--", "node", root + "/examples/start/node/main.mjs"}, []string{"token", "goodbye"}},
		"python": {[]string{"--pause", "refund", "--", "python3", root + "/examples/start/python/main.py"}, []string{"token", "pause", "goodbye"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PORT", "0")
			if name == "shell" {
				t.Setenv("PORT", strconv.Itoa(free(t, 2000))) // it cannot say which one it got
			}
			got := run(t, os.Environ(), append([]string{"conform", "--json", "--patience", "60s"}, c.args...)...)
			var said struct {
				Conforms bool          `json:"conforms"`
				Rows     []conform.Row `json:"rows"`
			}
			if err := json.Unmarshal([]byte(got.stdout), &said); err != nil || got.code != exitOK || !said.Conforms {
				t.Fatalf("exit code %d: %v\n%s%s", got.code, err, got.stdout, got.stderr)
			}
			passed := ""
			for _, r := range said.Rows {
				if r.Result == conform.Pass {
					passed += " " + r.ID + " "
				}
			}
			for _, want := range append(c.wants, "register", "describe", "health", "call", "parallel", "again", "input", "unknown", "cancel", "alive") {
				if !strings.Contains(passed, " "+want+" ") {
					t.Errorf("%s is not passed: %s", want, got.stdout)
				}
			}
		})
	}
}

func TestConformSaysWhatIsWrongAndEndsWithOne(t *testing.T) {
	got := run(t, nil, "conform", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--patience", "100ms", "--function", "greet")
	if got.code != exitFailed || !strings.Contains(got.stdout, "fail  register") || !strings.Contains(got.stdout, "AGENTFIELD_SERVER=http://127.0.0.1:") ||
		!strings.Contains(got.stderr, "does not keep the contract") {
		t.Errorf("exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	for _, args := range [][]string{
		{"conform"},
		{"conform", "a", "b"},
		{"conform", "localhost:1"},
		{"conform", "http://127.0.0.1:1", "--input", "{"},
		{"conform", "--", "no-such-program-anywhere"},
	} {
		if got := run(t, nil, args...); got.code != exitUsage || got.stdout != "" {
			t.Errorf("%v: exit code %d, %s%s", args, got.code, got.stdout, got.stderr)
		}
	}
}

// free is a port that nobody listens on; callers with ranges of their own, each of a thousand, do not get the same.
func free(t *testing.T, of int) int {
	t.Helper()
	port, err := freePort(t.Context(), 10_000+os.Getpid()%10_000+of, 999)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
