package demo

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	receiverKeeps = 100
	receiverLimit = 8 << 20 // bytes of one delivery
)

// Delivery is one webhook that arrived.
type Delivery struct {
	At          time.Time
	Verified    bool // the signature fits the body and the secret
	Event       string
	ExecutionID string
	Status      string
	Header      http.Header
	Body        []byte
}

// Receiver takes webhooks on a free loopback port, checks their signature and keeps the last hundred.
type Receiver struct {
	url, secret string
	server      *http.Server
	served      chan struct{}

	mu         sync.Mutex
	deliveries []Delivery
	arrived    func(Delivery)
}

// StartReceiver starts a receiver with a fresh secret. arrived, which may be nil, is called after each delivery, in its goroutine.
func StartReceiver(ctx context.Context, arrived func(Delivery)) (*Receiver, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Receiver{
		url: "http://" + listener.Addr().String() + "/webhooks/agentfield", secret: rand.Text(), served: make(chan struct{}), arrived: arrived,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhooks/agentfield", r.take)
	r.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}
	go func() {
		defer close(r.served)
		_ = r.server.Serve(listener) // ends with Stop
	}()
	return r, nil
}

// URL is where webhooks are to be sent.
func (r *Receiver) URL() string { return r.url }

// Secret is what they are to be signed with.
func (r *Receiver) Secret() string { return r.secret }

// Received lists the last deliveries, oldest first, also those with a wrong signature.
func (r *Receiver) Received() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Delivery(nil), r.deliveries...)
}

// Stop ends the receiver.
func (r *Receiver) Stop(ctx context.Context) error {
	err := r.server.Shutdown(ctx)
	if err != nil {
		_ = r.server.Close()
	}
	<-r.served
	return err
}

func (r *Receiver) take(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, receiverLimit))
	if err != nil {
		http.Error(w, `{"error":"the body could not be read"}`, http.StatusBadRequest)
		return
	}
	d := Delivery{At: time.Now(), Verified: r.verify(request.Header.Get("X-AgentField-Signature"), body), Header: request.Header.Clone(), Body: body}
	var said struct {
		Event       string `json:"event"`
		ExecutionID string `json:"execution_id"`
		Status      string `json:"status"`
	}
	if json.Unmarshal(body, &said) == nil {
		d.Event, d.ExecutionID, d.Status = said.Event, said.ExecutionID, said.Status
	}
	r.mu.Lock()
	r.deliveries = append(r.deliveries[max(0, len(r.deliveries)-receiverKeeps+1):], d)
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if d.Verified {
		_, _ = io.WriteString(w, `{"received":true}`)
	} else {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":"invalid signature"}`)
	}
	if r.arrived != nil {
		r.arrived(d)
	}
}

// verify compares "sha256=" and the hex HMAC-SHA256 of the body, in constant time.
func (r *Receiver) verify(signature string, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(r.secret))
	mac.Write(body)
	return hmac.Equal([]byte(signature), []byte("sha256="+hex.EncodeToString(mac.Sum(nil))))
}
