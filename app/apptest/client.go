package apptest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func newClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Answer is what the server said.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// At returns what stands at a path such as "webhook_events/0/attempt" of a JSON body, nil when there is nothing. Numbers are
// json.Number, so that a test sees them as they were written.
func (a Answer) At(path string) any {
	decoder := json.NewDecoder(bytes.NewReader(a.Body))
	decoder.UseNumber()
	var here any
	if decoder.Decode(&here) != nil {
		return nil
	}
	for key := range strings.SplitSeq(path, "/") {
		switch parent := here.(type) {
		case map[string]any:
			here = parent[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(parent) {
				return nil
			}
			here = parent[i]
		default:
			return nil
		}
	}
	return here
}

// Text is At as text: strings as they are, everything else as JSON, "" when there is nothing.
func (a Answer) Text(path string) string {
	switch v := a.At(path).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(text)
	}
}

// Has reports whether the JSON object at the root has a key, be it null.
func (a Answer) Has(key string) bool {
	var object map[string]json.RawMessage
	if json.Unmarshal(a.Body, &object) != nil {
		return false
	}
	_, there := object[key]
	return there
}

// Len is the length of the list at a path, -1 when there is none.
func (a Answer) Len(path string) int {
	list, ok := a.At(path).([]any)
	if !ok {
		return -1
	}
	return len(list)
}

// Do sends a request and returns the answer. A body that is a string or bytes goes out as it is, anything else as JSON; headers come in
// pairs of name and value.
func (r *Rig) Do(t *testing.T, method, path string, body any, headers ...string) Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	answer, err := r.send(ctx, t, method, path, body, headers)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer
}

func (r *Rig) send(ctx context.Context, t *testing.T, method, path string, body any, headers []string) (Answer, error) {
	sent, err := encode(body)
	if err != nil {
		return Answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, method, r.URL+path, bytes.NewReader(sent))
	if err != nil {
		return Answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := r.client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, err
	}
	answer := Answer{Status: response.StatusCode, Header: response.Header, Body: got}
	if r.Seen != nil {
		r.Seen(t, request, sent, answer)
	}
	return answer, nil
}

func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case string:
		return []byte(b), nil
	case []byte:
		return b, nil
	}
	return json.Marshal(body)
}

// Pending is a request whose answer is still to come.
type Pending struct {
	answer chan Answer
	failed chan error
	hangUp context.CancelFunc
}

// Begin sends a request in the background, for calls that a test has to keep open.
func (r *Rig) Begin(t *testing.T, method, path string, body any, headers ...string) *Pending {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	p := &Pending{answer: make(chan Answer, 1), failed: make(chan error, 1), hangUp: cancel}
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		answer, err := r.send(ctx, t, method, path, body, headers)
		if err != nil {
			p.failed <- err
			return
		}
		p.answer <- answer
	}()
	return p
}

// Answer waits for the answer.
func (p *Pending) Answer(t *testing.T) Answer {
	t.Helper()
	select {
	case answer := <-p.answer:
		return answer
	case err := <-p.failed:
		t.Fatalf("the request failed: %v", err)
	}
	return Answer{}
}

// HangUp closes the connection before the answer has come, and returns when it is closed.
func (p *Pending) HangUp(t *testing.T) {
	t.Helper()
	p.hangUp()
	select {
	case answer := <-p.answer:
		t.Fatalf("the answer came first: %d %s", answer.Status, answer.Body)
	case <-p.failed: //nolint:errcheck // only that it ended counts
	}
}

// Execute calls a function and waits for its answer.
func (r *Rig) Execute(t *testing.T, target string, body any, headers ...string) Answer {
	t.Helper()
	return r.Do(t, http.MethodPost, "/api/v1/execute/"+target, body, headers...)
}

// Submit calls a function asynchronously and returns the id of the execution.
func (r *Rig) Submit(t *testing.T, target string, body any, headers ...string) string {
	t.Helper()
	answer := r.Do(t, http.MethodPost, "/api/v1/execute/async/"+target, body, headers...)
	if answer.Status != http.StatusAccepted {
		t.Fatalf("submit %s: %d %s", target, answer.Status, answer.Body)
	}
	return answer.Text("execution_id")
}

// Get reads an execution as it is.
func (r *Rig) Get(t *testing.T, id string) Answer {
	t.Helper()
	return r.Do(t, http.MethodGet, "/api/v1/executions/"+id, nil)
}

// Ended waits for an execution to end (or to wait for a person) and returns it.
func (r *Rig) Ended(t *testing.T, id string) Answer {
	t.Helper()
	known := ""
	for began := time.Now(); time.Since(began) < Patience; {
		answer := r.Do(t, http.MethodGet, "/api/v1/executions/"+id+"?wait=25s&status="+known, nil)
		switch known = answer.Text("status"); known {
		case "succeeded", "failed", "timeout", "cancelled", "waiting":
			return answer
		case "":
			t.Fatalf("execution %s cannot be read: %d %s", id, answer.Status, answer.Body)
		}
	}
	t.Fatalf("execution %s does not end: it is %s", id, known)
	return Answer{}
}

// Events are the kinds of the events of an execution, oldest first, without the prefix "execution.". Those that come whenever somebody
// else has answered are left out: they have no fixed place among the others.
func (r *Rig) Events(t *testing.T, id string) []string {
	t.Helper()
	answer := r.Do(t, http.MethodGet, "/api/v1/executions/"+id+"/events", nil)
	var kinds []string
	for i := range answer.Len("events") {
		switch kind := strings.TrimPrefix(answer.Text("events/"+strconv.Itoa(i)+"/type"), "execution."); kind {
		case "released", "notice", "webhook.attempted", "approval.changed":
		default:
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// Until waits for a condition. It is judged at the beginning and whenever the server announces that something has happened.
func (r *Rig) Until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	path, key := "/events", []string(nil)
	if r.config.APIKey != "" { // pages take no key; this stream tells nothing of nodes
		path, key = "/api/ui/v1/executions/events", []string{"X-API-Key", r.config.APIKey}
	}
	if !r.Follow(t, path, func(line string) bool { return line != "" || !holds() }, key...) && !holds() { // an empty line ends an event, or the greeting
		t.Fatalf("it never came to be that %s", what)
	}
}

// Follow reads a stream line by line until more says that it was enough. It reports false when the stream ended before.
func (r *Rig) Follow(t *testing.T, path string, more func(line string) bool, headers ...string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := r.client.Do(request)
	if err != nil {
		t.Fatalf("follow %s: %v", path, err)
	}
	defer func() { _ = response.Body.Close() }()
	if r.Seen != nil {
		r.Seen(t, request, nil, Answer{Status: response.StatusCode, Header: response.Header})
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if !more(lines.Text()) {
			return true
		}
	}
	return false
}
