package values_test

import (
	"testing"

	"github.com/agentfield/agentfield/views/values"
)

func TestASampleHasTheShapeOfItsSchema(t *testing.T) {
	t.Parallel()
	for schema, want := range map[string]string{
		``: `{}`, `{}`: `{}`, `true`: `{}`, `{"type":"string"}`: `{}`, `{"type":"object","properties":{"a":{"type":"string"}}}`: `{}`,
		`{"required":["s","n","i","b","l","o","c","d","x"],"properties":{"s":{"type":"string"},"n":{"type":"number","minimum":0.5},"i":{"type":"integer"},"b":{"type":"boolean"},` +
			`"l":{"type":"array","items":{"type":"string"}},"o":{"type":"object","required":["k"],"properties":{"k":{"enum":["one","two"]}}},"c":{"const":7},"d":{"type":"string","default":"it"}}}`: `{"s": "…", "n": 0.5, "i": 1, "b": true, "l": ["…"], "o": {"k": "one"}, "c": 7, "d": "it"}`,
	} {
		if got := string(values.Sample([]byte(schema))); got != want {
			t.Errorf("%s\ngave %s\nnot  %s", schema, got, want)
		}
	}
}
