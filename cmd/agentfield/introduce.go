package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	registersBy = 2 * time.Minute // `go run` compiles first
	askEvery    = 100 * time.Millisecond
	answersIn   = 2 * time.Second
)

// known is an agent as discovery shows it.
type known struct {
	ID        string `json:"agent_id"`
	BaseURL   string `json:"base_url"`
	Reasoners []callable
	Skills    []callable
}

type callable struct {
	ID     string          `json:"id"`
	Schema json.RawMessage `json:"input_schema"`
}

// introduce waits until the server knows the agent and prints how to call it; false when that did not come to pass.
func (d *developer) introduce(ctx context.Context, server string, agent *child) bool {
	ctx, cancel := context.WithTimeout(ctx, registersBy)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-agent.ended:
			return false
		case <-tick.C:
		}
		found, err := d.find(ctx, server)
		if err == nil && found != nil {
			_, _ = io.WriteString(d.out, howToCall(server, found, environment(d.p.environ, "AGENTFIELD_API_KEY") != ""))
			return true
		}
	}
}

// find recognises the agent by the port that it was told to listen on.
func (d *developer) find(ctx context.Context, server string) (*known, error) {
	var answer struct{ Capabilities []known }
	if err := getJSON(ctx, server+"/api/v1/discovery/capabilities?include_input_schema=true&limit=500", environment(d.p.environ, "AGENTFIELD_API_KEY"), &answer); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(d.listen)
	if err != nil {
		return nil, fmt.Errorf("read the address of the agent: %w", err)
	}
	for _, k := range answer.Capabilities {
		if u, err := url.Parse(k.BaseURL); err == nil && u.Port() == port {
			return &k, nil
		}
	}
	return nil, nil
}

func getJSON(ctx context.Context, address, key string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answersIn)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("the address %q cannot be asked: %w", address, err)
	}
	if key != "" {
		request.Header.Set("X-API-Key", key)
	}
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		return fmt.Errorf("read the answer of the server: %w", err)
	}
	return nil
}

// askHealth reports whether one of our servers answers at an address; something else may listen there.
func askHealth(ctx context.Context, server string) error {
	var health struct{ Status string }
	if err := getJSON(ctx, server+"/api/v1/health", "", &health); err != nil {
		return err
	}
	if health.Status == "" {
		return errors.New("this is no server of ours")
	}
	return nil
}

// howToCall is what a developer needs next: the commands, ready to be copied, and the page.
func howToCall(server string, k *known, withKey bool) string {
	var b strings.Builder
	functions := append(slices.Clone(k.Reasoners), k.Skills...)
	names := make([]string, len(functions))
	for i, f := range functions {
		names[i] = f.ID
	}
	fmt.Fprintf(&b, "\n%s is ready, with %s. Watch it at %s\n", k.ID, strings.Join(names, ", "), server)
	if len(functions) > 0 {
		header := ""
		if withKey {
			header = ` -H "X-API-Key: $AGENTFIELD_API_KEY"`
		}
		input := strings.ReplaceAll(string(sampleInput(functions[0].Schema)), "'", `'\''`)
		fmt.Fprintf(&b, "Call it:\n\ncurl -X POST %s/api/v1/execute/%s.%s \\\n  -H \"Content-Type: application/json\"%s \\\n  -d '{\"input\": %s}'\n\n",
			server, k.ID, functions[0].ID, header, input)
	}
	return b.String()
}

// sampleInput is an input that a function with this schema takes.
func sampleInput(schema json.RawMessage) []byte {
	var s shape
	_ = json.Unmarshal(schema, &s) // a schema in another form has no properties to fill
	names := s.Required
	if len(names) == 0 && len(s.AnyOf) > 0 {
		names = s.AnyOf[0].Required
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(s.Properties))
	}
	input := map[string]any{}
	for _, name := range names {
		input[name] = s.Properties[name].sample(name, 0)
	}
	encoded, err := json.Marshal(input)
	if err != nil { // samples are strings, numbers, lists and maps
		return []byte("{}")
	}
	return encoded
}

// shape is as much of a JSON Schema as a sample needs.
type shape struct {
	Type       any              `json:"type"`
	Enum       []any            `json:"enum"`
	Default    any              `json:"default"`
	Minimum    float64          `json:"minimum"`
	Properties map[string]shape `json:"properties"`
	Required   []string         `json:"required"`
	AnyOf      []shape          `json:"anyOf"`
}

func (s shape) sample(name string, depth int) any {
	kind, _ := s.Type.(string)
	if kinds, ok := s.Type.([]any); ok && len(kinds) > 0 {
		kind, _ = kinds[0].(string)
	}
	switch {
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case kind == "string" && name == "name":
		return "Alice"
	case kind == "string":
		return "some " + strings.ReplaceAll(name, "_", " ")
	case kind == "integer", kind == "number":
		return max(s.Minimum, 1)
	case kind == "boolean":
		return true
	case kind == "array":
		return []any{}
	case kind == "" && len(s.AnyOf) > 0 && depth < 5:
		return s.AnyOf[0].sample(name, depth+1)
	case kind == "" && len(s.Properties) == 0:
		return "some " + strings.ReplaceAll(name, "_", " ")
	}
	object := map[string]any{}
	for _, inner := range s.Required {
		if depth < 5 {
			object[inner] = s.Properties[inner].sample(inner, depth+1)
		}
	}
	return object
}
