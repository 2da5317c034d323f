package webhook

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// harnesses call what a snippet has: with secret, id, time, both signatures and the body from standard input, they print what each check says.
var harnesses = map[string]struct {
	file, main string
	source     string
	run        []string
}{
	"Python": {"verify.py", "main.py", `
import sys
from verify import verify, verify_body
secret, id, at, standard, own = sys.argv[1:6]
body = sys.stdin.buffer.read()
h = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": standard, "x-agentfield-signature": own}
print(str(verify(secret, h, body)).lower(), str(verify_body(secret, h, body)).lower())`, []string{"python3", "main.py"}},
	"JavaScript": {"verify.mjs", "main.mjs", `
import { readFileSync } from "node:fs";
import { verify, verifyBody } from "./verify.mjs";
const [secret, id, at, standard, own] = process.argv.slice(2), body = readFileSync(0);
const h = { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": standard, "x-agentfield-signature": own };
console.log(verify(secret, h, body), verifyBody(secret, h, body));`, []string{"node", "main.mjs"}},
	"Go": {"receiver/verify.go", "main.go", `package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"example.com/r/receiver"
)

func main() {
	h := http.Header{}
	for i, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature", "x-agentfield-signature"} {
		h.Set(name, os.Args[i+2])
	}
	body, _ := io.ReadAll(os.Stdin)
	fmt.Println(receiver.Verify(os.Args[1], h, body), receiver.VerifyBody(os.Args[1], h, body))
}`, []string{"./receive"}},
}

// TestSnippetsVerifyWhatIsSent runs each snippet as it is shown: on a real signature, on a body with one byte changed, with another secret
// and on a delivery that is too old.
func TestSnippetsVerifyWhatIsSent(t *testing.T) {
	all, err := Snippets()
	if err != nil || len(all) != len(harnesses) {
		t.Fatalf("%d snippets, %v", len(all), err)
	}
	const plain, prefixed = "your-webhook-secret-key", secretPrefix + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	body := `{"event":"execution.completed","result":"äöü ✓"}`
	now := time.Now()
	for _, snippet := range all {
		t.Run(snippet.Language, func(t *testing.T) {
			t.Parallel()
			run := receiverIn(t, snippet)
			for _, c := range []struct {
				name, signed, known, body, want string
				at                              time.Time
			}{
				{"as sent", plain, plain, body, "true true", now},
				{"a secret in base64", prefixed, prefixed, body, "true true", now},
				{"one byte changed", plain, plain, strings.Replace(body, "r", "s", 1), "false false", now},
				{"another secret", plain, plain + "2", body, "false false", now},
				{"too old", plain, plain, body, "false true", now.Add(-time.Hour)},
				{"rotated, by the old secret", prefixed + " " + plain, plain, body, "true true", now},
				{"rotated, by the new secret", prefixed + " " + plain, prefixed, body, "true false", now},
			} {
				h := http.Header{}
				signed, old, _ := strings.Cut(c.signed, " ")
				signBoth(h, "wh_1", c.at, []byte(body), []byte(signed), []byte(old))
				got := run(c.body, c.known, h.Get(headerID), h.Get(headerTimestamp), h.Get(headerStandard), h.Get(headerSignature))
				if got != c.want {
					t.Errorf("%s: %s, want %s", c.name, got, c.want)
				}
			}
		})
	}
}

// TestTheGuideHasTheSnippetsAsTheyAre: what is run above is what people read.
func TestTheGuideHasTheSnippetsAsTheyAre(t *testing.T) {
	guide, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := Snippets()
	if err != nil {
		t.Fatal(err)
	}
	for _, snippet := range all {
		if !strings.Contains(string(guide), strings.TrimSpace(snippet.Text)) {
			t.Errorf("docs/webhooks.md verifies in %s in another way than app/webhook/verify", snippet.Language)
		}
	}
}

// receiverIn makes a program of a snippet and returns how to call it.
func receiverIn(t *testing.T, snippet Snippet) func(body string, args ...string) string {
	t.Helper()
	dir, h := t.TempDir(), harnesses[snippet.Language]
	for name, text := range map[string]string{h.file: snippet.Text, h.main: h.source, "go.mod": "module example.com/r\n\ngo 1.24\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if snippet.Language == "Go" {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", "receive", ".")
		build.Dir = dir
		build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return func(body string, args ...string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), h.run[0], append(h.run[1:], args...)...) //nolint:gosec // the programs above
		command.Dir = dir
		command.Stdin = strings.NewReader(body)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
}
