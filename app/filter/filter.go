// Package filter is the language in which lists are searched: key:value terms, the same in the dashboard, the API and the command line.
// It is pure: it turns text into terms and says by position what it did not understand. Its invariant: what was understood is written by
// String so that it reads back as the same terms.
package filter

import (
	"strings"
)

// The bounds of a filter. They keep a statement made from one small.
const (
	MaxLength = 4000 // bytes
	maxTerms  = 40
	maxValues = 200 // of one term
)

// Op is how a value is compared.
type Op string

// The comparisons. Only numbers, durations and instants know others than Equal.
const (
	Equal   Op = ""
	Over    Op = ">"
	AtLeast Op = ">="
	Under   Op = "<"
	AtMost  Op = "<="
)

// Value is one of the alternatives of a term.
type Value struct {
	Text   string
	Prefix bool // Text is only the beginning
	Op     Op
	N      int64 // what Text amounts to, where the key compares: a number, a duration in ms, an instant in ms since 1970
}

// Term is one condition: any of its values, or with Not none of them. A term without a key is a word by itself.
type Term struct {
	Key    string
	Not    bool
	Values []Value
}

// Query is a filter that was understood: all of its terms together.
type Query struct{ Terms []Term }

// Problem is a part of the text that was not understood; the rest of the filter holds all the same.
type Problem struct {
	At, End int    // bytes of the text
	Text    string // a sentence for whoever wrote it
	Near    string // the key that was probably meant; may be empty
}

func (p Problem) Error() string { return p.Text }

// Empty reports whether the query narrows nothing.
func (q Query) Empty() bool { return len(q.Terms) == 0 }

// Without is the query with one of its terms left out.
func (q Query) Without(i int) Query {
	rest := make([]Term, 0, len(q.Terms))
	rest = append(rest, q.Terms[:i]...)
	return Query{append(rest, q.Terms[i+1:]...)}
}

// String writes the query in its shortest form.
func (q Query) String() string {
	parts := make([]string, len(q.Terms))
	for i, t := range q.Terms {
		parts[i] = t.String()
	}
	return strings.Join(parts, " ")
}

func (t Term) String() string {
	var b strings.Builder
	if t.Not {
		b.WriteByte('-')
	}
	if t.Key != "" {
		b.WriteString(t.Key + ":")
	}
	for i, v := range t.Values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(v.written(t.Key == ""))
	}
	return b.String()
}

// written quotes what the reader of the text would take for something else.
func (v Value) written(free bool) string {
	text := v.Text
	if v.Op == Equal && v.mustQuote(free) {
		text = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
	}
	if v.Prefix {
		text += "*"
	}
	return string(v.Op) + text
}

func (v Value) mustQuote(free bool) bool {
	special := ` ",*` + "\t\r\n\v\f\u0085\u00a0"
	if free {
		special += ":<>"
	}
	return v.Text == "" && !v.Prefix || strings.ContainsAny(v.Text, special) || strings.ContainsFunc(v.Text, space) ||
		strings.HasPrefix(v.Text, "<") || strings.HasPrefix(v.Text, ">") || free && strings.HasPrefix(v.Text, "-")
}
