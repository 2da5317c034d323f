package api

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/models"
)

// filterOf reads the query of a list. Unknown parameters are ignored, wrong values are not.
func (s *Server) filterOf(c *fiber.Ctx) (execution.Filter, error) {
	query, err := typedFilter(c, filter.Executions())
	if err != nil {
		return execution.Filter{}, err
	}
	f, err := s.filterFrom(func(name string) string { return c.Query(name) })
	f.Query = query
	return f, err
}

// filterFrom reads everything but what is typed, wherever the parameters come from.
func (s *Server) filterFrom(asked func(name string) string) (execution.Filter, error) {
	either := func(names ...string) string {
		for _, name := range names {
			if value := asked(name); value != "" {
				return value
			}
		}
		return ""
	}
	f := execution.Filter{
		Node: either("node", "agent"), Function: either("function", "reasoner"), Session: either("session", "session_id"), Actor: either("actor", "actor_id"),
		Run: either("run", "run_id", "workflow_id"), Parent: asked("parent"), Mode: asked("mode"), Cursor: asked("cursor"),
	}
	if target := asked("target"); target != "" {
		f.Node, f.Function, _ = strings.Cut(target, ".")
	}
	for name, value := range map[string]string{"node": f.Node, "function": f.Function, "session": f.Session, "actor": f.Actor, "run": f.Run, "parent": f.Parent} {
		if err := opaque(name, value); err != nil {
			return f, err
		}
	}
	for _, word := range strings.FieldsFunc(asked("status"), func(r rune) bool { return r == ',' }) {
		status, ok := models.ParseStatus(word)
		if !ok {
			return f, badRequest("invalid_status", "%q is not a status: use %s", word, statusWords())
		}
		f.Statuses = append(f.Statuses, status)
	}
	if f.Mode != "" && f.Mode != "sync" && f.Mode != "async" {
		return f, badRequest("invalid_parameter", "mode is sync or async")
	}
	var err error
	if f.Since, err = instantParam("since", asked("since"), s.Now()); err != nil {
		return f, err
	}
	if f.Until, err = instantParam("until", asked("until"), s.Now()); err != nil {
		return f, err
	}
	f.Limit, err = limitParam(asked("limit"))
	return f, err
}

func limitParam(value string) (int, error) {
	if value == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 200 {
		return 0, badRequest("invalid_parameter", "limit must lie between 1 and 200")
	}
	return n, nil
}

func statusWords() string {
	words := make([]string, len(models.Statuses))
	for i, s := range models.Statuses {
		words[i] = string(s)
	}
	return strings.Join(words, ", ")
}

// listExecutions answers GET /executions.
func (s *Server) listExecutions(c *fiber.Ctx) error {
	if to, err := s.viewAlone(c, executionViews); to != "" || err != nil {
		return orRedirect(c, to, err)
	}
	f, err := s.filterOf(c)
	if err != nil {
		return err
	}
	page, err := s.Executions.List(c.UserContext(), f)
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return s.listPage(c, f, page)
	}
	list := make([]json.RawMessage, len(page.Rows))
	for i, row := range page.Rows {
		list[i] = summary(row)
	}
	o := newObject(512 * (len(list) + 1))
	o.key("executions")
	o.b = append(o.b, '[')
	for i, one := range list {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, one...)
	}
	o.b = append(o.b, ']')
	if page.Next == "" {
		o.raw("next_cursor", nil)
	} else {
		o.text("next_cursor", page.Next)
	}
	return sendJSON(c, fiber.StatusOK, o.end())
}

// summary is an execution in a list: the shape of GET without payloads and deliveries.
func summary(row *models.Execution) []byte {
	d := detail{Finished: execution.Finished{Row: row}}
	o := newObject(512)
	identityKeys(o, row)
	if row.ErrorMessage != nil {
		failureKeys(o, d.Finished)
	}
	o.instant("created_at", row.CreatedAt)
	if row.StartedAt != nil {
		o.instant("started_at", *row.StartedAt)
	}
	endKeys(o, row)
	lineageKeys(o, row)
	o.truth("webhook_registered", row.HasWebhook)
	return o.end()
}

// cancelExecution ends an execution by hand.
func (s *Server) cancelExecution(c *fiber.Ctx) error {
	reason, err := cancelReason(c)
	if err != nil {
		return err
	}
	done, err := s.Executions.Cancel(c.UserContext(), c.Params("id"), reason)
	if err != nil {
		return err
	}
	return s.answerMoved(c, done, "cancelled_at", *done.Row.FinishedAt)
}

// cancelReason reads why something is to end, from JSON or from a form.
func cancelReason(c *fiber.Ctx) (string, error) {
	var r struct {
		Reason string `json:"reason" form:"reason"`
	}
	if wantsJSON(c) {
		if err := bind(c, &r, true); err != nil {
			return "", err
		}
	} else if err := c.BodyParser(&r); err != nil && len(c.Body()) > 0 {
		return "", badRequest("invalid_form", "the form cannot be read")
	}
	if len(r.Reason) > 2000 {
		return "", badRequest("invalid_parameter", "the reason is longer than 2000 bytes")
	}
	return strings.ToValidUTF8(strings.ReplaceAll(r.Reason, "\x00", ""), ""), nil
}

// retryWebhook sends the webhook of an ended execution once more.
func (s *Server) retryWebhook(c *fiber.Ctx) error {
	row, err := s.Executions.Row(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	deliveries, err := s.Webhooks.Deliveries(c.UserContext(), row.ID)
	if err != nil {
		return err
	}
	ids := make([]string, len(deliveries))
	for i := range deliveries {
		ids[i] = deliveries[i].ID
	}
	_, err = s.Webhooks.Redeliver(c.UserContext(), origin(c), ids...)
	if errors.Is(err, webhook.ErrNoDelivery) || errors.Is(err, webhook.ErrInFlight) {
		return about(row, &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: err.Error(), state: string(row.Status)})
	}
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return seeOther(c, "/executions/"+row.ID)
	}
	o := newObject(128)
	o.truth("success", true)
	o.text("execution_id", row.ID)
	o.text("message", "the webhook is sent again")
	return sendJSON(c, fiber.StatusAccepted, o.end())
}

// overview is the state of the whole.
func (s *Server) overview(c *fiber.Ctx) error {
	since, err := instantParam("since", c.Query("since", "24h"), s.Now())
	if err != nil {
		return err
	}
	sum, err := s.Executions.Summarise(c.UserContext(), since)
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return s.overviewPage(c, sum)
	}
	o := newObject(256)
	o.number("pending", int64(sum.Pending))
	o.number("queued", int64(sum.Queued))
	o.number("running", int64(sum.Running))
	o.number("waiting", int64(sum.Waiting))
	o.number("failed", int64(sum.Failed))
	o.number("finished_last_minute", int64(sum.FinishedLastMinute))
	o.instant("since", since)
	if sum.OldestQueuedAt != nil {
		o.instant("oldest_queued_at", *sum.OldestQueuedAt)
	}
	return sendJSON(c, fiber.StatusOK, o.end())
}
