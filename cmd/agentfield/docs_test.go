package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"github.com/agentfield/agentfield/docs"
)

// Every block of code in the README and the guides is executed, as it stands but for host, port and the id of a request:
//
//	sh              runs, in the directory of its guide, after those above it
//	sh background   is started, and ends with the guide
//	python, js      run
//	any FILE        is written to that file for the blocks below
//	json            after sh: its output has these members; else it is JSON
//	yaml            is a configuration that the server takes
//	mermaid         is held to the code by a test of its own
type block struct {
	language, more string
	text           string
	line           int
}

// notRun are the blocks that cannot be, with the reason.
func notRun() map[string]string {
	return map[string]string{"make test": "it is what runs this test"}
}

// readyWhen is what a block in the background has written when the next may run.
func readyWhen() map[string]string {
	return map[string]string{
		"make demo":                     `Agentfield runs at (http://localhost:\d+)(?s:.*)Ctrl-C`,
		"agentfield demo":               `Agentfield runs at (http://localhost:\d+)(?s:.*)Ctrl-C`,
		"cd my-agent && agentfield dev": `(curl -X POST)`,
		"python3 receiver.py":           `(listening)`,
		"python3 claims.py":             `(registered)`,
		"python3 main.py":               `(registered)`,
	}
}

func blocksOf(t *testing.T, source []byte) []block {
	t.Helper()
	var found []block
	err := ast.Walk(goldmark.DefaultParser().Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.CodeBlock:
			t.Errorf("%q is a block without fences, which nobody executes", n.Lines().Value(source))
		case *ast.FencedCodeBlock:
			b := block{text: string(n.Lines().Value(source))}
			if n.Info != nil {
				b.language, b.more, _ = strings.Cut(string(n.Info.Value(source)), " ")
			}
			if n.Lines().Len() > 0 {
				b.line = 1 + bytes.Count(source[:n.Lines().At(0).Start], []byte("\n"))
			}
			found = append(found, b)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestEveryBlockOfTheGuidesDoesWhatItSays(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "agentfield"), ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range append([]string{"../README"}, docs.Guides()...) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			source, err := os.ReadFile(filepath.Join(root, "docs", name+".md"))
			if err != nil {
				t.Fatal(err)
			}
			r := &reader{root: root, bin: bin, dir: t.TempDir(), name: filepath.Base(name) + ".md", hook: strconv.Itoa(free(t, 0)), agent: strconv.Itoa(free(t, 1000))}
			r.read(t, blocksOf(t, source))
		})
	}
}

// reader is somebody who follows one guide from the beginning to the end.
type reader struct {
	root, bin, dir, name string
	server               string
	hook, agent          string // ports in place of those of the guide
	output               string // of the last block of sh
}

func (r *reader) read(t *testing.T, blocks []block) {
	demo := func(b block) bool { return strings.HasSuffix(strings.TrimSpace(b.text), " demo") }
	if slices.ContainsFunc(blocks, func(b block) bool { return b.language == "sh" }) && !slices.ContainsFunc(blocks, demo) {
		r.begin(t, block{text: "agentfield demo\n"})
	}
	for _, b := range blocks {
		r.output = map[bool]string{true: r.output}[b.language == "json"]
		what := fmt.Sprintf("%s:%d", r.name, b.line)
		switch {
		case notRun()[strings.TrimSpace(b.text)] != "" || b.language == "mermaid":
		case b.more == "background" || demo(b):
			r.begin(t, b)
		case b.more != "":
			r.write(t, b)
		case b.language == "sh":
			r.output = r.run(t, what, "sh", "-eu", "-c", r.edited(t, b.text))
			r.complains(t, what)
		case b.language == "python", b.language == "js":
			file := map[string]string{"python": "block.py", "js": "block.mjs"}[b.language]
			r.write(t, block{more: file, text: b.text})
			r.run(t, what, map[string]string{"python": "python3", "js": "node"}[b.language], file)
		case b.language == "yaml":
			r.write(t, block{more: "agentfield.yaml", text: b.text})
			r.run(t, what, "agentfield", "config", "print")
		case b.language == "json":
			r.compare(t, what, b.text)
		default:
			t.Errorf("%s: a block of %q is not executed by anything", what, b.language)
		}
		if t.Failed() {
			return
		}
	}
}

