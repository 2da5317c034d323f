package components

import (
	"bytes"
	"context"
	"encoding/json"
	"html"
	"io"

	"github.com/a-h/templ"
)

const (
	// wholeUpTo is the largest payload that a page shows; of a larger one it shows the head.
	wholeUpTo = 256 * 1024
	headOf    = 4 * 1024
	// colouredUpTo bounds the marked-up part of a payload: an element for each token of a large one would burden the browser.
	colouredUpTo = 3000
)

// Payload is a body of an execution, to be shown.
type Payload struct {
	Title    string // heading: Input, Result, …
	ID       string // of the element that holds the text, for the copy button
	Body     []byte // JSON as it is stored
	Download string // address of the raw body; empty: there is none
}

// cut reports whether only the head of the payload is shown.
func (p Payload) cut() bool { return len(p.Body) > wholeUpTo }

// text is what the page shows: indented when it is JSON, with every number as it was written.
func (p Payload) text() []byte {
	if p.cut() {
		return bytes.ToValidUTF8(p.Body[:headOf], nil)
	}
	var b bytes.Buffer
	if json.Indent(&b, p.Body, "", "  ") != nil {
		return bytes.ToValidUTF8(p.Body, []byte("\uFFFD"))
	}
	return b.Bytes()
}

// highlighted writes JSON with its tokens marked by class. Everything is escaped; what is not JSON comes out as it is.
func highlighted(text []byte) templ.Component {
	return templ.ComponentFunc(func(_ context.Context, w io.Writer) error {
		var b bytes.Buffer
		rest := text
		for tokens := 0; len(rest) > 0 && tokens < colouredUpTo; tokens++ {
			class, n := token(rest)
			word := html.EscapeString(string(rest[:n]))
			if class == "" {
				b.WriteString(word)
			} else {
				b.WriteString(`<span class="` + class + `">` + word + `</span>`)
			}
			rest = rest[n:]
		}
		b.WriteString(html.EscapeString(string(rest)))
		_, err := w.Write(b.Bytes())
		return err
	})
}

// token reads the token at the start of text: its class and length.
func token(text []byte) (class string, n int) {
	switch c := text[0]; {
	case c == '"':
		n = stringEnd(text)
		if n < len(text) && text[n] == ':' {
			return "j-k", n
		}
		return "j-s", n
	case c == '-' || c >= '0' && c <= '9':
		return "j-n", run(text, "+-.eE0123456789")
	case c == 't' || c == 'f' || c == 'n':
		return "j-l", run(text, "abcdefghijklmnopqrstuvwxyz")
	}
	if n = bytes.IndexAny(text, `"-0123456789tfn`); n < 0 {
		n = len(text)
	}
	return "", n
}

func stringEnd(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

func run(text []byte, of string) int {
	for i, c := range text {
		if bytes.IndexByte([]byte(of), c) < 0 {
			return i
		}
	}
	return len(text)
}
