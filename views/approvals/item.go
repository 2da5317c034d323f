package approvals

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"github.com/agentfield/agentfield/models"
)

// typed is what stands in the form: what was refused, else the draft, else nothing.
func (i *Item) typed() Typed {
	switch {
	case i.Typed != nil:
		return *i.Typed
	case i.Draft != nil:
		return ReadDraft(i.Draft.Text)
	}
	return Typed{Answers: url.Values{}}
}

// answer is what stands in a field at first.
func (t Typed) answer(f Field) string {
	if list, typed := t.Answers[f.key()]; typed && len(list) > 0 {
		return list[0]
	}
	return f.Default
}

// unsent is the reason that this visitor was writing when somebody else decided.
func (i *Item) unsent() string {
	if i.Typed != nil || i.Draft == nil {
		return ""
	}
	return ReadDraft(i.Draft.Text).Feedback
}

// editable reports whether the proposal may be changed with an approval, here and now.
func (i *Item) editable() bool {
	return i.Approval.Editable && len(i.Payload) > 0 && i.Approval.Status == models.ApprovalPending && i.Right.Allowed && len(i.Payload) <= rawUpTo
}

// edited is the proposal as text, as it was changed so far.
func (i *Item) edited() string {
	if t := i.typed(); t.Edited != "" {
		return t.Edited
	}
	return raw(i.Payload)
}

// describedBy ties a button to its consequence, and to the reason why it cannot be pressed.
func (i *Item) describedBy(key string) string {
	ids := "eff-" + key + "-" + i.Approval.ID
	if !i.Right.Allowed {
		ids = "right-" + i.Approval.ID + " " + ids
	}
	return ids
}

// attributes are those of a field that only some fields have.
func (f Field) attributes(of, wrong string) templ.Attributes {
	more := templ.Attributes{"required": f.Required}
	var described []string
	if f.Description != "" {
		described = append(described, "qd-"+of)
	}
	if wrong != "" {
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

// lines is the height of a text box for a text, within limits.
func lines(text string, least, most int) string {
	return strconv.Itoa(min(max(strings.Count(text, "\n")+1, least), most))
}

func lower(s string) string { return strings.ToLower(s) }

func escaped(s string) string { return url.QueryEscape(s) }

// closedWords say why there is nothing to decide.
func closedWords(a *models.Approval) string {
	switch a.Status {
	case models.ApprovalExpired:
		return "Expired: it can no longer be decided. The agent may ask again."
	case models.ApprovalWithdrawn:
		return "Withdrawn: there is nothing to decide any more."
	case models.Approved, models.Rejected, models.ChangesRequested, models.ApprovalPending, models.ApprovalHeld:
	}
	return "Decided, and in effect: it cannot be taken back."
}
