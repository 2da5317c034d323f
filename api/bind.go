package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	gojson "github.com/goccy/go-json"
	"github.com/gofiber/fiber/v2"
)

const (
	maxDepth = 64  // levels of a JSON body
	maxID    = 255 // bytes of an id that somebody else chose
)

// bind decodes a JSON body whatever media type is declared (ruling C17), after checking what decoders are lenient about. An empty body
// decodes as if it were {} when optional.
func bind(c *fiber.Ctx, into any, optional bool) error {
	body := c.Body()
	if optional && len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if err := checkJSON(body); err != nil {
		return err
	}
	if err := gojson.Unmarshal(body, into); err != nil {
		var wrong *json.UnmarshalTypeError
		var ours *gojson.UnmarshalTypeError
		switch {
		case errors.As(err, &wrong):
			return invalidJSON("%s has the wrong type: %s", fieldName(wrong.Field), wrong.Value)
		case errors.As(err, &ours):
			return invalidJSON("%s has the wrong type: %s", fieldName(ours.Field), ours.Value)
		}
		return invalidJSON("the body is not what this endpoint takes: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// plain refuses bodies that are packed: the limit of a body holds for what is read, and unpacking it is where it would grow.
func plain(c *fiber.Ctx) error {
	if encoding := c.Get(fiber.HeaderContentEncoding); encoding != "" && encoding != "identity" {
		return &failure{
			status: fiber.StatusUnsupportedMediaType, code: "unsupported_encoding", title: "Unsupported encoding",
			details: "send the body as it is, without Content-Encoding",
		}
	}
	return c.Next()
}

func fieldName(path string) string {
	if path == "" {
		return "the body"
	}
	return "\"" + path + "\""
}

// checkJSON refuses what is not one JSON object in UTF-8 of bounded depth.
func checkJSON(body []byte) error {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return invalidJSON("the body is empty: send a JSON object")
	case !utf8.Valid(trimmed):
		return invalidJSON("the body is not valid UTF-8")
	case trimmed[0] != '{':
		return invalidJSON("the body must be a JSON object")
	case tooDeep(trimmed):
		return invalidJSON("the body is nested deeper than %d levels", maxDepth)
	case !json.Valid(trimmed):
		return invalidJSON("the body is not valid JSON%s", whereInvalid(trimmed))
	}
	return nil
}

func whereInvalid(body []byte) string {
	var whole json.RawMessage
	if syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(body, &whole)); ok {
		return fmt.Sprintf(": %s at byte %d", syntax.Error(), syntax.Offset)
	}
	return ""
}

func tooDeep(body []byte) bool {
	depth, text, escaped := 0, false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case text:
			escaped, text = c == '\\', c != '"'
		case c == '"':
			text = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// opaque checks an id or name that somebody else chose: bounded, printable, one line.
func opaque(name, value string) error {
	if len(value) > maxID {
		return badRequest("invalid_parameter", "%s is longer than %d bytes", name, maxID)
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return badRequest("invalid_parameter", "%s contains characters that are not allowed in an id", name)
	}
	return nil
}

// cannotBe reports whether nothing can have such an id.
func cannotBe(name, id string) bool { return opaque(name, id) != nil }

// instantParam reads a time filter: RFC 3339, or how long ago ("15m", "24h", "7d"). 0 when absent.
func instantParam(name, value string, now time.Time) (int64, error) {
	if value == "" {
		return 0, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, value); err == nil {
		return at.UnixMilli(), nil
	}
	if days, ok := strings.CutSuffix(value, "d"); ok {
		if ago, err := time.ParseDuration(days + "h"); err == nil && ago > 0 {
			return now.Add(-24 * ago).UnixMilli(), nil
		}
	}
	if ago, err := time.ParseDuration(value); err == nil && ago > 0 {
		return now.Add(-ago).UnixMilli(), nil
	}
	return 0, badRequest("invalid_parameter", "%s must be an RFC 3339 time or a duration such as 15m, 24h or 7d", name)
}
