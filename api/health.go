package api

import (
	"context"
	"time"

	"github.com/gofiber/fiber/v2"
)

const checkTimeout = 2 * time.Second

// live says that the process answers; it asks nobody else.
func (s *Server) live(c *fiber.Ctx) error { return c.SendString("ok\n") }

// ready says whether this replica should get work.
func (s *Server) ready(c *fiber.Ctx) error {
	c.Locals(localJSON, true)
	if s.Executions.Draining() {
		return &failure{status: fiber.StatusServiceUnavailable, code: "draining", title: "Shutting down", details: "this replica is shutting down", retryAfter: time.Second}
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), checkTimeout)
	defer cancel()
	if err := s.Check(ctx); err != nil {
		s.Log.Warn("not ready", "error", err)
		return &failure{status: fiber.StatusServiceUnavailable, code: "not_ready", title: "Not ready", details: "the database or a background loop does not answer", retryAfter: time.Second}
	}
	return c.JSON(fiber.Map{"status": "ready", "version": s.Version})
}

// health is the form of the protocol (wire.md 1.6).
func (s *Server) health(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(c.UserContext(), checkTimeout)
	defer cancel()
	began := time.Now()
	err := s.Check(ctx)
	storage := fiber.Map{"status": "healthy", "message": "the database answers", "response_time": time.Since(began).Milliseconds()}
	status, code := "healthy", fiber.StatusOK
	if err != nil {
		s.Log.Warn("unhealthy", "error", err)
		storage["status"], storage["message"] = "unhealthy", "the database or a background loop does not answer"
		status, code = "unhealthy", fiber.StatusServiceUnavailable
	}
	return c.Status(code).JSON(fiber.Map{
		"status": status, "timestamp": s.Now().UTC().Format(rfc3339), "version": s.Version, "checks": fiber.Map{"storage": storage},
	})
}
