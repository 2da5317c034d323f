package execution

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
)

var traceForm = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$`)

// ValidTrace reports whether a header is a W3C traceparent.
func ValidTrace(header string) bool { return traceForm.MatchString(header) }

// traceparent continues the caller's trace, or begins one per run, with a span of its own for each execution.
func traceparent(caller *string, executionID, runID string) string {
	run := sha256.Sum256([]byte(runID))
	trace := hex.EncodeToString(run[:16])
	if caller != nil {
		if parts := traceForm.FindStringSubmatch(*caller); parts != nil {
			trace = parts[1]
		}
	}
	span := sha256.Sum256([]byte(executionID))
	return "00-" + trace + "-" + hex.EncodeToString(span[:8]) + "-01"
}
