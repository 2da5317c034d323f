package api

import (
	"context"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/agentlog"
	"github.com/agentfield/agentfield/app/desk"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/executions"
	"github.com/agentfield/agentfield/views/layout"
)

const (
	shownEvents    = 500
	shownLogs      = 500
	shownRelatives = 12
	awayFor        = time.Minute // shorter absences are not worth a word
)

// executionPage shows one execution with everything that is known of it.
func (s *Server) executionPage(c *fiber.Ctx, d detail) error {
	ctx, row := c.UserContext(), d.Row
	p := executions.ShowPage{
		Frame:     s.frame(c, row.Target(), "executions", layout.Crumb{Label: "Executions", Href: "/executions"}, layout.Crumb{Label: row.Target()}),
		Execution: row, RerunKey: execution.NewID(), Result: d.Result, Details: d.Details, Deliveries: d.deliveries, Attempts: d.attempts,
	}
	history, err := s.Executions.History(ctx, row.ID, 0, shownEvents+1)
	if err != nil {
		return err
	}
	if len(history) > shownEvents {
		p.MoreEvents, history = len(history)-shownEvents, history[:shownEvents]
	}
	p.History = history
	if p.Input, err = s.Executions.PayloadOrNil(ctx, row.ID, models.PayloadInput); err != nil {
		return err
	}
	if p.Partial, err = s.Executions.PayloadOrNil(ctx, row.ID, models.PayloadPartial); err != nil {
		return err
	}
	if row.HasWebhook {
		if p.WebhookURL, err = s.Webhooks.Address(ctx, row.ID); err != nil {
			return err
		}
	}
	if p.Shown, err = shownParam(c); err != nil {
		return err
	}
	if p.Logs, err = s.shownLogs(ctx, row.ID, p.Shown); err != nil {
		return err
	}
	if p.LogEntries, _, err = s.Logs.Count(ctx, row.ID); err != nil {
		return err
	}
	if p.Away, err = s.whileAway(c, row.ID); err != nil {
		return err
	}
	if p.Facts, err = s.facts(ctx, row, history); err != nil {
		return err
	}
	if row.Status == models.Waiting {
		p.Facts.Approval = d.approval
	}
	if p.Place, p.Steps, err = s.Workflows.Position(ctx, row); err != nil {
		return err
	}
	if p.Children, err = s.Executions.CountChildren(ctx, row.ID); err != nil {
		return err
	}
	if p.Children > 0 {
		called, err := s.Executions.List(ctx, execution.Filter{Parent: row.ID, Limit: shownRelatives})
		if err != nil {
			return err
		}
		p.Called = called.Rows
	}
	if p.Reruns, err = s.Executions.Reruns(ctx, row.ID, shownRelatives); err != nil {
		return err
	}
	return page(c, fiber.StatusOK, executions.Show(p), "execution")
}

// facts explain a status that has not ended.
func (s *Server) facts(ctx context.Context, row *models.Execution, history []models.Event) (executions.Facts, error) {
	f := executions.Facts{Ahead: -1}
	for _, e := range history {
		if e.Kind != event.KindDelivery {
			f.LastSign = &e.At
		}
	}
	if row.Status != models.Queued {
		return f, nil
	}
	place, err := s.Executions.Place(ctx, row)
	return placed(f, place), err
}

// placed adds what is known of the queue.
func placed(f executions.Facts, p execution.Place) executions.Facts {
	f.Ahead = p.Ahead
	f.Hold = executions.Hold{Kind: string(p.Hold), Of: p.Of, Running: p.Running, Cap: p.Cap, PerMinute: p.PerMinute, OpensAt: p.OpensAt}
	return f
}

