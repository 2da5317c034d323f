package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
	"github.com/agentfield/agentfield/sdk/go/agent"
)

// runs starts an agent of the SDK and ends it with the check.
func (t *Trial) runs(a *agent.Agent) {
	ctx, stop := context.WithCancel(t.ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.atEnd(func() {
		stop()
		if err := <-ended; err != nil && t.ctx.Err() == nil {
			t.Failf("the agent did not stop as told: %v", err)
		}
	})
	select {
	case <-a.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("the agent did not start: %v", err)
	}
}

// greeter runs an agent of the Go SDK with one function.
func (t *Trial) greeter(id, server string) {
	a, err := agent.New(agent.Config{NodeID: id, ServerURL: server, HeartbeatInterval: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	t.Must(err)
	a.Reasoner("greet", func(context.Context, json.RawMessage) (any, error) { return fields{"greeting": "hello"}, nil })
	t.runs(a)
}

// agentComesBack: after a restart of the server the agent is called as before. Behind the same address there is then a server that has
// never heard of it: its next heartbeat tells it so, and it registers again.
func agentComesBack(t *Trial) {
	s := t.Own()
	var behind atomic.Pointer[url.URL]
	point := func(address string) {
		to, err := url.Parse(address)
		t.Must(err)
		behind.Store(to)
	}
	point(s.URL)
	front := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(behind.Load()) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	})
	t.atEnd(front.Close)
	t.greeter("sdk-comes-back", front.URL)
	target := client.Call{Target: "sdk-comes-back.greet", Input: fields{}}
	t.Status(t.Execute(target), http.StatusOK)
	t.Must(s.Kill())
	t.Must(s.Restart(t.ctx))
	t.Is(t.Execute(target), "result.greeting", "hello")
	stranger, err := server.NewStore(t.ctx, "")
	t.Must(err)
	t.atEnd(func() { _ = stranger.Close() })
	point(t.OwnOn(stranger, "stranger").URL)
	for t.Do(http.MethodGet, "/api/v1/nodes/sdk-comes-back", nil).Status != http.StatusOK {
		t.Pause(50 * time.Millisecond)
	}
	t.Is(t.Execute(target), "result.greeting", "hello")
}

func agentsTellHowTheyAre(t *Trial) {
	id := "sdk-" + t.Instance("").ID
	t.greeter(id, t.api.Base)
	t.Status(t.Execute(client.Call{Target: id + ".greet", Input: fields{}}), http.StatusOK)
	own := client.New(t.Do(http.MethodGet, "/api/v1/nodes/"+id, nil).Text("base_url"))
	t.atEnd(own.Close)
	for path, says := range map[string]string{"/health": `"status"`, "/metrics": "# TYPE "} {
		answer, err := own.Do(t.ctx, http.MethodGet, path, nil)
		t.Must(err)
		t.Status(answer, http.StatusOK)
		t.True(strings.Contains(string(answer.Body), says), "%s of an agent to say %q", path, says)
	}
}

// agentsRestartAlone calls one agent all the time while another one goes and comes back at another address.
func agentsRestartAlone(t *Trial) {
	steady, restarts := t.Agent(), t.Agent()
	enough := make(chan struct{})
	var failed, done atomic.Int32
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			answer, err := t.api.Execute(t.ctx, call(steady, "echo", fields{}))
			if err != nil || answer.Text("status") != "succeeded" {
				failed.Add(1)
			}
			done.Add(1)
			select {
			case <-enough:
				return
			case <-t.ctx.Done():
				return
			default:
			}
		}
	}()
	for n := 0; n < 3 || done.Load() < 60; n++ {
		t.Status(t.Do(http.MethodPost, "/api/v1/nodes/"+restarts.ID+"/shutdown", fields{"reason": "shutdown"}), http.StatusAccepted)
		restarts.Close()
		restarts = t.Instance(restarts.ID)
		t.Register(restarts)
		t.Status(t.Execute(call(restarts, "echo", fields{})), http.StatusOK)
	}
	close(enough)
	<-finished
	t.True(failed.Load() == 0, "no failure beside an agent that restarts, got %d of %d", failed.Load(), done.Load())
	t.Notef("%d calls beside the restarts", done.Load())
}

