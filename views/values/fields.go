package values

import (
	"encoding/json"
	"math/big"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Field is a question of a form, as it is drawn.
type Field struct {
	Name        string // of the property
	Title       string
	Description string
	Kind        FieldKind
	Required    bool
	Options     []Choice // of a choice
	Default     string   // what stands in it at first
	Min, Max    string   // of a number; empty: no limit
	MinLength   int      // of a text, in characters
	MaxLength   int      // 0: no limit
	Format      string   // date, date-time, email or uri: checked, and a hint for the keyboard of a phone
}

// Choice is one answer to choose from.
type Choice struct {
	Value string // JSON, so that 1 and "1" stay different
	Label string
}

// FieldKind says how a question is drawn.
type FieldKind string

// The kinds of a field.
const (
	FieldText    FieldKind = "text"
	FieldLong    FieldKind = "long" // a text of several lines
	FieldNumber  FieldKind = "number"
	FieldInteger FieldKind = "integer"
	FieldYesNo   FieldKind = "yesno"
	FieldChoice  FieldKind = "choice"
)

const mostFields = 40

// Fields reads a JSON Schema as a form, in the order of its properties. ok is false for shapes that cannot be drawn as simple fields:
// nothing is dropped then, the answer is typed as JSON instead.
func Fields(schema []byte) (fields []Field, ok bool) {
	root, err := parse(schema)
	if err != nil || root.kind != object {
		return nil, false
	}
	properties := root.Get("properties")
	if t := root.Get("type"); t != nil && t.text != "object" || properties == nil || properties.kind != object || tangled(root) {
		return nil, false
	}
	if len(properties.members) == 0 || len(properties.members) > mostFields {
		return nil, false
	}
	required := map[string]bool{}
	if list := root.Get("required"); list != nil {
		for _, name := range list.items {
			required[name.text] = true
		}
	}
	for _, m := range properties.members {
		f, ok := field(m.name, m.value)
		if !ok {
			return nil, false
		}
		f.Required = required[m.name]
		delete(required, m.name)
		fields = append(fields, f)
	}
	return fields, len(required) == 0 // a name that is required and not described could never be answered
}

// tangled reports whether a schema says things that a list of fields cannot.
func tangled(v *Value) bool {
	for _, word := range []string{"$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependentRequired", "dependentSchemas", "dependencies", "minProperties"} {
		if v.Get(word) != nil {
			return true
		}
	}
	return false
}

func field(name string, v *Value) (Field, bool) {
	f := Field{Name: name, Title: textOf(v.Get("title")), Description: textOf(v.Get("description")), Format: textOf(v.Get("format"))}
	if f.Title == "" {
		f.Title = strings.ReplaceAll(name, "_", " ")
	}
	if d := v.Get("default"); d != nil && d.Plain() {
		f.Default = d.shown()
	}
	if v.kind != object {
		return f, false
	}
	if options, ok := choices(v); ok {
		f.Kind, f.Options = FieldChoice, options
		if d := v.Get("default"); d != nil {
			f.Default = d.String()
		}
		return f, len(options) > 0
	}
	if tangled(v) {
		return f, false
	}
	switch textOf(v.Get("type")) {
	case "string":
		f.Kind, f.MinLength, f.MaxLength = FieldText, whole(v.Get("minLength")), whole(v.Get("maxLength"))
		if f.MaxLength > 200 || f.Format == "multiline" || strings.Contains(f.Default, "\n") {
			f.Kind = FieldLong
		}
	case "number", "integer":
		f.Kind = FieldKind(textOf(v.Get("type")))
		f.Min, f.Max = literal(v.Get("minimum")), literal(v.Get("maximum"))
	case "boolean":
		f.Kind = FieldYesNo
	default:
		return f, false
	}
	return f, true
}

// choices are the answers of an enum, or of a oneOf of constants with titles.
func choices(v *Value) (options []Choice, ok bool) {
	if list := v.Get("enum"); list != nil {
		for _, item := range list.items {
			if !item.Plain() {
				return nil, true
			}
			options = append(options, Choice{item.String(), item.shown()})
		}
		return options, true
	}
	if list := v.Get("oneOf"); list != nil {
		for _, item := range list.items {
			constant := item.Get("const")
			if constant == nil || !constant.Plain() {
				return nil, true
			}
			label := textOf(item.Get("title"))
			if label == "" {
				label = constant.shown()
			}
			options = append(options, Choice{constant.String(), label})
		}
		return options, true
	}
	return nil, false
}

func textOf(v *Value) string {
	if v == nil || v.kind != text {
		return ""
	}
	return v.text
}

func literal(v *Value) string {
	if v == nil || v.kind != scalar {
		return ""
	}
	return v.text
}

func whole(v *Value) int {
	n, err := strconv.Atoi(literal(v))
	if err != nil {
		return 0
	}
	return n
}

// Key is the name of the field in the HTML form.
func (f Field) Key() string { return "answer." + f.Name }

// Read makes a JSON object of what was typed into a form, in the order of its fields, and says by field what is wrong with it. needed is
// what to say of a required field that was left empty; empty: every field may be. nil: nothing was filled in, or something is wrong.
func Read(fields []Field, typed url.Values, needed string) (object []byte, problems map[string]string) {
	problems = map[string]string{}
	var b strings.Builder
	for _, f := range fields {
		text := strings.TrimSpace(typed.Get(f.Key()))
		if text == "" {
			if f.Required && needed != "" {
				problems[f.Key()] = needed
			}
			continue
		}
		answer, problem := f.read(text)
		if problem != "" {
			problems[f.Key()] = problem
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		writeString(&b, f.Name)
		b.WriteString(":" + answer)
	}
	if len(problems) > 0 || b.Len() == 0 {
		return nil, problems
	}
	return []byte("{" + b.String() + "}"), problems
}

// read turns what was typed into JSON.
func (f Field) read(typed string) (answer, problem string) {
	switch f.Kind {
	case FieldNumber, FieldInteger:
		return f.number(typed)
	case FieldYesNo:
		if typed != "true" && typed != "false" {
			return "", "Yes or no."
		}
		return typed, ""
	case FieldChoice:
		if !slices.ContainsFunc(f.Options, func(c Choice) bool { return c.Value == typed }) {
			return "", "Choose one of the answers."
		}
		return typed, ""
	case FieldText, FieldLong:
	}
	return f.words(typed)
}

func (f Field) words(typed string) (answer, problem string) {
	n := utf8.RuneCountInString(typed)
	switch {
	case n < f.MinLength:
		return "", "At least " + strconv.Itoa(f.MinLength) + " characters."
	case f.MaxLength > 0 && n > f.MaxLength:
		return "", "At most " + strconv.Itoa(f.MaxLength) + " characters."
	}
	switch f.Format {
	case "email":
		if a, err := mail.ParseAddress(typed); err != nil || a.Address != typed {
			return "", "An e-mail address, such as ada@example.com."
		}
	case "uri":
		if u, err := url.Parse(typed); err != nil || !u.IsAbs() {
			return "", "A whole address, such as https://example.com."
		}
	}
	var b strings.Builder
	writeString(&b, typed)
	return b.String(), ""
}

func (f Field) number(typed string) (answer, problem string) {
	if !json.Valid([]byte(typed)) || len(typed) > 64 || strings.ContainsAny(typed, "eE") {
		return "", "A number, such as 12 or 0.5."
	}
	n, ok := new(big.Rat).SetString(typed)
	switch {
	case !ok:
		return "", "A number, such as 12 or 0.5."
	case f.Kind == FieldInteger && !n.IsInt():
		return "", "A whole number."
	case f.Min != "" && less(n, f.Min):
		return "", "At least " + f.Min + "."
	case f.Max != "" && more(n, f.Max):
		return "", "At most " + f.Max + "."
	}
	return typed, ""
}

func less(n *big.Rat, limit string) bool {
	l, ok := bounded(limit)
	return ok && n.Cmp(l) < 0
}

func more(n *big.Rat, limit string) bool {
	l, ok := bounded(limit)
	return ok && n.Cmp(l) > 0
}

// bounded reads a limit of a schema. One with a huge exponent would be a huge number: it is left to the schema's own check.
func bounded(limit string) (*big.Rat, bool) {
	if len(limit) > 64 || strings.ContainsAny(limit, "eE") {
		return nil, false
	}
	return new(big.Rat).SetString(limit)
}

// Fill puts a JSON object into the fields of a form. ok is false when a form could not say what the object says: it has other members, or
// values that the fields would change. A text of several lines gets a box of several lines.
func Fill(fields []Field, body []byte) (filled []Field, typed url.Values, ok bool) {
	v, err := parse(body)
	if err != nil || v.kind != object {
		return fields, nil, false
	}
	filled, typed = slices.Clone(fields), url.Values{}
	for _, name := range v.Names() {
		i := slices.IndexFunc(filled, func(f Field) bool { return f.Name == name })
		if i < 0 {
			return fields, nil, false
		}
		text := filled[i].typed(v.Get(name))
		if back, problem := filled[i].read(strings.TrimSpace(text)); problem != "" || back != v.Get(name).String() {
			return fields, nil, false
		}
		if strings.Contains(text, "\n") {
			filled[i].Kind = FieldLong
		}
		typed.Set(filled[i].Key(), text)
	}
	return filled, typed, true
}

// typed is a value as one would type it into the field.
func (f Field) typed(v *Value) string {
	if f.Kind == FieldChoice {
		return v.String()
	}
	return v.shown()
}
