package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/desk"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/node"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
)

// aboutRoutes are what people and programs do with one execution besides reading and ending it.
func (s *Server) aboutRoutes() []Route {
	return []Route{
		{"POST", "/executions/:id/rerun", access.Execute, s.rerun},
	}
}

// aboutPages are the pages about one execution that have no representation of their own for programs.
func (s *Server) aboutPages() []Route {
	return []Route{
		{"GET", "/executions/:id/rerun", access.Execute, s.rerunPage},
		{"POST", "/executions/:id/rerun/draft", access.Execute, s.saveRerunDraft},
		{"GET", "/executions/compare", access.Read, s.compareExecutions},
		{"POST", "/executions/:id/seen", access.Read, s.sawExecution},
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
	again := execution.Again{StartedBy: startedBy(c), By: byPerson(c)}
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

// rerunPage lets people edit the input of an execution. What they have typed before and not sent is there again.
func (s *Server) rerunPage(c *fiber.Ctx) error {
	row, err := s.Executions.Row(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	draft, err := s.Desk.Draft(c.UserContext(), principal(c).Name, desk.Rerun, row.ID)
	if err != nil {
		return err
	}
	e := editing{row: row}
	if draft != nil {
		if e.typed, err = url.ParseQuery(draft.Text); err == nil {
			e.saved = &draft.UpdatedAt
		}
	}
	return s.editPage(c, fiber.StatusOK, e)
}

// editing is what stands on the page: the input as it was, or what somebody has typed.
type editing struct {
	row      *models.Execution
	typed    url.Values // nil: nothing; else "input", or the fields of the form when "as" is form
	saved    *int64
	problems map[string]string
	gone     string
}

func (s *Server) editPage(c *fiber.Ctx, status int, e editing) error {
	ctx, row := c.UserContext(), e.row
	p := executions.RerunPage{
		Frame: s.frame(c, "Run again", "executions", layout.Crumb{Label: "Executions", Href: "/executions"},
			layout.Crumb{Label: row.Target(), Href: "/executions/" + row.ID}, layout.Crumb{Label: "Run again"}),
		Execution: row, Saved: e.saved, Problems: e.problems, Key: execution.NewID(), Gone: e.gone,
	}
	p.Frame.Live = false
	var err error
	if p.Input, err = s.Executions.PayloadOrNil(ctx, row.ID, models.PayloadInput); err != nil {
		return err
	}
	if p.Schema, err = s.Nodes.InputSchema(ctx, row.NodeID, row.Function); errors.Is(err, node.ErrUnknownNode) || errors.Is(err, node.ErrUnknownFunction) {
		p.Gone = upper(err.Error()) + "."
	} else if err != nil {
		return err
	}
	p.Fill(e.typed)
	return page(c, status, executions.Rerun(p))
}

// rerunByForm takes the same from the dashboard: with an input as JSON, with the fields of a form, or with neither, which is the input as it
// was. The key that the form carries keeps a second press from making a second execution.
func (s *Server) rerunByForm(c *fiber.Ctx) error {
	ctx, typed := c.UserContext(), formOf(c)
	row, err := s.Executions.Row(ctx, c.Params("id"))
	if err != nil {
		return err
	}
	again := execution.Again{StartedBy: startedBy(c), By: byPerson(c)}
	e := editing{row: row, typed: typed}
	if again.Input, e.problems, err = s.typedInput(ctx, row, typed); err != nil {
		return err
	}
	if len(e.problems) > 0 {
		return s.editPage(c, fiber.StatusUnprocessableEntity, e)
	}
	if again.Key, err = keyOf(c, typed.Get("key"), "rerun", row.ID, again.Input); err != nil {
		return err
	}
	started, err := s.Executions.Rerun(ctx, row.ID, again)
	var wrong *node.InputError
	if errors.As(err, &wrong) && again.Input != nil {
		e.problems = executions.Misfit(wrong.Pointer, upper(wrong.Error())+".", typed)
		return s.editPage(c, fiber.StatusUnprocessableEntity, e)
	}
	if err != nil {
		return err
	}
	if err := s.Desk.SaveDraft(ctx, principal(c).Name, desk.Rerun, row.ID, ""); err != nil {
		return err
	}
	return seeOther(c, "/executions/"+started.Row.ID)
}

// typedInput is the input that a form says, nil when it says none; or what is wrong with it, by field.
func (s *Server) typedInput(ctx context.Context, row *models.Execution, typed url.Values) ([]byte, map[string]string, error) {
	if typed.Get("as") == "form" {
		schema, err := s.Nodes.InputSchema(ctx, row.NodeID, row.Function)
		if err != nil {
			return nil, nil, err
		}
		input, problems := executions.ReadInput(schema, typed)
		return input, problems, nil
	}
	text := strings.TrimSpace(typed.Get("input"))
	if text == "" {
		return nil, nil, nil
	}
	if err := checkJSON([]byte(text)); err != nil {
		return nil, map[string]string{"input": upper(asFailure(err).details) + "."}, nil
	}
	return []byte(text), nil, nil
}

// saveRerunDraft keeps what somebody types; also sent by the browser while the page goes away, and by the buttons that change how the input
// is edited.
func (s *Server) saveRerunDraft(c *fiber.Ctx) error {
	row, err := s.Executions.Row(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	typed := formOf(c)
	text := plainText(typed.Get("text"))
	button := typed.Get("to") != "" || typed.Get("discard") != ""
	if typed.Get("to") != "" {
		text = executions.RerunDraft(typed)
	}
	if typed.Get("discard") != "" {
		text = ""
	}
	if err := s.Desk.SaveDraft(c.UserContext(), principal(c).Name, desk.Rerun, row.ID, text); err != nil {
		return err
	}
	if button {
		return seeOther(c, executions.RerunPath(row.ID))
	}
	return c.SendStatus(fiber.StatusNoContent)
}
