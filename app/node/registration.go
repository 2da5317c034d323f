package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Registration is the body of POST /api/v1/nodes and /nodes/register (wire.md 3.1). Fields it does not name are ignored; fields whose
// inner shape matters to nobody here stay raw.
type Registration struct {
	ID                  string             `json:"id"`
	BaseURL             string             `json:"base_url"`
	Version             string             `json:"version"`
	GroupID             string             `json:"group_id"`
	TeamID              string             `json:"team_id"`
	TrafficWeight       *float64           `json:"traffic_weight"`
	DeploymentType      string             `json:"deployment_type"`
	InvocationURL       string             `json:"invocation_url"`
	InstanceID          string             `json:"instance_id"`
	Reasoners           []FunctionEntry    `json:"reasoners"`
	Skills              []FunctionEntry    `json:"skills"`
	CommunicationConfig json.RawMessage    `json:"communication_config"`
	CallbackDiscovery   *CallbackDiscovery `json:"callback_discovery"`
	LifecycleStatus     string             `json:"lifecycle_status"`
	Features            json.RawMessage    `json:"features"`
	Metadata            json.RawMessage    `json:"metadata"`
	ProposedTags        []string           `json:"proposed_tags"`
	// NodeToken is what an earlier registration of this id was answered with. The API may also fill it from a header.
	NodeToken string `json:"node_token"`
}

// FunctionEntry is one reasoner or skill of a registration.
type FunctionEntry struct {
	ID             string          `json:"id"`
	Description    string          `json:"description"`
	InputSchema    json.RawMessage `json:"input_schema"`
	OutputSchema   json.RawMessage `json:"output_schema"`
	MemoryConfig   json.RawMessage `json:"memory_config"`
	Tags           []string        `json:"tags"`
	ProposedTags   []string        `json:"proposed_tags"`
	ApprovedTags   []string        `json:"approved_tags"`
	AcceptsWebhook Word            `json:"accepts_webhook"`
	// Idempotent says that the function may see the same execution twice: what an instance fails goes to the next one. The tag of that
	// name says the same.
	Idempotent bool `json:"idempotent"`
}

// CallbackDiscovery is how an agent that does not know its own address asks for help, and how it was decided.
type CallbackDiscovery struct {
	Mode        string          `json:"mode"`
	Preferred   string          `json:"preferred"`
	Resolved    string          `json:"resolved"`
	Candidates  []string        `json:"candidates,omitempty"`
	Tests       json.RawMessage `json:"tests,omitempty"`
	SubmittedAt string          `json:"submitted_at"`
}

// Word is a text that some agents send as a boolean or a number.
type Word string

// UnmarshalJSON takes any scalar.
func (w *Word) UnmarshalJSON(data []byte) error {
	text := strings.TrimSpace(string(data))
	if strings.HasPrefix(text, `"`) {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*w = Word(s)
		return nil
	}
	if text == "null" || strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		*w = ""
		return nil
	}
	*w = Word(text)
	return nil
}

// InvalidError says which field of a request cannot be accepted and why, in a sentence.
type InvalidError struct {
	Field   string
	Message string
}

func (e *InvalidError) Error() string { return e.Message }

func invalid(field, format string, args ...any) *InvalidError {
	return &InvalidError{Field: field, Message: fmt.Sprintf(format, args...)}
}

// DecodeRegistration reads the body of a registration; what is wrong with it is an InvalidError.
func DecodeRegistration(body []byte) (Registration, error) {
	var r Registration
	if err := decodeBody(body, &r); err != nil {
		return Registration{}, err
	}
	return r, nil
}

func decodeBody(body []byte, into any) error {
	err := json.Unmarshal(body, into)
	if wrongType, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid(wrongType.Field, "%s has the wrong type: %s", orBody(wrongType.Field), wrongType.Value)
	}
	if err != nil {
		return invalid("", "the body is not valid JSON: %v", err)
	}
	return nil
}

func orBody(field string) string {
	if field == "" {
		return "the body"
	}
	return field
}

// Registered is the answer to a registration.
type Registered struct {
	Success           bool               `json:"success"`
	Message           string             `json:"message"`
	NodeID            string             `json:"node_id"`
	ResolvedBaseURL   string             `json:"resolved_base_url,omitempty"`
	CallbackDiscovery *CallbackDiscovery `json:"callback_discovery,omitempty"`
	NodeToken         string             `json:"node_token"`
	InstanceID        string             `json:"instance_id"`
}

// profile is the part of a registration that is kept as one JSON text beside the node's columns.
type profile struct {
	TrafficWeight  float64                    `json:"traffic_weight"`
	Communication  json.RawMessage            `json:"communication_config,omitempty"`
	Features       json.RawMessage            `json:"features,omitempty"`
	Metadata       json.RawMessage            `json:"metadata,omitempty"`
	Tags           []string                   `json:"proposed_tags,omitempty"`
	Functions      map[string]functionProfile `json:"functions,omitempty"`
	MaxConcurrency int                        `json:"max_concurrency"` // what node_queues was given, declared or by default
	HeartbeatMs    int64                      `json:"heartbeat_ms,omitempty"`
	HealthPath     string                     `json:"health_path,omitempty"` // what the node asked to be probed at, and how often
	HealthEveryMs  int64                      `json:"health_every_ms,omitempty"`
}

// functionProfile is the part of a function that has no column.
type functionProfile struct {
	MemoryConfig   json.RawMessage `json:"memory_config,omitempty"`
	ProposedTags   []string        `json:"proposed_tags,omitempty"`
	ApprovedTags   []string        `json:"approved_tags,omitempty"`
	AcceptsWebhook string          `json:"accepts_webhook,omitempty"`
}

func readProfile(text string) profile {
	var p profile
	// The text is our own; were it damaged, the node would still be callable without it.
	_ = json.Unmarshal([]byte(text), &p) //nolint:errcheck // see above
	return p
}

// communication is what the server reads of communication_config.
type communication struct {
	HeartbeatInterval Word `json:"heartbeat_interval"`
}

// heartbeatOf reads a duration such as "5s" or "2m0s"; a bare number is taken as seconds. 0 means that none was told.
func heartbeatOf(raw json.RawMessage) time.Duration {
	var c communication
	if json.Unmarshal(raw, &c) != nil || c.HeartbeatInterval == "" {
		return 0
	}
	text := string(c.HeartbeatInterval)
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 || d > 24*time.Hour {
		return 0
	}
	return d
}