// shownParam reads what of the history is wanted.
func shownParam(c *fiber.Ctx) (components.Shown, error) {
	shown := components.Shown{Level: c.Query("level"), Q: plainText(c.Query("q"))}
	known := false
	for _, level := range components.Levels() {
		known = known || level[0] == shown.Level
	}
	if !known {
		return shown, badRequest("invalid_parameter", "level is status, notes, debug, info, warn or error")
	}
	if len(shown.Q) > maxID {
		return shown, badRequest("invalid_parameter", "q is longer than %d bytes", maxID)
	}
	if text := c.Query("after"); text != "" {
		var err error
		if shown.After, err = strconv.ParseInt(text, 10, 64); err != nil {
			return shown, badRequest("invalid_parameter", "after must be an instant in ms since 1970")
		}
	}
	return shown, nil
}

// shownLogs are the newest entries of the log that can be among what is wanted.
func (s *Server) shownLogs(ctx context.Context, id string, shown components.Shown) ([]models.ExecutionLog, error) {
	q := agentlog.Query{Limit: shownLogs}
	switch shown.Level {
	case "status", "notes":
		return nil, nil
	case "warn":
		q.Levels = []string{"warn", "error"}
	case "error":
		q.Levels = []string{"error"}
	}
	return s.Logs.Read(ctx, id, q)
}

// whileAway is what has happened since the visitor last looked at an execution. Only a whole page counts as coming back: a page that stays
// open in the background asks for its parts as well.
func (s *Server) whileAway(c *fiber.Ctx, id string) (*executions.Away, error) {
	seen, err := s.cameBack(c, desk.Execution, id)
	if err != nil || seen == nil {
		return nil, err
	}
	news, err := s.Executions.History(c.UserContext(), id, seen.EventID, shownEvents)
	if err != nil || len(news) == 0 {
		return nil, err
	}
	return &executions.Away{Since: seen.SeenAt, Events: news}, nil
}

// cameBack notes that the visitor looks at an object, and returns how far they had seen it if they have been away for a while; else nil.
func (s *Server) cameBack(c *fiber.Ctx, kind, id string) (*models.LastSeen, error) {
	if c.Get("HX-Request") == "true" {
		return nil, nil //nolint:nilnil // nothing to tell
	}
	seen, err := s.Desk.See(c.UserContext(), principal(c).ID, kind, id, seq(c))
	if err != nil || seen == nil || s.Now().Sub(time.UnixMilli(seen.SeenAt)) < awayFor {
		return nil, err
	}
	return seen, nil
}

// sawExecution notes that the visitor has the page of an execution before their eyes, sent while it is visible and when it no longer is.
func (s *Server) sawExecution(c *fiber.Ctx) error {
	return s.saw(c, desk.Execution, c.Params("id"))
}

// sawRun is the same for the page of a run.
func (s *Server) sawRun(c *fiber.Ctx) error { return s.saw(c, desk.Run, c.Params("run")) }

func (s *Server) saw(c *fiber.Ctx, kind, id string) error {
	if _, err := s.Desk.See(c.UserContext(), principal(c).ID, kind, id, s.Hub.Newest()); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// compareExecutions puts two executions beside each other. One that is not named yet can be named on the page.
func (s *Server) compareExecutions(c *fiber.Ctx) error {
	p := executions.ComparePage{
		Frame: s.frame(c, "Compare", "executions", layout.Crumb{Label: "Executions", Href: "/executions"}, layout.Crumb{Label: "Compare"}),
		IDs:   [2]string{c.Query("a"), c.Query("b")},
	}
	p.Frame.Live = false
	for i, id := range p.IDs {
		if id == "" {
			continue
		}
		if err := opaque("id", id); err != nil {
			return err
		}
		side, err := s.side(c.UserContext(), id)
		if err != nil {
			return aboutID(err, id)
		}
		p.Sides[i] = side
	}
	return page(c, fiber.StatusOK, executions.Compare(p))
}

// side is one of two executions with what is compared.
func (s *Server) side(ctx context.Context, id string) (*executions.Side, error) {
	f, err := s.Executions.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	side := &executions.Side{Execution: f.Row, Output: f.Result}
	if side.Output == nil {
		if side.Output = f.Details; side.Output == nil {
			side.Output = f.Partial
		}
	}
	side.Input, err = s.Executions.PayloadOrNil(ctx, id, models.PayloadInput)
	return side, err
}
