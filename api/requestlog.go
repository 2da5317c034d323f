package api

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// logRequest writes a line about every request, with the execution it is about, so that one id finds the requests, the attempts, what the agent
// logged and the webhooks. At debug level: a busy server answers thousands a second.
func (s *Server) logRequest(c *fiber.Ctx) error {
	if !s.Log.Enabled(c.UserContext(), slog.LevelDebug) {
		return c.Next()
	}
	began := s.Now()
	err := c.Next()
	if err != nil { // the answer to an error is written here, or its status would not be known yet
		if failed := s.fail(c, err); failed != nil {
			return failed
		}
	}
	s.Log.Debug("request", "method", c.Method(), "path", c.Path(), "status", c.Response().StatusCode(), "duration_ms", s.Now().Sub(began).Milliseconds(),
		"request_id", requestID(c), "execution_id", executionOf(c))
	return nil
}

// executionOf is the execution that a request is about, "" when it is about none: the one of its path, else the one that its answer or its
// caller names.
func executionOf(c *fiber.Ctx) string {
	_, rest, found := strings.Cut(c.Path(), "/executions/")
	if id, _, _ := strings.Cut(rest, "/"); found && !slices.Contains(noExecutions(), id) && opaque("id", id) == nil {
		return strings.Clone(id)
	}
	if id := string(c.Response().Header.Peek("X-Execution-ID")); id != "" {
		return id
	}
	if id := c.Get("X-Execution-ID"); opaque("id", id) == nil {
		return id
	}
	return ""
}

// noExecutions are the words that stand in the place of an id.
func noExecutions() []string {
	return []string{"", "batch-status", "note", "compare", "rows", "fresh", "events", "export", "groups", "bulk"}
}
