package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// running is a verb that goes on until it is stopped.
type running struct {
	stdout, stderr *watched
	stop           context.CancelFunc
	code           chan int
}

func start(t *testing.T, environ []string, args ...string) *running {
	t.Helper()
	t.Chdir(t.TempDir())
	return startHere(t, environ, args...)
}

// startHere is start in the present directory.
func startHere(t *testing.T, environ []string, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{stdout: newWatched(), stderr: newWatched(), stop: stop, code: make(chan int, 1)}
	p := program{stdout: r.stdout, stderr: r.stderr, environ: environ}
	go func() { r.code <- p.run(ctx, args) }()
	t.Cleanup(func() { r.end(t) })
	return r
}

// end stops the verb as a signal would, and returns its exit code. It may be called again.
func (r *running) end(t *testing.T) int {
	t.Helper()
	r.stop()
	return r.wait(t)
}

// wait waits until the verb ends by itself, and returns its exit code.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-r.code:
		r.code <- code
		return code
	case <-time.After(time.Minute):
		t.Fatalf("it does not end; stderr: %s", r.stderr)
		return -1
	}
}

func TestTheServerAnswersUntilItIsStopped(t *testing.T) {
	for engine, flags := range databases(t) {
		t.Run(engine, func(t *testing.T) {
			server := start(t, nil, append([]string{"server", "--port", "0"}, flags...)...)
			base := server.stderr.find(t, `listening on (http://127\.0\.0\.1:\d+)`)
			if got := run(t, nil, "health", "--server", base); got.code != exitOK {
				t.Errorf("health says %s", got.stderr)
			}
			if code := server.end(t); code != exitOK {
				t.Errorf("exit code %d, stderr: %s", code, server.stderr)
			}
			if got := run(t, nil, "health", "--server", base); got.code != exitFailed {
				t.Errorf("after the end health exits with %d", got.code)
			}
		})
	}
}

func TestWithoutAVerbItIsTheServer(t *testing.T) {
	server := start(t, []string{"PORT=0"})
	server.stderr.find(t, `listening on (http://127\.0\.0\.1:\d+)`)
}

func TestTwoServersDoNotShareADataDirectory(t *testing.T) {
	dir := t.TempDir()
	first := start(t, nil, "server", "--port", "0", "--data-dir", dir)
	first.stderr.find(t, `(listening on)`)
	if got := run(t, nil, "server", "--port", "0", "--data-dir", dir); got.code != exitFailed || !strings.Contains(got.stderr, "--data-dir") {
		t.Errorf("exit code %d, stderr: %s", got.code, got.stderr)
	}
}

func TestATakenPortEndsTheServerWithTheReason(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	got := run(t, nil, "server", "--listen", taken.Addr().String())
	if got.code != exitFailed || !strings.Contains(got.stderr, taken.Addr().String()) {
		t.Errorf("exit code %d, stderr: %s", got.code, got.stderr)
	}
}

// TestTheDemoShowsCommandsThatWork is the first five minutes: start the demo, copy its commands, see the webhook arrive. The answer that
// the README prints is held to the real one.
func TestTheDemoShowsCommandsThatWork(t *testing.T) {
	readme := read(t, "README.md")
	d := start(t, nil, "demo")
	base := d.stdout.find(t, `(?m)^  (http://localhost:\d+)/$`)
	d.stdout.find(t, `(Webhooks that arrive:\n)`)

	shown := d.stdout.String()
	for _, want := range []string{"hello-world.greet                 succeeded", "unreliable-agent.fail             failed"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the demo does not show %q:\n%s", want, shown)
		}
	}
	commands := curls(shown)
	if len(commands) != 4 {
		t.Fatalf("the demo shows %d commands to try, want 4:\n%s", len(commands), shown)
	}
	decided := commands[0].do(t, http.StatusOK)
	greeting := commands[1].do(t, http.StatusOK)
	withWebhook := commands[2].do(t, http.StatusAccepted)
	polled := commands[3].do(t, http.StatusAccepted)

	var end map[string]any
	ended(t, base+"/api/v1/executions/"+decided["execution_id"].(string), &end)
	if paid, _ := end["result"].(map[string]any); end["status"] != "succeeded" || paid["outcome"] != "paid" {
		t.Errorf("the approved claim ended as %v with %v", end["status"], end["result"])
	}
	end = nil
	ended(t, base+"/api/v1/executions/"+polled["execution_id"].(string), &end)
	if end["status"] != "succeeded" {
		t.Errorf("the execution that was asked for ended as %v", end)
	}
	d.stdout.find(t, `(execution\.completed  succeeded  `+withWebhook["execution_id"].(string)+`  signature good)`)
	checkREADME(t, readme, commands[1], greeting)
	if code := d.end(t); code != exitOK {
		t.Errorf("exit code %d, stderr: %s", code, d.stderr)
	}
}

