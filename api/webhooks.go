package api

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
	"github.com/agentfield/agentfield/views/layout"
	hooks "github.com/agentfield/agentfield/views/webhooks"
)

// hookRoutes show the deliveries of webhooks over all executions and let operators send them again.
func (s *Server) hookRoutes() []Route {
	return []Route{
		{"GET", "/webhooks", access.Read, s.listWebhooks},
		{"GET", "/webhooks/:delivery", access.Read, s.showWebhook},
		{"POST", "/webhooks/redeliver", access.Operate, s.redeliverWebhooks},
		{"POST", "/webhooks/stop", access.Operate, s.stopWebhooks},
		{"POST", "/webhooks/:delivery/redeliver", access.Operate, s.redeliverWebhook},
		{"POST", "/webhooks/:delivery/stop", access.Operate, s.stopWebhook},
		{"GET", "/webhooks.csv", access.Read, func(c *fiber.Ctx) error { return s.exportWebhooks(c, csvForm()) }},
		{"GET", "/webhooks.ndjson", access.Read, func(c *fiber.Ctx) error { return s.exportWebhooks(c, linesForm()) }},
		{"GET", "/webhooks.json", access.Read, func(c *fiber.Ctx) error { return s.exportWebhooks(c, jsonForm()) }},
	}
}

// hookPages are what their pages ask for beside.
func (s *Server) hookPages() []Route {
	return []Route{
		{"GET", "/webhooks/rows", access.Read, s.webhookRows},
		{"GET", "/webhooks/fresh", access.Read, s.freshWebhooks},
		{"GET", "/webhooks/redeliver", access.Operate, s.confirmRedelivery},
		{"GET", "/webhooks/stop", access.Operate, s.confirmStop},
	}
}

// webhookFilter reads a filter. Unknown parameters are ignored, wrong values are not.
func (s *Server) webhookFilter(get func(string) string) (webhook.Filter, error) {
	f := webhook.Filter{
		State: get("state"), Class: get("class"), Host: get("host"), Event: get("event"), Execution: get("execution"), Endpoint: get("endpoint"),
		Cursor: get("cursor"),
	}
	for name, value := range map[string]string{"host": f.Host, "event": f.Event, "execution": f.Execution, "endpoint": f.Endpoint} {
		if err := opaque(name, value); err != nil {
			return f, err
		}
	}
	if f.State != "" && !slices.Contains(webhook.States(), f.State) {
		return f, badRequest("invalid_status", "%q is not a state: use %s", f.State, strings.Join(webhook.States(), ", "))
	}
	if f.Class != "" && !slices.Contains(webhook.Classes(), f.Class) {
		return f, badRequest("invalid_parameter", "%q is not a class of responses: use %s", f.Class, strings.Join(webhook.Classes(), ", "))
	}
	var err error
	if f.Since, err = instantParam("since", get("since"), s.Now()); err != nil {
		return f, err
	}
	if f.Until, err = instantParam("until", get("until"), s.Now()); err != nil {
		return f, err
	}
	f.Limit, err = limitParam(get("limit"))
	return f, err
}

// webhookFilterAsWritten is the filter as the address has it: relative times stay relative when the address is shared.
func webhookFilterAsWritten(c *fiber.Ctx, f webhook.Filter) hooks.Filter {
	return hooks.Filter{
		State: f.State, Class: f.Class, Host: f.Host, Event: f.Event, Execution: f.Execution, Endpoint: f.Endpoint, Since: c.Query("since"),
		Until: c.Query("until"), Limit: f.Limit,
	}
}

func query(c *fiber.Ctx) func(string) string {
	return func(name string) string { return c.Query(name) }
}

// listWebhooks answers GET /webhooks.
func (s *Server) listWebhooks(c *fiber.Ctx) error {
	f, err := s.webhookFilter(query(c))
	if err != nil {
		return err
	}
	list, err := s.Webhooks.List(c.UserContext(), f)
	if err != nil {
		return err
	}
	if !wantsJSON(c) {
		return s.webhooksPage(c, f, list)
	}
	o := newObject(512 * (len(list.Rows) + 1))
	o.key("webhooks")
	o.b = append(o.b, '[')
	for i, d := range list.Rows {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(o.b, deliveryJSON(d).end()...)
	}
	o.b = append(o.b, ']')
	if list.Next == "" {
		o.raw("next_cursor", nil)
	} else {
		o.text("next_cursor", list.Next)
	}
	return sendJSON(c, fiber.StatusOK, o.end())
}

