package conformance

import (
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
)

// otherLanguages: agents without any SDK, in plain shell and in plain Node, each a process of its own. The one in shell asks a person.
func otherLanguages(t *Trial) {
	t.foreign("node-agent", "node", "examples/node/agent.mjs")
	t.foreign("shell-agent", "sh", "examples/shell/agent.sh")
	t.Is(t.Execute(client.Call{Target: "node-agent.greet", Input: fields{"name": "Alice"}}), "result.greeting", "Hello, Alice!")
	t.Is(t.Execute(client.Call{Target: "shell-agent.greet", Input: fields{"name": "Alice"}}), "result.you_said.name", "Alice")
	id := t.Start(client.Call{Target: "shell-agent.decide", Input: fields{"amount": 12}})
	asked := t.Until(id, "waiting").Text("approval_request_id")
	decided := t.Do(http.MethodPost, "/api/v1/webhooks/approval", fields{"approval_request_id": asked, "decision": "approved", "feedback": "go ahead"})
	t.Status(decided, http.StatusOK)
	done := t.End(id)
	t.Is(done, "status", "succeeded")
	t.Is(done, "result.feedback", "go ahead")
	nodes := t.Do(http.MethodGet, "/api/v1/discovery/capabilities?agent_ids=node-agent,shell-agent", nil)
	t.Is(nodes, "total_agents", 2)
}

// foreign runs an example beside the server until the check ends, and waits until it has registered.
func (t *Trial) foreign(node, program, source string) {
	if _, err := os.Stat(source); err != nil {
		t.Skipf("needs %s, in the directory of the sources", source)
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s", program)
	}
	cmd := exec.Command(program, source) //nolint:gosec,noctx // one of our own examples; it is ended with the check
	cmd.Env = append(os.Environ(), "AGENTFIELD_SERVER="+t.api.Base, "PORT="+t.freePort())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it starts goes with it
	t.Must(cmd.Start())
	t.atEnd(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	for t.Do(http.MethodGet, "/api/v1/nodes/"+node, nil).Status != http.StatusOK {
		t.Pause(50 * time.Millisecond)
	}
}

func (t *Trial) freePort() string {
	l, err := (&net.ListenConfig{}).Listen(t.ctx, "tcp", "127.0.0.1:0")
	t.Must(err)
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	t.Must(err)
	return port
}
