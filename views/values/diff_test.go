package values_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/views/values"
)

func TestDifferencesAreListedByPath(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          []values.Change
	}{
		"nothing, whatever the order and the spacing": {`{"a": 1, "b": [1, 2]}`, `{"b":[1,2],"a":1}`, nil},
		"a member changes": {
			`{"amount": 4200.00}`, `{"amount": 3850.00}`,
			[]values.Change{{Path: "amount", Kind: values.Changed, Before: "4200.00", After: "3850.00"}},
		},
		"members come and go, what is new in its order": {
			`{"gone": true, "a": 1}`, `{"z": null, "a": 1, "b": "x"}`,
			[]values.Change{
				{Path: "z", Kind: values.Added, After: "null"},
				{Path: "b", Kind: values.Added, After: "x"},
				{Path: "gone", Kind: values.Removed, Before: "true"},
			},
		},
		"deep within": {
			`{"a": {"b": [{"c": 1}, {"c": 2}]}}`, `{"a": {"b": [{"c": 1}, {"c": 3}]}}`,
			[]values.Change{{Path: "a.b[1].c", Kind: values.Changed, Before: "2", After: "3"}},
		},
		"an element is put in the middle": {
			`["a", "b", "c"]`, `["a", "x", "b", "c"]`,
			[]values.Change{{Path: "[1]", Kind: values.Added, After: "x"}},
		},
		"an element is taken out": {
			`{"covers": ["fire", "theft"]}`, `{"covers": ["theft"]}`,
			[]values.Change{{Path: "covers[0]", Kind: values.Removed, Before: "fire"}},
		},
		"another kind of value": {
			`{"a": [1]}`, `{"a": {"b": 1}}`,
			[]values.Change{{Path: "a", Kind: values.Changed, Before: "[1]", After: `{"b": 1}`}},
		},
		"a number and the text that looks like it differ": {
			`{"a": 1}`, `{"a": "1"}`,
			[]values.Change{{Path: "a", Kind: values.Changed, Before: "1", After: "1"}},
		},
		"numbers keep every digit": {
			`[9007199254740993]`, `[9007199254740992]`,
			[]values.Change{{Path: "[0]", Kind: values.Changed, Before: "9007199254740993", After: "9007199254740992"}},
		},
		"names that are not words are quoted": {
			`{"a b": 1}`, `{"a b": 2}`,
			[]values.Change{{Path: `["a b"]`, Kind: values.Changed, Before: "1", After: "2"}},
		},
		"the same member twice: the last counts": {`{"a": 1, "a": 2}`, `{"a": 2}`, nil},
		"not JSON":                               {`x`, `y`, []values.Change{{Kind: values.Changed, Before: "x", After: "y"}}},
		"nothing before":                         {``, `{}`, []values.Change{{Kind: values.Added, After: "{}"}}},
		"nothing after":                          {`[]`, ``, []values.Change{{Kind: values.Removed, Before: "[]"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := values.Diff([]byte(c.before), []byte(c.after)); !slices.Equal(got, c.want) {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestSomethingNestedTooDeeplyIsComparedAsAWhole(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if got := values.Diff([]byte(deep), []byte("[]")); len(got) != 1 || got[0].Path != "" {
		t.Errorf("%d changes", len(got))
	}
}

func TestSameJSON(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{"a": 1, "b": 2}`, "{\n\"b\":2,\"a\":1}", true},
		{`{"a": 1}`, `{"a": 1.0}`, false},
		{`{"a": 1, "a": 2}`, `{"a": 2, "b": 3}`, false},
		{`[1, 2]`, `[2, 1]`, false},
		{`{}`, `not JSON`, false},
		{`1 2`, `1 2`, false},
	} {
		if values.Same([]byte(c.a), []byte(c.b)) != c.same {
			t.Errorf("%s and %s: want %t", c.a, c.b, c.same)
		}
	}
}