// notesAreShown sends a note by header, by query and under both paths, and looks for it where people look.
func notesAreShown(t *Trial) {
	a := t.Agent()
	started := t.Submit(call(a, "later", fields{}))
	id, run := started.Text("execution_id"), started.Text("run_id")
	t.Until(id, "running")
	t.Status(t.Do(http.MethodPost, "/api/ui/v1/executions/note", fields{"message": "weighing the options", "tags": []string{"plan"}, "timestamp": 1.5, "agent_node_id": a.ID},
		"X-Execution-ID", id, "X-Run-ID", run, "X-Agent-Node-ID", a.ID), http.StatusOK)
	t.Status(t.Do(http.MethodPost, "/api/v1/executions/note?execution_id="+id, fields{"message": "found a way"}), http.StatusOK)
	t.Report(id, fields{"status": "succeeded"})
	t.Is(t.Do(http.MethodGet, "/api/v1/executions/"+id+"/notes", nil), "total", 2)
	for _, page := range []string{"/executions/" + id, "/runs/" + run + "?node=" + id} {
		t.shows(page, "weighing the options", "found a way")
	}
	graph := t.dag(run)
	t.Is(graph, "dag.notes_count", 2)
	t.Is(graph, "dag.latest_note.message", "found a way")
}

// tenAgents register in the forms of the three SDKs.
func tenAgents(t *Trial) {
	forms := []struct {
		path string
		more fields
	}{
		{"/api/v1/nodes/register", fields{
			"communication_config": fields{"protocols": []string{"http"}, "heartbeat_interval": "5s"}, "container": nil, "callback_candidates": []string{},
			"callback_discovery": fields{"mode": "python-sdk:auto"},
		}},
		{"/api/v1/nodes", fields{"metadata": fields{"sdk": fields{"language": "go"}, "tags": nil}, "last_heartbeat": "0001-01-01T00:00:00Z", "invocation_url": nil}},
		{"/api/v1/nodes/register", fields{"version": "", "public_url": "http://localhost", "tags": []string{"ts"}}},
	}
	agents := make([]*fake.Agent, 10)
	ids := make([]string, len(agents))
	for i := range agents {
		agents[i] = t.Instance("")
		ids[i] = agents[i].ID
		body := agents[i].Registration()
		maps.Copy(body, forms[i%len(forms)].more)
		t.Status(t.Do(http.MethodPost, forms[i%len(forms)].path, body), http.StatusCreated)
	}
	found := t.Do(http.MethodGet, "/api/v1/discovery/capabilities?reasoner=echo&agent_ids="+strings.Join(ids, ","), nil)
	t.Is(found, "total_agents", len(agents))
	t.Is(found, "total_reasoners", len(agents))
	t.Pool(len(agents), len(agents), func(i int) { t.Status(t.Execute(call(agents[i], "echo", fields{})), http.StatusOK) })
	if t.server == nil {
		for _, id := range ids {
			t.Do(http.MethodPost, "/api/v1/nodes/"+id+"/shutdown", nil)
		}
	}
}

func (t *Trial) remember(key string, data any, scope string, headers ...string) client.Answer {
	body := fields{"key": key, "data": data}
	if scope != "" {
		body["scope"] = scope
	}
	answer := t.Do(http.MethodPost, "/api/v1/memory/set", body, headers...)
	t.Status(answer, http.StatusOK)
	return answer
}

func (t *Trial) recall(key, scope string, headers ...string) client.Answer {
	body := fields{"key": key}
	if scope != "" {
		body["scope"] = scope
	}
	return t.Do(http.MethodPost, "/api/v1/memory/get", body, headers...)
}

