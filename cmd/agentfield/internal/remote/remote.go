// Package remote speaks to a server over its documented API, as any program could: requests, refusals as sentences for whoever typed the
// command, and streams that come back after a lost connection. Its invariant: nothing that the server has told once is told again.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxAnswer   = 64 << 20 // bytes; more than a server lets through
	answersSoon = 30 * time.Second
)

// ErrUnreachable says that there is no answer at all.
var ErrUnreachable = errors.New("no server answers")

// Server is the one that is asked.
type Server struct {
	Base string // as in http://127.0.0.1:8080, without a slash at the end
	Key  string // API key; empty: none
	HTTP *http.Client

	// FirstPause is how long a stream waits before it tries again for the first time, further ones wait longer; 0: half a second.
	FirstPause time.Duration
}

// Answer is what it said.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Decode reads the body as JSON.
func (a Answer) Decode(into any) error {
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("the answer is not understood, is this the address of an Agentfield server? %w", err)
	}
	return nil
}

// Request is what it is asked.
type Request struct {
	Method, Path string // the path begins with /api/v1
	Query        url.Values
	Header       map[string]string
	Body         any           // JSON; bytes go out as they are; nil: none
	Patience     time.Duration // how long the answer may take; 0: a usual time; less: as long as the caller has
}

// Path joins words to a path below /api/v1 and escapes each of them.
func Path(words ...string) string {
	var b strings.Builder
	b.WriteString("/api/v1")
	for _, word := range words {
		b.WriteString("/" + url.PathEscape(word))
	}
	return b.String()
}

// Get asks for something.
func (s *Server) Get(ctx context.Context, path string, query url.Values) (Answer, error) {
	return s.Do(ctx, Request{Method: http.MethodGet, Path: path, Query: query})
}

// Post sends something.
func (s *Server) Post(ctx context.Context, path string, body any) (Answer, error) {
	return s.Do(ctx, Request{Method: http.MethodPost, Path: path, Body: body})
}

// Do asks and returns the answer, or the *Refusal that it is.
func (s *Server) Do(ctx context.Context, r Request) (Answer, error) {
	switch {
	case r.Patience == 0:
		r.Patience = answersSoon
		fallthrough
	case r.Patience > 0:
		limited, cancel := context.WithTimeout(ctx, r.Patience)
		defer cancel()
		ctx = limited
	}
	response, err := s.send(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	return s.read(response)
}

func (s *Server) send(ctx context.Context, r Request) (*http.Response, error) {
	sent, err := encode(r.Body)
	if err != nil {
		return nil, err
	}
	address := s.Base + r.Path
	if len(r.Query) > 0 {
		address += "?" + r.Query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, address, bytes.NewReader(sent))
	if err != nil {
		return nil, fmt.Errorf("the address %q cannot be asked: %w", address, err)
	}
	request.Header.Set("Content-Type", "application/json")
	if s.Key != "" {
		request.Header.Set("X-API-Key", s.Key)
	}
	for name, value := range r.Header {
		request.Header.Set(name, value)
	}
	response, err := s.HTTP.Do(request)
	if err != nil {
		return nil, s.unreachable(err)
	}
	return response, nil
}

func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return b, nil
	}
	sent, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	return sent, nil
}

// unreachable leaves out of the error what the caller knows: method and address.
func (s *Server) unreachable(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, s.Base, err)
}

func (s *Server) read(response *http.Response) (Answer, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer of %s: %w", s.Base, err)
	}
	a := Answer{Status: response.StatusCode, Header: response.Header, Body: body}
	if a.Status >= http.StatusMultipleChoices {
		return a, refused(a)
	}
	return a, nil
}

// Refusal is an answer that is none: the request was not carried out.
type Refusal struct {
	Status      int    `json:"-"`
	Title       string `json:"error"`
	Message     string `json:"message"`
	Code        string `json:"code"`
	RequestID   string `json:"request_id"`
	ExecutionID string `json:"execution_id"`
	Position    int    `json:"position"` // of a mistake in a filter, from 1
	RetryAfter  time.Duration
}

func refused(a Answer) *Refusal {
	r := &Refusal{Status: a.Status}
	if json.Unmarshal(a.Body, r) != nil || r.Title == "" {
		r.Title = "HTTP " + strconv.Itoa(a.Status)
		r.Message = strings.TrimSpace(string(a.Body[:min(len(a.Body), 500)]))
	}
	if seconds, err := strconv.Atoi(a.Header.Get("Retry-After")); err == nil {
		r.RetryAfter = time.Duration(seconds) * time.Second
	}
	return r
}

// Error is one line: what, why, and by which words the server's log and the documentation know it.
func (r *Refusal) Error() string {
	text := r.Title
	if r.Message != "" && r.Message != r.Title {
		text += ": " + r.Message
	}
	if r.RetryAfter > 0 {
		text += fmt.Sprintf("; try again in %s", r.RetryAfter)
	}
	var known []string
	if r.Code != "" && r.Code != r.Title {
		known = append(known, r.Code)
	}
	if r.ExecutionID != "" {
		known = append(known, r.ExecutionID)
	}
	if r.RequestID != "" {
		known = append(known, r.RequestID)
	}
	if len(known) > 0 {
		text += " (" + strings.Join(known, ", ") + ")"
	}
	return text
}

// Missing reports whether the server does not know what was asked for.
func Missing(err error) bool {
	r, ok := errors.AsType[*Refusal](err)
	return ok && r.Status == http.StatusNotFound
}
