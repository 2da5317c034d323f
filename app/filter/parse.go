package filter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Parse reads a filter. What it does not understand it leaves out and tells.
func (l Language) Parse(text string) (Query, []Problem) {
	if len(text) > MaxLength {
		return Query{}, []Problem{{0, len(text), fmt.Sprintf("The filter is longer than %d characters.", MaxLength), ""}}
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return Query{}, []Problem{{0, len(text), "The filter holds bytes that are no text.", ""}}
	}
	p := parser{language: l}
	for _, t := range split(text) {
		p.token(t)
	}
	return p.query, p.problems
}

// token is a stretch of text between spaces. In mask, what stands between quotes is a dot for each byte, so that signs can be looked for.
type token struct {
	at         int
	text, mask string
	open       bool // a quote is not closed
}

func space(r rune) bool { return unicode.IsSpace(r) }

func split(text string) []token {
	var tokens []token
	mask := []byte(text)
	from, quoted := -1, false
	end := func(to int) {
		if from >= 0 {
			tokens = append(tokens, token{from, text[from:to], string(mask[from:to]), quoted})
			from = -1
		}
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case quoted && r == '\\' && i+1 < len(text):
			_, next := utf8.DecodeRuneInString(text[i+1:])
			blank(mask[i : i+1+next])
			size += next
		case r == '"':
			quoted = !quoted
			if from < 0 {
				from = i
			}
		case quoted:
			blank(mask[i : i+size])
		case space(r):
			end(i)
		case from < 0:
			from = i
		}
		i += size
	}
	end(len(text))
	return tokens
}

func blank(b []byte) {
	for i := range b {
		b[i] = '.'
	}
}

type parser struct {
	language Language
	query    Query
	problems []Problem
}

func (p *parser) wrong(t token, near, format string, args ...any) {
	p.problems = append(p.problems, Problem{t.at, t.at + len(t.text), fmt.Sprintf(format, args...), near})
}

func (p *parser) token(t token) {
	if t.open {
		p.wrong(t, "", "The quote is not closed.")
		return
	}
	if len(p.query.Terms) == maxTerms {
		p.wrong(t, "", "There are more than %d terms.", maxTerms)
		return
	}
	term := Term{}
	rest := t
	if strings.HasPrefix(rest.mask, "-") && len(rest.text) > 1 {
		term.Not, rest = true, rest.from(1)
	}
	sign := strings.IndexAny(rest.mask, ":<>")
	if sign < 0 {
		p.add(term, rest, Key{Kind: Word})
		return
	}
	name := strings.ToLower(rest.text[:sign])
	key, ok := p.language.Key(name)
	if !ok {
		p.unknown(t, name)
		return
	}
	if rest.text[sign] == ':' {
		sign++
	}
	term.Key = key.Name
	p.add(term, rest.from(sign), key)
}

func (t token) from(n int) token { return token{t.at + n, t.text[n:], t.mask[n:], t.open} }

func (p *parser) unknown(t token, name string) {
	if name == "" {
		p.wrong(t, "", "%s has no key before its sign. Put quotes around text that holds one.", cut(t.text))
		return
	}
	if near := p.language.nearest(name); near != "" {
		p.wrong(t, near, "%s is not a key. Did you mean %s?", cut(name), near)
		return
	}
	p.wrong(t, "", "%s is not a key. There are %s.", cut(name), p.language.names())
}

// cut quotes a piece of somebody's text, short.
func cut(text string) string {
	if r := []rune(text); len(r) > 40 {
		text = string(r[:40]) + "…"
	}
	return "“" + text + "”"
}

func (p *parser) add(term Term, t token, key Key) {
	parts := t.values()
	if len(parts) > maxValues {
		p.wrong(t, "", "There are more than %d values.", maxValues)
		return
	}
	for _, part := range parts {
		v, err := key.read(part)
		if err != "" {
			p.wrong(part, "", "%s", err)
			return
		}
		term.Values = append(term.Values, v)
	}
	p.query.Terms = p.gathered(term)
}

