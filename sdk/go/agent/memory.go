package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// ErrNoMemory says that a key has no value.
var ErrNoMemory = errors.New("agent: there is no value under this key")

// ErrMemoryUnavailable says that the control plane has no memory.
var ErrMemoryUnavailable = errors.New("agent: memory is not available on this server")

// Scope is who shares a value.
type Scope string

// The scopes. Anywhere is no scope of its own: what is read is looked for in the workflow, then the session, the actor and everywhere, and
// what is written goes to the first of these that the execution has.
const (
	Anywhere Scope = ""
	Workflow Scope = "workflow"
	Session  Scope = "session"
	Actor    Scope = "actor"
	Global   Scope = "global"
)

// MemoryEntry is a value with its key.
type MemoryEntry struct {
	Key       string          `json:"key"`
	Data      json.RawMessage `json:"data"`
	Scope     Scope           `json:"scope"`
	ScopeID   string          `json:"scope_id"`
	CreatedAt time.Time       `json:"created_at"`
	UpdatedAt time.Time       `json:"updated_at"`
}

// Memory holds values that executions and agents share, in one scope. Its requests are made for the execution that ctx belongs to, and wait
// while the control plane is away; bound them with ctx.
type Memory struct {
	agent *Agent
	scope Scope
}

// Memory is the memory of a scope.
func (a *Agent) Memory(scope Scope) Memory { return Memory{agent: a, scope: scope} }

// Get decodes the value of a key into out, a pointer. ErrNoMemory when there is none.
func (m Memory) Get(ctx context.Context, key string, out any) error {
	var found MemoryEntry
	if err := m.send(ctx, http.MethodPost, "/get", m.named(key), &found); err != nil {
		return err
	}
	if err := json.Unmarshal(found.Data, out); err != nil {
		return fmt.Errorf("agent: the value of %s does not fit %T: %w", key, out, err)
	}
	return nil
}

// Set stores a value, anything that can be written as JSON except nil.
func (m Memory) Set(ctx context.Context, key string, value any) error {
	body := m.named(key)
	body["data"] = value
	return m.send(ctx, http.MethodPost, "/set", body, nil)
}

// Delete removes a key; nothing happens when there is none.
func (m Memory) Delete(ctx context.Context, key string) error {
	err := m.send(ctx, http.MethodPost, "/delete", m.named(key), nil)
	if errors.Is(err, ErrNoMemory) {
		return nil
	}
	return err
}

// List returns the entries of the scope, ordered by key.
func (m Memory) List(ctx context.Context) ([]MemoryEntry, error) {
	var all []MemoryEntry
	for after := ""; ; {
		var page []MemoryEntry
		query := url.Values{}
		if m.scope != Anywhere {
			query.Set("scope", string(m.scope))
		}
		if after != "" {
			query.Set("after", after)
		}
		if err := m.send(ctx, http.MethodGet, "/list?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		before := len(all)
		for _, e := range page {
			if e.Key > after { // a server that knows no pages sends the same again
				all = append(all, e)
			}
		}
		if len(all) == before {
			return all, nil
		}
		after = all[len(all)-1].Key
	}
}

func (m Memory) named(key string) map[string]any {
	body := map[string]any{"key": key}
	if m.scope != Anywhere {
		body["scope"] = m.scope
	}
	return body
}

// send may send a request twice: each of them may.
func (m Memory) send(ctx context.Context, method, path string, body map[string]any, out any) error {
	header := http.Header{}
	if r := runOf(ctx); r != nil && r.ID != "" {
		header = m.agent.from(r)
	}
	var in any
	if body != nil {
		in = body
	}
	err := m.agent.persist(ctx, func() error {
		return m.agent.plane.send(ctx, shortTimeout, method, "/api/v1/memory"+path, header, in, out)
	})
	answer, ok := errors.AsType[*planeError](err)
	switch {
	case !ok:
		return err
	case answer.Status == http.StatusNotImplemented, answer.Status == http.StatusNotFound && answer.Code == "endpoint_not_found":
		return ErrMemoryUnavailable
	case answer.Status == http.StatusNotFound:
		return ErrNoMemory
	}
	return fmt.Errorf("agent: memory: %w", err)
}
