package approvals

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/values"
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
func (t Typed) answer(f values.Field) string {
	if list, typed := t.Answers[f.Key()]; typed && len(list) > 0 {
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
	return i.Approval.Editable && len(i.Payload) > 0 && i.Approval.Status == models.ApprovalPending && i.Right.Allowed && len(i.Payload) <= values.RawUpTo
}

// edited is the proposal as text, as it was changed so far.
func (i *Item) edited() string {
	if t := i.typed(); t.Edited != "" {
		return t.Edited
	}
	return values.Raw(i.Payload)
}

// describedBy ties a button to its consequence, and to the reason why it cannot be pressed.
func (i *Item) describedBy(key string) string {
	ids := "eff-" + key + "-" + i.Approval.ID
	if !i.Right.Allowed {
		ids = "right-" + i.Approval.ID + " " + ids
	}
	return ids
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
