package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Prompt is what a language model is asked.
type Prompt struct {
	System string
	User   string
	Model  string // default: AGENTFIELD_AI_MODEL, else gpt-4o-mini
}

// AIError says why a model gave no answer, or none that fits.
type AIError struct{ Message string }

func (e *AIError) Error() string { return "agent: " + e.Message }

const (
	aiTries   = 4
	aiTimeout = 5 * time.Minute
)

// AI asks a language model behind the OpenAI-compatible chat API, and puts its answer into out: a *string for its words, or a pointer to any
// other type, whose JSON Schema the answer has to fit; an answer that does not is sent back once. The address is AGENTFIELD_AI_URL, else
// OPENAI_BASE_URL, else that of OpenAI; the key AGENTFIELD_AI_KEY, else OPENAI_API_KEY.
//
// With AGENTFIELD_AI=fake an offline model answers, which knows nothing: it fills the schema with values that depend on the prompt alone.
//
// Errors: *AIError; the cause of ctx if that ended first.
func AI(ctx context.Context, prompt Prompt, out any) error {
	m := modelOf(prompt)
	words, plain := out.(*string)
	var wanted schema
	if !plain {
		t := reflect.TypeOf(out)
		if t == nil || t.Kind() != reflect.Pointer {
			return &AIError{Message: fmt.Sprintf("the answer of a model cannot be put into %T: give a pointer", out)}
		}
		wanted = describe(t.Elem(), nil)
	}
	if m.offline {
		if plain {
			*words = "(offline model) I was asked: " + strings.Join(strings.Fields(first(prompt.User, prompt.System)), " ")
			return nil
		}
		return fit(filled(wanted, prompt), out)
	}
	if m.url == "" {
		return &AIError{Message: "no model is configured: set OPENAI_API_KEY, or AGENTFIELD_AI_URL (and AGENTFIELD_AI_KEY) to any OpenAI-compatible address, " +
			"or AGENTFIELD_AI=fake for the offline model"}
	}
	if plain {
		said, err := m.chat(ctx, prompt.messages(), nil)
		*words = said
		return err
	}
	return m.fitting(ctx, prompt, wanted, out)
}

// model is one that can be asked.
type model struct {
	url, key, name string
	offline        bool
}

