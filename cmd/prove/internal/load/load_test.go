package load_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/load"
)

func TestRunSendsEveryRequestOnceAndCountsBadAnswersApart(t *testing.T) {
	var seen atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		if r.URL.Path == "/7" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(server.Close)
	result := load.Run(t.Context(), load.Plan{
		URL: server.URL, Clients: 4, Total: 50,
		Next: func(n int) load.Request {
			if n == 7 {
				return load.Request{Method: http.MethodGet, Path: "/7"}
			}
			return load.Request{Method: http.MethodPost, Path: "/", Body: []byte(`{}`)}
		},
		Take: func(_, status int, _ []byte) bool { return status == http.StatusOK },
	})
	if seen.Load() != 50 || len(result.Took) != 49 || result.Failed != 1 || result.Check() == nil {
		t.Errorf("sent %d, good %d, bad %d: %s", seen.Load(), len(result.Took), result.Failed, result.First)
	}
}

func TestRunEndsWithItsTime(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	result := load.Run(t.Context(), load.Plan{
		URL: server.URL, Clients: 2, For: 50 * time.Millisecond,
		Next: func(int) load.Request { return load.Request{Method: http.MethodGet, Path: "/"} },
		Take: func(_, status int, _ []byte) bool { return status == http.StatusOK },
	})
	if err := result.Check(); err != nil || result.PerSecond() <= 0 || result.Lasted < 50*time.Millisecond {
		t.Errorf("got %v after %s: %v", result.PerSecond(), result.Lasted, err)
	}
}
