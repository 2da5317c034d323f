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
	"github.com/agentfield/agentfield/views/values"
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
	e := editing{row: row}
	if e.typed, e.saved, err = s.inputDraft(c, desk.Rerun, row.ID); err != nil {
		return err
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
		Execution: row, Saved: e.saved, Key: execution.NewID(), Gone: e.gone,
		Input: values.Input{Form: "rerun", Path: executions.RerunPath(row.ID), Problems: e.problems},
	}
	p.Frame.Live = false
	var err error
	if p.Input.Was, err = s.Executions.PayloadOrNil(ctx, row.ID, models.PayloadInput); err != nil {
		return err
	}
	if p.Input.Schema, err = s.Nodes.InputSchema(ctx, row.NodeID, row.Function); errors.Is(err, node.ErrUnknownNode) || errors.Is(err, node.ErrUnknownFunction) {
		p.Gone = upper(err.Error()) + "."
	} else if err != nil {
		return err
	}
	p.Input.Fill(e.typed)
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
	if again.Input, e.problems, err = s.typedInput(ctx, row.NodeID, row.Function, typed); err != nil {
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
		e.problems = values.Misfit(wrong.Pointer, upper(wrong.Error())+".", typed)
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
func (s *Server) typedInput(ctx context.Context, nodeID, function string, typed url.Values) ([]byte, map[string]string, error) {
	if typed.Get("as") == "form" {
		schema, err := s.Nodes.InputSchema(ctx, nodeID, function)
		if err != nil {
			return nil, nil, err
		}
		input, problems := values.ReadInput(schema, typed)
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

// saveRerunDraft keeps what somebody types to run an execution again.
func (s *Server) saveRerunDraft(c *fiber.Ctx) error {
	row, err := s.Executions.Row(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	return s.saveInputDraft(c, desk.Rerun, row.ID, executions.RerunPath(row.ID))
}

// inputDraft is what the visitor has typed before and not sent, and when (ms); nil when nothing.
func (s *Server) inputDraft(c *fiber.Ctx, kind, id string) (typed url.Values, saved *int64, err error) {
	draft, err := s.Desk.Draft(c.UserContext(), principal(c).Name, kind, id)
	if err != nil || draft == nil {
		return nil, nil, err
	}
	if typed, _ = url.ParseQuery(draft.Text); len(typed) == 0 { // nothing that can be read: the page begins anew
		return nil, nil, nil
	}
	return typed, &draft.UpdatedAt, nil
}

// saveInputDraft keeps what somebody types as an input; also sent by the browser while the page goes away, and by the buttons that change
// how it is edited, which lead back to the page.
func (s *Server) saveInputDraft(c *fiber.Ctx, kind, id, path string) error {
	typed := formOf(c)
	text := plainText(typed.Get("text"))
	button := typed.Get("to") != "" || typed.Get("discard") != ""
	if typed.Get("to") != "" {
		text = values.InputDraft(typed)
	}
	if typed.Get("discard") != "" {
		text = ""
	}
	if err := s.Desk.SaveDraft(c.UserContext(), principal(c).Name, kind, id, text); err != nil {
		return err
	}
	if button {
		return seeOther(c, path)
	}
	return c.SendStatus(fiber.StatusNoContent)
}
