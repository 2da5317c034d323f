package approvals_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/views/approvals"
)

func TestDifferencesAreListedByPath(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string
		want          []approvals.Change
	}{
		"nothing, whatever the order and the spacing": {`{"a": 1, "b": [1, 2]}`, `{"b":[1,2],"a":1}`, nil},
		"a member changes": {
			`{"amount": 4200.00}`, `{"amount": 3850.00}`,
			[]approvals.Change{{Path: "amount", Kind: approvals.Changed, Before: "4200.00", After: "3850.00"}},
		},
		"members come and go, what is new in its order": {
			`{"gone": true, "a": 1}`, `{"z": null, "a": 1, "b": "x"}`,
			[]approvals.Change{
				{Path: "z", Kind: approvals.Added, After: "null"},
				{Path: "b", Kind: approvals.Added, After: "x"},
				{Path: "gone", Kind: approvals.Removed, Before: "true"},
			},
		},
		"deep within": {
			`{"a": {"b": [{"c": 1}, {"c": 2}]}}`, `{"a": {"b": [{"c": 1}, {"c": 3}]}}`,
			[]approvals.Change{{Path: "a.b[1].c", Kind: approvals.Changed, Before: "2", After: "3"}},
		},
		"an element is put in the middle": {
			`["a", "b", "c"]`, `["a", "x", "b", "c"]`,
			[]approvals.Change{{Path: "[1]", Kind: approvals.Added, After: "x"}},
		},
		"an element is taken out": {
			`{"covers": ["fire", "theft"]}`, `{"covers": ["theft"]}`,
			[]approvals.Change{{Path: "covers[0]", Kind: approvals.Removed, Before: "fire"}},
		},
		"another kind of value": {
			`{"a": [1]}`, `{"a": {"b": 1}}`,
			[]approvals.Change{{Path: "a", Kind: approvals.Changed, Before: "[1]", After: `{"b": 1}`}},
		},
		"a number and the text that looks like it differ": {
			`{"a": 1}`, `{"a": "1"}`,
			[]approvals.Change{{Path: "a", Kind: approvals.Changed, Before: "1", After: "1"}},
		},
		"numbers keep every digit": {
			`[9007199254740993]`, `[9007199254740992]`,
			[]approvals.Change{{Path: "[0]", Kind: approvals.Changed, Before: "9007199254740993", After: "9007199254740992"}},
		},
		"names that are not words are quoted": {
			`{"a b": 1}`, `{"a b": 2}`,
			[]approvals.Change{{Path: `["a b"]`, Kind: approvals.Changed, Before: "1", After: "2"}},
		},
		"the same member twice: the last counts": {`{"a": 1, "a": 2}`, `{"a": 2}`, nil},
		"not JSON":                               {`x`, `y`, []approvals.Change{{Kind: approvals.Changed, Before: "x", After: "y"}}},
		"nothing before":                         {``, `{}`, []approvals.Change{{Kind: approvals.Added, After: "{}"}}},
		"nothing after":                          {`[]`, ``, []approvals.Change{{Kind: approvals.Removed, Before: "[]"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := approvals.Diff([]byte(c.before), []byte(c.after)); !slices.Equal(got, c.want) {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestSomethingNestedTooDeeplyIsComparedAsAWhole(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if got := approvals.Diff([]byte(deep), []byte("[]")); len(got) != 1 || got[0].Path != "" {
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
		if approvals.SameJSON([]byte(c.a), []byte(c.b)) != c.same {
			t.Errorf("%s and %s: want %t", c.a, c.b, c.same)
		}
	}
}
