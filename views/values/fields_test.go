package values_test

import (
	"slices"
	"testing"

	"github.com/agentfield/agentfield/views/values"
)

const schema = `{
	"type": "object", "required": ["checked", "kind"],
	"properties": {
		"kind": {"type": "string", "enum": ["water", "fire"], "title": "Kind of damage"},
		"checked": {"type": "boolean", "description": "Compare the names."},
		"limit": {"type": "integer", "minimum": 1, "maximum": 5000},
		"rate": {"type": "number"},
		"level": {"oneOf": [{"const": 1, "title": "One"}, {"const": 2}]},
		"mail": {"type": "string", "format": "email"},
		"note": {"type": "string", "minLength": 3, "maxLength": 500}
	}
}`

func TestAFormIsDrawnInTheOrderOfItsSchema(t *testing.T) {
	fields, ok := values.Fields([]byte(schema))
	if !ok {
		t.Fatal("the form cannot be drawn")
	}
	var drawn []string
	for _, f := range fields {
		drawn = append(drawn, f.Name+":"+string(f.Kind))
	}
	want := []string{"kind:choice", "checked:yesno", "limit:integer", "rate:number", "level:choice", "mail:text", "note:long"}
	if !slices.Equal(drawn, want) {
		t.Errorf("got %v", drawn)
	}
	if !fields[0].Required || fields[2].Required || fields[0].Title != "Kind of damage" || fields[1].Description != "Compare the names." {
		t.Errorf("%+v", fields)
	}
}

func TestShapesThatAreNoListOfFieldsAreTypedAsJSON(t *testing.T) {
	for _, schema := range []string{
		`{"type": "array", "items": {"type": "string"}}`,
		`{"type": "object"}`,
		`{"type": "object", "properties": {}}`,
		`{"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}`,
		`{"type": "object", "properties": {"a": {"type": "array"}}}`,
		`{"type": "object", "properties": {"a": {"$ref": "#/x"}}}`,
		`{"type": "object", "properties": {"a": true}}`,
		`{"type": "object", "properties": {"a": {"enum": []}}}`,
		`{"type": "object", "properties": {"a": {"enum": [{"b": 1}]}}}`,
		`{"type": "object", "properties": {"a": {"type": ["string", "null"]}}}`,
		`{"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]}`,
		`{"type": "object", "properties": {"a": {"type": "string"}}, "allOf": []}`,
		`"a text"`,
		`not JSON`,
	} {
		if fields, ok := values.Fields([]byte(schema)); ok {
			t.Errorf("%s was drawn as %+v", schema, fields)
		}
	}
}

func TestAFormIsFilledOnlyWhereItSaysTheSame(t *testing.T) {
	fields, _ := values.Fields([]byte(schema))
	for body, fits := range map[string]bool{
		`{"kind": "fire", "checked": false, "limit": 20, "rate": 0.50, "level": 2, "mail": "ada@example.com", "note": "one\ntwo"}`: true,
		`{}`:                       true,
		`{"other": 1}`:             false,
		`{"limit": "20"}`:          false,
		`{"limit": null}`:          false,
		`{"limit": 1e3}`:           false,
		`{"kind": "earthquake"}`:   false,
		`{"note": " spaces "}`:     false,
		`{"note": ""}`:             false,
		`{"checked": {"a": true}}`: false,
		`[1]`:                      false,
		`not JSON`:                 false,
	} {
		filled, typed, ok := values.Fill(fields, []byte(body))
		if ok != fits {
			t.Errorf("%s: %t", body, ok)
			continue
		}
		if !ok {
			continue
		}
		back, problems := values.Read(filled, typed, "")
		if len(problems) > 0 || body != "{}" && !values.Same(back, []byte(body)) {
			t.Errorf("%s came back as %s, %v", body, back, problems)
		}
	}
}
