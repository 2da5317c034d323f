package approvals_test

import (
	"maps"
	"net/url"
	"testing"

	"github.com/agentfield/agentfield/views/approvals"
)

const schema = `{
	"type": "object", "required": ["checked", "kind"],
	"properties": {
		"kind": {"type": "string", "enum": ["water", "fire"], "title": "Kind of damage"},
		"checked": {"type": "boolean", "description": "Compare the names."},
		"limit": {"type": "integer", "minimum": 1, "maximum": 5000},
		"rate": {"type": "number"},
		"level": {"oneOf": [{"const": 1, "title": "One"}, {"const": 2}]},
		"mail": {"type": "string", "format": "email"},
		"note": {"type": "string", "minLength": 3, "maxLength": 500}
	}
}`

func TestAnswersBecomeJSONOfTheirTypes(t *testing.T) {
	typed := approvals.Typed{Decision: "approved", Answers: url.Values{
		"answer.kind": {`"water"`}, "answer.checked": {"true"}, "answer.limit": {" 20 "}, "answer.rate": {"0.50"}, "answer.level": {"2"},
		"answer.mail": {"ada@example.com"}, "answer.note": {"a \"quote\" & <b>"}, "answer.unknown": {"x"},
	}}
	response, problems := approvals.Answers([]byte(schema), typed)
	want := `{"kind":"water","checked":true,"limit":20,"rate":0.50,"level":2,"mail":"ada@example.com","note":"a \"quote\" & <b>"}`
	if string(response) != want || len(problems) > 0 {
		t.Errorf("got %s, %v", response, problems)
	}
}

func TestAnswersThatDoNotFitAreNamedByField(t *testing.T) {
	typed := approvals.Typed{Decision: "approved", Answers: url.Values{
		"answer.kind": {"earthquake"}, "answer.limit": {"5001"}, "answer.rate": {"1e999999999"}, "answer.mail": {"Ada <ada@example.com>"}, "answer.note": {"no"},
	}}
	response, problems := approvals.Answers([]byte(schema), typed)
	want := map[string]string{
		"answer.kind": "Choose one of the answers.", "answer.checked": "Needed for an approval.", "answer.limit": "At most 5000.",
		"answer.rate": "A number, such as 12 or 0.5.", "answer.mail": "An e-mail address, such as ada@example.com.", "answer.note": "At least 3 characters.",
	}
	if response != nil || !maps.Equal(problems, want) {
		t.Errorf("got %s, %v", response, problems)
	}
}

func TestARejectionNeedsNoAnswers(t *testing.T) {
	for decision, typed := range map[string]url.Values{"rejected": {}, "request_changes": {"answer.limit": {""}}} {
		response, problems := approvals.Answers([]byte(schema), approvals.Typed{Decision: decision, Answers: typed})
		if response != nil || len(problems) > 0 {
			t.Errorf("%s: %s, %v", decision, response, problems)
		}
	}
}

func TestARawAnswerMustBeJSON(t *testing.T) {
	list := []byte(`{"type": "array"}`)
	for typed, want := range map[string]string{`[1, 2]`: "", `[1,`: "This is not JSON.", ` `: "Needed for an approval: an answer as JSON."} {
		response, problems := approvals.Answers(list, approvals.Typed{Decision: "approved", Response: typed})
		if problems["response"] != want || (want == "") != (response != nil) {
			t.Errorf("%q: %s, %v", typed, response, problems)
		}
	}
}

func TestADraftComesBackAsItWasTyped(t *testing.T) {
	typed := approvals.Typed{Feedback: "half a & b\n=%", Edited: `{"a": 1}`, Answers: url.Values{"answer.note": {"ü"}}}
	back := approvals.ReadDraft(typed.Draft())
	if back.Feedback != typed.Feedback || back.Edited != typed.Edited || back.Answers.Get("answer.note") != "ü" {
		t.Errorf("%+v", back)
	}
	if text := (approvals.Typed{}).Draft(); text != "" {
		t.Errorf("an empty draft is %q", text)
	}
}

func TestAnEditedProposalGoesWithAnApprovalOnly(t *testing.T) {
	form := func(decision string) url.Values { return url.Values{"decision": {decision}, "edited": {`{"a": 2}`}} }
	if approvals.ReadForm(form("approved")).Edited == "" || approvals.ReadForm(form("rejected")).Edited != "" {
		t.Error("the edited proposal went with the wrong decision")
	}
}
