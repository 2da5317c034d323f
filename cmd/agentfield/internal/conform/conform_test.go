package conform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/conform"
	"github.com/agentfield/agentfield/sdk/go/agent"
)

// faulty is an agent that keeps the contract, but for one fault.
type faulty struct {
	fault string
	plane string
	url   string
	life  context.Context
	work  sync.WaitGroup

	mu      sync.Mutex
	running map[string]chan struct{} // closed by a cancel
	busy    bool
}

func (f *faulty) has(fault string) bool { return f.fault == fault }

func (f *faulty) post(path, token string, body map[string]any) int {
	text, err := json.Marshal(body)
	if err != nil {
		return 0
	}
	request, err := http.NewRequestWithContext(f.life, http.MethodPost, f.plane+path, bytes.NewReader(text))
	if err != nil {
		return 0
	}
	request.Header.Set("X-Execution-Token", token)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// persist posts until it is taken.
func (f *faulty) persist(path, token string, body map[string]any, once bool) {
	for f.life.Err() == nil && f.post(path, token, body)/100 != 2 && !once {
	}
}

func (f *faulty) register() {
	if f.has("never registers") {
		return
	}
	id, base, functions := "faulty", f.url, []map[string]any{{"id": "work"}, {"id": "slow"}, {"id": "ask"}}
	switch f.fault {
	case "dots in its id":
		id = "faulty.agent"
	case "no address":
		base = "here"
	case "no functions":
		functions = nil
	case "a schema that is none":
		functions[0]["input_schema"] = "text"
	}
	f.persist("/api/v1/nodes/register", "", map[string]any{"id": id, "base_url": base, "reasoners": functions}, f.has("registers once"))
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	reply := func(status int, text string) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
	id, token := r.Header.Get("X-Execution-ID"), r.Header.Get("X-Execution-Token")
	switch path := r.URL.Path; {
	case path == "/status" && f.has("ill"):
		reply(500, `{}`)
	case path == "/status" && f.has("another node"):
		reply(200, `{"status":"running","node_id":"someone"}`)
	case path == "/status":
		reply(200, `{"status":"running","node_id":"faulty"}`)
	case strings.HasPrefix(path, "/_internal/"):
		f.cancel(id, reply)
	case !strings.HasPrefix(path, "/reasoners/"):
		reply(404, `{}`)
	case !json.Valid(body) && !f.has("takes anything"):
		reply(400, `{"error":"no JSON"}`)
	case path == "/reasoners/work":
		f.works(id, token, reply)
	case path == "/reasoners/slow":
		f.slow(id, reply)
	case path == "/reasoners/ask":
		f.ask(id, token, reply)
	case f.has("knows everything"):
		reply(200, `{}`)
	default:
		reply(404, `{"error":"unknown"}`)
	}
}

func (f *faulty) works(id, token string, reply func(int, string)) {
	f.mu.Lock()
	again, busy := f.running[id] != nil, f.busy
	f.running[id] = make(chan struct{})
	f.busy = f.has("one at a time")
	f.mu.Unlock()
	switch {
	case f.has("fails"):
		reply(500, `{"error":"no luck"}`)
		return
	case f.has("answers in prose"):
		reply(200, `Hello`)
		return
	case f.has("runs nothing twice") && again:
		reply(409, `{"error":"seen"}`)
		return
	case f.has("one at a time") && busy:
		reply(503, `{"error":"busy"}`)
		return
	case f.has("answers directly"), f.has("one at a time"):
		reply(200, `{"done":true}`)
		return
	}
	if f.has("forgets its token") {
		token = ""
	}
	f.work.Go(func() {
		f.persist("/api/v1/executions/"+id+"/status", token, map[string]any{"status": "completed", "result": []int{1}}, f.has("reports once"))
	})
	reply(202, `{}`)
}

func (f *faulty) cancel(id string, reply func(int, string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stop := f.running[id]
	switch {
	case f.has("trips over cancels"):
		reply(500, `{}`)
	case stop == nil:
		reply(404, `{}`)
	default:
		if !f.has("cannot stop") {
			close(stop)
			delete(f.running, id)
		}
		reply(200, `{"cancelled":true}`)
	}
}

func (f *faulty) slow(id string, reply func(int, string)) {
	stop := make(chan struct{})
	f.mu.Lock()
	f.running[id] = stop
	f.mu.Unlock()
	if !f.has("cannot stop") {
		select {
		case <-stop:
		case <-f.life.Done():
		}
		reply(500, `{"error":"cancelled"}`)
		return
	}
	reply(200, `{}`)
}

func (f *faulty) ask(id, token string, reply func(int, string)) {
	if f.has("asks nobody") {
		reply(200, `{}`)
		return
	}
	f.work.Go(func() {
		f.post("/api/v1/executions/"+id+"/request-approval", token, map[string]any{"callback_url": f.url + "/told"})
		for f.life.Err() == nil {
			request, err := http.NewRequestWithContext(f.life, http.MethodGet, f.plane+"/api/v1/executions/"+id+"/approval-status?wait=30s", nil)
			if err != nil {
				return
			}
			response, err := http.DefaultTransport.RoundTrip(request) //nolint:forbidigo // nothing about limits is tested here
			if err != nil {
				return
			}
			said, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if strings.Contains(string(said), `"approved"`) {
				f.persist("/api/v1/executions/"+id+"/status", token, map[string]any{"status": "succeeded"}, false)
				return
			}
		}
	})
	reply(202, `{}`)
}

// judge runs the check and returns the verdict of every row.
func judge(t *testing.T, fault string, patience time.Duration) map[string]conform.Row {
	t.Helper()
	life, end := context.WithCancel(t.Context())
	f := &faulty{fault: fault, life: life, running: map[string]chan struct{}{}}
	server := httptest.NewServer(f)
	f.url = server.URL
	defer func() {
		end()
		f.work.Wait()
		server.Close()
	}()
	rows, err := conform.Run(t.Context(), conform.Options{
		Listen: "127.0.0.1:0", AgentURL: server.URL, Slow: "slow", Pause: "ask", Patience: patience,
		Ready: func(plane string) error {
			f.plane = plane
			f.work.Go(f.register)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]conform.Row{}
	for _, r := range rows {
		if (r.Advice != "") != (r.Result == conform.Fail) {
			t.Errorf("%+v: a failure, and only that, needs an advice", r)
		}
		verdicts[r.ID] = r
	}
	return verdicts
}

func TestEveryRuleFindsItsFault(t *testing.T) {
	for fault, row := range map[string]string{
		"registers once": "register", "never registers": "register", "dots in its id": "describe", "no address": "describe", "no functions": "describe",
		"a schema that is none": "describe", "ill": "health", "another node": "health", "fails": "call", "answers in prose": "call",
		"forgets its token": "token", "reports once": "report", "one at a time": "parallel", "runs nothing twice": "again", "takes anything": "input",
		"knows everything": "unknown", "trips over cancels": "cancel", "cannot stop": "stop", "asks nobody": "pause",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			// What never comes is waited for in vain, so that patience is short here.
			if got := judge(t, fault, 2*time.Second)[row]; got.Result != conform.Fail {
				t.Errorf("%s: %+v", row, got)
			}
		})
	}
}

func TestAnAgentThatKeepsTheContractPasses(t *testing.T) {
	for _, way := range []string{"", "answers directly"} {
		verdicts := judge(t, way, 30*time.Second)
		for id, r := range verdicts {
			direct := way != "" && (id == "token" || id == "report")
			if want := map[bool]string{true: conform.Skip, false: conform.Pass}[direct || id == "goodbye"]; r.Result != want {
				t.Errorf("%s is %+v, want %s", id, r, want)
			}
		}
		if len(verdicts) != 15 {
			t.Errorf("there are %d rows", len(verdicts))
		}
	}
}

func TestAnAgentOfTheGoSDKPasses(t *testing.T) {
	life, end := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	rows, err := conform.Run(t.Context(), conform.Options{
		Listen: "127.0.0.1:0", Slow: "slow", Pause: "ask", Patience: 30 * time.Second, Stop: end,
		Ready: func(plane string) error {
			a, err := agent.New(agent.Config{NodeID: "sdk-agent", ServerURL: plane, ListenAddr: "127.0.0.1:0"})
			if err != nil {
				return err
			}
			agent.Handle(a, "greet", func(ctx context.Context, in struct {
				Name string `json:"name"`
			},
			) (map[string]string, error) {
				agent.Note(ctx, "somebody is greeted")
				return map[string]string{"greeting": "Hello, " + in.Name}, nil
			})
			agent.Handle(a, "slow", func(ctx context.Context, _ struct{}) (string, error) {
				<-ctx.Done()
				return "", ctx.Err()
			})
			agent.Handle(a, "ask", func(ctx context.Context, _ struct{}) (string, error) {
				decision, err := agent.Pause(ctx, agent.PauseRequest{Title: "May I?"})
				return fmt.Sprint(decision), err
			})
			go func() { stopped <- a.Run(life) }()
			return nil
		},
	})
	end()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	for _, r := range rows {
		if r.Result != conform.Pass && r.ID != "report" {
			t.Errorf("%+v", r)
		}
	}
}