func modelOf(p Prompt) model {
	m := model{
		url: first(os.Getenv("AGENTFIELD_AI_URL"), os.Getenv("OPENAI_BASE_URL")), key: first(os.Getenv("AGENTFIELD_AI_KEY"), os.Getenv("OPENAI_API_KEY")),
		name: first(p.Model, os.Getenv("AGENTFIELD_AI_MODEL"), "gpt-4o-mini"), offline: os.Getenv("AGENTFIELD_AI") == "fake",
	}
	if m.url == "" && m.key != "" {
		m.url = "https://api.openai.com/v1"
	}
	m.url = strings.TrimRight(m.url, "/")
	return m
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func (p Prompt) messages() []message {
	var all []message
	if p.System != "" {
		all = append(all, message{"system", p.System})
	}
	return append(all, message{"user", p.User})
}

// fitting asks for JSON of a schema. An answer that does not fit is sent back once, with what is wrong.
func (m model) fitting(ctx context.Context, prompt Prompt, wanted schema, out any) error {
	described, err := json.Marshal(wanted)
	if err != nil {
		return &AIError{Message: fmt.Sprintf("the schema of %T cannot be written: %v", out, err)}
	}
	rule := message{"system", "Answer with one JSON value and nothing else. It must fit this JSON Schema: " + string(described)}
	messages := append([]message{rule}, prompt.messages()...)
	var wrong error
	for range 2 {
		said, err := m.chat(ctx, messages, wanted)
		if err != nil {
			return err
		}
		if wrong = fit([]byte(withoutFence(said)), out); wrong == nil {
			return nil
		}
		messages = append(messages, message{"assistant", said},
			message{"user", fmt.Sprintf("That does not fit: %v. Answer again, with JSON that fits the schema.", wrong)})
	}
	return &AIError{Message: fmt.Sprintf("the model's answer does not fit the schema: %v", wrong)}
}

// fit decodes an answer, and insists on what the schema requires.
func fit(answer []byte, out any) error {
	if err := json.Unmarshal(answer, out); err != nil {
		return err
	}
	required, _ := describe(reflect.TypeOf(out).Elem(), nil)["required"].([]string)
	var members map[string]json.RawMessage
	if len(required) > 0 && json.Unmarshal(answer, &members) == nil {
		for _, name := range required {
			if _, there := members[name]; !there {
				return fmt.Errorf("%q is missing", name)
			}
		}
	}
	return nil
}

func withoutFence(said string) string {
	said = strings.TrimSpace(said)
	if rest, fenced := strings.CutPrefix(said, "```"); fenced {
		if _, after, ok := strings.Cut(rest, "\n"); ok {
			rest = after
		}
		said = strings.TrimSuffix(strings.TrimSpace(rest), "```")
	}
	return said
}

// chat sends one question, and sends it again while the model is away or busy.
func (m model) chat(ctx context.Context, messages []message, wanted schema) (string, error) {
	asked := map[string]any{"model": m.name, "messages": messages}
	if wanted != nil {
		asked["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "answer", "schema": wanted}}
	}
	problem := "it did not answer"
	for tried := range aiTries {
		if tried > 0 {
			if err := sleep(ctx, backoff(tried)); err != nil {
				return "", err
			}
		}
		status, body, err := m.post(ctx, asked)
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case err != nil:
			problem = err.Error()
			continue
		case status >= 200 && status < 300:
			return contentOf(body)
		}
		problem = fmt.Sprintf("%d %s", status, complaint(body))
		if status == http.StatusBadRequest && asked["response_format"] != nil {
			delete(asked, "response_format") // a server that knows no schemas: the words of the prompt must do
		} else if status < 500 && !slices.Contains([]int{http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests}, status) {
			break
		}
	}
	return "", &AIError{Message: "the model at " + m.url + " could not be asked: " + problem}
}

func (m model) post(ctx context.Context, asked map[string]any) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, aiTimeout)
	defer cancel()
	encoded, err := json.Marshal(asked)
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url+"/chat/completions", bytes.NewReader(encoded)) //nolint:gosec // the address is configured
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if m.key != "" {
		request.Header.Set("Authorization", "Bearer "+m.key)
	}
	response, err := http.DefaultClient.Do(request) //nolint:gosec // as above
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(response.Body, answerLimit))
	return response.StatusCode, body, err
}

func contentOf(body []byte) (string, error) {
	var answer struct {
		Choices []struct{ Message message }
	}
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Choices) == 0 {
		return "", &AIError{Message: "the model's answer is not in the form of the chat API"}
	}
	return answer.Choices[0].Message.Content, nil
}

func complaint(body []byte) string {
	var said struct{ Error struct{ Message string } }
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		return said.Error.Message
	}
	return strings.TrimSpace(string(body[:min(len(body), 200)]))
}

// filled is what the offline model answers: a value of the schema that depends on the prompt alone.
func filled(wanted schema, p Prompt) []byte {
	seed := sha256.Sum256([]byte(p.System + "\x00" + p.User))
	encoded, err := json.Marshal(fill(wanted, seed[:], "answer"))
	if err != nil {
		panic(errors.Join(errors.New("agent: the offline model made something that is no JSON"), err)) // it makes maps, slices, texts and numbers
	}
	return encoded
}

func fill(s schema, seed []byte, name string) any {
	sum := sha256.Sum256(append(slices.Clone(seed), name...))
	n := binary.BigEndian.Uint64(sum[:8])
	if words, ok := s["enum"].([]string); ok && len(words) > 0 {
		return words[n%uint64(len(words))]
	}
	kind, _ := s["type"].(string)
	if kinds, ok := s["type"].([]string); ok {
		kind = kinds[0]
	}
	switch kind {
	case "object":
		members := map[string]any{}
		properties, _ := s["properties"].(schema)
		for key, property := range properties {
			if described, ok := property.(schema); ok {
				members[key] = fill(described, seed, name+"."+key)
			}
		}
		return members
	case "array":
		items, _ := s["items"].(schema)
		return []any{fill(items, seed, name+".0")}
	case "boolean":
		return n%2 == 0
	case "integer":
		return n % 10
	case "number":
		return float64(1+n%98) / 100
	}
	if s["format"] == "date-time" {
		return "2026-01-15T10:30:00Z"
	}
	if s["contentEncoding"] != nil {
		return ""
	}
	return strings.ReplaceAll(name[strings.LastIndexByte(name, '.')+1:], "_", " ") + " (offline model)"
}
