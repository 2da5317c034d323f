package approvals

import (
	"encoding/json"
	"maps"
	"net/url"
	"strings"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/values"
)

// Answers makes the response of a form from what was typed, and says by field what is wrong with it. An approval has to answer what
// the schema requires; with another decision what was filled in goes along. nil: nothing was answered.
func Answers(schema []byte, t Typed) (response []byte, problems map[string]string) {
	fields, ok := values.Fields(schema)
	if !ok {
		return rawAnswer(t, map[string]string{})
	}
	needed := ""
	if t.Decision == string(models.Approved) {
		needed = "Needed for an approval."
	}
	return values.Read(fields, t.Answers, needed)
}

func rawAnswer(t Typed, problems map[string]string) ([]byte, map[string]string) {
	typed := strings.TrimSpace(t.Response)
	switch {
	case typed == "" && t.Decision == string(models.Approved):
		problems["response"] = "Needed for an approval: an answer as JSON."
	case typed == "":
	case !json.Valid([]byte(typed)):
		problems["response"] = "This is not JSON."
	default:
		return []byte(typed), problems
	}
	return nil, problems
}

// Draft is what was typed as the text of a draft: encoded like a form, so that a browser makes the same.
func (t Typed) Draft() string {
	all := url.Values{}
	maps.Copy(all, t.Answers)
	for key, text := range map[string]string{"feedback": t.Feedback, "edited": t.Edited, "response": t.Response} {
		if text != "" {
			all.Set(key, text)
		}
	}
	return all.Encode()
}

// ReadDraft is what was typed, out of the text of a draft.
func ReadDraft(draft string) Typed {
	all, err := url.ParseQuery(draft)
	if err != nil {
		return Typed{Feedback: draft}
	}
	return ReadForm(all)
}

// ReadForm is what was typed, out of a form that was sent. An edited proposal goes with an approval only: without JavaScript its box is
// sent with every decision.
func ReadForm(all url.Values) Typed {
	t := Typed{
		Decision: all.Get("decision"), Feedback: all.Get("feedback"), Edited: all.Get("edited"), Response: all.Get("response"),
		Answers: url.Values{},
	}
	if t.Decision != "" && t.Decision != string(models.Approved) {
		t.Edited = ""
	}
	for key, list := range all {
		if strings.HasPrefix(key, "answer.") {
			t.Answers[key] = list
		}
	}
	return t
}
