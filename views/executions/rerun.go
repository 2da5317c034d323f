package executions

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/layout"
	"github.com/agentfield/agentfield/views/values"
)

// RerunPage is where an execution is made once more with another input.
type RerunPage struct {
	Frame     layout.Page
	Execution *models.Execution
	Schema    []byte // of the function's input; nil: it has none
	Input     []byte // as it was; nil: not kept
	Problems  map[string]string
	Saved     *int64 // ms: what stands here is a draft of then; nil: it is the input as it was
	Key       string // of this attempt, so that a second press does not make a second execution
	Gone      string // why it cannot be made again; empty: it can

	// Fill sets these.
	fields   []values.Field // of the form; nil: the input is typed as JSON
	drawable bool           // the schema is one that a form can ask for, and the input one that it can say
	typed    url.Values     // what stands in the form
	text     string         // what stands in the box for JSON
}

const boxUpTo = 1 << 20 // bytes of an input that is edited in a browser

// Fill sets what stands on the page: what was typed, else the input as it was. A form is drawn when it can say the whole of it.
func (p *RerunPage) Fill(typed url.Values) {
	fields, drawable := values.Fields(p.Schema)
	if typed.Get("as") == "form" && drawable {
		read, problems := values.Read(fields, typed, "")
		if len(problems) > 0 || typed.Get("to") != "json" {
			p.fields, p.drawable, p.typed = severalLines(fields, typed), true, typed
			return
		}
		if read == nil {
			read = []byte("{}")
		}
		p.text = values.Raw(read)
		p.drawable = true
		return
	}
	body := []byte(typed.Get("input"))
	p.text = string(body)
	if strings.TrimSpace(p.text) == "" {
		if body = p.Input; len(body) == 0 {
			body = []byte("{}")
		}
		if len(body) <= boxUpTo {
			p.text = values.Raw(body)
		}
	}
	filled, fill, ok := values.Fill(fields, body)
	p.drawable = drawable && ok
	if p.drawable && typed.Get("to") != "json" && p.Problems["input"] == "" && (typed.Get("to") == "form" || typed.Get("input") == "") {
		p.fields, p.typed = filled, fill
	}
}

// severalLines gives a text with several lines a box with several lines, which a field would join to one.
func severalLines(fields []values.Field, typed url.Values) []values.Field {
	for i, f := range fields {
		if f.Kind == values.FieldText && strings.Contains(typed.Get(f.Key()), "\n") {
			fields[i].Kind = values.FieldLong
		}
	}
	return fields
}

// ReadInput is the input that the fields of a form say, or what is wrong with it, by field.
func ReadInput(schema []byte, typed url.Values) ([]byte, map[string]string) {
	fields, ok := values.Fields(schema)
	if !ok {
		return nil, map[string]string{"input": "The function was registered anew meanwhile: edit the input as JSON."}
	}
	input, problems := values.Read(fields, oneEnd(typed), "Needed.")
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
	if key := (values.Field{Name: name}).Key(); typed.Get("as") == "form" && typed.Has(key) {
		return map[string]string{key: words}
	}
	return map[string]string{"input": words}
}

// RerunDraft is a form as the text of a draft.
func RerunDraft(typed url.Values) string {
	kept := oneEnd(typed)
	for _, name := range []string{"key", "text", "discard"} {
		kept.Del(name)
	}
	return kept.Encode()
}

// RerunPath is the address on which an execution is made once more.
func RerunPath(id string) string { return "/executions/" + id + "/rerun" }

func (p RerunPage) path() string { return RerunPath(p.Execution.ID) }

func (p RerunPage) now() time.Time { return p.Frame.Now }

// asked is a field as it stands in the form.
func (p RerunPage) asked(f values.Field) values.Asked {
	value := p.typed.Get(f.Key())
	return values.Asked{Field: f, ID: "input", Form: "rerun", Value: value, Needed: "needed", Problem: p.Problems[f.Key()]}
}

// problems is how many fields are wrong.
func (p RerunPage) problems() int { return len(p.Problems) }

// changes are the differences between what stands here and what it was.
func (p RerunPage) changes() []values.Change {
	text := []byte(p.text)
	if p.fields != nil {
		read, problems := values.Read(p.fields, p.typed, "")
		if len(problems) > 0 {
			return nil
		}
		text = read
		if text == nil {
			text = []byte("{}")
		}
	}
	if values.Drawn(text) == nil {
		return nil
	}
	return values.Diff(p.Input, text)
}

func rows(text string) string { return strconv.Itoa(min(max(strings.Count(text, "\n")+2, 8), 28)) }

func pressed(yes bool) string { return strconv.FormatBool(yes) }
