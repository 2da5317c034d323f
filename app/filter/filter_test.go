package filter_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentfield/agentfield/app/filter"
)

func word(texts ...string) []filter.Value {
	values := make([]filter.Value, len(texts))
	for i, text := range texts {
		head, prefix := strings.CutSuffix(text, "*")
		values[i] = filter.Value{Text: head, Prefix: prefix}
	}
	return values
}

func TestTermsAreRead(t *testing.T) {
	t.Parallel()
	const day = int64(24 * time.Hour / time.Millisecond)
	for text, want := range map[string][]filter.Term{
		"":                          nil,
		" \t\n ":                    nil,
		"status:failed":             {{Key: "status", Values: word("failed")}},
		"STATUS:Failed,COMPLETED":   {{Key: "status", Values: word("failed", "succeeded")}},
		"-node:support-*":           {{Key: "node", Not: true, Values: word("support-*")}},
		"function:greet":            {{Key: "reasoner", Values: word("greet")}},
		`error:"no route, to <b>"`:  {{Key: "error", Values: word("no route, to <b>")}},
		`error:"say \"no\" \\ * x"`: {{Key: "error", Values: word(`say "no" \ * x`)}},
		`error:*`:                   {{Key: "error", Values: word("*")}},
		"error:#fp_ab12":            {{Key: "error", Values: word("#fp_ab12")}},
		"session:a:b/c.d":           {{Key: "session", Values: word("a:b/c.d")}},
		"hello -world":              {{Values: word("hello")}, {Not: true, Values: word("world")}},
		`"a:b"`:                     {{Values: word("a:b")}},
		"-":                         {{Values: word("-")}},
		"dur:>10s":                  {{Key: "dur", Values: []filter.Value{{Text: "10s", Op: filter.Over, N: 10_000}}}},
		"dur>=1.5m":                 {{Key: "dur", Values: []filter.Value{{Text: "1.5m", Op: filter.AtLeast, N: 90_000}}}},
		"age<7d":                    {{Key: "age", Values: []filter.Value{{Text: "7d", Op: filter.Under, N: 7 * day}}}},
		"attempt:2,>5":              {{Key: "attempt", Values: []filter.Value{{Text: "2", N: 2}, {Text: "5", Op: filter.Over, N: 5}}}},
		"started:<1970-01-02":       {{Key: "started", Values: []filter.Value{{Text: "1970-01-02", Op: filter.Under, N: day}}}},
		"exec_1, exec_2\nexec_3,":   {{Values: word("exec_1", "exec_2", "exec_3")}},
		"exec_1 status:queued":      {{Values: word("exec_1")}, {Key: "status", Values: word("queued")}},
	} {
		query, problems := filter.Executions().Parse(text)
		if len(problems) > 0 {
			t.Errorf("%q: %v", text, problems)
		}
		if !reflect.DeepEqual(query.Terms, want) {
			t.Errorf("%q reads as %+v, not as %+v", text, query.Terms, want)
		}
	}
}

