package api_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
)

// lines is a log that a test can read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) with(words ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for line := range strings.Lines(l.text.String()) {
		has := true
		for _, w := range words {
			has = has && strings.Contains(line, w)
		}
		if has {
			n++
		}
	}
	return n
}

// One id finds everything about an execution: its requests, its attempts, what its agent logged and noted, and its webhooks.
func TestOneIDFindsEverything(t *testing.T) {
	written := &lines{}
	log := slog.New(slog.NewTextHandler(written, &slog.HandlerOptions{Level: slog.LevelDebug}))
	t.Parallel()
	r := apptest.NewLogging(t, log)
	hook := apptest.NewReceiver(t)
	agent := r.Agent(t, "demo", apptest.Taking("take"))
	call := taken(t, r, agent, `{"webhook":{"url":"`+hook.URL+`"}}`)
	id := call.ExecutionID
	r.Do(t, http.MethodPost, "/api/v1/executions/"+id+"/logs", `{"message":"m","agent_node_id":"demo"}`)
	r.Do(t, http.MethodPost, "/api/v1/executions/note", `{"message":"n"}`, "X-Execution-ID", id)
	wrong := r.Do(t, http.MethodPost, "/api/v1/executions/"+id+"/status", `{"status"`, "X-Request-ID", "req_wrong")
	if wrong.Text("execution_id") != id {
		t.Errorf("the refusal does not name the execution: %s", wrong.Body)
	}
	report(t, r, call, `{"status":"succeeded"}`)
	hook.Got(t, 1)
	for _, words := range [][]string{
		{"path=/api/v1/execute/async/demo.take", "status=202", "execution_id=" + id},
		{"path=/api/v1/executions/note", "status=200", "execution_id=" + id},
		{"/logs", "status=202", "execution_id=" + id},
		{"status=400", "request_id=req_wrong", "execution_id=" + id, "duration_ms="},
		{"/status", "status=200", "execution_id=" + id},
	} {
		if n := written.with(append(words, "msg=request")...); n != 1 {
			t.Errorf("%d lines with %v", n, words)
		}
	}
	for _, table := range []string{"events", "execution_logs", "webhook_registrations", "webhook_deliveries"} {
		if n := r.Store.Value(t, "SELECT count(*) FROM "+table+" WHERE execution_id = $1", id); n == "0" {
			t.Errorf("%s does not know it", table)
		}
	}
}
