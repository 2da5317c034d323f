package api_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

// What agents of the three published SDKs send, request by request and as they send it, and everything that they read of the answers. The
// tables are written from the protocol (wire.md) and say nothing else; what a request changes is the business of other tests.

// exchange is one request of an SDK.
type exchange struct {
	does   string            // what the SDK is about
	ask    string            // method and path; $names stand for what is known by then
	header []string          // besides those that the SDK sends with everything
	body   string            // "": none
	status int               // what the SDK takes for an answer
	reads  map[string]string // every member that it reads: path → value, as in scenario
	heads  map[string]string // headers that it reads
	lacks  []string          // members that would mislead it
	keeps  map[string]string // what it goes on with: name → path
}

// peer is an agent of one SDK that talks to the server.
type peer struct {
	*apptest.Agent

	rig    *apptest.Rig
	always []string
	known  map[string]string
}

const (
	sharedKey      = "key-of-all-agents"
	approvalSecret = "secret-of-the-approval-hub"
)

// asAgents runs fn against a server that demands the shared key, as published agents are deployed.
func asAgents(t *testing.T, fn func(t *testing.T, r *apptest.Rig)) {
	t.Helper()
	each(t, fn, func(c *config.Config) {
		c.APIKey, c.ApprovalWebhookSecret, c.ServerlessAllowedHosts = sharedKey, approvalSecret, []string{"*.lambda.example"}
	})
}

func newPeer(t *testing.T, r *apptest.Rig, id string, always []string, functions ...apptest.Function) *peer {
	t.Helper()
	p := &peer{Agent: apptest.NewAgent(t, id, functions...), rig: r, always: always, known: map[string]string{"node": id}}
	p.known["url"] = p.URL
	p.known["port"] = p.URL[strings.LastIndex(p.URL, ":")+1:]
	return p
}

// plays sends the requests one after the other.
func (p *peer) plays(t *testing.T, story []exchange) {
	t.Helper()
	for _, x := range story {
		if !t.Run(x.does, func(t *testing.T) { p.play(t, x) }) {
			t.FailNow() // what follows goes on with this
		}
	}
}

func (p *peer) play(t *testing.T, x exchange) {
	t.Helper()
	method, path, _ := strings.Cut(p.fill(t, x.ask), " ")
	headers := append([]string{}, p.always...)
	for _, h := range x.header {
		headers = append(headers, p.fill(t, h))
	}
	var body any
	if x.body != "" {
		body = p.fill(t, x.body)
	}
	answer := p.rig.Do(t, method, path, body, headers...)
	if answer.Status != x.status {
		t.Fatalf("%s %s answered %d, not %d: %s", method, path, answer.Status, x.status, answer.Body)
	}
	hasAll(t, answer, p.expected(t, x.reads))
	for name, want := range p.expected(t, x.heads) {
		hasAll(t, apptest.Answer{Body: []byte(`{"header":` + quoted(answer.Header.Get(name)) + `}`)}, map[string]string{"header": want})
	}
	for _, key := range x.lacks {
		if answer.At(key) != nil {
			t.Errorf("the answer has %q: %s", key, answer.Body)
		}
	}
	for name, at := range x.keeps {
		if p.known[name] = answer.Text(at); p.known[name] == "" {
			t.Errorf("there is no %s to go on with: %s", at, answer.Body)
		}
	}
}

func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// fill puts in what is known by now.
func (p *peer) fill(t *testing.T, text string) string {
	t.Helper()
	return os.Expand(text, func(name string) string {
		value, ok := p.known[name]
		if !ok {
			t.Fatalf("nothing is known as %q", name)
		}
		return value
	})
}

// expected leaves patterns as they are: a $ is their own.
func (p *peer) expected(t *testing.T, values map[string]string) map[string]string {
	t.Helper()
	filled := map[string]string{}
	for path, want := range values {
		if !strings.HasPrefix(want, "^") {
			want = p.fill(t, want)
		}
		filled[p.fill(t, path)] = want
	}
	return filled
}

// isCalled lets somebody call a function of the agent and waits for the call to arrive. What the agent learns from it is known afterwards.
func (p *peer) isCalled(t *testing.T, function, body string, headers ...string) apptest.Call {
	t.Helper()
	started := p.rig.Do(t, http.MethodPost, "/api/v1/execute/async/"+p.ID+"."+function, body, append([]string{"X-API-Key", sharedKey}, headers...)...)
	if started.Status != http.StatusAccepted {
		t.Fatalf("call %s: %d %s", function, started.Status, started.Body)
	}
	call := p.Called(t, started.Text("execution_id"), 1)
	p.known["exec"], p.known["run"], p.known["workflow"] = call.ExecutionID, call.Header.Get("X-Run-ID"), call.Header.Get("X-Workflow-ID")
	return call
}

// gets checks the headers with which a call reached the agent.
func (p *peer) gets(t *testing.T, call apptest.Call, headers map[string]string) {
	t.Helper()
	for name, want := range headers {
		if got := call.Header.Get(name); got != p.fill(t, want) {
			t.Errorf("the agent got %s %q, not %q", name, got, p.fill(t, want))
		}
	}
}

// ends waits for the end of an execution.
func (p *peer) ends(t *testing.T, id string, must map[string]string) {
	t.Helper()
	known := ""
	for range 100 {
		answer := p.rig.Do(t, http.MethodGet, "/api/v1/executions/"+p.known[id]+"?wait=10s&status="+known, nil, "X-API-Key", sharedKey)
		switch known = answer.Text("status"); known {
		case "succeeded", "failed", "timeout", "cancelled":
			hasAll(t, answer, must)
			return
		case "":
			t.Fatalf("the execution cannot be read: %d %s", answer.Status, answer.Body)
		}
	}
	t.Fatalf("the execution does not end: it is %s", known)
}

// isDecided lets the approval hub decide, as hubs sign (wire.md 3.11).
func (p *peer) isDecided(t *testing.T, header, body string) apptest.Answer {
	t.Helper()
	body = p.fill(t, body)
	mac := hmac.New(sha256.New, []byte(approvalSecret))
	mac.Write([]byte(body))
	signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	return p.rig.Do(t, http.MethodPost, "/api/v1/webhooks/approval-response", body, header, signature)
}
