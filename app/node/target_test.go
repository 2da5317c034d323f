package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/database"
)

func operatorSets(t *testing.T, limit int) func(tx *database.Tx) error {
	return func(tx *database.Tx) error {
		_, err := tx.Exec(t.Context(), "UPDATE node_queues SET max_concurrency = $1", limit)
		return err
	}
}

func TestTargetsAreReadInAllForms(t *testing.T) {
	for target, want := range map[string][2]string{
		"hello-world.greet": {"hello-world", "greet"}, "hello:greet": {"hello", "greet"}, "hello:skill:greet": {"hello", "greet"},
		"a:b.c": {"a:b", "c"},
	} {
		node, function, err := ParseTarget(target)
		if err != nil || node != want[0] || function != want[1] {
			t.Errorf("%s: %s, %s, %v", target, node, function, err)
		}
	}
	for _, target := range []string{
		"", "hello", ".", "a.", ".b", "a.b.c", "a:b:c", "a:skill:b:c", "a/b.c", "a.b\x00", "a.\xff", strings.Repeat("x", 256) + ".b",
	} {
		if _, _, err := ParseTarget(target); !errors.Is(err, ErrInvalidTarget) {
			t.Errorf("%q: %v", target, err)
		}
	}
}

func TestUnknownNamesAreAnsweredWithSimilarOnes(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.register(`{"id":"hello-world","base_url":"http://a:1","reasoners":[{"id":"greet"},{"id":"part"},{"id":"x"}]}`)
		r.register(`{"id":"research","base_url":"http://a:1"}`)
		_, err := r.Lookup(t.Context(), "helo-world", "greet")
		var unknown *UnknownError
		if !errors.Is(err, ErrUnknownNode) || errors.Is(err, ErrUnknownFunction) || !errors.As(err, &unknown) || unknown.Known[0] != "hello-world" {
			t.Errorf("unknown node: %v", err)
		}
		_, err = r.Lookup(t.Context(), "hello-world", "great")
		if !errors.Is(err, ErrUnknownFunction) || !strings.Contains(err.Error(), "has no function great; there is greet, part, x") {
			t.Errorf("unknown function: %v", err)
		}
	})
}

func TestWhatAnotherReplicaWroteIsSeen(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		other := r.another(Options{AllowUnsigned: true})
		if _, err := other.Lookup(t.Context(), "hello", "greet"); !errors.Is(err, ErrUnknownNode) {
			t.Fatal(err)
		}
		r.add("http://a:1")
		if _, err := other.Lookup(t.Context(), "hello", "greet"); err != nil {
			t.Fatalf("a miss asks the database: %v", err)
		}
		r.condemn()
		if !other.Usable("hello") {
			t.Fatal("nothing has told the other one yet")
		}
		if _, err := other.refresh(t.Context()); err != nil || other.Usable("hello") {
			t.Errorf("after the refresh it still counts as usable (%v)", err)
		}
	})
}

const ticket = `{"type":"object","properties":{"message":{"type":"string","minLength":2},"count":{"type":"integer","maximum":10},
	"who":{"anyOf":[{"type":"string"},{"type":"null"}]},"items":{"type":"array","items":{"$ref":"#/$defs/item"}}},
	"required":["message"],"$defs":{"item":{"type":"object","properties":{"a/b":{"type":"number"}},"additionalProperties":false}}}`

func TestInputIsCheckedAgainstTheRegisteredSchema(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.register(`{"id":"hello","base_url":"http://a:1","reasoners":[{"id":"greet","input_schema":` + ticket + `},{"id":"free"},{"id":"empty","input_schema":{}}]}`)
		greet, err := r.Lookup(t.Context(), "hello", "greet")
		if err != nil {
			t.Fatal(err)
		}
		for input, want := range map[string]InputError{
			`{"message":"hi","extra":1}`:                {},
			`{"message":"hi","who":null,"count":10}`:    {},
			`{}`:                                        {"/message", "message is required"},
			`{"message":1}`:                             {"/message", "got number, want string"},
			`{"message":"hi","count":11}`:               {"/count", "maximum: got 11, want 10"},
			`{"message":"hi","count":1.5}`:              {"/count", "got number, want integer"},
			`{"message":"hi","who":5}`:                  {"/who", "got number, want string, or got number, want null"},
			`{"message":"hi","items":[{},{"a/b":"x"}]}`: {"/items/1/a~1b", "got string, want number"},
			`{"message":"hi","items":[{"z":1}]}`:        {"/items/0/z", "z is not allowed"},
			`[]`:                                        {"", "got array, want object"},
			`{"message":`:                               {"", "it is not valid JSON: unexpected EOF"},
			`{"message":"hi"} x`:                        {"", "something follows the JSON value"},
			`{"message":"hi","count":1e999999999}`:      {"/count", "the number is too large"},
		} {
			err := greet.Validate([]byte(input))
			var wrong *InputError
			if want.Message == "" {
				if err != nil {
					t.Errorf("%s: %v", input, err)
				}
				continue
			}
			if !errors.As(err, &wrong) || *wrong != want {
				t.Errorf("%s: got %#v, want %#v", input, err, want)
			}
		}
		deep := `{"message":"hi","x":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`
		if err := greet.Validate([]byte(deep)); err == nil || !strings.Contains(err.Error(), "nested deeper than 200") {
			t.Errorf("deep input: %.200v", err)
		}
		for _, name := range []string{"free", "empty"} {
			f, err := r.Lookup(t.Context(), "hello", name)
			if err != nil || f.Validate([]byte(`"anything"`)) != nil {
				t.Errorf("%s: no schema means no check (%v)", name, err)
			}
		}
	})
}