// deliveryJSON is a delivery as far as its row tells, open for more members.
func deliveryJSON(d *models.WebhookDelivery) *object {
	o := newObject(512)
	o.text("id", d.ID)
	if d.ExecutionID != "" {
		o.text("execution_id", d.ExecutionID)
	}
	if d.EndpointID != "" {
		o.text("endpoint_id", d.EndpointID)
	}
	o.text("event", d.Event)
	o.truth("test", d.Event == webhook.EventTest)
	o.text("url", d.URL)
	o.text("state", d.State())
	o.number("attempt", int64(d.Attempt))
	o.number("max_attempts", int64(d.MaxAttempts))
	if d.LastStatus != nil {
		o.number("last_status", int64(*d.LastStatus))
	}
	o.maybe("last_class", d.LastClass)
	o.maybe("last_error", d.LastError)
	if d.LastLatencyMs != nil {
		o.number("last_latency_ms", *d.LastLatencyMs)
	}
	if d.Status == webhook.Queued && !d.Held() {
		o.instant("next_attempt_at", d.AvailableAt)
	}
	o.instant("created_at", d.CreatedAt)
	if d.DeliveredAt != nil {
		o.instant("delivered_at", *d.DeliveredAt)
	}
	o.maybe("stopped_by", d.StoppedBy)
	return o
}

// webhooksPage is the list for people.
func (s *Server) webhooksPage(c *fiber.Ctx, f webhook.Filter, list webhook.Page) error {
	ctx := c.UserContext()
	frame := s.frame(c, "Webhooks", "webhooks", layout.Crumb{Label: "Webhooks"})
	frame.Assets = []string{"webhooks.css"}
	counts, err := s.Webhooks.Count(ctx)
	if err != nil {
		return err
	}
	p := hooks.ListPage{
		Frame: frame, Filter: webhookFilterAsWritten(c, f), Rows: list.Rows, Cursor: f.Cursor, Next: list.Next, Prev: list.Prev, Any: true,
		Operate: principal(c).Can(access.Operate), Pending: counts.Pending, Retrying: counts.Retrying, Held: counts.Held, Failed: counts.Failed, Most: webhook.CountLimit,
	}
	if n, err := strconv.Atoi(c.Query("sent")); err == nil && n > 0 {
		p.Said = components.Plural(n, "webhook") + " sent again. What comes of it appears here."
	}
	if n, err := strconv.Atoi(c.Query("stopped")); err == nil && n > 0 {
		p.Said = components.Plural(n, "webhook") + " stopped. Each is a dead letter now, and can be sent again."
	}
	if len(list.Rows) == 0 {
		if p.Any, p.Target, err = s.emptiness(ctx, func(ctx context.Context) (int, error) {
			newest, err := s.Webhooks.List(ctx, webhook.Filter{Limit: 1})
			return len(newest.Rows), err
		}); err != nil {
			return err
		}
	}
	return page(c, fiber.StatusOK, hooks.List(p), "list")
}

// webhookRows brings rows of the list up to date, by their ids.
func (s *Server) webhookRows(c *fiber.Ctx) error {
	ids, err := rowsAsked(c)
	if err != nil {
		return err
	}
	rows, err := s.Webhooks.Rows(c.UserContext(), ids)
	if err != nil {
		return err
	}
	return page(c, fiber.StatusOK, hooks.Rows(rows, principal(c).Can(access.Operate), s.Now()))
}

// freshWebhooks counts what is newer than the first row of a list on screen.
func (s *Server) freshWebhooks(c *fiber.Ctx) error {
	f, err := s.webhookFilter(query(c))
	if err != nil {
		return err
	}
	return s.freshRows(c, webhookFilterAsWritten(c, f).Href(), func(ctx context.Context, after string) (int, bool, error) {
		return s.Webhooks.Newer(ctx, f, after)
	})
}

// showWebhook answers GET /webhooks/{delivery}.
func (s *Server) showWebhook(c *fiber.Ctx) error { return s.webhookPage(c, fiber.StatusOK, "") }

// webhookPage shows one delivery; problem is what became of the last request.
func (s *Server) webhookPage(c *fiber.Ctx, status int, problem string) error {
	ctx := c.UserContext()
	d, err := s.Webhooks.Delivery(ctx, c.Params("delivery"))
	if err != nil {
		return err
	}
	attempts, err := s.Webhooks.AttemptsOf(ctx, d)
	if err != nil {
		return err
	}
	registered, err := s.Webhooks.Registration(ctx, d)
	if err != nil && !errors.Is(err, webhook.ErrNoDelivery) {
		return err
	}
	plan := s.Webhooks.Plan(d)
	if wantsJSON(c) {
		return sendJSON(c, status, webhookJSON(d, attempts, registered, plan))
	}
	p := hooks.ShowPage{
		Frame:    s.frame(c, "Webhook", "webhooks", layout.Crumb{Label: "Webhooks", Href: "/webhooks"}, layout.Crumb{Label: components.ShortID(d.ID)}),
		Delivery: d, Attempts: attempts, Plan: plan, Headers: registered.Headers, Signed: registered.Signed, Operate: principal(c).Can(access.Operate),
		Problem: problem,
	}
	p.Frame.Assets = []string{"webhooks.css"}
	p.Said = hookDone[c.Query("done")]
	if p.Endpoint, err = s.endpointOf(c, d); err != nil {
		return err
	}
	if p.Host, err = s.Webhooks.HostOf(ctx, d); err != nil {
		return err
	}
	if p.Body, err = s.Webhooks.Body(ctx, d); err != nil && !errors.Is(err, webhook.ErrNoExecution) {
		return err
	}
	if n := len(attempts); n > 0 {
		p.Stamp = webhook.SignedText(d.ID, time.UnixMilli(attempts[n-1].At))
	}
	snippets, err := webhook.Snippets()
	if err != nil {
		return err
	}
	for _, snippet := range snippets {
		p.Snippets = append(p.Snippets, hooks.Snippet(snippet))
	}
	return page(c, status, hooks.Show(p), "hook")
}

