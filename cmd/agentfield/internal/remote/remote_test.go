package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// scripted answers the n-th request with the n-th handler, all further ones with the last.
func scripted(t *testing.T, handlers ...http.HandlerFunc) *remote.Server {
	t.Helper()
	var mu sync.Mutex
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		handle := handlers[min(n, len(handlers)-1)]
		n++
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	return &remote.Server{Base: server.URL, HTTP: server.Client(), FirstPause: time.Millisecond}
}

func stream(texts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Join(texts, "")) }
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func TestAStreamComesBackBehindTheLastEventThatWasTaken(t *testing.T) {
	var asked []string
	note := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.Query().Get("after"))
			next(w, r)
		}
	}
	s := scripted(t,
		note(stream("retry: 5\n: hello\n\nid: 1\ndata: one\n\n", "id: 2\nevent: big\ndata: two\ndata: lines\n\n", "id: 3\ndata: cut off")),
		note(status(http.StatusServiceUnavailable, `{"error":"Shutting down"}`)),
		note(stream("id: 3\ndata: three\n\nid: 4\ndata: four\n\n")),
	)
	last, lost := "", 0
	var got []string
	err := s.Follow(t.Context(), remote.Follow{
		Next: func() remote.Request {
			return remote.Request{Path: "/events", Query: map[string][]string{"after": {last}}}
		},
		Take: func(e remote.Event) (bool, error) {
			last = e.ID
			got = append(got, fmt.Sprintf("%s %s %q", e.ID, e.Name, e.Data))
			return e.ID == "4", nil
		},
		Lost: func(error, time.Duration) { lost++ },
	})
	want := `[1  "one" 2 big "two\nlines" 3  "three" 4  "four"]`
	if err != nil || fmt.Sprint(got) != want || fmt.Sprint(asked) != "[ 2 2]" || lost != 2 {
		t.Errorf("got %v, asked behind %q, lost %d times: %v", got, asked, lost, err)
	}
}

func TestAStreamEndsWhereAskingAgainIsUseless(t *testing.T) {
	for name, c := range map[string]struct {
		handlers []http.HandlerFunc
		want     string
	}{
		"nothing more will come":       {[]http.HandlerFunc{stream("data: a\n\n"), status(http.StatusNoContent, "")}, ""},
		"it is refused":                {[]http.HandlerFunc{status(http.StatusNotFound, `{"error":"not there","code":"gone"}`)}, "not there (gone)"},
		"it is refused later":          {[]http.HandlerFunc{stream("data: a\n\n"), status(http.StatusForbidden, `{"error":"no"}`)}, "no"},
		"it is not there at the start": {[]http.HandlerFunc{status(http.StatusBadGateway, "proxy")}, "HTTP 502: proxy"},
	} {
		t.Run(name, func(t *testing.T) {
			err := scripted(t, c.handlers...).Follow(t.Context(), remote.Follow{
				Next: func() remote.Request { return remote.Request{Path: "/events"} },
				Take: func(remote.Event) (bool, error) { return false, nil },
			})
			if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
				t.Errorf("it ends with %v, want %q", err, c.want)
			}
		})
	}
}

func TestWhatTakesTheEventsMayEndTheStream(t *testing.T) {
	full := errors.New("the disk is full")
	err := scripted(t, stream("data: a\n\ndata: b\n\n")).Follow(t.Context(), remote.Follow{
		Next: func() remote.Request { return remote.Request{Path: "/events"} },
		Take: func(remote.Event) (bool, error) { return false, full },
	})
	if !errors.Is(err, full) {
		t.Errorf("it ends with %v", err)
	}
}

func TestAStreamEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := scripted(t, stream("data: a\n\n")).Follow(ctx, remote.Follow{
		Next: func() remote.Request { return remote.Request{Path: "/events"} },
		Take: func(remote.Event) (bool, error) { return false, nil },
		Lost: func(error, time.Duration) { cancel() },
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
}

func TestARefusalIsOneSentenceWithTheWordsThatFindIt(t *testing.T) {
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != "k" {
			t.Error("the key is missing")
		}
		w.Header().Set("Retry-After", "7")
		status(http.StatusServiceUnavailable, `{"error":"Queue full","message":"5 wait","code":"queue_full","request_id":"req_1"}`)(w, r)
	})
	s.Key = "k"
	_, err := s.Post(t.Context(), remote.Path("execute", "a/b"), map[string]any{})
	if got := fmt.Sprint(err); got != "Queue full: 5 wait; try again in 7s (queue_full, req_1)" {
		t.Errorf("it says %q", got)
	}
	if remote.Final(err) || !remote.Final(&remote.Refusal{Status: http.StatusBadRequest}) || remote.Missing(err) {
		t.Error("a full queue is not for ever, a bad request is")
	}
}

func TestWordsOfAPathAreEscaped(t *testing.T) {
	if got := remote.Path("runs", "a/b c"); got != "/api/v1/runs/a%2Fb%20c" {
		t.Errorf("the path is %s", got)
	}
}
