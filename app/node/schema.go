package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

const (
	maxDepth        = 200  // levels of nesting in an input or a schema
	maxDigits       = 1000 // of a number; larger ones cost time out of proportion
	maxSchemasKept  = 4096
	schemaURL       = "https://schema.invalid/input.json"
	errRemoteSchema = "references to other documents are refused; put the definition under $defs"
)

// InputError says where an input does not fit the schema of its function. Pointer is a JSON pointer into the input.
type InputError struct {
	Pointer string
	Message string
}

func (e *InputError) Error() string {
	if e.Pointer == "" {
		return "the input does not fit the schema: " + e.Message
	}
	return "the input does not fit the schema at " + e.Pointer + ": " + e.Message
}

// schemaCache keeps compiled schemas by their content, since nodes register the same ones again and again.
type schemaCache struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*schema
}

func newSchemaCache() *schemaCache { return &schemaCache{known: map[[sha256.Size]byte]*schema{}} }

func (c *schemaCache) get(text string) *schema {
	key := sha256.Sum256([]byte(text))
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.known[key]; known != nil {
		return known
	}
	if len(c.known) >= maxSchemasKept {
		clear(c.known) // whoever uses one holds it; the rest compiles again
	}
	made := &schema{text: text}
	c.known[key] = made
	return made
}

// schema is compiled when it is first needed.
type schema struct {
	text     string
	once     sync.Once
	compiled *jsonschema.Schema
	err      error
}

func (s *schema) compile() error {
	s.once.Do(func() { s.compiled, s.err = compileSchema(s.text) })
	return s.err
}

func compileSchema(text string) (*jsonschema.Schema, error) {
	doc, err := decodeChecked([]byte(text))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(tolerantRegexp)
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, schemaProblem(err)
	}
	compiled, err := c.Compile(schemaURL)
	if err != nil {
		return nil, schemaProblem(err)
	}
	return compiled, nil
}

// schemaProblem says it in one line and without the address that only the compiler uses.
func schemaProblem(err error) error {
	if loading, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return fmt.Errorf("%s: %s", loading.URL, errRemoteSchema)
	}
	if wrong, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		found := describe(wrong)
		return fmt.Errorf("at %s: %s", orRoot(found.Pointer), found.Message)
	}
	text := strings.ReplaceAll(err.Error(), schemaURL, "")
	return errors.New(strings.Join(strings.Fields(text), " "))
}

func orRoot(pointer string) string {
	if pointer == "" {
		return "the root"
	}
	return pointer
}

// noLoader refuses to fetch anything; the drafts' own meta schemas do not pass through it.
type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New(errRemoteSchema) }

// anything stands for a pattern in a dialect that Go does not speak (look-ahead and the like). The agent checks its input itself as well,
// so leaving that one pattern to it is better than refusing the node.
type anything struct{ pattern string }

func (a anything) MatchString(string) bool { return true }
func (a anything) String() string          { return a.pattern }

func tolerantRegexp(pattern string) (jsonschema.Regexp, error) {
	re, err := regexp.Compile(pattern)
	if err == nil {
		return re, nil
	}
	var wrong *syntax.Error
	if errors.As(err, &wrong) && (wrong.Code == syntax.ErrInvalidPerlOp || wrong.Code == syntax.ErrInvalidEscape ||
		wrong.Code == syntax.ErrInvalidRepeatSize) {
		return anything{pattern}, nil
	}
	return nil, err
}

// validate checks an input; what does not fit is an InputError.
func (s *schema) validate(input []byte) error {
	if err := s.compile(); err != nil {
		return fmt.Errorf("the registered schema does not compile: %w", err)
	}
	doc, err := decodeChecked(input)
	if err != nil {
		return err
	}
	err = s.compiled.Validate(doc)
	if wrong, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		return describe(wrong)
	}
	if err != nil {
		return fmt.Errorf("check the input: %w", err)
	}
	return nil
}

// decodeChecked reads one JSON value, keeping numbers as they were written, and refuses what would cost too much to compare.
func decodeChecked(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return nil, &InputError{Message: fmt.Sprintf("it is not valid JSON: %v", err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &InputError{Message: "something follows the JSON value"}
	}
	if problem := tooCostly(doc, 0); problem != nil {
		return nil, problem
	}
	return doc, nil
}

func tooCostly(v any, depth int) *InputError {
	if depth > maxDepth {
		return &InputError{Message: fmt.Sprintf("it is nested deeper than %d levels", maxDepth)}
	}
	switch v := v.(type) {
	case json.Number:
		if costlyNumber(string(v)) {
			return &InputError{Message: "the number is too large"}
		}
	case map[string]any:
		for key, item := range v {
			if problem := tooCostly(item, depth+1); problem != nil {
				return within(key, problem)
			}
		}
	case []any:
		for i, item := range v {
			if problem := tooCostly(item, depth+1); problem != nil {
				return within(strconv.Itoa(i), problem)
			}
		}
	}
	return nil
}

func within(key string, problem *InputError) *InputError {
	problem.Pointer = pointer([]string{key}) + problem.Pointer
	return problem
}

func costlyNumber(text string) bool {
	if len(text) > maxDigits {
		return true
	}
	at := strings.IndexAny(text, "eE")
	if at < 0 {
		return false
	}
	exponent, err := strconv.Atoi(text[at+1:])
	return err != nil || exponent > maxDigits || exponent < -maxDigits
}

func pointer(path []string) string {
	var b strings.Builder
	for _, key := range path {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(key))
	}
	return b.String()
}

// describe picks the one finding that helps most: the deepest inside a choice of schemas, else the first by place.
func describe(e *jsonschema.ValidationError) *InputError {
	if len(e.Causes) == 0 {
		return finding(e)
	}
	found := make([]*InputError, len(e.Causes))
	for i, cause := range e.Causes {
		found[i] = describe(cause)
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i].Pointer < found[j].Pointer })
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		return ofChoice(pointer(e.InstanceLocation), found)
	}
	return found[0]
}

// ofChoice: when the alternatives disagree about what lies deeper, the deepest one came closest; otherwise all are named.
func ofChoice(at string, found []*InputError) *InputError {
	deepest := found[0]
	for _, f := range found {
		if len(f.Pointer) > len(deepest.Pointer) {
			deepest = f
		}
	}
	if deepest.Pointer != at {
		return deepest
	}
	var messages []string
	for _, f := range found {
		if len(messages) == 0 || messages[len(messages)-1] != f.Message {
			messages = append(messages, f.Message)
		}
	}
	return &InputError{Pointer: at, Message: strings.Join(messages, ", or ")}
}

func finding(e *jsonschema.ValidationError) *InputError {
	at := pointer(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		if len(k.Missing) > 0 {
			return &InputError{Pointer: at + pointer(k.Missing[:1]), Message: k.Missing[0] + " is required"}
		}
	case *kind.AdditionalProperties:
		if len(k.Properties) > 0 {
			return &InputError{Pointer: at + pointer(k.Properties[:1]), Message: k.Properties[0] + " is not allowed"}
		}
	}
	return &InputError{Pointer: at, Message: cleanText(e.ErrorKind.LocalizedString(message.NewPrinter(language.English)))}
}
