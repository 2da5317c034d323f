package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

// at runs a verb that talks to the server of a rig.
func at(t *testing.T, r *apptest.Rig, args ...string) outcome {
	t.Helper()
	return run(t, []string{"AGENTFIELD_SERVER=" + r.URL}, args...)
}

// typed runs a verb with something on its standard input.
func typed(t *testing.T, server, stdin string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := program{stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr, environ: []string{"AGENTFIELD_SERVER=" + server}}
	return outcome{p.run(t.Context(), args), stdout.String(), stderr.String()}
}

// line is a connection to a server that can be cut.
type line struct {
	URL  string
	sent *watched // all that went towards the server
	mu   sync.Mutex
	open []net.Conn
}

func newLine(t *testing.T, server string) *line {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{URL: "http://" + l.Addr().String(), sent: newWatched()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { n.carry(near, strings.TrimPrefix(server, "http://")) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		n.cut()
		running.Wait()
	})
	return n
}

func (n *line) carry(near net.Conn, server string) {
	far, err := (&net.Dialer{}).Dial("tcp", server)
	if err != nil {
		_ = near.Close()
		return
	}
	n.mu.Lock()
	n.open = append(n.open, near, far)
	n.mu.Unlock()
	back := make(chan struct{})
	go func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
		close(back)
	}()
	_, _ = io.Copy(far, io.TeeReader(near, n.sent))
	_ = far.Close()
	<-back
}

func (n *line) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.open {
		_ = c.Close()
	}
	n.open = nil
}

func TestAVerbFindsItsServerAndItsKey(t *testing.T) {
	var asked, key string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, key = r.URL.Path, r.Header.Get("X-API-Key")
		_, _ = io.WriteString(w, `{"executions":[],"next_cursor":null}`)
	}))
	defer server.Close()
	listen := strings.TrimPrefix(server.URL, "http://")
	file := t.TempDir() + "/here.yaml"
	if err := os.WriteFile(file, []byte("server:\n  listen: "+listen+"\n  api_key: of-the-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		environ []string
		args    []string
		key     string
	}{
		"flags":               {[]string{"AGENTFIELD_SERVER=http://127.0.0.1:1", "AGENTFIELD_API_KEY=no"}, []string{"-s", server.URL + "/", "-k", "flag"}, "flag"},
		"flag of old scripts": {nil, []string{"--server", server.URL, "--token", "flag"}, "flag"},
		"environment":         {[]string{"AGENTFIELD_SERVER=" + server.URL, "AGENTFIELD_API_KEY=shared"}, nil, "shared"},
		"its other names":     {[]string{"AGENTFIELD_SERVER_URL=" + server.URL, "AGENTFIELD_TOKEN=mine", "AGENTFIELD_API_KEY=shared"}, nil, "mine"},
		"settings":            {[]string{"AGENTFIELD_LISTEN=" + listen, "AGENTFIELD_API_KEY=shared"}, nil, "shared"},
		"file":                {nil, []string{"--config", file}, "of-the-file"},
		"key of another file": {nil, []string{"--config", file, "--server", server.URL}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked, key = "", "none"
			got := run(t, c.environ, append([]string{"list"}, c.args...)...)
			if got.code != exitOK || asked != "/api/v1/executions" || key != c.key {
				t.Errorf("exit code %d, asked for %s with the key %q; %s", got.code, asked, key, got.stderr)
			}
		})
	}
}

func TestAVerbSaysWhatToDoWhenItIsNotHeard(t *testing.T) {
	if got := run(t, nil, "list", "--server", "http://127.0.0.1:1"); got.code != exitFailed || !strings.Contains(got.stderr, "agentfield server") {
		t.Errorf("no server: exit code %d, %s", got.code, got.stderr)
	}
	r := apptest.New(t, func(c *config.Config) { c.APIKey = "secret" })
	if got := at(t, r, "list"); got.code != exitFailed || !strings.Contains(got.stderr, "--api-key") {
		t.Errorf("no key: exit code %d, %s", got.code, got.stderr)
	}
	if got := at(t, r, "list", "-k", "secret"); got.code != exitOK {
		t.Errorf("with its key: exit code %d, %s", got.code, got.stderr)
	}
	for _, args := range [][]string{
		{"list", "--server", "localhost:8080"},
		{"exec"},
		{"get"},
		{"get", "a", "b"},
		{"watch"},
		{"approve"},
		{"cancel"},
		{"tail"},
		{"tail", "x", "-n", "0"},
		{"exec", "a.b", "stray"},
		{"exec", "a.b", "{no"},
		{"exec", "a.b", "n:=x"},
		{"exec", "a.b", "@missing"},
		{"exec", "a.b", "x=1", "-f", "y"},
		{"exec", "a.b", "--context", "{"},
		{"exec", "a.b", "--webhook", "http://x", "--webhook-header", "none"},
		{"approve", "a", "--response", "{"},
		{"list", "agents", "status:failed"},
		{"execution"},
	} {
		if got := at(t, r, args...); got.code != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, "agentfield --help") {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, got.code, got.stdout, got.stderr)
		}
	}
}
