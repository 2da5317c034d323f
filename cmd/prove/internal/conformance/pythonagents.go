package conformance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/examples/given"
)

// verb is a command of the program under test that goes on until it is ended: an agent that is run or developed.
type verb struct {
	cmd    *exec.Cmd
	ended  chan struct{}
	mu     sync.Mutex
	log    bytes.Buffer
	spoken chan struct{} // closed and replaced with each line
}

// verb starts a command in a directory; it ends with the check.
func (t *Trial) verb(dir string, args ...string) *verb {
	t.needPrograms()
	program, err := filepath.Abs(t.bench.options.Binary)
	t.Must(err)
	v := &verb{cmd: exec.Command(program, args...), ended: make(chan struct{}), spoken: make(chan struct{})} //nolint:gosec,noctx // the program under test; stop ends and awaits it
	v.cmd.Dir, v.cmd.Env = dir, append(os.Environ(), "AGENTFIELD_AI=fake", "AGENTFIELD_SERVER=", "PYTHONDONTWRITEBYTECODE=1")
	out, in := io.Pipe()
	v.cmd.Stdout, v.cmd.Stderr = in, in
	t.Must(v.cmd.Start())
	go v.read(out)
	go func() {
		_ = v.cmd.Wait()
		_ = in.Close()
		close(v.ended)
	}()
	t.atEnd(v.stop)
	return v
}

// needPrograms skips the row where an agent in Python cannot run beside the server.
func (t *Trial) needPrograms() {
	if t.bench.options.Binary == "" {
		t.Skipf("needs the program itself, not only a server")
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skipf("needs python3")
	}
}

func (v *verb) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		v.mu.Lock()
		v.log.WriteString(line)
		close(v.spoken)
		v.spoken = make(chan struct{})
		v.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (v *verb) said() (log string, more <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.log.String(), v.spoken
}

// says waits until the command has written a text, and returns all that it has written.
func (t *Trial) says(v *verb, text string) string {
	for {
		log, spoken := v.said()
		if strings.Contains(log, text) {
			return log
		}
		select {
		case <-spoken:
		case <-v.ended:
			if log, _ := v.said(); strings.Contains(log, text) {
				return log
			}
			t.Fatalf("it ended and has not said %q:\n%s", text, log)
		case <-t.ctx.Done():
			t.Fatalf("it has not said %q:\n%s", text, log)
		}
	}
}

func (v *verb) stop() {
	_ = v.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-v.ended:
	case <-time.After(10 * time.Second):
		_ = v.cmd.Process.Kill()
		<-v.ended
	}
}

// python runs an agent of one file and waits until the server knows it.
func (t *Trial) python(name, source string) *verb {
	dir, err := os.MkdirTemp("", "agentfield-agent-")
	t.Must(err)
	t.atEnd(func() { _ = os.RemoveAll(dir) })
	t.Must(os.WriteFile(filepath.Join(dir, "agentfield.yaml"), []byte("name: "+name+"\n"), 0o600))
	t.Must(os.WriteFile(filepath.Join(dir, "main.py"), []byte(source), 0o600))
	v := t.verb(dir, "run", dir, "--server", t.api.Base)
	t.says(v, name+" is ready")
	return v
}

// given runs the agent that a document prints.
func (t *Trial) given(file string) {
	for _, a := range given.Agents() {
		if a.File == file {
			source, err := a.Program()
			t.Must(err)
			t.python(a.Name, source)
			return
		}
	}
	t.Fatalf("no given agent is in %s", file)
}

func givenRouter(t *Trial) {
	t.given("router.txt")
	answer := t.Execute(client.Call{Target: "support-agent.support_analyze_sentiment", Input: fields{"message": "This is the third time I am calling!"}})
	t.Status(answer, http.StatusOK)
	t.Is(answer, "status", "succeeded")
	t.Has(answer, "result.sentiment", "result.confidence", "result.recommendation")
}

