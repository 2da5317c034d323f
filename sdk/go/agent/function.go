package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// Func is a function in its plain form: JSON in, a value that encoding/json can write out. ctx carries the execution (FromContext)
// and ends when the execution is cancelled, not when a connection breaks.
type Func func(ctx context.Context, input json.RawMessage) (any, error)

type function struct {
	name, kind, description string
	tags                    []string
	idempotent              bool
	input, output           json.RawMessage // JSON Schema, or nil
	call                    Func
}

// Option describes a function further.
type Option func(*function)

// Description says in a sentence what the function does.
func Description(text string) Option { return func(f *function) { f.description = text } }

// Idempotent says that the function may see the same execution twice without harm: what one instance of the agent fails or loses, the
// control plane gives to the next one.
func Idempotent() Option { return func(f *function) { f.idempotent = true } }

// Tags mark the function for discovery.
func Tags(tags ...string) Option { return func(f *function) { f.tags = tags } }

// AsSkill registers the function as a skill: deterministic code, where a reasoner thinks. They are called in the same way.
func AsSkill() Option { return func(f *function) { f.kind = "skill" } }

// InputSchema replaces the JSON Schema that the control plane checks inputs against.
func InputSchema(schema json.RawMessage) Option { return func(f *function) { f.input = schema } }

// OutputSchema replaces the JSON Schema that describes results.
func OutputSchema(schema json.RawMessage) Option { return func(f *function) { f.output = schema } }

// Reasoner registers a function under a name. It panics if the name is taken, empty, or has dots, slashes or spaces in it.
func (a *Agent) Reasoner(name string, f Func, options ...Option) { a.add(name, "reasoner", f, options) }

// Skill registers a function as a skill; see AsSkill.
func (a *Agent) Skill(name string, f Func, options ...Option) { a.add(name, "skill", f, options) }

// Handle registers a typed function as a reasoner. The JSON Schemas of input and result are derived from the types: names and
// omitempty from the json tag (what is neither omitempty nor a pointer is required), texts from the description tag, allowed words from
// the enum tag ("low,high"). Keys that the type does not have are ignored. An input that does not fit is refused with 422.
//
// The first argument is an agent or a router.
func Handle[In, Out any](a Registrar, name string, f func(ctx context.Context, in In) (Out, error), options ...Option) {
	call := func(ctx context.Context, input json.RawMessage) (any, error) {
		var in In
		if err := json.Unmarshal(input, &in); err != nil {
			return nil, Errorf(422, "the input does not fit %s: %w", name, err)
		}
		return f(ctx, in)
	}
	derived := []Option{InputSchema(schemaOf(reflect.TypeFor[In]())), OutputSchema(schemaOf(reflect.TypeFor[Out]()))}
	a.add(name, "reasoner", call, append(derived, options...))
}

func (a *Agent) add(name, kind string, call Func, options []Option) {
	f := &function{name: name, kind: kind, call: call}
	for _, option := range options {
		option(f)
	}
	if name == "" || len(name) > 255 || strings.ContainsAny(name, "./?#% ") {
		panic(fmt.Sprintf("agent: the function name %q is empty, too long, or has dots, slashes or spaces in it", name))
	}
	key := f.kind + " " + name
	if a.functions[key] != nil {
		panic(fmt.Sprintf("agent: the %s %q is registered twice", f.kind, name))
	}
	a.functions[key] = f
	a.order = append(a.order, f)
}
