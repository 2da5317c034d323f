package agent

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type judgement struct {
	Urgency string   `json:"urgency" enum:"low,high"`
	Score   float64  `json:"score"`
	Tags    []string `json:"tags"`
	Note    *string  `json:"note"`
}

// models is a server of the chat API that gives these answers, one after the other: a status below 200 stands for words.
func models(t *testing.T, answers ...any) (asked chan map[string]any) {
	t.Helper()
	asked = make(chan map[string]any, len(answers))
	next := make(chan any, len(answers))
	for _, a := range answers {
		next <- a
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer k" {
			t.Errorf("%s with %q: %v", r.URL.Path, r.Header.Get("Authorization"), err)
		}
		asked <- body
		switch a := (<-next).(type) {
		case int:
			w.WriteHeader(a)
			_, _ = io.WriteString(w, `{"error":{"message":"not now"}}`)
		case string:
			_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{"message": map[string]any{"role": "assistant", "content": a}}}})
		}
	}))
	t.Cleanup(server.Close)
	t.Setenv("AGENTFIELD_AI", "")
	t.Setenv("AGENTFIELD_AI_URL", server.URL+"/v1/")
	t.Setenv("AGENTFIELD_AI_KEY", "k")
	t.Setenv("AGENTFIELD_AI_MODEL", "m-1")
	return asked
}

func TestAModelAnswersInWords(t *testing.T) {
	asked := models(t, 503, "Hello, Ada.")
	var words string
	if err := AI(t.Context(), Prompt{System: "Be kind.", User: "Greet Ada."}, &words); err != nil || words != "Hello, Ada." {
		t.Fatalf("%q, %v", words, err)
	}
	<-asked
	got, err := json.Marshal(<-asked)
	if err != nil || string(got) != `{"messages":[{"content":"Be kind.","role":"system"},{"content":"Greet Ada.","role":"user"}],"model":"m-1"}` {
		t.Errorf("asked %s, %v", got, err)
	}
}

func TestAModelAnswersInATypeAndIsToldWhatDoesNotFit(t *testing.T) {
	asked := models(t, `{"score": 1}`, "```json\n{\"urgency\": \"high\", \"score\": 0.5, \"tags\": []}\n```")
	var got judgement
	if err := AI(t.Context(), Prompt{User: "Judge."}, &got); err != nil || got.Urgency != "high" || got.Score != 0.5 {
		t.Fatalf("%+v, %v", got, err)
	}
	first, second := <-asked, <-asked
	if first["response_format"] == nil {
		t.Error("the schema is not asked for")
	}
	if said, err := json.Marshal(second["messages"]); err != nil || !strings.Contains(string(said), `\"urgency\" is missing`) {
		t.Errorf("the model is not told what is wrong: %s, %v", said, err)
	}
	models(t, `{}`, `{}`)
	var wrong *AIError
	if err := AI(t.Context(), Prompt{User: "Judge."}, &got); !errors.As(err, &wrong) {
		t.Errorf("got %v", err)
	}
}

func TestAServerThatKnowsNoSchemasIsAskedInWordsAlone(t *testing.T) {
	asked := models(t, 400, `{"urgency": "low", "score": 0, "tags": null}`)
	var got judgement
	if err := AI(t.Context(), Prompt{User: "Judge."}, &got); err != nil || got.Urgency != "low" {
		t.Fatalf("%+v, %v", got, err)
	}
	<-asked
	if again := <-asked; again["response_format"] != nil {
		t.Error("it is asked with a schema again")
	}
}

func TestARefusalOfAModelIsAnErrorThatSaysWhy(t *testing.T) {
	models(t, 401)
	var wrong *AIError
	if err := AI(t.Context(), Prompt{User: "Hi"}, new(string)); !errors.As(err, &wrong) || !strings.Contains(wrong.Message, "401 not now") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"AGENTFIELD_AI_URL", "AGENTFIELD_AI_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"} {
		t.Setenv(name, "")
	}
	if err := AI(t.Context(), Prompt{User: "Hi"}, new(string)); !errors.As(err, &wrong) || !strings.Contains(wrong.Message, "OPENAI_API_KEY") {
		t.Errorf("got %v", err)
	}
	if err := AI(t.Context(), Prompt{User: "Hi"}, "no pointer"); !errors.As(err, &wrong) {
		t.Errorf("got %v", err)
	}
}

func TestTheOfflineModelFillsTheSchemaTheSameEveryTime(t *testing.T) {
	t.Setenv("AGENTFIELD_AI", "fake")
	var one, two, other judgement
	for into, prompt := range map[*judgement]string{&one: "a", &two: "a", &other: "b"} {
		if err := AI(t.Context(), Prompt{User: prompt}, into); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := asJSON(t, one), asJSON(t, two), asJSON(t, other)
	if a != b || a == c {
		t.Errorf("%s, then %s; another prompt %s", a, b, c)
	}
	if one.Urgency != "low" && one.Urgency != "high" || len(one.Tags) != 1 {
		t.Errorf("does not fit: %s", a)
	}
	var words string
	if err := AI(t.Context(), Prompt{User: "who\n are you"}, &words); err != nil || words != "(offline model) I was asked: who are you" {
		t.Errorf("%q, %v", words, err)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	encoded, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}
