package components_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/agentfield/agentfield/views/components"
)

// The programs are run: what they send is what the command says, to the byte.
func TestEveryLanguageSendsTheSame(t *testing.T) {
	t.Parallel()
	type sent struct{ method, path, session, kind, body string }
	got := make(chan sent, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- sent{r.Method, r.URL.Path, r.Header.Get("X-Session-ID"), r.Header.Get("Content-Type"), string(body)}
		_, _ = io.WriteString(w, `{"ok": true}`)
	}))
	defer server.Close()
	command := components.Command{
		Method: "POST", URL: server.URL + "/api/v1/execute/demo.echo", Headers: []string{`X-Session-ID: it's "s" \1`},
		Body: "{\"input\": {\"text\": \"it's `here` \\\\ and \\n there – \u2028\", \"n\": 1.50,\n \"big\": 12345678901234567890}}",
	}
	want := sent{"POST", "/api/v1/execute/demo.echo", `it's "s" \1`, "application/json", command.Body}
	for name, program := range map[string]struct {
		text, file string
		run        []string
	}{
		"curl":       {command.Curl(), "call.sh", []string{"sh"}},
		"Python":     {command.Python(), "call.py", []string{"python3"}},
		"JavaScript": {command.JavaScript(), "call.mjs", []string{"node"}},
		"Go":         {command.Go(), "call.go", []string{"go", "run"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), program.file)
			if err := os.WriteFile(file, []byte(program.text), 0o600); err != nil {
				t.Fatal(err)
			}
			run := exec.CommandContext(t.Context(), program.run[0], append(program.run[1:], file)...) //nolint:gosec // the programs are ours
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, program.text)
			}
			if sent := <-got; sent != want {
				t.Errorf("sent %+v\nnot  %+v\n%s", sent, want, program.text)
			}
		})
	}
}