func sessionsAreApart(t *Trial) {
	key := "greeting." + t.Instance("").ID
	a, b := []string{"X-Session-ID", "session-a-" + key}, []string{"X-Session-ID", "session-b-" + key}
	t.Is(t.remember(key, fields{"name": "Alice"}, "session", a...), "scope", "session")
	t.Is(t.recall(key, "session", a...), "data.name", "Alice")
	t.Status(t.recall(key, "session", b...), http.StatusNotFound)
	t.Status(t.recall(key, "", b...), http.StatusNotFound)
	t.Is(t.remember(key, "Bob", "session", b...), "data", "Bob")
	t.Is(t.recall(key, "session", a...), "data.name", "Alice")
	t.Status(t.Do(http.MethodPost, "/api/v1/memory/delete", fields{"key": key, "scope": "session"}, a...), http.StatusNoContent)
	t.Status(t.recall(key, "session", a...), http.StatusNotFound)
	t.Is(t.recall(key, "session", b...), "data", "Bob")
}

// memoryHasScopes writes one key in every scope and reads it with every set of headers.
func memoryHasScopes(t *Trial) {
	id := t.Instance("").ID
	key := "plan." + id
	headers := fields{"workflow": "X-Workflow-ID", "session": "X-Session-ID", "actor": "X-Actor-ID"}
	scopes := []string{"workflow", "session", "actor", "global"}
	with := func(those ...string) []string {
		var pairs []string
		for _, scope := range those {
			if name, ok := headers[scope].(string); ok {
				pairs = append(pairs, name, scope+"-"+id)
			}
		}
		return pairs
	}
	for _, scope := range scopes {
		t.remember(key, scope, scope, with(scopes...)...)
	}
	for i, scope := range scopes {
		t.Is(t.recall(key, "", with(scopes[i:]...)...), "data", scope) // the narrowest that there is
		t.Is(t.recall(key, scope, with(scopes...)...), "data", scope)  // the one that is named
	}
	t.Is(t.recall(key, "", "X-Workflow-ID", "other-"+id, "X-Actor-ID", "actor-"+id), "data", "actor") // a level without the key is passed over
	t.Status(t.recall(key, "session", "X-Session-ID", "other-"+id), http.StatusNotFound)
	alike := "session-" + id + ":" + key // looks like a key of another scope
	t.remember(alike, "alike", "actor", with("actor")...)
	t.Is(t.recall(key, "session", with("session")...), "data", "session")
	t.Status(t.recall(alike, "session", with("session")...), http.StatusNotFound)
	listed := t.Do(http.MethodGet, "/api/v1/memory/list?scope=actor", nil, with("actor")...)
	t.True(len(listed.List("")) == 2, "the two keys of the actor, got %s", listed)
	t.Status(t.Do(http.MethodPost, "/api/v1/memory/delete", fields{"key": key, "scope": "global"}), http.StatusNoContent)
	t.Is(t.recall(key, "", with("actor")...), "data", "actor")
}

// writersDoNotOverwrite counts to a hundred with eight writers that compare and set.
func writersDoNotOverwrite(t *Trial) {
	key := "count." + t.Instance("").ID
	session := []string{"X-Session-ID", key}
	first := t.Do(http.MethodPost, "/api/v1/memory/set", fields{"key": key, "data": 0}, append(session, "If-Match", "0")...)
	t.Status(first, http.StatusOK)
	t.Status(t.Do(http.MethodPost, "/api/v1/memory/set", fields{"key": key, "data": 7}, append(session, "If-Match", "0")...), http.StatusPreconditionFailed)
	t.Pool(8, 100, func(int) {
		for {
			now := t.recall(key, "", session...)
			version := strconv.Itoa(int(now.Number("version")))
			set := t.Do(http.MethodPost, "/api/v1/memory/set", fields{"key": key, "data": now.Number("data") + 1}, append(slices.Clone(session), "If-Match", version)...)
			if set.Status == http.StatusOK {
				return
			}
			t.Status(set, http.StatusPreconditionFailed)
		}
	})
	t.Is(t.recall(key, "", session...), "data", 100)
}