// edited makes the allowed edits.
func (r *reader) edited(t *testing.T, script string) string {
	t.Helper()
	if strings.Contains(script, "claim-12345") {
		script = strings.ReplaceAll(script, "claim-12345", r.open(t))
	}
	return strings.NewReplacer("http://localhost:8080", r.server, "127.0.0.1:9000", "127.0.0.1:"+r.hook, "9000)", r.hook+")", "9200", r.agent).Replace(script)
}

// open is a request that waits for a decision.
func (r *reader) open(t *testing.T) string {
	t.Helper()
	var list struct {
		Approvals []struct {
			ID string `json:"approval_request_id"`
		} `json:"approvals"`
	}
	get(t, r.server+"/api/v1/approvals?state=pending", &list)
	if len(list.Approvals) == 0 {
		t.Fatal("nobody asks for a decision")
	}
	return list.Approvals[0].ID
}

func (r *reader) write(t *testing.T, b block) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, b.more), []byte(r.edited(t, b.text)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *reader) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "agentfield" {
		name = filepath.Join(r.bin, name)
	}
	c := exec.CommandContext(ctx, name, args...) //nolint:gosec // what the guides say
	c.Dir = r.dir
	c.Env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"), "AGENTFIELD_SERVER="+r.server, "PYTHONPATH="+r.root+"/sdk/python", "PYTHONDONTWRITEBYTECODE=1")
	return c
}

func (r *reader) run(t *testing.T, what, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := r.command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", what, err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// begin starts a block that goes on, and waits until it is ready.
func (r *reader) begin(t *testing.T, b block) {
	t.Helper()
	script := strings.TrimSpace(b.text)
	ready, known := readyWhen()[script]
	if !known {
		t.Fatalf("%s:%d: how it shows that %q is ready, readyWhen does not say", r.name, b.line, script)
	}
	c := r.command(context.Background(), "sh", "-c", r.edited(t, script))
	if strings.HasPrefix(script, "make ") {
		c.Dir = r.root
	}
	out := newWatched()
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGTERM)
		hard := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) })
		defer hard.Stop()
		_ = c.Wait()
	})
	if found := out.find(t, ready); strings.HasPrefix(found, "http") {
		r.server = found
	}
}

// complains fails when an answer is a refusal, unless the guide is about those.
func (r *reader) complains(t *testing.T, what string) {
	t.Helper()
	if r.name != "errors.md" && strings.Contains(r.output, `"request_id":"req_`) {
		t.Errorf("%s is refused: %s", what, r.output)
	}
}

// compare looks for the members of an example in the output of the block above.
func (r *reader) compare(t *testing.T, what, example string) {
	t.Helper()
	var want, got any
	if err := json.Unmarshal([]byte(example), &want); err != nil {
		t.Errorf("%s is no JSON: %v", what, err)
		return
	}
	if r.output == "" {
		return
	}
	decoder := json.NewDecoder(strings.NewReader(r.output[max(0, strings.Index(r.output, "{")):]))
	for decoder.Decode(&got) == nil {
		continue
	}
	if missing := lacks(want, got, ""); missing != "" {
		t.Errorf("%s shows %s, which the answer does not have: %s", what, missing, r.output)
	}
}

func lacks(want, got any, path string) string {
	wanted, isObject := want.(map[string]any)
	if !isObject {
		return ""
	}
	given, _ := got.(map[string]any)
	for key, value := range wanted {
		other, there := given[key]
		if !there {
			return path + key
		}
		if missing := lacks(value, other, path+key+"."); missing != "" {
			return missing
		}
	}
	return ""
}

// TestTheGuidesShowTheFilesOfTheRepository holds what is copied into them to what is tested elsewhere.
func TestTheGuidesShowTheFilesOfTheRepository(t *testing.T) {
	for guide, files := range map[string]map[string]string{
		"webhooks": {"verify.py": "app/webhook/verify/verify.py", "verify.mjs": "app/webhook/verify/verify.mjs", "verify.go": "app/webhook/verify/verify.go.txt"},
		"agents":   {"agent.sh": "examples/shell/agent.sh", "agent.mjs": "examples/node/agent.mjs"},
	} {
		shown := map[string]string{}
		for _, b := range blocksOf(t, []byte(read(t, "docs/"+guide+".md"))) {
			shown[b.more] = b.text
		}
		for name, file := range files {
			if strings.TrimSpace(shown[name]) != strings.TrimSpace(read(t, file)) {
				t.Errorf("%s of docs/%s.md is not %s", name, guide, file)
			}
		}
	}
}
