package api_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func serving(name string, serve func(w http.ResponseWriter, r *http.Request)) apptest.Function {
	return apptest.Function{Name: name, Serve: func(w http.ResponseWriter, r *http.Request, _ apptest.Call) { serve(w, r) }}
}

func TestMisbehavingAgentsGetTheRightStatus(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		var sent atomic.Int64
		agent := r.Agent(t, "demo", apptest.Hanging("hang"), apptest.Taking("take"),
			serving("huge", func(w http.ResponseWriter, _ *http.Request) {
				chunk := []byte(strings.Repeat("x", 1<<20))
				for range 100 {
					n, err := w.Write(chunk)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			}),
			serving("drip", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, `{"half":`)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}),
			serving("broken", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				_, _ = io.WriteString(w, `{"half": `)
			}),
			serving("redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/reasoners/hang", http.StatusFound) }),
			serving("slam", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			serving("cut", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, `{"half":`)
				panic(http.ErrAbortHandler)
			}),
			serving("text", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain words") }),
			serving("bytes", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0xff, 0xfe, 0x00}) }),
			serving("empty", func(http.ResponseWriter, *http.Request) {}),
			serving("nocontent", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
			serving("page", func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "<html>\x00\xff no</html>", http.StatusBadGateway)
			}),
			apptest.JSON("list", 200, `[1,"two",null]`), apptest.JSON("number", 200, ` 1.50 `), apptest.JSON("null", 200, `null`),
		)
		const limit = `,"timeout_seconds":0.3`
		for _, tc := range []struct {
			function, more string
			status         int // of the synchronous call
			row            string
			must           map[string]string
		}{
			{"hang", limit, 504, "timeout", map[string]string{"code": "agent_timeout", "error_category": "agent_timeout"}},
			{"drip", limit, 504, "timeout", map[string]string{"code": "agent_timeout"}},
			{"huge", "", 200, "failed", map[string]string{"code": "bad_response", "error_category": "bad_response", "error": "^the agent's answer is larger than"}},
			{"broken", "", 200, "failed", map[string]string{"code": "bad_response", "error": "^the agent's answer claims to be JSON"}},
			{"bytes", "", 200, "failed", map[string]string{"code": "bad_response"}},
			{"redirect", "", 200, "failed", map[string]string{"code": "bad_response", "error": "^.*redirect.*302"}},
			{"slam", "", 200, "failed", map[string]string{"code": "agent_disconnected", "error_category": "bad_response"}},
			{"cut", "", 200, "failed", map[string]string{"code": "agent_disconnected"}},
			{"page", "", 200, "failed", map[string]string{"code": "agent_error", "error": "^agent error \\(502\\): <html>"}},
			{"text", "", 200, "succeeded", map[string]string{"result": "plain words"}},
			{"empty", "", 200, "succeeded", map[string]string{"result": ""}},
			{"nocontent", "", 200, "succeeded", map[string]string{"result": ""}},
			{"list", "", 200, "succeeded", map[string]string{"result": `[1,"two",null]`}},
			{"number", "", 200, "succeeded", map[string]string{"result": "1.50"}},
			{"null", "", 200, "succeeded", map[string]string{"result": ""}},
		} {
			t.Run(tc.function, func(t *testing.T) {
				answer := scenario{
					ask: "POST /api/v1/execute/demo." + tc.function, body: `{"input":{}` + tc.more + `}`, status: tc.status, must: tc.must, row: tc.row,
					events: []string{"running", tc.row},
				}.run(t, r)
				if tc.status == http.StatusOK && !answer.Has("result") {
					t.Errorf("a 200 without the key result: %s", answer.Body)
				}
				same := r.Ended(t, r.Submit(t, "demo."+tc.function, `{"input":{}`+tc.more+`}`))
				if same.Text("status") != tc.row {
					t.Errorf("the same asynchronously: %s", same.Body)
				}
			})
		}
		if n := sent.Load(); n > 60<<20 {
			t.Errorf("the server took %d MB of two answers of 100 MB", n>>20)
		}
		agent.Close()
		gone := scenario{
			ask: "POST /api/v1/execute/demo.list", body: `{}`, status: http.StatusBadGateway, must: map[string]string{
				"error": "Agent unreachable", "code": "agent_unreachable", "error_category": "agent_unreachable", "execution_id": execID, "run_id": runID,
				"details": "^no instance of demo can be reached", "request_id": some,
			},
			never: []string{"result"}, row: "failed", events: []string{"running", "failed"},
		}.run(t, r)
		if gone.Header.Get("X-Execution-ID") != gone.Text("execution_id") {
			t.Errorf("headers: %v", gone.Header)
		}
	}, func(c *config.Config) { c.ResultLimit = 1 << 20 })
}

func TestWorkForAnAgentThatIsAwayIsPending(t *testing.T) {
	each(t, func(t *testing.T, r *apptest.Rig) {
		agent := r.Agent(t, "demo", apptest.Echo("echo"))
		r.Do(t, http.MethodPost, "/api/v1/nodes/demo/shutdown", `{"reason":"deploy"}`)
		accepted := scenario{
			ask: "POST /api/v1/execute/async/demo.echo", body: `{"input":{"n":1}}`, status: http.StatusAccepted, must: map[string]string{"status": "pending"},
			row: "pending", events: []string{"pending"},
		}.run(t, r)
		id := accepted.Text("execution_id")
		if pending := r.Get(t, id); pending.Text("status") != "pending" || pending.Has("waiting_for") || pending.Header.Get("Retry-After") == "" {
			t.Errorf("C6: %s", pending.Body)
		}
		agent.Register(t, r)
		if ended := r.Ended(t, id); ended.Text("result/n") != "1" {
			t.Errorf("after it came back: %s", ended.Body)
		}
		scenario{ask: "GET /api/v1/executions/" + id, status: 200, events: []string{"pending", "queued", "running", "succeeded"}}.run(t, r)
	})
}
