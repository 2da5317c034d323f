package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/agentfield/agentfield/app/apptest"
)

// contract is openapi.yaml as the scenarios are held to it: every answer has the form that the file promises.
type contract struct {
	doc      *openapi3.T
	codes    map[string][]int // from error code to the statuses it may come with
	mu       sync.Mutex
	compiler *jsonschema.Compiler
	proven   map[string]bool // operations that have answered as promised
}

func loadContract(t *testing.T) *contract {
	t.Helper()
	c, err := theContract()
	if err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	return c
}

var theContract = sync.OnceValues(func() (*contract, error) { //nolint:gochecknoglobals // read once for all tests
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(loader.Context); err != nil {
		return nil, err
	}
	c := &contract{doc: doc, codes: map[string][]int{}, proven: map[string]bool{}, compiler: jsonschema.NewCompiler()}
	text, err := doc.MarshalJSON()
	if err != nil {
		return nil, err
	}
	resource, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if err := c.compiler.AddResource(resourceName, resource); err != nil {
		return nil, err
	}
	listed, ok := doc.Extensions["x-error-codes"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("x-error-codes is %T", doc.Extensions["x-error-codes"])
	}
	for code, entry := range listed {
		about, _ := entry.(map[string]any)
		if hint, _ := about["hint"].(string); hint == "" {
			return nil, fmt.Errorf("the code %s has no hint", code)
		}
		statuses, _ := about["status"].([]any)
		for _, status := range statuses {
			n, err := strconv.Atoi(fmt.Sprint(status))
			if err != nil {
				return nil, fmt.Errorf("the code %s has the status %v", code, status)
			}
			c.codes[code] = append(c.codes[code], n)
		}
	}
	return c, nil
})

// TestMain looks at the end whether every operation was put to the proof.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.parallel").Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = flag.Set("test.parallel", "6") // the tests mostly wait, for disks and for each other
	}
	code := m.Run()
	selected := flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.list").Value.String() != "" || flag.Lookup("test.bench").Value.String() != ""
	if c, err := theContract(); code == 0 && !selected && err == nil {
		for _, missing := range c.unproven() {
			fmt.Println("no scenario has proved the operation", missing)
			code = 1
		}
	}
	os.Exit(code)
}

func (c *contract) unproven() []string {
	var missing []string
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if !c.proven[operation.OperationID] {
				missing = append(missing, method+" "+path)
			}
		}
	}
	sort.Strings(missing)
	return missing
}

// holds checks one answer against the file.
func (c *contract) holds(t *testing.T, request *http.Request, sent []byte, answer apptest.Answer) {
	t.Helper()
	if request.Method == http.MethodOptions {
		return
	}
	path, operation := c.find(request.Method, request.URL.Path)
	if operation == nil {
		if strings.HasPrefix(request.URL.Path, "/api/") && answer.Status != http.StatusNotFound {
			t.Errorf("%s %s is not in openapi.yaml and answers %d", request.Method, request.URL.Path, answer.Status)
		}
		return
	}
	about := fmt.Sprintf("%s %s answered %d", request.Method, path, answer.Status)
	schema, at := c.schemaFor(t, operation, pointer("paths", path, strings.ToLower(request.Method)), about, answer)
	if schema == nil {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(answer.Body))
	if err != nil {
		t.Errorf("%s with a body that is not JSON: %v", about, err)
		return
	}
	if err := c.check(at, value); err != nil {
		t.Errorf("%s otherwise than openapi.yaml says: %v\n%s", about, err, answer.Body)
	}
	for _, member := range undescribed(schema, value, "") {
		t.Errorf("%s with %s, which openapi.yaml does not describe: %s", about, member, answer.Body)
	}
	if answer.Status >= 400 || answer.Has("code") {
		c.holdsCode(t, operation, about, answer)
	}
	if answer.Status < 300 {
		c.accepts(t, operation, pointer("paths", path, strings.ToLower(request.Method)), about, sent)
		c.mu.Lock()
		c.proven[operation.OperationID] = true
		c.mu.Unlock()
	}
}

// find is the operation behind a request, as the router finds it: fixed parts before parameters.
func (c *contract) find(method, path string) (string, *openapi3.Operation) {
	asked := strings.Split(strings.TrimSuffix(path, "/"), "/")
	best, fixed := "", -1
	for template, item := range c.doc.Paths.Map() {
		parts, same := strings.Split(template, "/"), 0
		if len(parts) != len(asked) || item.GetOperation(method) == nil {
			continue
		}
		fits := true
		for i, part := range parts {
			if part == asked[i] {
				same++
			} else if !strings.HasPrefix(part, "{") {
				fits = false
			}
		}
		if fits && same > fixed {
			best, fixed = template, same
		}
	}
	if best == "" {
		return "", nil
	}
	return best, c.doc.Paths.Value(best).GetOperation(method)
}

