package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// outcome is what a command line left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, environ []string, args ...string) outcome {
	t.Helper()
	t.Chdir(t.TempDir()) // no configuration file, no data directory
	var stdout, stderr bytes.Buffer
	p := program{stdout: &stdout, stderr: &stderr, environ: environ}
	code := p.run(t.Context(), args)
	return outcome{code, stdout.String(), stderr.String()}
}

func TestMistakesInTheCommandEndWithTwoAndAnAdvice(t *testing.T) {
	for _, args := range [][]string{
		{"nonsense"},
		{"config", "print", "--nonsense"},
		{"config", "print", "--workers", "0"},
		{"config", "print", "stray"},
		{"config", "print", "--config", "missing.yaml"},
		{"health", "--server", "localhost:8080"},
		{"migrate", "sideways"},
	} {
		got := run(t, nil, args...)
		if got.code != exitUsage || !strings.Contains(got.stderr, "agentfield --help") || got.stdout != "" {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, got.code, got.stdout, got.stderr)
		}
	}
}

func TestConfigPrintHidesSecretsAndShowsWarnings(t *testing.T) {
	got := run(t, []string{"AGENTFIELD_API_KEY=canary", "AGENTFIELD_TYPO=1", "PORT=9999"}, "config", "print")
	if got.code != exitOK || !strings.Contains(got.stdout, "listen: 127.0.0.1:9999") || !strings.Contains(got.stdout, "api_key: (hidden)") {
		t.Errorf("exit code %d, stdout %s", got.code, got.stdout)
	}
	if strings.Contains(got.stdout+got.stderr, "canary") || !strings.Contains(got.stderr, "AGENTFIELD_TYPO") {
		t.Errorf("stderr is %s", got.stderr)
	}
}

func TestLogsAreJSONWhereNobodyLooks(t *testing.T) {
	got := run(t, []string{"AGENTFIELD_TYPO=1"}, "config", "print")
	var line map[string]any
	if err := json.Unmarshal([]byte(got.stderr), &line); err != nil || line["level"] != "WARN" {
		t.Errorf("stderr is %q: %v", got.stderr, err)
	}
	got = run(t, []string{"AGENTFIELD_TYPO=1"}, "config", "print", "--log-format", "text")
	if !strings.Contains(got.stderr, "level=WARN") {
		t.Errorf("stderr is %q, want text", got.stderr)
	}
}

func TestVersion(t *testing.T) {
	if got := run(t, nil, "version"); got.code != exitOK || !strings.HasPrefix(got.stdout, "agentfield ") {
		t.Errorf("exit code %d, stdout %q", got.code, got.stdout)
	}
	var r release
	got := run(t, nil, "version", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || r.Version == "" || r.Go == "" {
		t.Errorf("stdout %q: %v", got.stdout, err)
	}
}

func TestHealthTellsReadyFromNot(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("draining"))
	}))
	defer server.Close()

	if got := run(t, nil, "health", "--server", server.URL+"/"); got.code != exitOK || !strings.Contains(got.stdout, "is ready") {
		t.Errorf("ready: exit code %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := run(t, []string{"AGENTFIELD_SERVER=" + server.URL}, "health"); got.code != exitOK {
		t.Errorf("named by the environment: exit code %d, %s", got.code, got.stderr)
	}
	listen := strings.TrimPrefix(server.URL, "http://")
	if got := run(t, nil, "health", "--listen", listen); got.code != exitOK {
		t.Errorf("from the settings: exit code %d, %s", got.code, got.stderr)
	}
	status = http.StatusServiceUnavailable
	if got := run(t, nil, "health", "--server", server.URL); got.code != exitFailed || !strings.Contains(got.stderr, "503 draining") {
		t.Errorf("draining: exit code %d, %s", got.code, got.stderr)
	}
	server.Close()
	if got := run(t, nil, "health", "--server", server.URL); got.code != exitFailed || !strings.Contains(got.stderr, "does not answer") {
		t.Errorf("gone: exit code %d, %s", got.code, got.stderr)
	}
}

func TestAnAddressToListenOnBecomesOneToCall(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", ":80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80",
		"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "localhost:80": "localhost:80",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%s is called as %s, want %s", listen, got, want)
		}
	}
}

func TestMigrateStatusLooksAndMigrateUpActs(t *testing.T) {
	for engine, flags := range databases(t) {
		t.Run(engine, func(t *testing.T) {
			before := run(t, nil, append([]string{"migrate", "status"}, flags...)...)
			up := run(t, nil, append([]string{"migrate", "up"}, flags...)...)
			after := run(t, nil, append([]string{"migrate", "status"}, flags...)...)
			if before.code != exitOK || !strings.Contains(before.stdout, "pending  00001_init.sql") || strings.Contains(before.stdout, "applied") {
				t.Errorf("before: exit code %d, %s%s", before.code, before.stdout, before.stderr)
			}
			if up.code != exitOK || after.code != exitOK || up.stdout != after.stdout || strings.Contains(after.stdout, "pending") {
				t.Errorf("up: %d, %s%s, after: %d, %s%s", up.code, up.stdout, up.stderr, after.code, after.stdout, after.stderr)
			}
		})
	}
}

func TestMigrateStatusDoesNotMakeADatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if got := run(t, nil, "migrate", "status", "--data-dir", dir); got.code != exitOK {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("looking at the state has made the data directory")
	}
}
