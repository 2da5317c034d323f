package api

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// object writes one JSON object by appending. Payloads go in as they are: encoding/json would compact and escape them again, so that
// the bytes a caller gets would not be the bytes the agent gave.
type object struct{ b []byte }

func newObject(size int) *object { return &object{b: append(make([]byte, 0, size), '{')} }

func (o *object) key(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, name...)
	o.b = append(o.b, '"', ':')
}

func (o *object) text(name, value string) {
	o.key(name)
	o.b = appendText(o.b, value)
}

// maybe writes the text unless it is nil.
func (o *object) maybe(name string, value *string) {
	if value != nil {
		o.text(name, *value)
	}
}

func (o *object) number(name string, value int64) {
	o.key(name)
	o.b = strconv.AppendInt(o.b, value, 10)
}

func (o *object) truth(name string, value bool) {
	o.key(name)
	o.b = strconv.AppendBool(o.b, value)
}

// raw writes JSON as it is, null when there is none.
func (o *object) raw(name string, value []byte) {
	o.key(name)
	if len(value) == 0 {
		value = []byte("null")
	}
	o.b = append(o.b, value...)
}

// value writes anything that encoding/json can.
func (o *object) value(name string, value any) {
	encoded, err := json.Marshal(value)
	if err != nil {
		encoded = []byte("null")
	}
	o.raw(name, encoded)
}

// instant writes ms since 1970 as RFC 3339 in UTC with milliseconds.
func (o *object) instant(name string, ms int64) {
	o.key(name)
	o.b = append(o.b, '"')
	o.b = appendInstant(o.b, ms)
	o.b = append(o.b, '"')
}

func (o *object) end() []byte { return append(o.b, '}') }

// rfc3339 is the form of every instant on the wire (wire.md B32).
const rfc3339 = "2006-01-02T15:04:05.000Z"

// appendInstant writes rfc3339 without reading the layout each time: a graph has ten thousand instants.
func appendInstant(b []byte, ms int64) []byte {
	t := time.UnixMilli(ms).UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, rfc3339)
	}
	hour, minute, second := t.Clock()
	b = appendDigits(b, year/100, 0)
	b = appendDigits(b, year%100, '-')
	b = appendDigits(b, int(month), '-')
	b = appendDigits(b, day, 'T')
	b = appendDigits(b, hour, ':')
	b = appendDigits(b, minute, ':')
	b = appendDigits(b, second, '.')
	milli := t.Nanosecond() / 1_000_000
	b = append(b, '0'+byte(milli/100)) //nolint:gosec // a digit
	return appendDigits(b, milli%100, 'Z')
}

// appendDigits writes two digits and what follows them, if anything.
func appendDigits(b []byte, n int, then byte) []byte {
	b = append(b, '0'+byte(n/10), '0'+byte(n%10)) //nolint:gosec // digits
	if then != 0 {
		b = append(b, then)
	}
	return b
}

func formatMs(ms int64) string { return time.UnixMilli(ms).UTC().Format(rfc3339) }

// appendText writes a JSON string. Plain ASCII, which nearly everything is, takes the short way.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			encoded, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...)
			}
			return append(b, encoded...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
