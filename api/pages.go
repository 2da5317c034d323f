package api

import (
	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/execution"
)

func asPage(c *fiber.Ctx) error                                        { return c.Next() }
func seeOther(c *fiber.Ctx, to string) error                           { return c.Redirect(to, fiber.StatusSeeOther) }
func (s *Server) failurePage(c *fiber.Ctx, f *failure) error           { return c.SendString(f.Error()) }
func (s *Server) executionPage(c *fiber.Ctx, d detail) error           { return c.SendString(d.Row.ID) }
func (s *Server) listPage(*fiber.Ctx, execution.Filter, execution.Page) error { return nil }
func (s *Server) overviewPage(c *fiber.Ctx, _ execution.Summary) error { return c.SendString("overview") }
func (s *Server) executionRows(*fiber.Ctx) error                       { return nil }
func (s *Server) resolve(*fiber.Ctx) error                             { return nil }
func (s *Server) setTheme(*fiber.Ctx) error                            { return nil }
func (s *Server) asset(*fiber.Ctx) error                               { return nil }
func (s *Server) favicon(*fiber.Ctx) error                             { return nil }
