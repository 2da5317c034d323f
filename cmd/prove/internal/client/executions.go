package client

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Statuses that are final, and all statuses an execution may show.
var (
	terminal = []string{"succeeded", "failed", "timeout", "cancelled"}
	statuses = append([]string{"pending", "queued", "running", "waiting", "paused"}, terminal...)
)

// Terminal reports whether a status is final.
func Terminal(status string) bool { return slices.Contains(terminal, status) }

// KnownStatus reports whether a word is a status at all.
func KnownStatus(status string) bool { return slices.Contains(statuses, status) }

// Call is the body and the headers of one execution to be started.
type Call struct {
	Target  string
	Input   any
	Fields  map[string]any // beside input: webhook, timeout_seconds, retry …
	Headers []string       // name, value, name, value …
}

func (c Call) body() map[string]any {
	body := map[string]any{"input": c.Input}
	maps.Copy(body, c.Fields)
	return body
}

// Execute calls a function and waits for its end.
func (c *Client) Execute(ctx context.Context, call Call) (Answer, error) {
	return c.Do(ctx, http.MethodPost, "/api/v1/execute/"+call.Target, call.body(), call.Headers...)
}

// Submit starts a function and returns at once.
func (c *Client) Submit(ctx context.Context, call Call) (Answer, error) {
	return c.Do(ctx, http.MethodPost, "/api/v1/execute/async/"+call.Target, call.body(), call.Headers...)
}

// Execution reads one execution; a wait other than zero holds the request until its status changes or the time is over.
func (c *Client) Execution(ctx context.Context, id string, wait time.Duration) (Answer, error) {
	path := "/api/v1/executions/" + url.PathEscape(id)
	if wait > 0 {
		path += "?wait=" + wait.String()
	}
	return c.Do(ctx, http.MethodGet, path, nil)
}

// End reads an execution until its status is final.
func (c *Client) End(ctx context.Context, id string) (Answer, error) {
	for {
		began := time.Now()
		answer, err := c.Execution(ctx, id, 5*time.Second)
		if err != nil {
			return answer, err
		}
		if answer.Status != http.StatusOK {
			return answer, fmt.Errorf("execution %s cannot be read: %s", id, answer)
		}
		if Terminal(answer.Text("status")) {
			return answer, nil
		}
		if err := pause(ctx, 20*time.Millisecond-time.Since(began)); err != nil {
			return answer, fmt.Errorf("execution %s did not end: %s: %w", id, answer, err)
		}
	}
}

// Cancel stops an execution.
func (c *Client) Cancel(ctx context.Context, id, reason string) (Answer, error) {
	return c.Do(ctx, http.MethodPost, "/api/v1/executions/"+id+"/cancel", map[string]any{"reason": reason})
}

// Report is what an agent says about an execution it has taken.
func (c *Client) Report(ctx context.Context, id string, report map[string]any) (Answer, error) {
	return c.Do(ctx, http.MethodPost, "/api/v1/executions/"+id+"/status", report)
}

// BatchStatus reads many executions with one request.
func (c *Client) BatchStatus(ctx context.Context, ids []string) (Answer, error) {
	return c.Do(ctx, http.MethodPost, "/api/v1/executions/batch-status", map[string]any{"execution_ids": ids})
}

// List reads a page of executions; filters are name, value, name, value …
func (c *Client) List(ctx context.Context, filters ...string) (Answer, error) {
	query := url.Values{}
	for i := 0; i+1 < len(filters); i += 2 {
		query.Add(filters[i], filters[i+1])
	}
	return c.Do(ctx, http.MethodGet, "/api/v1/executions?"+query.Encode(), nil)
}

// ListAll follows the cursor of List to the end and returns the ids in the order they came.
func (c *Client) ListAll(ctx context.Context, filters ...string) ([]string, error) {
	var ids []string
	cursor := ""
	for {
		page := append(slices.Clone(filters), "limit", "200")
		if cursor != "" {
			page = append(page, "cursor", cursor)
		}
		answer, err := c.List(ctx, page...)
		if err != nil {
			return nil, err
		}
		if answer.Status != http.StatusOK {
			return nil, fmt.Errorf("the list cannot be read: %s", answer)
		}
		ids = append(ids, ListedIDs(answer)...)
		if cursor = answer.Text("next_cursor"); cursor == "" {
			return ids, nil
		}
	}
}

// ListedIDs are the execution ids of one page of a list.
func ListedIDs(page Answer) []string {
	var ids []string
	for _, item := range page.List("executions") {
		id, _ := Lookup(item, "execution_id")
		if text, ok := id.(string); ok {
			ids = append(ids, text)
		}
	}
	return ids
}

// Event is one entry of the history of an execution.
type Event struct {
	Type string
	Data map[string]any
}

// Status is the status that the event moved the execution to, empty for events of another kind.
func (e Event) Status() string {
	word := strings.TrimPrefix(e.Type, "execution.")
	if KnownStatus(word) {
		return word
	}
	return ""
}

// Events reads the history of an execution, oldest first.
func (c *Client) Events(ctx context.Context, id string) ([]Event, error) {
	answer, err := c.Do(ctx, http.MethodGet, "/api/v1/executions/"+id+"/events", nil, "Accept", "application/json")
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, fmt.Errorf("the events of %s cannot be read: %s", id, answer)
	}
	var events []Event
	for _, item := range answer.List("events") {
		data, _ := item.(map[string]any)
		name, _ := data["type"].(string)
		events = append(events, Event{Type: name, Data: data})
	}
	return events, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