// sameOnBothDatabases tells the same story to a server on each and compares what every answer looks like.
func sameOnBothDatabases(t *Trial) {
	if t.bench.options.PostgresURL == "" {
		t.Skipf("compared in the table of PostgreSQL")
	}
	onPostgres := t.story()
	lite, err := server.NewStore(t.ctx, "")
	t.Must(err)
	t.atEnd(func() { _ = lite.Close() })
	t.OwnOn(lite, "lite")
	for i, onLite := range t.story() {
		t.True(onLite == onPostgres[i], "the same on both databases:\nSQLite     %s\nPostgreSQL %s", onLite, onPostgres[i])
	}
	t.Notef("%d answers compared", len(onPostgres))
}

// story is a bit of everything; it returns what the answers look like.
func (t *Trial) story() []string {
	a := t.Instance("")
	var told []string
	tell := func(answer client.Answer) client.Answer {
		told = append(told, answer.Request[:strings.IndexByte(answer.Request, ' ')]+" "+strconv.Itoa(answer.Status)+" "+formOf(answer))
		return answer
	}
	tell(t.Do(http.MethodPost, "/api/v1/nodes/register", a.Registration()))
	for _, function := range []string{"greet", "echo", "fail", "text", "nothing"} {
		tell(t.Execute(call(a, function, fields{"name": "Alice"})))
	}
	tell(t.Execute(call(a, "strict", fields{})))
	started := tell(t.TrySubmit(call(a, "later", fields{"n": 1.5})))
	id, run := started.Text("execution_id"), started.Text("run_id")
	t.Until(id, "running")
	tell(t.Do(http.MethodPost, "/api/ui/v1/executions/note", fields{"message": "n", "tags": []string{"a"}}, "X-Execution-ID", id))
	tell(t.Do(http.MethodPost, "/api/v1/executions/"+id+"/logs", fields{"message": "m", "agent_node_id": a.ID}))
	tell(t.Do(http.MethodPost, "/api/v1/workflow/executions/events", fields{"execution_id": "inner-" + a.ID, "run_id": run, "parent_execution_id": id, "status": "succeeded"}))
	tell(t.Do(http.MethodPost, "/api/v1/executions/"+id+"/request-approval", fields{"approval_request_id": "ask-" + a.ID}))
	tell(t.Get(id))
	tell(t.Do(http.MethodPost, "/api/v1/webhooks/approval", fields{"approval_request_id": "ask-" + a.ID, "decision": "approved"}))
	tell(t.Report(id, fields{"status": "succeeded", "result": []any{1, nil, fields{"a": "b"}}}))
	for range 500 { // what calls have shown of an instance is written down a moment later
		if t.Do(http.MethodGet, "/api/v1/nodes/"+a.ID, nil).Text("health_status") == "active" {
			break
		}
		t.Pause(20 * time.Millisecond)
	}
	for _, path := range []string{
		"/executions/" + id, "/executions/" + id + "/events", "/executions/" + id + "/approval-status", "/executions?status=failed&node=" + a.ID, "/executions/nobody", "/workflows/" + run + "/dag",
		"/nodes/" + a.ID, "/nodes/" + a.ID + "/status", "/discovery/capabilities?agent=" + a.ID, "/executions?q=status%3A", "/executions/" + id + "/logs", "/executions/" + id + "/notes",
	} {
		tell(t.Do(http.MethodGet, "/api/v1"+path, nil))
	}
	tell(t.Do(http.MethodPost, "/api/v1/executions/"+id+"/cancel", nil))
	return told
}

// formOf is a body with every value replaced by its kind; words that are no ids are kept.
func formOf(answer client.Answer) string {
	var body any
	if json.Unmarshal(answer.Body, &body) != nil {
		return "no JSON"
	}
	text, err := json.Marshal(form(body, ""))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func form(value any, key string) any {
	switch v := value.(type) {
	case map[string]any:
		formed := map[string]any{}
		for name, member := range v {
			formed[name] = form(member, name)
		}
		return formed
	case []any:
		formed := make([]any, len(v))
		for i, item := range v {
			formed[i] = form(item, key)
		}
		return formed
	case string:
		if slices.Contains([]string{"status", "code", "error", "type", "decision", "health_status", "lifecycle_status", "error_category"}, key) {
			return v
		}
	}
	return fmt.Sprintf("%T", value)
}