// givenTriage is the snippet that uses memory, a call, the model and a note, with no id in it.
func givenTriage(t *Trial) {
	t.Own()
	t.given("sentiment.txt")
	t.given("triage.txt")
	session := []string{"X-Session-ID", "session_user123"}
	t.Status(t.Do(http.MethodPost, "/api/v1/memory/set", fields{"key": "customer_history", "data": "two orders", "scope": "session"}, session...), http.StatusOK)
	answer := t.Execute(client.Call{Target: "support-agent.triage_ticket", Input: fields{"ticket_id": 12345, "message": "I can't log in"}, Headers: session})
	t.Is(answer, "status", "succeeded")
	t.Has(answer, "result.priority", "result.escalate")
	notes := t.Do(http.MethodGet, "/api/v1/executions/"+answer.Text("execution_id")+"/notes", nil)
	t.Is(notes, "notes.0.message", "Triaged as "+answer.Text("result.priority"))
	dag := t.Do(http.MethodGet, "/api/v1/workflows/"+answer.Text("run_id")+"/dag", nil)
	t.Is(dag, "dag.children.0.agent_node_id", "sentiment-agent")
	t.Is(dag, "dag.children.0.parent_execution_id", answer.Text("execution_id"))
	page := t.Do(http.MethodGet, "/executions/"+answer.Text("execution_id"), nil)
	t.True(strings.Contains(string(page.Body), "Triaged as "), "the note on the page of the execution")
}

func givenSupport(t *Trial) {
	t.Own()
	t.given("sentiment.txt")
	t.given("support.txt")
	workflow := []string{"X-Workflow-ID", "wf_customer_support_001"}
	answer := t.Execute(client.Call{Target: "customer-support.triage_ticket", Input: fields{"ticket": fields{"message": "Help!"}}, Headers: workflow})
	t.Is(answer, "status", "succeeded")
	t.Is(t.Do(http.MethodPost, "/api/v1/memory/get", fields{"key": "ticket_status"}, workflow...), "data", "triaged")
}

func givenConfiguration(t *Trial) {
	t.given("compose.txt")
	t.Is(t.Execute(client.Call{Target: "my-agent.where", Input: fields{}}), "result", t.api.Base)
}

// firstAgent makes an agent as a newcomer does and develops it beside a server that dev starts.
func (t *Trial) firstAgent() (dir, call string) {
	t.needPrograms()
	home, err := os.MkdirTemp("", "agentfield-first-")
	t.Must(err)
	t.atEnd(func() { _ = os.RemoveAll(home) })
	made := t.verb(home, "init", "my-first-agent")
	<-made.ended
	dir = filepath.Join(home, "my-first-agent")
	dev := t.verb(dir, "dev", "--port", "0")
	_, after, _ := strings.Cut(t.says(dev, "}'\n\n"), "curl -X POST ")
	url, rest, _ := strings.Cut(after, " ")
	_, body, _ := strings.Cut(rest, "-d '")
	body, _, _ = strings.Cut(body, "'\n")
	return dir, url + " " + body
}

// greet sends the command that dev has printed.
func (t *Trial) greet(call string) client.Answer {
	url, body, _ := strings.Cut(call, " ")
	base, path, _ := strings.Cut(url, "/api/")
	server := client.New(base)
	defer server.Close()
	answer, err := server.Do(t.ctx, http.MethodPost, "/api/"+path, []byte(body))
	t.Must(err)
	return answer
}

func firstMinutes(t *Trial) {
	began := time.Now()
	_, call := t.firstAgent()
	t.Is(t.greet(call), "result.greeting", "Hello, Alice!")
	t.Notef("from init to the first result in %.1f s", time.Since(began).Seconds())
}

func whatDevNeeds(t *Trial) {
	t.needPrograms()
	dir, err := os.MkdirTemp("", "agentfield-empty-")
	t.Must(err)
	t.atEnd(func() { _ = os.RemoveAll(dir) })
	t.says(t.verb(dir, "dev"), "agentfield.yaml is missing")
	t.Must(os.WriteFile(filepath.Join(dir, "agentfield.yaml"), []byte("name: a\n"), 0o600))
	t.says(t.verb(dir, "dev"), "main.py is missing")
}

func changesAreServedSoon(t *Trial) {
	dir, call := t.firstAgent()
	main := filepath.Join(dir, "main.py")
	text, err := os.ReadFile(main)
	t.Must(err)
	round := 0
	t.Within(2*time.Second, "from the change to the new code", func() time.Duration {
		round++
		greeting := fmt.Sprintf("Welcome %d, ", round)
		t.Must(os.WriteFile(main, bytes.ReplaceAll(text, []byte("Hello, "), []byte(greeting)), 0o600))
		began := time.Now()
		for t.greet(call).Text("result.greeting") != greeting+"Alice!" {
			t.Pause(20 * time.Millisecond)
		}
		return time.Since(began)
	})
}
