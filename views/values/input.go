package values

import (
	"net/url"
	"strconv"
	"strings"
)

// Input is the input of a function as people edit it: as fields where its schema is one that a form can ask for, else as JSON. Fill comes
// before it is drawn.
type Input struct {
	Form     string // id of the form that it stands in
	Path     string // of the form; Path + "/draft" keeps what is typed
	Schema   []byte // nil: the function has none
	Was      []byte // what stands in it at first; nil: nothing is known
	Problems map[string]string

	fields   []Field    // of the form; nil: the input is typed as JSON
	drawable bool       // it can be asked for by fields
	typed    url.Values // what stands in the fields
	text     string     // what stands in the box for JSON
}

const boxUpTo = 1 << 20 // bytes of an input that is edited in a browser

// Fill sets what stands in the form: what was typed, else the input as it was. Fields are drawn when they can say the whole of it.
func (in *Input) Fill(typed url.Values) {
	fields, drawable := Fields(in.Schema)
	if typed.Get("as") == "form" && drawable {
		read, problems := Read(fields, typed, "")
		if len(problems) > 0 || typed.Get("to") != "json" {
			in.fields, in.drawable, in.typed = severalLines(fields, typed), true, typed
			return
		}
		if read == nil {
			read = []byte("{}")
		}
		in.text = Raw(read)
		in.drawable = true
		return
	}
	body := []byte(typed.Get("input"))
	in.text = string(body)
	if strings.TrimSpace(in.text) == "" {
		if body = in.Was; len(body) == 0 && drawable {
			body = []byte("{}")
		} else if len(body) == 0 {
			body = Sample(in.Schema)
		}
		if len(body) <= boxUpTo {
			in.text = Raw(body)
		}
	}
	filled, fill, ok := Fill(fields, body)
	in.drawable = drawable && ok
	if in.drawable && typed.Get("to") != "json" && in.Problems["input"] == "" && (typed.Get("to") == "form" || typed.Get("input") == "") {
		in.fields, in.typed = filled, fill
	}
}

// severalLines gives a text with several lines a box with several lines, which a field would join to one.
func severalLines(fields []Field, typed url.Values) []Field {
	for i, f := range fields {
		if f.Kind == FieldText && strings.Contains(typed.Get(f.Key()), "\n") {
			fields[i].Kind = FieldLong
		}
	}
	return fields
}

// ReadInput is the input that the fields of a form say, or what is wrong with it, by field.
func ReadInput(schema []byte, typed url.Values) ([]byte, map[string]string) {
	fields, ok := Fields(schema)
	if !ok {
		return nil, map[string]string{"input": "The function was registered anew meanwhile: edit the input as JSON."}
	}
	input, problems := Read(fields, oneEnd(typed), "Needed.")
	if input == nil && len(problems) == 0 {
		input = []byte("{}")
	}
	return input, problems
}

// oneEnd: browsers end the lines of a text with two characters, and nobody has typed the first.
func oneEnd(typed url.Values) url.Values {
	out := make(url.Values, len(typed))
	for key, list := range typed {
		for _, text := range list {
			out.Add(key, strings.ReplaceAll(text, "\r\n", "\n"))
		}
	}
	return out
}

// Misfit puts what the schema says against an input at its field, as far as the form has it.
func Misfit(pointer, words string, typed url.Values) map[string]string {
	name, _, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	if key := (Field{Name: name}).Key(); typed.Get("as") == "form" && typed.Has(key) {
		return map[string]string{key: words}
	}
	return map[string]string{"input": words}
}

// InputDraft is a form as the text of a draft.
func InputDraft(typed url.Values) string {
	kept := oneEnd(typed)
	for _, name := range []string{"key", "text", "discard"} {
		kept.Del(name)
	}
	return kept.Encode()
}

// Changes are the differences between what stands here and what it was.
func (in Input) Changes() []Change {
	text := in.Now()
	if Drawn(text) == nil {
		return nil
	}
	return Diff(in.Was, text)
}

// Shown is the input as it stands here, or one that the schema allows while nothing has been typed.
func (in Input) Shown() []byte {
	if now := in.Now(); len(now) > 0 && string(now) != "{}" {
		return now
	}
	return Sample(in.Schema)
}

// Now is the input as it stands here; nil while its fields do not make one.
func (in Input) Now() []byte {
	if in.fields == nil {
		return []byte(in.text)
	}
	read, problems := Read(in.fields, in.typed, "")
	if len(problems) > 0 {
		return nil
	}
	if read == nil {
		return []byte("{}")
	}
	return read
}

// asked is a field as it stands in the form.
func (in Input) asked(f Field) Asked {
	return Asked{Field: f, ID: "input", Form: in.Form, Value: in.typed.Get(f.Key()), Needed: "needed", Problem: in.Problems[f.Key()]}
}

func (in Input) rows() string { return strconv.Itoa(min(max(strings.Count(in.text, "\n")+2, 8), 28)) }

func pressed(yes bool) string { return strconv.FormatBool(yes) }
