// Package values is JSON as people meet it: drawn as names and texts, compared by path, asked for field by field. Its invariant: every
// number keeps its digits and every member its place, and what cannot be shown so is left as JSON, never dropped.
package values

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// kind says what a value is.
type kind int

const (
	scalar kind = iota // number, true, false or null: text is the literal, as it was written
	text               // a string: text is its content
	object
	array
)

// Value is JSON with its members in the order in which they were written: people read a proposal in the order its author chose.
type Value struct {
	kind    kind
	text    string
	members []member
	items   []*Value
	index   map[string]*Value // the members by name, made when the first is asked for
}

type member struct {
	name  string
	value *Value
}

var errTooDeep = errors.New("the JSON is nested too deeply to be drawn")

const deepest = 64

// parse reads JSON. Numbers keep every digit.
func parse(body []byte) (*Value, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	v, err := read(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one JSON value")
	}
	return v, nil
}

func read(d *json.Decoder, depth int) (*Value, error) {
	if depth > deepest {
		return nil, errTooDeep
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return readObject(d, depth)
		}
		return readArray(d, depth)
	case string:
		return &Value{kind: text, text: t}, nil
	case json.Number:
		return &Value{text: t.String()}, nil
	case bool:
		if t {
			return &Value{text: "true"}, nil
		}
		return &Value{text: "false"}, nil
	}
	return &Value{text: "null"}, nil
}

func readObject(d *json.Decoder, depth int) (*Value, error) {
	v := &Value{kind: object}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		item, err := read(d, depth+1)
		if err != nil {
			return nil, err
		}
		v.members = append(v.members, member{name.(string), item})
	}
	_, err := d.Token()
	return v, err
}

func readArray(d *json.Decoder, depth int) (*Value, error) {
	v := &Value{kind: array}
	for d.More() {
		item, err := read(d, depth+1)
		if err != nil {
			return nil, err
		}
		v.items = append(v.items, item)
	}
	_, err := d.Token()
	return v, err
}

// Get is a member of an object; nil: there is none. Of several with one name the last counts, as for every reader of JSON.
func (v *Value) Get(name string) *Value {
	if v == nil {
		return nil
	}
	if v.index == nil {
		v.index = make(map[string]*Value, len(v.members))
		for _, m := range v.members {
			v.index[m.name] = m.value
		}
	}
	return v.index[name]
}

// Names are those of an object's members, each once, in the order in which they were written; nil when it is no object.
func (v *Value) Names() []string {
	if v == nil || v.kind != object {
		return nil
	}
	var names []string
	known := make(map[string]bool, len(v.members))
	for _, m := range v.members {
		if !known[m.name] {
			known[m.name] = true
			names = append(names, m.name)
		}
	}
	return names
}

// Plain reports whether the value holds no others.
func (v *Value) Plain() bool { return v.kind == scalar || v.kind == text }

// empty reports whether it is a container of nothing.
func (v *Value) empty() bool { return !v.Plain() && len(v.members)+len(v.items) == 0 }

// String is the value as JSON in one line.
func (v *Value) String() string {
	var b strings.Builder
	v.write(&b)
	return b.String()
}

func (v *Value) write(b *strings.Builder) {
	switch v.kind {
	case scalar:
		b.WriteString(v.text)
	case text:
		writeString(b, v.text)
	case object:
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteString(", ")
			}
			writeString(b, m.name)
			b.WriteString(": ")
			m.value.write(b)
		}
		b.WriteByte('}')
	case array:
		b.WriteByte('[')
		for i, item := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			item.write(b)
		}
		b.WriteByte(']')
	}
}

func writeString(b *strings.Builder, s string) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if e.Encode(s) == nil {
		b.Write(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
	}
}

// shown is the value as people read it: strings without their quotes.
func (v *Value) shown() string {
	if v.kind == text {
		return v.text
	}
	return v.String()
}

// Equal compares values; the order of members does not matter, the way a number is written does.
func (v *Value) Equal(w *Value) bool {
	if v.kind != w.kind || v.text != w.text || len(v.items) != len(w.items) || len(v.members) != len(w.members) {
		return false
	}
	for i, item := range v.items {
		if !item.Equal(w.items[i]) {
			return false
		}
	}
	for _, m := range v.members {
		other := w.Get(m.name)
		if other == nil || !m.value.Equal(other) {
			return false
		}
	}
	return true
}

// Same reports whether two texts are the same JSON, however they are spaced and their members ordered.
func Same(a, b []byte) bool {
	va, errA := parse(a)
	vb, errB := parse(b)
	return errA == nil && errB == nil && va.Equal(vb)
}

// table is an array of flat objects as columns and rows; ok is false when it is not one, or too wide to be read.
func (v *Value) table() (columns []string, ok bool) {
	const widest = 7
	if v.kind != array || len(v.items) == 0 {
		return nil, false
	}
	known := map[string]bool{}
	for _, row := range v.items {
		if row.kind != object {
			return nil, false
		}
		for _, m := range row.members {
			if !m.value.Plain() || len(m.value.text) > 160 {
				return nil, false
			}
			if !known[m.name] {
				known[m.name] = true
				columns = append(columns, m.name)
			}
		}
	}
	return columns, len(columns) > 0 && len(columns) <= widest
}

// numeric reports whether a column holds nothing but numbers, so that it is aligned at its end.
func (v *Value) numeric(column string) bool {
	for _, row := range v.items {
		if cell := row.Get(column); cell != nil && (cell.kind != scalar || cell.text[0] != '-' && (cell.text[0] < '0' || cell.text[0] > '9')) {
			return false
		}
	}
	return true
}

// short reports whether an array of plain values fits on a line or two.
func (v *Value) short() bool {
	length := 0
	for _, item := range v.items {
		if !item.Plain() {
			return false
		}
		length += len(item.text)
	}
	return length < 240
}

// long reports whether a string is a text rather than a word.
func (v *Value) long() bool {
	return v.kind == text && (len(v.text) > 120 || strings.Contains(v.text, "\n"))
}

// tall reports whether it needs more than a line beside its name.
func (v *Value) tall() bool {
	return v.long() || v.kind == object && !v.empty() || v.kind == array && !v.empty() && !v.short()
}

const drawnUpTo = 128 * 1024

// Drawn is a body that can be drawn readably; nil: it is too large, too deep, or not JSON, and only its raw text is shown.
func Drawn(body []byte) *Value {
	if len(body) == 0 || len(body) > drawnUpTo {
		return nil
	}
	v, err := parse(body)
	if err != nil {
		return nil
	}
	return v
}

// RawUpTo is how many bytes Raw shows.
const RawUpTo = 256 * 1024

// Raw is a body as JSON on several lines, every number as it was written.
func Raw(body []byte) string {
	if len(body) > RawUpTo {
		return strings.ToValidUTF8(string(body[:RawUpTo]), "")
	}
	var b bytes.Buffer
	if json.Indent(&b, body, "", "  ") != nil {
		return strings.ToValidUTF8(string(body), "\uFFFD")
	}
	return b.String()
}
