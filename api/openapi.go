package api

import (
	_ "embed"

	"github.com/gofiber/fiber/v2"
)

// openAPI describes every JSON route; a test holds it to the route table and to the answers of the scenarios.
//
//go:embed openapi.yaml
var openAPI []byte

func (s *Server) openAPIFile(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, "application/yaml")
	return c.Send(openAPI)
}