const resourceName = "file:///openapi.json"

// pointer leads to a place in the file.
func pointer(parts ...string) string {
	at := "#"
	for _, part := range parts {
		at += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(part)
	}
	return at
}

// check holds a value to the schema at a place of the file.
func (c *contract) check(at string, value any) error {
	c.mu.Lock()
	schema, err := c.compiler.Compile(resourceName + at)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// choose is the answer that an operation promises for a status.
func choose(operation *openapi3.Operation, answer apptest.Answer) (key string, promised *openapi3.ResponseRef) {
	key = strconv.Itoa(answer.Status)
	if promised = operation.Responses.Value(key); promised != nil {
		return key, promised
	}
	// The range is for the words of another agent, not for ours.
	if answer.Status >= 400 && answer.Status < 500 && !answer.Has("request_id") {
		if promised = operation.Responses.Value("4XX"); promised != nil {
			return "4XX", promised
		}
	}
	if answer.Status < 400 {
		return "", nil
	}
	return "default", operation.Responses.Default()
}

// schemaFor is the form that the answer has to have, and where it stands; nil when there is no JSON to check.
func (c *contract) schemaFor(t *testing.T, operation *openapi3.Operation, at, about string, answer apptest.Answer) (*openapi3.Schema, string) {
	t.Helper()
	key, promised := choose(operation, answer)
	if promised == nil {
		t.Errorf("%s, a status that openapi.yaml does not have", about)
		return nil, ""
	}
	for name, header := range promised.Value.Headers {
		if header.Value.Required && answer.Header.Get(name) == "" {
			t.Errorf("%s without the header %s", about, name)
		}
	}
	if answer.Status == http.StatusNoContent && len(promised.Value.Content) == 0 {
		c.mu.Lock()
		c.proven[operation.OperationID] = true
		c.mu.Unlock()
		return nil, ""
	}
	media, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	content := promised.Value.Content.Get(media)
	if err != nil || content == nil {
		t.Errorf("%s as %q, which openapi.yaml does not have: %s", about, answer.Header.Get("Content-Type"), answer.Body)
		return nil, ""
	}
	if media != "application/json" && !strings.HasSuffix(media, "+json") {
		c.mu.Lock()
		c.proven[operation.OperationID] = true
		c.mu.Unlock()
		return nil, ""
	}
	where := at + strings.TrimPrefix(pointer("responses", key), "#")
	if promised.Ref != "" {
		where = promised.Ref
	}
	return content.Schema.Value, where + strings.TrimPrefix(pointer("content", media, "schema"), "#")
}

// everywhere are the codes that any operation may answer with; all others have to be named where they occur.
var everywhere = []string{ //nolint:gochecknoglobals // a constant
	"unauthorized", "forbidden", "host_not_allowed", "cross_origin", "credential_in_url", "payload_too_large", "unsupported_encoding", "bad_request",
	"store_busy", "internal_error", "too_many_attempts",
}

func (c *contract) holdsCode(t *testing.T, operation *openapi3.Operation, about string, answer apptest.Answer) {
	t.Helper()
	code := answer.Text("code")
	if code == strconv.Itoa(answer.Status) { // wire.md B30: the answers of the memory have their word in error
		code = answer.Text("error")
	}
	if code == "agent_error" && answer.Status >= 400 && answer.Status < 500 {
		return // the status is the agent's own
	}
	statuses := c.codes[code]
	if !slices.Contains(statuses, answer.Status) && !(answer.Status < 300 && slices.Contains(statuses, http.StatusOK)) && !ofAnAttempt(answer) {
		t.Errorf("%s with the code %q, which x-error-codes has for %v", about, code, statuses)
	}
	if answer.Status < 400 || answer.Has("duration_ms") || slices.Contains(everywhere, code) {
		return
	}
	promised := operation.Responses.Value(strconv.Itoa(answer.Status))
	if promised == nil || !strings.Contains(describe(promised), "`"+code+"`") {
		t.Errorf("%s with the code %q, which the operation does not name", about, code)
	}
}

// describe is what an operation says about an answer: beside the reference, or in the answer itself.
func describe(response *openapi3.ResponseRef) string {
	if response.Description != nil {
		return *response.Description
	}
	if response.Value.Description != nil {
		return *response.Value.Description
	}
	return ""
}

// ofAnAttempt: the record of an execution may have any code of a failure, whatever the answer is about.
func ofAnAttempt(answer apptest.Answer) bool { return answer.Status < 300 && answer.Has("attempt") }

// accepts checks that what was accepted is what the file says can be sent.
func (c *contract) accepts(t *testing.T, operation *openapi3.Operation, at, about string, sent []byte) {
	t.Helper()
	if operation.RequestBody == nil || len(bytes.TrimSpace(sent)) == 0 {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(sent))
	if err != nil {
		t.Errorf("%s to a body that is not JSON", about)
		return
	}
	where := at + "/requestBody"
	if operation.RequestBody.Ref != "" {
		where = operation.RequestBody.Ref
	}
	if err := c.check(where+strings.TrimPrefix(pointer("content", "application/json", "schema"), "#"), value); err != nil {
		t.Errorf("%s to a body that openapi.yaml does not allow: %v\n%s", about, err, sent)
	}
}

// undescribed lists the members of a value that its schema says nothing about. Schemas without members are free in what they have.
func undescribed(schema *openapi3.Schema, value any, at string) []string {
	var found []string
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			if schema.Items != nil {
				found = append(found, undescribed(schema.Items.Value, item, at+"/"+strconv.Itoa(i))...)
			}
		}
	case map[string]any:
		for name, member := range v {
			described, free := memberOf(schema, name)
			if !described && !free {
				found = append(found, at+"/"+name)
			}
			if property := schema.Properties[name]; property != nil {
				found = append(found, undescribed(property.Value, member, at+"/"+name)...)
			}
		}
	}
	return found
}

