package conformance

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/sdk/go/agent"
)

// dag reads the graph of a run by any of its names.
func (t *Trial) dag(run string) client.Answer {
	answer := t.Do(http.MethodGet, "/api/v1/workflows/"+run+"/dag", nil)
	t.Status(answer, http.StatusOK)
	return answer
}

// edges are those of a graph as "from>to kind".
func edges(graph client.Answer) string {
	var all []string
	for i := range graph.List("edges") {
		at := "edges." + strconv.Itoa(i) + "."
		all = append(all, graph.Text(at+"from")+">"+graph.Text(at+"to")+" "+graph.Text(at+"kind"))
	}
	return strings.Join(all, ", ")
}

// givenChain is the sample of the reference as it stands there, with what it needs around it.
const givenChain = `
const customerMessage = 'This is the third time!', customerId = 'c_1';
// Step 1: Analyze sentiment
const sentiment = await fetch(
  'http://localhost:8080/api/v1/execute/support-agent.analyze_sentiment',
  {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'X-Workflow-ID': 'wf_123' },
    body: JSON.stringify({
      input: { message: customerMessage }
    })
  }
).then(r => r.json());

// Step 2: Route based on AI decision
if (sentiment.result.recommendation === 'escalate') {
  await fetch(
    'http://localhost:8080/api/v1/execute/escalation-agent.create_ticket',
    {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-Workflow-ID': 'wf_123' },
      body: JSON.stringify({
        input: {
          customer_id: customerId,
          sentiment: sentiment.result,
          priority: 'high'
        }
      })
    }
  );
}
`

// givenChainMakesARun runs the sample; only the address of the server is another.
func givenChainMakesARun(t *Trial) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("needs Node")
	}
	t.Own()
	t.Register(t.Instance("support-agent", fake.Function{Name: "analyze_sentiment", Serve: answering(`{"recommendation":"escalate"}`)}))
	escalation := t.Instance("escalation-agent", fake.Function{Name: "create_ticket", Serve: answering(`{"ticket":"t_1"}`)})
	t.Register(escalation)
	dir, err := os.MkdirTemp("", "prove-chain-")
	t.Must(err)
	t.atEnd(func() { _ = os.RemoveAll(dir) })
	script := filepath.Join(dir, "chain.mjs")
	t.Must(os.WriteFile(script, []byte(strings.ReplaceAll(givenChain, "http://localhost:8080", t.api.Base)), 0o600))
	out, err := exec.CommandContext(t.ctx, node, script).CombinedOutput()
	t.True(err == nil, "the sample to run through: %v %s", err, out)

	graph := t.dag("wf_123")
	first, second := graph.Text("timeline.0.execution_id"), graph.Text("timeline.1.execution_id")
	t.Is(graph, "root_workflow_id", "wf_123")
	t.Is(graph, "total_nodes", 2)
	t.Is(graph, "timeline.0.reasoner_id", "analyze_sentiment")
	t.Is(graph, "timeline.1.reasoner_id", "create_ticket")
	t.True(edges(graph) == first+">"+second+" sequence", "one edge from the first to the second, got %s", edges(graph))
	page := t.Do(http.MethodGet, "/runs/"+graph.Text("run_id"), nil, "Accept", "text/html")
	t.Status(page, http.StatusOK)
	for _, shown := range []string{"wf_123", "analyze_sentiment", "create_ticket", first, second} {
		t.True(strings.Contains(string(page.Body), shown), "the page of the run to show %s", shown)
	}
	seen := escalation.Arrivals("")
	t.True(len(seen) == 1 && seen[0].Header.Get("X-Workflow-ID") == "wf_123", "the header to reach the second agent")
}

// answering is a function that answers with a JSON text.
func answering(text string) func(*fake.Agent, http.ResponseWriter, *http.Request, fake.Arrival) {
	return func(_ *fake.Agent, w http.ResponseWriter, _ *http.Request, _ fake.Arrival) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(text))
	}
}

// headerMakesTheDAG needs nothing but the header: no parent, no session, no instrumentation.
func headerMakesTheDAG(t *Trial) {
	oneRunByWorkflowID(t)
	a, b := t.Agent(), t.Agent()
	workflow := "wf_dag_" + a.ID
	var ids []string
	for _, agent := range []*fake.Agent{a, b, a} {
		c := call(agent, "echo", fields{})
		c.Headers = []string{"X-Workflow-ID", workflow}
		ids = append(ids, t.End(t.Start(c)).Text("execution_id"))
	}
	graph := t.dag(workflow)
	t.Is(graph, "total_nodes", 3)
	t.Is(graph, "workflow_status", "succeeded")
	t.Is(graph, "dag.execution_id", ids[0])
	want := ids[0] + ">" + ids[1] + " sequence, " + ids[1] + ">" + ids[2] + " sequence"
	t.True(edges(graph) == want, "the three in their order, got %s", edges(graph))
	for _, other := range []string{"/api/v1/workflows/" + graph.Text("run_id") + "/dag", "/api/ui/v1/workflows/" + workflow + "/dag"} {
		same := t.Do(http.MethodGet, other, nil)
		t.True(string(same.Body) == string(graph.Body), "the same graph at %s, got %s", other, same)
	}
	t.Refused(t.Do(http.MethodGet, "/api/v1/workflows/nobody/dag", nil), http.StatusNotFound, "workflow_not_found")
}

