package components

import (
	"strings"
	"time"
)

// Part is a piece of a sentence.
type Part struct {
	Text  string
	Code  bool  // a name or an id
	Since int64 // ms: the time passed since then, which goes on growing on the page
	Until int64 // ms: the time left until then
}

// Sentence is said by the server about something on the page.
type Sentence []Part

// Say begins a sentence.
func Say(words string) Sentence { return Sentence{{Text: words}} }

// And continues the sentence with words.
func (s Sentence) And(words string) Sentence { return append(s, Part{Text: words}) }

// Name continues the sentence with a name or an id.
func (s Sentence) Name(name string) Sentence { return append(s, Part{Text: name, Code: true}) }

// Elapsed continues the sentence with the time passed since an instant.
func (s Sentence) Elapsed(ms int64, now time.Time) Sentence {
	return append(s, Part{Text: running(Since(ms, now)), Since: ms})
}

// Left continues the sentence with the time left until an instant.
func (s Sentence) Left(ms int64, now time.Time) Sentence {
	return append(s, Part{Text: running(-Since(ms, now)), Until: ms})
}

// String is the sentence without its marks.
func (s Sentence) String() string {
	var b strings.Builder
	for _, p := range s {
		b.WriteString(p.Text)
	}
	return b.String()
}
