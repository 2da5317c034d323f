package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	shortTimeout = 15 * time.Second // of a request that is answered at once
	answerLimit  = 64 << 20
)

// plane is the control plane as the agent sees it.
type plane struct {
	url    string
	key    string
	nodeID string
	token  atomic.Pointer[string] // proves that we registered the node; from the last registration
	http   *http.Client
	pause  func(failures int) time.Duration // between two tries
}

func newPlane(url, key, nodeID string) *plane {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second,
	}
	return &plane{url: url, key: key, nodeID: nodeID, http: &http.Client{Transport: transport}, pause: backoff}
}

// backoff doubles from a quarter of a second up to ten, with up to a fifth taken off so that many agents do not come at once.
func backoff(failures int) time.Duration {
	d := min(250*time.Millisecond<<min(failures-1, 10), 10*time.Second)
	return d - rand.N(d/5)
}

// planeError is an answer that is not 2xx, or not understood.
type planeError struct {
	Status     int
	Code       string
	Message    string
	State      string        // of the execution that a conflict is about; may be empty
	RetryAfter time.Duration // 0 when it was not given
}

func (e *planeError) Error() string {
	return fmt.Sprintf("the control plane answered %d: %s", e.Status, e.Message)
}

// passing reports whether the same request may succeed later without anybody changing anything.
func passing(err error) bool {
	answer, ok := errors.AsType[*planeError](err)
	if !ok {
		return true // no answer at all
	}
	switch answer.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return answer.RetryAfter > 0 || answer.Code == "" // a refusal with a code and no time is meant to last
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// send makes one request. in and out may be nil; out is decoded from JSON.
func (p *plane) send(ctx context.Context, timeout time.Duration, method, path string, header http.Header, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := p.request(ctx, method, path, header, in)
	if err != nil {
		return err
	}
	response, err := p.http.Do(request) //nolint:gosec // the address of the control plane is configured, not received
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	if err != nil {
		return err
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return refusal(response, body)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return &planeError{Status: response.StatusCode, Message: fmt.Sprintf("something that is no answer to %s %s: %v", method, path, err)}
	}
	return nil
}

func (p *plane) request(ctx context.Context, method, path string, header http.Header, in any) (*http.Request, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, p.url+path, bytes.NewReader(body)) //nolint:gosec // as above: configured
	if err != nil {
		return nil, err
	}
	if header != nil {
		request.Header = header.Clone()
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "agentfield-go")
	request.Header.Set("X-Agent-Node-ID", p.nodeID)
	if token := p.token.Load(); token != nil && *token != "" {
		request.Header.Set("X-Node-Token", *token)
	}
	if p.key != "" {
		request.Header.Set("Authorization", "Bearer "+p.key)
	}
	return request, nil
}

func refusal(response *http.Response, body []byte) error {
	said := struct{ Error, Details, Message, Code, Status json.RawMessage }{}
	_ = json.Unmarshal(body, &said) // a body in another form leaves the texts empty
	e := &planeError{
		Status: response.StatusCode, Code: text(said.Code), State: text(said.Status), Message: first(text(said.Details), text(said.Message), text(said.Error)),
	}
	if e.Message == "" {
		e.Message = first(strings.TrimSpace(string(body[:min(len(body), 200)])), http.StatusText(e.Status))
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		e.RetryAfter = max(time.Duration(seconds)*time.Second, time.Millisecond)
	}
	return e
}

// text is a JSON value if it is a string: some answers have numbers and objects under the same names.
func text(value json.RawMessage) string {
	var s string
	_ = json.Unmarshal(value, &s)
	return s
}

// rest waits before the next try: as long as the control plane asked for, at least as the backoff says. It returns early with ctx.
func (p *plane) rest(ctx context.Context, failures int, err error) error {
	pause := p.pause(failures)
	if answer, ok := errors.AsType[*planeError](err); ok {
		pause = max(pause, min(answer.RetryAfter, time.Minute))
	}
	return sleep(ctx, pause)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
