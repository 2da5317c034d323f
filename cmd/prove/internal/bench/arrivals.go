package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

// arrivals notes when the first webhook of each execution came.
type arrivals struct {
	url    string
	server *http.Server

	mu      sync.Mutex
	at      map[string]time.Time
	changed chan struct{}
}

func newArrivals() (*arrivals, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the webhook receiver: %w", err)
	}
	a := &arrivals{url: "http://" + listener.Addr().String() + "/hook", at: map[string]time.Time{}, changed: make(chan struct{}, 1)}
	a.server = &http.Server{Handler: http.HandlerFunc(a.take), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = a.server.Serve(listener) }()
	return a, nil
}

func (a *arrivals) close() { _ = a.server.Close() }

func (a *arrivals) take(_ http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var body struct {
		ExecutionID string `json:"execution_id"`
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		return
	}
	a.mu.Lock()
	if _, known := a.at[body.ExecutionID]; !known {
		a.at[body.ExecutionID] = now
	}
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// await returns when n executions have been announced.
func (a *arrivals) await(ctx context.Context, n int) (map[string]time.Time, error) {
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for {
		a.mu.Lock()
		at := maps.Clone(a.at)
		a.mu.Unlock()
		if len(at) >= n {
			return at, nil
		}
		select {
		case <-a.changed:
		case <-limit.C:
			return nil, fmt.Errorf("%d of %d webhooks arrived within 30 s", len(at), n)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
