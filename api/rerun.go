package api

import (
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/execution"
)

// aboutRoutes are what people and programs do with one execution besides reading and ending it.
func (s *Server) aboutRoutes() []Route {
	return []Route{
		{"POST", "/executions/:id/rerun", access.Execute, s.rerun},
	}
}

// rerun makes an execution once more, as it was or with another input.
func (s *Server) rerun(c *fiber.Ctx) error {
	if !wantsJSON(c) {
		return s.rerunByForm(c)
	}
	var r struct {
		Input json.RawMessage `json:"input"`
	}
	if err := bind(c, &r, true); err != nil {
		return err
	}
	again := execution.Again{By: byPerson(c)}
	var err error
	if present(r.Input) != nil {
		if again.Input, err = inputOf(r.Input); err != nil {
			return err
		}
	}
	if again.Key, err = keyOf(c, c.Get("Idempotency-Key"), "rerun", c.Params("id"), c.Body()); err != nil {
		return err
	}
	started, err := s.Executions.Rerun(c.UserContext(), c.Params("id"), again)
	if err != nil {
		return err
	}
	return s.accepted(c, started)
}

// byPerson is who acts, if it is somebody with a name or at a page: what programs do by the thousand is not kept for ever.
func byPerson(c *fiber.Ctx) *audit.Origin {
	if wantsJSON(c) && !principal(c).Person() {
		return nil
	}
	o := origin(c)
	return &o
}

// rerunByForm takes the same from the dashboard. The key that the form carries keeps a second press from making a second execution.
func (s *Server) rerunByForm(c *fiber.Ctx) error {
	again := execution.Again{By: byPerson(c)}
	if text := strings.TrimSpace(c.FormValue("input")); text != "" {
		if err := checkJSON([]byte(text)); err != nil {
			return err
		}
		again.Input = []byte(text)
	}
	var err error
	if again.Key, err = keyOf(c, c.FormValue("key"), "rerun", c.Params("id"), again.Input); err != nil {
		return err
	}
	started, err := s.Executions.Rerun(c.UserContext(), c.Params("id"), again)
	if err != nil {
		return err
	}
	return seeOther(c, "/executions/"+started.Row.ID)
}