// memberOf reports whether a schema describes a member, or describes none at all.
func memberOf(schema *openapi3.Schema, name string) (described, free bool) {
	alternatives := slices.Concat(schema.AnyOf, schema.OneOf)
	if len(schema.Properties) == 0 && len(alternatives) == 0 {
		return false, true
	}
	if schema.Properties[name] != nil {
		return true, false
	}
	for _, alternative := range alternatives {
		if described, free := memberOf(alternative.Value, name); described || free {
			return true, false
		}
	}
	return false, false
}

func TestOpenAPIListsEveryErrorCode(t *testing.T) {
	t.Parallel()
	c := loadContract(t)
	words := regexp.MustCompile(`(?m)(?:\bcode:|^\t+code :?=|code[A-Z][A-Za-z]+ +=|badRequest\(|text\("code",) *"([a-z_]+)"`)
	used := map[string]bool{}
	for _, pattern := range []string{"*.go", "../app/execution/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range words.FindAllSubmatch(source, -1) {
				used[string(match[1])] = true
				if c.codes[string(match[1])] == nil {
					t.Errorf("%s uses the code %q, which x-error-codes does not have", file, match[1])
				}
			}
		}
	}
	for code := range c.codes {
		if !used[code] {
			t.Errorf("x-error-codes has %q, which nothing uses", code)
		}
	}
}

func TestOpenAPIExamplesFitTheirSchemas(t *testing.T) {
	t.Parallel()
	c := loadContract(t)
	for path, item := range c.doc.Paths.Map() {
		for method, operation := range item.Operations() {
			at := pointer("paths", path, strings.ToLower(method))
			for status, response := range operation.Responses.Map() {
				if response.Ref == "" {
					c.examples(t, at+strings.TrimPrefix(pointer("responses", status), "#"), response.Value.Content)
				}
			}
			if operation.RequestBody != nil && operation.RequestBody.Ref == "" {
				c.examples(t, at+"/requestBody", operation.RequestBody.Value.Content)
			}
			for name, callback := range operation.Callbacks {
				for url, to := range callback.Value.Map() {
					c.examples(t, at+strings.TrimPrefix(pointer("callbacks", name, url, "post", "requestBody"), "#"), to.Post.RequestBody.Value.Content)
				}
			}
		}
	}
	for name, body := range c.doc.Components.RequestBodies {
		c.examples(t, pointer("components", "requestBodies", name), body.Value.Content)
	}
}

func (c *contract) examples(t *testing.T, at string, content openapi3.Content) {
	t.Helper()
	for media, body := range content {
		examples := map[string]any{"example": body.Example}
		for name, example := range body.Examples {
			examples[name] = example.Value.Value
		}
		for name, example := range examples {
			if example == nil {
				continue
			}
			if err := c.check(at+strings.TrimPrefix(pointer("content", media, "schema"), "#"), plainJSON(t, example)); err != nil {
				t.Errorf("%s, %s: %v", at, name, err)
			}
		}
	}
}

// plainJSON is a value of the file in the types of the validator.
func plainJSON(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