func TestWhatIsNotUnderstoodIsToldByPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		at   int
		says string
		near string
		rest int // terms that hold all the same
	}{
		{"status:failed sesion:abc", 14, "Did you mean session?", "session", 1},
		{"staus:failed node:a", 0, "Did you mean status?", "status", 1},
		{"fuction:x", 0, "Did you mean function?", "function", 0},
		{"err:x", 0, "Did you mean error?", "error", 0},
		{"in.ticket_id:12", 0, "is not a key", "", 0},
		{"completely-different:12", 0, "There are status, target", "", 0},
		{"status:", 7, "A value is missing", "", 0},
		{"status:failed,bogus", 14, "“bogus” is no status", "", 0},
		{"-status:fail*", 8, "is no status", "", 0},
		{`node:a error:"open`, 7, "not closed", "", 1},
		{"dur:10s", 4, "does not fit dur", "", 0},
		{"dur:>10", 4, "does not fit dur", "", 0},
		{"dur:>-1s", 4, "does not fit dur", "", 0},
		{"age:>NaNd", 4, "does not fit age", "", 0},
		{"attempt:many", 8, "does not fit attempt", "", 0},
		{"started:>yesterday", 8, "does not fit started", "", 0},
		{"node>3", 4, "cannot be compared", "", 0},
		{":x", 0, "no key before its sign", "", 0},
		{"a\x00b", 0, "no text", "", 0},
		{strings.Repeat("x", filter.MaxLength+1), 0, "longer", "", 0},
		{strings.Repeat("x ", 60), 80, "more than 40 terms", "", 40},
		{"id:" + strings.Repeat("x,", 300), 3, "more than 200 values", "", 0},
	} {
		query, problems := filter.Executions().Parse(c.text)
		if len(problems) == 0 {
			t.Errorf("%.60q was understood as %+v", c.text, query)
			continue
		}
		p := problems[0]
		if p.At != c.at || p.End > len(c.text) || !strings.Contains(p.Text, c.says) || p.Near != c.near || len(query.Terms) != c.rest {
			t.Errorf("%.60q: at %d to %d %q, near %q, %d terms hold", c.text, p.At, p.End, p.Text, p.Near, len(query.Terms))
		}
	}
}

func TestRunsHaveTheirOwnKeys(t *testing.T) {
	t.Parallel()
	if _, problems := filter.Runs().Parse("status:failed steps:>50 id:run_1 waiting:>0"); len(problems) > 0 {
		t.Error(problems)
	}
	if _, problems := filter.Runs().Parse("attempt:>1"); len(problems) != 1 {
		t.Error("a run has no attempts")
	}
}

func TestATermCanBeTakenAway(t *testing.T) {
	t.Parallel()
	query, _ := filter.Executions().Parse(`status:failed node:a "two words"`)
	if got := query.Without(1).String(); got != `status:failed "two words"` {
		t.Errorf("left is %s", got)
	}
	if got := query.String(); got != `status:failed node:a "two words"` {
		t.Errorf("what it was taken from has become %s", got)
	}
}

// What is written reads back as the same, whatever values people choose.
func TestWrittenFiltersReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.Custom(func(t *rapid.T) filter.Value {
			return filter.Value{Text: rapid.StringN(0, 12, -1).Filter(storable).Draw(t, "text"), Prefix: rapid.Bool().Draw(t, "prefix")}
		})
		term := rapid.Custom(func(t *rapid.T) filter.Term {
			return filter.Term{
				Key: rapid.SampledFrom([]string{"node", "error", "session", ""}).Draw(t, "key"), Not: rapid.Bool().Draw(t, "not"),
				Values: rapid.SliceOfN(value, 1, 4).Draw(t, "values"),
			}
		})
		query := filter.Query{Terms: rapid.SliceOfN(term, 1, 5).Draw(t, "terms")}
		again, problems := filter.Executions().Parse(query.String())
		if len(problems) > 0 || again.String() != query.String() {
			t.Fatalf("%q reads back as %q: %v", query, again, problems)
		}
	})
}

func storable(s string) bool { return !strings.ContainsRune(s, 0) && !strings.HasPrefix(s, "exec_") }

// Nothing that people type may do more than be told.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"status:failed", `error:"x`, `a"b c"d:e`, "-:", "dur>>1s", `"\`, "node:*,*", "\u00a0x\u2003y", "--a", `-"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		query, problems := filter.Executions().Parse(text)
		for _, p := range problems {
			if p.At < 0 || p.End < p.At || p.End > len(text) || p.Text == "" {
				t.Errorf("%q: a problem at %d to %d", text, p.At, p.End)
			}
		}
		written := query.String()
		if again, more := filter.Executions().Parse(written); len(written) <= filter.MaxLength && (len(more) > 0 || again.String() != written) {
			t.Errorf("%q is written as %q, which reads back as %q: %v", text, written, again, more)
		}
	})
}