func checkREADME(t *testing.T, readme string, command curl, answer map[string]any) {
	t.Helper()
	printed := curls(readme)
	if len(printed) == 0 || printed[0].body != command.body || !strings.HasSuffix(command.url, strings.TrimPrefix(printed[0].url, "http://localhost:8080")) {
		t.Errorf("the README's command is not the one of the demo: %v", printed)
	}
	_, rest, _ := strings.Cut(readme, "```json\n")
	block, _, _ := strings.Cut(rest, "```")
	var promised map[string]any
	if err := json.Unmarshal([]byte(block), &promised); err != nil {
		t.Fatalf("the README's answer is no JSON: %v", err)
	}
	if want, got := slices.Sorted(maps.Keys(promised)), slices.Sorted(maps.Keys(answer)); !slices.Equal(want, got) {
		t.Errorf("the README shows the keys %v, the server answers with %v", want, got)
	}
	if want, got := asJSON(promised["result"]), asJSON(answer["result"]); want != got || promised["status"] != answer["status"] {
		t.Errorf("the README shows %s, the server answers %s", want, got)
	}
}

func asJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// curl is a command as the documentation writes it.
type curl struct{ url, body string }

func curls(text string) []curl {
	var found []curl
	for _, m := range regexp.MustCompile(`(?s)curl -X POST (\S+) \\\n  -H "Content-Type: application/json" \\\n  -d '(.*?)'`).FindAllStringSubmatch(text, -1) {
		found = append(found, curl{url: m[1], body: m[2]})
	}
	return found
}

func (c curl) do(t *testing.T, status int) map[string]any {
	t.Helper()
	res, err := http.Post(c.url, "application/json", strings.NewReader(c.body)) //nolint:forbidigo // as plain as curl
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		t.Fatalf("%s: HTTP %d %s, %v", c.url, res.StatusCode, text, err)
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s: %s: %v", c.url, text, err)
	}
	return answer
}

// answer sends a request and reads what must be a success in JSON.
func answer(t *testing.T, request *http.Request) map[string]any {
	t.Helper()
	res, err := (&http.Client{}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s: HTTP %d %s, %v", request.URL, res.StatusCode, text, err)
	}
	var said map[string]any
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatalf("%s: %s: %v", request.URL, text, err)
	}
	return said
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	res, err := http.Get(url) //nolint:forbidigo // as plain as curl
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// watched collects what is written and wakes those who wait for it.
type watched struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // closed and replaced with each write
}

func newWatched() *watched { return &watched{written: make(chan struct{})} }

func (w *watched) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.written)
	w.written = make(chan struct{})
	return w.text.Write(text)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// find waits until the pattern matches and returns its group.
func (w *watched) find(t *testing.T, pattern string) string {
	t.Helper()
	re, deadline := regexp.MustCompile(pattern), time.After(time.Minute)
	for {
		w.mu.Lock()
		found, next := re.FindStringSubmatch(w.text.String()), w.written
		w.mu.Unlock()
		if found != nil {
			return found[1]
		}
		select {
		case <-next:
		case <-deadline:
			t.Fatalf("%s does not appear in:\n%s", pattern, w)
		}
	}
}

// ended asks for an execution until it has ended: a long poll answers with every change of status.
func ended(t *testing.T, url string, end *map[string]any) {
	t.Helper()
	for known := ""; ; {
		*end = nil
		get(t, url+"?wait=30s&status="+known, end)
		known, _ = (*end)["status"].(string)
		switch known {
		case "succeeded", "failed", "timeout", "cancelled":
			return
		case "":
			t.Fatalf("%s: %v", url, *end)
		}
	}
}