// hookDone says what an act has led to, after the redirect.
var hookDone = map[string]string{
	"redeliver": "It is sent again, under the same webhook-id.", "stop": "It is not tried again.", "test": "The test event is on its way. What comes of it appears here.",
}

// endpointOf is the endpoint that a delivery goes to, nil when there is none any more.
func (s *Server) endpointOf(c *fiber.Ctx, d *models.WebhookDelivery) (*hooks.Endpoint, error) {
	if d.EndpointID == "" {
		return nil, nil //nolint:nilnil // registered with its execution
	}
	e, err := s.Webhooks.Endpoint(c.UserContext(), d.EndpointID)
	if errors.Is(err, webhook.ErrNoEndpoint) {
		return nil, nil //nolint:nilnil // deleted
	}
	return &hooks.Endpoint{WebhookEndpoint: e}, err
}

// webhookJSON is a delivery with its attempts, what is left of its schedule, and what was registered: names of headers, no values.
func webhookJSON(d *models.WebhookDelivery, attempts []models.WebhookAttempt, r webhook.Registration, plan []int64) []byte {
	o := deliveryJSON(d)
	o.value("attempts", webhookEvents(attempts, []models.WebhookDelivery{*d}))
	times := make([]string, len(plan))
	for i, at := range plan {
		times[i] = formatMs(at)
	}
	o.value("planned_attempts", times)
	o.value("headers", append([]string{}, r.Headers...))
	o.truth("signed", r.Signed)
	return o.end()
}

// redeliverWebhook sends one again.
func (s *Server) redeliverWebhook(c *fiber.Ctx) error {
	d, err := s.Webhooks.Delivery(c.UserContext(), c.Params("delivery"))
	if err != nil {
		return err
	}
	done, err := s.Webhooks.Redeliver(c.UserContext(), origin(c), d.ID)
	switch {
	case errors.Is(err, webhook.ErrInFlight) && !wantsJSON(c):
		return s.webhookPage(c, fiber.StatusConflict, "An attempt is on its way: look at its outcome first.")
	case errors.Is(err, webhook.ErrHeld) && !wantsJSON(c):
		return s.webhookPage(c, fiber.StatusConflict, "Its host is paused: resume the host, and it is sent.")
	case err != nil:
		return err
	case wantsJSON(c):
		return sendJSON(c, fiber.StatusAccepted, redeliveredJSON(done, false))
	}
	return seeOther(c, "/webhooks/"+url.PathEscape(d.ID)+"?done=redeliver")
}

func redeliveredJSON(done webhook.Redelivered, more bool) []byte {
	o := newObject(64)
	o.number("redelivered", int64(done.Queued))
	o.number("in_flight", int64(done.InFlight))
	o.truth("more", more)
	return o.end()
}

func webhookFailure(err error) *failure {
	switch {
	case errors.Is(err, webhook.ErrNoEndpoint):
		return &failure{status: fiber.StatusNotFound, code: "webhook_endpoint_not_found", title: "webhook endpoint not found", details: webhook.ErrNoEndpoint.Error()}
	case errors.Is(err, webhook.ErrManyEndpoints):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: webhook.ErrManyEndpoints.Error()}
	case errors.Is(err, webhook.ErrNoHost):
		return &failure{status: fiber.StatusNotFound, code: "webhook_host_not_found", title: "webhook host not found", details: webhook.ErrNoHost.Error()}
	case errors.Is(err, webhook.ErrHostState):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: webhook.ErrHostState.Error()}
	case errors.Is(err, webhook.ErrHeld):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: webhook.ErrHeld.Error()}
	case errors.Is(err, webhook.ErrUnknown):
		return &failure{status: fiber.StatusNotFound, code: "webhook_not_found", title: "webhook not found", details: webhook.ErrUnknown.Error()}
	case errors.Is(err, webhook.ErrInFlight):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: webhook.ErrInFlight.Error()}
	case errors.Is(err, webhook.ErrNothingWaits):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: webhook.ErrNothingWaits.Error()}
	case errors.Is(err, webhook.ErrNoDelivery):
		return &failure{status: fiber.StatusConflict, code: "invalid_state", title: "invalid_state", details: "there is no webhook among them that can be sent again"}
	case errors.Is(err, webhook.ErrTooMany):
		return &failure{status: fiber.StatusBadRequest, code: "too_many_ids", title: "Bad request", details: webhook.ErrTooMany.Error()}
	}
	return nil
}
