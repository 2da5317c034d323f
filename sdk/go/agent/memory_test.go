package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/sdk/go/agent/agenttest"
)

func TestMemoryIsAskedForTheExecution(t *testing.T) {
	plane := agenttest.New(t)
	plane.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/api/v1/memory/get":
			agenttest.Reply(w, http.StatusOK, map[string]any{"key": "k", "data": map[string]any{"n": 1}, "scope": "session", "scope_id": "s"})
		case "/api/v1/memory/set", "/api/v1/memory/delete":
			agenttest.Reply(w, http.StatusOK, map[string]any{})
		case "/api/v1/memory/list":
			page := []any{map[string]any{"key": "a", "data": 1}, map[string]any{"key": "b", "data": 2}}
			if r.URL.Query().Get("after") == "b" {
				page = []any{map[string]any{"key": "c", "data": 3}}
			} else if r.URL.Query().Get("after") == "c" {
				page = []any{}
			}
			agenttest.Reply(w, http.StatusOK, page)
		default:
			return false
		}
		return true
	})
	a := newAgent(t, plane, Config{NodeID: "n"})
	a.Reasoner("f", func(ctx context.Context, _ json.RawMessage) (any, error) {
		m := a.Memory(Session)
		var got struct{ N int }
		if err := m.Get(ctx, "k", &got); err != nil || got.N != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
		if err := errors.Join(m.Set(ctx, "k", []int{1}), a.Memory(Anywhere).Delete(ctx, "k")); err != nil {
			t.Error(err)
		}
		all, err := m.List(ctx)
		if err != nil || len(all) != 3 || all[2].Key != "c" {
			t.Errorf("%+v, %v", all, err)
		}
		return "done", nil
	})
	start(t, a)
	wantAnswer(t, plane.Dispatch(t.Context(), "n.f", `{}`, "exec_1", 1, "X-Session-ID", "s", "X-Execution-Token", "tok"), 200, `"done"`)
	set := plane.AwaitRequest("POST", "/api/v1/memory/set", 1)
	if got := asJSON(t, set.Body); got != `{"data":[1],"key":"k","scope":"session"}` {
		t.Errorf("sent %s", got)
	}
	for name, want := range map[string]string{"X-Session-ID": "s", "X-Execution-ID": "exec_1", "X-Execution-Token": "tok"} {
		if got := set.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := asJSON(t, plane.AwaitRequest("POST", "/api/v1/memory/delete", 1).Body); got != `{"key":"k"}` {
		t.Errorf("sent %s", got)
	}
	if list := plane.AwaitRequest("GET", "/api/v1/memory/list", 1); !strings.Contains(list.Path, "scope=session") {
		t.Errorf("asked %s", list.Path)
	}
}

func TestMemorySaysWhatIsMissing(t *testing.T) {
	plane := agenttest.New(t)
	code := "not_found"
	plane.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/api/v1/memory") {
			return false
		}
		agenttest.Reply(w, http.StatusNotFound, map[string]any{"error": "no", "code": code})
		return true
	})
	a := newAgent(t, plane, Config{NodeID: "n"})
	if err := a.Memory(Global).Get(t.Context(), "k", new(int)); !errors.Is(err, ErrNoMemory) {
		t.Errorf("got %v", err)
	}
	if err := a.Memory(Global).Delete(t.Context(), "k"); err != nil {
		t.Errorf("got %v", err)
	}
	code = "endpoint_not_found"
	if err := a.Memory(Global).Set(t.Context(), "k", 1); !errors.Is(err, ErrMemoryUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestRoutersPutTheirPrefixBeforeNames(t *testing.T) {
	plane := agenttest.New(t)
	a := newAgent(t, plane, Config{NodeID: "n"})
	support := a.Router("support-team", "people")
	Handle(support, "greet", func(_ context.Context, in struct {
		Name string `json:"name"`
	},
	) (string, error) {
		return "Hello, " + in.Name, nil
	}, Tags("kind"))
	support.Router("/eu/").Skill("vat", func(context.Context, json.RawMessage) (any, error) { return 19, nil })
	start(t, a)
	wantAnswer(t, plane.Dispatch(t.Context(), "n.support_team_greet", `{"name":"Ada"}`, "exec_1", 1), 200, `"Hello, Ada"`)
	registered := plane.AwaitRequest("POST", "/api/v1/nodes", 1)
	for _, want := range []string{`"id":"support_team_greet"`, `"tags":["people","kind"]`, `"id":"support_team_eu_vat"`} {
		if got := asJSON(t, registered.Body); !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}
