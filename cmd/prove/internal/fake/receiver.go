package fake

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Delivery is one webhook as it arrived.
type Delivery struct {
	At     time.Time
	Header http.Header
	Body   []byte
	Answer int // the status it was answered with
}

// Field is a text of the JSON body, empty when there is none.
func (d Delivery) Field(name string) string {
	var body map[string]any
	if json.Unmarshal(d.Body, &body) != nil {
		return ""
	}
	text, _ := body[name].(string)
	return text
}

// Signed is what the documented handler computes: does the signature fit these bytes and this secret?
func Signed(secret, signature string, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal([]byte(signature), []byte("sha256="+hex.EncodeToString(mac.Sum(nil))))
}

// Receiver takes webhooks and records every one with its headers and bytes. Each Hook is one address of it.
type Receiver struct {
	URL    string
	server *http.Server

	mu    sync.Mutex
	hooks []*Hook
}

// NewReceiver listens on a free loopback port.
func NewReceiver() (*Receiver, error) {
	r := &Receiver{}
	server, url, err := serve("127.0.0.1:0", http.HandlerFunc(r.take))
	if err != nil {
		return nil, fmt.Errorf("start the webhook receiver: %w", err)
	}
	r.server, r.URL = server, url
	return r, nil
}

// Close stops listening and drops open connections.
func (r *Receiver) Close() { _ = r.server.Close() }

// Hook is one webhook address. Without statuses it answers 200; otherwise with one status after the other, the last one for ever.
func (r *Receiver) Hook(statuses ...int) *Hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(statuses) == 0 {
		statuses = []int{http.StatusOK}
	}
	h := &Hook{URL: r.URL + "/hook/" + strconv.Itoa(len(r.hooks)), statuses: statuses, changed: make(chan struct{})}
	r.hooks = append(r.hooks, h)
	return h
}

func (r *Receiver) take(w http.ResponseWriter, req *http.Request) {
	hook := r.find(req.URL.Path)
	body, err := io.ReadAll(req.Body)
	if hook == nil || err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	status := hook.record(Delivery{At: time.Now(), Header: req.Header.Clone(), Body: body})
	if status >= 300 && status < 400 {
		w.Header().Set("Location", r.URL+"/elsewhere")
	}
	w.WriteHeader(status)
}

func (r *Receiver) find(path string) *Hook {
	number, _, _ := strings.Cut(strings.TrimPrefix(path, "/hook/"), "/") // what is below it belongs to it
	n, err := strconv.Atoi(number)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || n < 0 || n >= len(r.hooks) {
		return nil
	}
	return r.hooks[n]
}

// Hook is one address of a receiver and what arrived there.
type Hook struct {
	URL string

	mu         sync.Mutex
	statuses   []int
	deliveries []Delivery
	changed    chan struct{}
}

// SetStatuses changes what the next deliveries are answered with.
func (h *Hook) SetStatuses(statuses ...int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.statuses = statuses
}

// Deliveries returns what has arrived so far.
func (h *Hook) Deliveries() []Delivery {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Delivery(nil), h.deliveries...)
}

// Wait returns as soon as n deliveries have arrived, or with what there is when ctx ends.
func (h *Hook) Wait(ctx context.Context, n int) []Delivery {
	for {
		h.mu.Lock()
		changed, got := h.changed, len(h.deliveries)
		h.mu.Unlock()
		if got >= n {
			return h.Deliveries()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return h.Deliveries()
		}
	}
}

func (h *Hook) record(d Delivery) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.Answer = h.statuses[0]
	if len(h.statuses) > 1 {
		h.statuses = h.statuses[1:]
	}
	h.deliveries = append(h.deliveries, d)
	close(h.changed)
	h.changed = make(chan struct{})
	return d.Answer
}

// serve runs a handler at an address.
func serve(address string, handler http.Handler) (*http.Server, string, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 30 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return server, "http://" + listener.Addr().String(), nil
}
