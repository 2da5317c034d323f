package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Answer is one HTTP answer, read to its end.
type Answer struct {
	Request string // method and path, for messages
	Status  int
	Header  http.Header
	Body    []byte
	Took    time.Duration
}

// Value is what the JSON body has at a dotted path; list items are addressed by their index. The second result tells whether it is there.
func (a Answer) Value(path string) (any, bool) {
	var body any
	if json.Unmarshal(a.Body, &body) != nil {
		return nil, false
	}
	return Lookup(body, path)
}

// Text is the string at a path, empty when there is none.
func (a Answer) Text(path string) string {
	v, _ := a.Value(path)
	s, _ := v.(string)
	return s
}

// Number is the number at a path, zero when there is none.
func (a Answer) Number(path string) float64 {
	v, _ := a.Value(path)
	n, _ := v.(float64)
	return n
}

// List is the array at a path, nil when there is none.
func (a Answer) List(path string) []any {
	v, _ := a.Value(path)
	list, _ := v.([]any)
	return list
}

// String describes the answer in one line.
func (a Answer) String() string {
	body := strings.TrimSpace(string(a.Body))
	if len(body) > 600 {
		body = body[:600] + "…"
	}
	return fmt.Sprintf("%s → %d %s", a.Request, a.Status, body)
}

// Lookup walks a decoded JSON value along a dotted path. The empty path is the value itself.
func Lookup(v any, path string) (any, bool) {
	if path == "" {
		return v, true
	}
	for key := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[key]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}