// gathered adds a term. Ids that stand by themselves, as a list of them is pasted, are alternatives.
func (p *parser) gathered(term Term) []Term {
	terms := p.query.Terms
	if n := len(terms) - 1; n >= 0 && ids(terms[n]) && ids(term) && len(terms[n].Values)+len(term.Values) <= maxValues {
		terms[n].Values = append(terms[n].Values, term.Values...)
		return terms
	}
	return append(terms, term)
}

func ids(t Term) bool {
	return t.Key == "" && !t.Not && !slices.ContainsFunc(t.Values, func(v Value) bool { return !strings.HasPrefix(v.Text, "exec_") })
}

// values cuts at commas; an empty one at the end, as when a list is pasted, does not count.
func (t token) values() []token {
	var parts []token
	for from := 0; from <= len(t.mask); {
		to := len(t.mask)
		if comma := strings.IndexByte(t.mask[from:], ','); comma >= 0 {
			to = from + comma
		}
		if to > from || to == len(t.mask) && len(parts) == 0 {
			parts = append(parts, token{at: t.at + from, text: t.text[from:to], mask: t.mask[from:to]})
		}
		from = to + 1
	}
	return parts
}

// read is one value by the rules of its key; a sentence when it breaks them.
func (k Key) read(t token) (Value, string) {
	v := Value{}
	v.Op, t = comparison(t)
	if strings.HasSuffix(t.mask, "*") {
		v.Prefix, t = true, token{t.at, t.text[:len(t.text)-1], t.mask[:len(t.mask)-1], false}
	}
	quoted := strings.ContainsRune(t.mask, '"')
	v.Text = unquote(t.text)
	if v.Text == "" && !v.Prefix && !quoted {
		return v, "A value is missing" + k.example() + "."
	}
	switch k.Kind {
	case Word, Text:
		if v.Op != Equal {
			return v, cut(k.Name) + " cannot be compared with " + string(v.Op) + k.example() + "."
		}
		return v, ""
	case Choice:
		return k.choose(v)
	case Number, Duration, Instant:
		return k.measure(v)
	}
	return v, ""
}

func (k Key) example() string {
	if k.Hint == "" {
		return ""
	}
	return ": write " + k.Name + ":" + k.Hint
}

func comparison(t token) (Op, token) {
	for _, op := range []Op{AtLeast, AtMost, Over, Under} {
		if strings.HasPrefix(t.mask, string(op)) {
			return op, t.from(len(op))
		}
	}
	return Equal, t
}

// unquote takes the quotes away, and the backslashes inside them.
func unquote(text string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			quoted = !quoted
		case quoted && text[i] == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

func (k Key) choose(v Value) (Value, string) {
	word := strings.ToLower(v.Text)
	if other, ok := k.Alias[word]; ok {
		word = other
	}
	if v.Op != Equal || v.Prefix || !slices.Contains(k.Words, word) {
		return v, cut(v.Text) + " is no " + k.Name + ": use " + strings.Join(k.Words, ", ") + "."
	}
	v.Text = word
	return v, ""
}

func (k Key) measure(v Value) (Value, string) {
	ok := !v.Prefix
	switch k.Kind {
	case Number:
		n, err := strconv.ParseInt(v.Text, 10, 32)
		v.N, ok = n, ok && err == nil
	case Duration:
		d, err := ReadDuration(v.Text)
		v.N, ok = d.Milliseconds(), ok && err == nil && v.Op != Equal
	default:
		at, err := readInstant(v.Text)
		v.N, ok = at.UnixMilli(), ok && err == nil && v.Op != Equal
	}
	if !ok {
		return v, cut(string(v.Op)+v.Text) + " does not fit " + k.Name + k.example() + "."
	}
	return v, ""
}

// ReadDuration reads a duration as people write them; days (7d) are 24 hours.
func ReadDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || !(n >= 0 && n <= 36500) {
			return 0, fmt.Errorf("%q is not a number of days between 0 and 36500", days)
		}
		return time.Duration(n * float64(24*time.Hour)), nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", text)
	}
	return d, err
}

func readInstant(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Parse(time.RFC3339, text)
}
