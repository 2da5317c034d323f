package values

import (
	"strconv"
	"strings"

	"github.com/a-h/templ"
)

// Asked is a question as it stands in a form.
type Asked struct {
	Field   Field
	ID      string // of the form's object: makes ids of elements unique on the page
	Form    string // id of the form that the answer belongs to
	Value   string // what stands in it
	Needed  string // what to say of a required one, such as "needed to approve"
	Problem string // what is wrong with it; empty: nothing
}

func (a Asked) of() string { return a.ID + "-" + a.Field.Name }

// attributes are those of a field that only some fields have.
func (a Asked) attributes() templ.Attributes {
	f, of := a.Field, a.of()
	more := templ.Attributes{"required": f.Required}
	var described []string
	if f.Description != "" {
		described = append(described, "qd-"+of)
	}
	if a.Problem != "" {
		more["aria-invalid"] = "true"
		described = append(described, "qp-"+of)
	}
	if len(described) > 0 {
		more["aria-describedby"] = strings.Join(described, " ")
	}
	if f.MaxLength > 0 {
		more["maxlength"] = strconv.Itoa(f.MaxLength)
	}
	if kind, known := inputs()[f.Format]; known && f.Kind == FieldText {
		more["type"] = kind
	}
	if f.Kind == FieldNumber || f.Kind == FieldInteger {
		more["inputmode"] = "decimal"
	}
	return more
}

// inputs are the formats for which browsers have a field of their own.
func inputs() map[string]string {
	return map[string]string{"date": "date", "email": "email", "uri": "url"}
}

// choices are the answers to choose from.
func (f Field) choices() []Choice {
	if f.Kind == FieldYesNo {
		return []Choice{{"true", "Yes"}, {"false", "No"}}
	}
	return f.Options
}