// agentsMakeOneDAG: two agents, and a call of one by the other through the control plane.
func agentsMakeOneDAG(t *Trial) {
	childHasARow(t)
	a, b := t.Agent(), t.Agent()
	inner := fields{"target": b.Target("echo"), "input": fields{}}
	parent := t.Execute(call(a, "chain", fields{"target": b.Target("chain"), "input": inner}))
	t.Is(parent, "result.child.result.child_status", 200)
	graph := t.dag(parent.Text("run_id"))
	t.Is(graph, "total_nodes", 3)
	t.Is(graph, "max_depth", 2)
	root, middle, leaf := parent.Text("execution_id"), parent.Text("result.child.execution_id"), parent.Text("result.child.result.child.execution_id")
	t.Is(graph, "dag.execution_id", root)
	t.Is(graph, "dag.agent_node_id", a.ID)
	t.Is(graph, "dag.children.0.execution_id", middle)
	t.Is(graph, "dag.children.0.agent_node_id", b.ID)
	t.Is(graph, "dag.children.0.children.0.execution_id", leaf)
	t.Is(graph, "dag.children.0.children.0.parent_execution_id", middle)
	t.Is(graph, "dag.children.0.children.0.workflow_depth", 2)
	want := root + ">" + middle + " call, " + middle + ">" + leaf + " call"
	t.True(edges(graph) == want, "two calls, got %s", edges(graph))
	run := t.Do(http.MethodGet, "/api/ui/v2/workflow-runs/"+parent.Text("run_id"), nil)
	t.Is(run, "run.total_steps", 3)
	t.Is(run, "executions.2.parent_execution_id", middle)
}

// childrenAndTheirFailures is about single calls and about the graph they make.
func childrenAndTheirFailures(t *Trial) {
	agentsMakeOneDAG(t)
	failureOfAChild(t)
}

// contextWithoutIDs: a function of the SDK calls another and names no id at all.
func contextWithoutIDs(t *Trial) {
	b := t.Agent()
	name := "sdk-" + b.ID
	a, err := agent.New(agent.Config{NodeID: name, ServerURL: t.api.Base, Logger: slog.New(slog.DiscardHandler)})
	t.Must(err)
	a.Reasoner("ask", func(ctx context.Context, _ json.RawMessage) (any, error) {
		var heard map[string]any
		err := a.Call(ctx, b.Target("headers"), fields{}, &heard)
		return heard, err
	})
	t.runs(a)
	c := client.Call{Target: name + ".ask", Input: fields{}, Headers: []string{"X-Workflow-ID", "wf_" + name, "X-Session-ID", "s_1", "X-Actor-ID", "u_1"}}
	answer := t.Execute(c)
	t.Status(answer, http.StatusOK)
	t.Is(answer, "result.x-session-id", "s_1")
	t.Is(answer, "result.x-actor-id", "u_1")
	t.Is(answer, "result.x-parent-execution-id", answer.Text("execution_id"))
	t.Is(answer, "result.x-run-id", answer.Text("run_id"))
	graph := t.dag("wf_" + name)
	t.Is(graph, "total_nodes", 2)
	t.Is(graph, "dag.execution_id", answer.Text("execution_id"))
	t.Is(graph, "dag.children.0.agent_node_id", b.ID)
	t.Is(graph, "session_id", "s_1")
}

// lineageIsShown is the graph in every form, of a run with a failure, a parent that nobody knows and two roots.
func lineageIsShown(t *Trial) {
	a, b := t.Agent(), t.Agent()
	workflow := "wf_lineage_" + a.ID
	headers := []string{"X-Workflow-ID", workflow}
	with := func(c client.Call, more ...string) client.Call {
		c.Headers = append(append([]string{}, headers...), more...)
		return c
	}
	root := t.Execute(with(call(a, "chain", fields{"target": b.Target("fail"), "input": fields{"message": "out of tokens"}}))).Text("execution_id")
	second := t.Execute(with(call(a, "echo", fields{}))).Text("execution_id")
	lost := t.Execute(with(call(b, "echo", fields{}), "X-Parent-Execution-ID", "exec_nobody_"+a.ID)).Text("execution_id")
	graph := t.dag(workflow)
	t.Is(graph, "total_nodes", 4)
	t.Is(graph, "workflow_status", "failed")
	t.Is(graph, "run_status", "succeeded") // what failed was caught by the root
	t.Is(graph, "dag.children.0.status", "failed")
	t.Is(graph, "roots.0", root)
	t.Is(graph, "roots.1", second)
	t.Is(graph, "roots.2", lost)
	t.True(strings.HasSuffix(edges(graph), root+">"+second+" sequence"), "the two roots in sequence, and the orphan in none, got %s", edges(graph))
	light := t.Do(http.MethodGet, "/api/v1/workflows/"+workflow+"/dag?mode=lightweight", nil)
	t.Is(light, "mode", "lightweight")
	t.Lacks(light, "dag")
	for file, says := range map[string]string{"dag.mmd": "n0 --> n1", "dag.svg": "parent not recorded", "dag.txt": "└─ fail  failed"} {
		answer := t.Do(http.MethodGet, "/api/v1/workflows/"+workflow+"/"+file, nil)
		t.Status(answer, http.StatusOK)
		t.True(strings.Contains(string(answer.Body), says), "%s to say %q, got %s", file, says, answer.Body)
	}
	page := t.Do(http.MethodGet, "/runs/"+graph.Text("run_id"), nil, "Accept", "text/html")
	t.Status(page, http.StatusOK)
	for _, id := range []string{root, second, lost} {
		t.True(strings.Contains(string(page.Body), id), "the page of the run to lead to %s", id)
	}
}