func TestLargeIntegersAreNotRounded(t *testing.T) {
	s := &schema{text: `{"maximum":9007199254740993}`}
	if err := s.validate([]byte("9007199254740993")); err != nil {
		t.Error(err)
	}
	if err := s.validate([]byte("9007199254740994")); err == nil {
		t.Error("one more passed")
	}
}

func TestAPatternInAnotherDialectIsLeftToTheAgent(t *testing.T) {
	s := &schema{text: `{"pattern":"^(?=.*[0-9]).{8,}$","minLength":2}`}
	if err := s.validate([]byte(`"abcd"`)); err != nil {
		t.Error(err)
	}
	if err := s.validate([]byte(`"a"`)); err == nil {
		t.Error("the rest of the schema must hold")
	}
}

func TestARecursiveSchemaEnds(t *testing.T) {
	s := &schema{text: `{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}}}`}
	input := strings.Repeat(`{"next":`, 150) + "7" + strings.Repeat("}", 150)
	err := s.validate([]byte(input))
	var wrong *InputError
	if !errors.As(err, &wrong) || wrong.Pointer != strings.Repeat("/next", 150) {
		t.Errorf("%v", err)
	}
	if err := (&schema{text: `{"$ref":"#"}`}).validate([]byte("1")); err == nil {
		t.Error("a schema that only means itself was accepted as fulfilled")
	}
}

func TestCapabilitiesAreCountedOverTheWholeFilteredSet(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		for i := range 2 {
			r.clock.advance(1e9)
			r.register(fmt.Sprintf(`{"id":"agent%d","base_url":"http://a:%d","reasoners":[{"id":"think","tags":["deep"]}],
				"skills":[{"id":"web_search","tags":["web-x"],"input_schema":{"type":"object"}},{"id":"other","tags":["web"]}],
				"metadata":{"custom":{"descriptions":{"web_search":"Searches."},"examples":{"web_search":[{"q":1}]}}}}`, i, i+1))
		}
		ask := func(query map[string]string) *Capabilities {
			q, err := ParseDiscovery(func(name string) string { return query[name] })
			if err != nil {
				t.Fatal(err)
			}
			c, err := r.Capabilities(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		c := ask(map[string]string{"skill": "web_*", "tags": "web*", "limit": "1", "offset": "1"})
		if c.TotalAgents != 2 || c.TotalSkills != 2 || c.TotalReasoners != 0 || len(c.Capabilities) != 1 || c.Pagination.HasMore ||
			c.Capabilities[0].AgentID != "agent0" || c.Capabilities[0].Skills[0].InvocationTarget != "agent0:skill:web_search" {
			t.Errorf("the example of the protocol: %+v", c)
		}
		all := ask(nil)
		if all.Capabilities[0].AgentID != "agent1" || all.TotalReasoners != 2 || all.TotalSkills != 4 || all.Pagination.Limit != 100 {
			t.Errorf("newest first: %+v", all)
		}
		search := all.Capabilities[0].Skills[0]
		if search.InputSchema != nil || search.Examples != nil || search.Description != "Searches." {
			t.Errorf("defaults: %+v", search)
		}
		full := ask(map[string]string{"node_ids": "agent0, x", "include_input_schema": "yes", "include_examples": "1", "include_descriptions": "no"})
		search = full.Capabilities[0].Skills[0]
		if full.TotalAgents != 1 || string(search.InputSchema) != `{"type":"object"}` || string(search.Examples) != `[{"q":1}]` || search.Description != "" {
			t.Errorf("everything asked for: %+v", search)
		}
		if c := ask(map[string]string{"health_status": "active"}); c.TotalAgents != 0 {
			t.Errorf("health filter: %+v", c)
		}
		if c := ask(map[string]string{"reasoner": "none*"}); c.TotalReasoners != 0 || c.TotalSkills != 4 || c.Capabilities[0].Reasoners == nil {
			t.Errorf("reasoner narrows only reasoners: %+v", c)
		}
		if text, err := json.Marshal(all); err != nil || strings.Contains(string(text), ":null") {
			t.Errorf("null in %s (%v)", text, err)
		}
	})
}

func TestBadDiscoveryParametersAreNamed(t *testing.T) {
	for name, value := range map[string]string{
		"limit": "501", "offset": "-1", "format": "yaml", "health_status": "fine", "include_examples": "perhaps",
	} {
		_, err := ParseDiscovery(func(asked string) string {
			if asked == name {
				return value
			}
			return ""
		})
		var wrong *ParameterError
		if !errors.As(err, &wrong) || wrong.Parameter != name || wrong.Provided != value || len(wrong.Allowed) == 0 {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestGlobs(t *testing.T) {
	got := map[string]bool{}
	for _, c := range []string{"web_*|web_search", "*|", "*search|web_search", "w*s*h|web_search", "web|web_search", "*x*|web", "a*a|a"} {
		pattern, text, _ := strings.Cut(c, "|")
		got[c] = glob(pattern, text)
	}
	want := map[string]bool{
		"web_*|web_search": true, "*|": true, "*search|web_search": true, "w*s*h|web_search": true,
		"web|web_search": false, "*x*|web": false, "a*a|a": false,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}
