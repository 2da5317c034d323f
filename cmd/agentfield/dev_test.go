package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	firstagent "github.com/agentfield/agentfield/examples/start"
)

// developers is the environment of a developer who has set nothing up.
func developers(t *testing.T) []string {
	t.Helper()
	if os.Getenv("GOCACHE") == "" { // it would follow, and the standard library be built once more
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("GOCACHE", filepath.Join(cache, "go-build"))
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, name := range []string{"AGENTFIELD_SERVER", "OPENAI_API_KEY", "AGENTFIELD_AI", "AGENT_NODE_ID", "PYTHONPATH"} {
		t.Setenv(name, "")
	}
	return append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
}

// newAgent makes an agent with init and goes into its directory.
func newAgent(t *testing.T, name, language string) {
	t.Helper()
	t.Chdir(t.TempDir())
	var stdout, stderr bytes.Buffer
	p := program{stdout: &stdout, stderr: &stderr}
	if code := p.run(t.Context(), []string{"init", name, "--language", language}); code != exitOK {
		t.Fatalf("init ends with %d: %s", code, &stderr)
	}
	if want := "cd " + name + "\n  agentfield dev\n"; !strings.Contains(stdout.String(), want) {
		t.Errorf("init says %q and not what to do next", &stdout)
	}
	t.Chdir(name)
}

// TestAFirstAgentAnswersTheCommandThatDevPrints is the first minute of a developer, in every language.
func TestAFirstAgentAnswersTheCommandThatDevPrints(t *testing.T) {
	for _, language := range firstagent.Languages() {
		t.Run(language, func(t *testing.T) {
			environ := developers(t)
			newAgent(t, "hello-"+language, language)
			d := startHere(t, environ, "dev", "--port", "0")
			d.stdout.find(t, `(?s)Call it:\n\n(curl .*?')\n\n`)
			answer := curls(d.stdout.String())[0].do(t, http.StatusOK)
			if got := asJSON(answer["result"]); answer["status"] != "succeeded" || got != `{"greeting":"Hello, Alice!"}` {
				t.Errorf("the answer is %v with %s", answer["status"], got)
			}
			if code := d.end(t); code != exitOK {
				t.Errorf("exit code %d, stderr: %s", code, d.stderr)
			}
			if log := d.stdout.String(); !strings.Contains(log, "server") || !strings.Contains(log, "hello-"+language+" ") {
				t.Errorf("the logs are not merged with their names in front:\n%s", log)
			}
		})
	}
}

func TestTheAgentStartsAnewWhenAFileChanges(t *testing.T) {
	environ := developers(t)
	newAgent(t, "changing", "python")
	d := startHere(t, environ, "dev", "--port", "0")
	d.stdout.find(t, `(Call it:)`)
	if !strings.Contains(d.stdout.String(), "offline model") {
		t.Errorf("nobody says that app.ai is offline:\n%s", d.stdout)
	}
	call := curls(d.stdout.String())[0]

	replaceIn(t, "main.py", "Hello, ", "Welcome, ", "def greet", "broken(\ndef greet")
	d.stdout.find(t, `(main\.py ended with exit status 1; it is started again when a file changes)`)
	replaceIn(t, "main.py", "broken(\n", "")
	d.stdout.find(t, `(?s)started again when a file changes.*(registered changing)`)
	if got := asJSON(call.do(t, http.StatusOK)["result"]); got != `{"greeting":"Welcome, Alice!"}` {
		t.Errorf("after the change the answer is %s", got)
	}
}

func replaceIn(t *testing.T, name string, pairs ...string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRunFindsAnAgentByItsName also shows that a file without app.run(), as the documents print agents, is run.
func TestRunFindsAnAgentByItsName(t *testing.T) {
	environ := developers(t)
	server := start(t, nil, "server", "--port", "0")
	base := server.stderr.find(t, `listening on (http://127\.0\.0\.1:\d+)`)
	newAgent(t, "shown", "python")
	replaceIn(t, "main.py", "if __name__ == \"__main__\":\n    app.run()\n", "")
	t.Chdir("..")
	r := startHere(t, environ, "run", "shown", "--server", base)
	r.stdout.find(t, `(Call it:)`)
	if got := asJSON(curls(r.stdout.String())[0].do(t, http.StatusOK)["result"]); got != `{"greeting":"Hello, Alice!"}` {
		t.Errorf("the answer is %s", got)
	}
	if code := r.end(t); code != exitOK {
		t.Errorf("exit code %d, stderr: %s", code, r.stderr)
	}
	var gone map[string]any
	get(t, base+"/api/v1/nodes/shown", &gone)
	if gone["lifecycle_status"] != "offline" {
		t.Errorf("after the stop the agent is %v", gone["lifecycle_status"])
	}
}

func TestAnAgentThatFailsEndsRun(t *testing.T) {
	environ := developers(t)
	newAgent(t, "failing", "python")
	if err := os.WriteFile("main.py", []byte("raise SystemExit(3)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startHere(t, environ, "run", "failing", "--port", "0")
	if code := <-r.code; code != exitFailed || !strings.Contains(r.stderr.String(), "main.py ended with exit status 3") {
		t.Errorf("exit code %d, stderr: %s", code, r.stderr)
	}
	r.code <- exitFailed
}

func TestWhatAnAgentLacksIsSaid(t *testing.T) {
	if got := run(t, nil, "dev"); got.code != exitFailed || !strings.Contains(got.stderr, "agentfield.yaml is missing") || !strings.Contains(got.stderr, "agentfield init") {
		t.Errorf("without agentfield.yaml: exit code %d, stderr %s", got.code, got.stderr)
	}
	if got := run(t, nil, "run", "nobody"); got.code != exitFailed || !strings.Contains(got.stderr, "agentfield init nobody") {
		t.Errorf("an unknown name: exit code %d, stderr %s", got.code, got.stderr)
	}
	if got := run(t, nil, "init", "Not A Name"); got.code != exitUsage {
		t.Errorf("a bad name: exit code %d, stderr %s", got.code, got.stderr)
	}
	if got := run(t, nil, "init", "agent", "--language", "cobol"); got.code != exitUsage || !strings.Contains(got.stderr, "go, node, python") {
		t.Errorf("an unknown language: exit code %d, stderr %s", got.code, got.stderr)
	}
	dir := t.TempDir()
	yaml := filepath.Join(dir, projectFile)
	for text, want := range map[string]string{
		"name: a\n": "main.py is missing", "language: cobol\n": `the language is "cobol"`, "name: [\n": "read " + yaml, "entry: other.py\n": "other.py is missing",
	} {
		if err := os.WriteFile(yaml, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readProject(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestInitLeavesAloneWhatIsThere(t *testing.T) {
	newAgent(t, "mine", "python")
	t.Chdir("..")
	var stderr bytes.Buffer
	p := program{stdout: &bytes.Buffer{}, stderr: &stderr}
	if code := p.run(t.Context(), []string{"init", "mine"}); code != exitFailed || !strings.Contains(stderr.String(), "not empty") {
		t.Errorf("exit code %d, stderr %s", code, &stderr)
	}
}

func TestASampleInputFitsTheSchema(t *testing.T) {
	for schema, want := range map[string]string{
		``: `{}`,
		`{"properties":{"name":{"type":"string"},"n":{"type":"integer","minimum":3},"mood":{"enum":["glad"]},"extra":{"type":"string"}},"required":["name","n","mood"]}`: `{"mood":"glad","n":3,"name":"Alice"}`,
		`{"properties":{"limit":{"type":["number","null"]},"topic":{"type":"string"}}}`:                                                                                  `{"limit":1,"topic":"some topic"}`,
		`{"properties":{"id":{"type":"integer"},"tags":{"type":"array"}},"anyOf":[{"required":["id"]},{"required":["ticket"]}]}`:                                         `{"id":1}`,
		`{"properties":{"who":{"anyOf":[{"type":"object","properties":{"first_name":{"type":"string"}},"required":["first_name"]}]}},"required":["who"]}`:                `{"who":{"first_name":"some first name"}}`,
	} {
		if got := string(sampleInput([]byte(schema))); got != want {
			t.Errorf("%s: %s, want %s", schema, got, want)
		}
	}
}

func TestOnlySourcesStartAnAgentAnew(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("main.py", "1")
	s := newSources(dir)
	write(".agentfield/data/x.json", "1")
	write("__pycache__/main.py", "1")
	write("env/pyvenv.cfg", "")
	write("env/lib/x.py", "1")
	write("agentfield-data/x.json", "1")
	write("out.bin", "1")
	if name := difference(s.seen, s.look()); name != "" {
		t.Errorf("%s is no source of the agent", name)
	}
	write("prompts/system.txt", "You are")
	if name := s.changed(t.Context()); name != filepath.Join("prompts", "system.txt") {
		t.Errorf("noticed %q", name)
	}
	if err := os.Remove(filepath.Join(dir, "main.py")); err != nil {
		t.Fatal(err)
	}
	if name := s.changed(t.Context()); name != "main.py" {
		t.Errorf("noticed %q", name)
	}
	over, end := context.WithCancel(t.Context())
	end()
	if name := s.changed(over); name != "" {
		t.Errorf("after the end noticed %q", name)
	}
}

func TestEveryLineSaysWhoseItIs(t *testing.T) {
	var out bytes.Buffer
	p := &prefixed{out: &out, prefix: "a | "}
	for _, text := range []string{"one\ntw", "o\n", "", "\nthree"} {
		if n, err := p.Write([]byte(text)); err != nil || n != len(text) {
			t.Fatal(n, err)
		}
	}
	p.flush()
	p.flush()
	if want := "a | one\na | two\na | \na | three\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
}
