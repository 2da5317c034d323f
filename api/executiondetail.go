package api

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/executions"
)

// One execution as JSON: the shape of wire.md 3.8 with the documented additions, and its payloads as files.

const maxWait = 60 * time.Second // of a long poll

// detail is an execution with everything its page and its JSON show.
type detail struct {
	execution.Finished
	attempts   []models.WebhookAttempt
	deliveries []models.WebhookDelivery
	approval   *models.Approval // of the last round; nil when it never asked
	queue      *queueJSON       // while it is queued
}

// queueJSON says why an execution has not begun.
type queueJSON struct {
	Reason    string         `json:"reason"`
	QueuedMs  int64          `json:"queued_ms"`
	Ahead     int            `json:"ahead"`
	Hold      execution.Hold `json:"hold,omitempty"`
	Of        string         `json:"of,omitempty"`
	Running   *int           `json:"running,omitempty"`
	Cap       *int           `json:"cap,omitempty"`
	PerMinute int            `json:"per_minute,omitempty"`
	OpensAt   string         `json:"opens_at,omitempty"`
}

func (s *Server) queueOf(ctx context.Context, row *models.Execution) (*queueJSON, error) {
	if row.Status != models.Queued {
		return nil, nil //nolint:nilnil // it does not wait in a queue
	}
	p, err := s.Executions.Place(ctx, row)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	reason, _ := executions.Reason(row, placed(executions.Facts{}, p), now)
	q := &queueJSON{
		Reason: reason.String(), QueuedMs: max(now.UnixMilli()-row.CreatedAt, 0), Ahead: p.Ahead, Hold: p.Hold, Of: p.Of, PerMinute: p.PerMinute,
	}
	if p.Cap > 0 {
		q.Running, q.Cap = &p.Running, &p.Cap
	}
	if p.OpensAt > 0 {
		q.OpensAt = formatMs(p.OpensAt)
	}
	return q, nil
}

func (s *Server) detail(ctx context.Context, f execution.Finished) (detail, error) {
	d := detail{Finished: f}
	if f.Row.Rounds > 0 {
		rounds, err := s.Approvals.OfExecution(ctx, f.Row.ID)
		if err != nil {
			return d, err
		}
		if len(rounds) > 0 {
			d.approval = rounds[len(rounds)-1]
		}
	}
	if !f.Row.HasWebhook {
		return d, nil
	}
	var err error
	if d.attempts, err = s.Webhooks.Attempts(ctx, f.Row.ID); err != nil {
		return d, err
	}
	d.deliveries, err = s.Webhooks.Deliveries(ctx, f.Row.ID)
	return d, err
}

// showExecution answers GET /executions/{id}, on request (?wait=30s) not before its status has changed, or is another one than the caller
// knows (&status=running).
func (s *Server) showExecution(c *fiber.Ctx) error {
	wait, err := waitParam(c.Query("wait"))
	if err != nil {
		return err
	}
	known, ok := models.ParseStatus(c.Query("status"))
	if !ok && c.Query("status") != "" {
		return badRequest("invalid_status", "%q is not a status: use %s", c.Query("status"), statusWords())
	}
	f, err := s.Executions.Wait(c.UserContext(), c.Params("id"), wait, known)
	if err != nil {
		return err
	}
	d, err := s.detail(c.UserContext(), f)
	if err != nil {
		return err
	}
	if !f.Row.Status.Terminal() {
		c.Set(fiber.HeaderRetryAfter, strconv.Itoa(pollAfter(f.Row, s.Now())))
	}
	idHeaders(c, f.Row, false)
	if wantsJSON(c) {
		if d.queue, err = s.queueOf(c.UserContext(), f.Row); err != nil {
			return err
		}
		return sendJSON(c, fiber.StatusOK, d.json(s.base(c)))
	}
	return s.executionPage(c, d)
}

// waitParam reads how long a long poll may take: seconds or a duration, at most a minute.
func waitParam(value string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		value = strconv.FormatFloat(seconds, 'f', -1, 64) + "s"
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0, badRequest("invalid_parameter", "wait must be a duration such as 30s")
	}
	return min(d, maxWait), nil
}

// pollAfter suggests when to ask again: soon at first, every ten seconds for long work (S30).
func pollAfter(row *models.Execution, now time.Time) int {
	age := now.UnixMilli() - row.CreatedAt
	return int(min(max(age/4000, 1), 10))
}

// json is the shape of wire.md 3.8 with the documented additions.
func (d detail) json(base string) []byte {
	o := newObject(1024 + len(d.Result))
	d.write(o, base)
	return o.end()
}

// write fills an object that has been begun.
func (d detail) write(o *object, base string) {
	row := d.Row
	identityKeys(o, row)
	if d.queue != nil {
		o.value("queue", d.queue)
	}
	if row.Status == models.Succeeded {
		o.raw("result", d.Result)
	}
	if row.Status == models.Failed || row.Status == models.Timeout {
		o.text("error", text(row.ErrorMessage))
		o.text("error_message", text(row.ErrorMessage))
		if d.Details != nil {
			o.raw("error_details", d.Details)
		}
		o.maybe("error_category", row.ErrorCategory)
		o.maybe("code", row.ErrorCode)
	}
	o.instant("created_at", row.CreatedAt)
	if row.StartedAt != nil {
		o.instant("started_at", *row.StartedAt)
	} else {
		o.instant("started_at", row.CreatedAt)
	}
	endKeys(o, row)
	lineageKeys(o, row)
	o.number("max_attempts", int64(row.MaxAttempts))
	if row.Progress != nil {
		o.value("progress", *row.Progress)
	}
	o.maybe("progress_message", row.ProgressNote)
	if d.Partial != nil {
		o.raw("partial_result", d.Partial)
	}
	if row.DeadlineAt != nil {
		o.instant("deadline_at", *row.DeadlineAt)
	}
	approvalKeys(o, row, d.approval)
	o.truth("webhook_registered", row.HasWebhook)
	if row.HasWebhook {
		if n := len(d.deliveries); n > 0 {
			o.text("webhook_status", d.deliveries[n-1].State())
		}
		o.value("webhook_events", webhookEvents(d.attempts, d.deliveries))
	}
	if base != "" {
		o.text("ui_url", base+"/executions/"+row.ID)
	}
}

// webhookEvent is one attempt in both shapes (wire.md B15).
type webhookEvent struct {
	ID           string  `json:"id"`
	ExecutionID  string  `json:"execution_id"`
	EventType    string  `json:"event_type"`
	Attempt      int     `json:"attempt"`
	Status       string  `json:"status"`
	HTTPStatus   *int    `json:"http_status"`
	ErrorMessage *string `json:"error_message,omitempty"`
	ErrorClass   *string `json:"error_class,omitempty"`
	LatencyMs    int64   `json:"latency_ms"`
	ResponseBody *string `json:"response_body,omitempty"`
	Timestamp    string  `json:"timestamp"`
	CreatedAt    string  `json:"created_at"`
}

func webhookEvents(attempts []models.WebhookAttempt, deliveries []models.WebhookDelivery) []webhookEvent {
	kinds := make(map[string]string, len(deliveries))
	for _, d := range deliveries {
		kinds[d.ID] = d.Event
	}
	list := make([]webhookEvent, 0, len(attempts))
	for _, a := range attempts {
		status := "failed"
		if a.HTTPStatus != nil && *a.HTTPStatus >= 200 && *a.HTTPStatus < 300 {
			status = "delivered"
		}
		list = append(list, webhookEvent{
			ID: a.ID, ExecutionID: a.ExecutionID, EventType: kinds[a.DeliveryID], Attempt: a.Attempt, Status: status, HTTPStatus: a.HTTPStatus,
			ErrorMessage: a.Error, ErrorClass: a.ErrorClass, LatencyMs: a.LatencyMs, ResponseBody: a.ResponseBody,
			Timestamp: formatMs(a.At), CreatedAt: formatMs(a.At),
		})
	}
	return list
}

// identityKeys say which execution it is and how it stands.
func identityKeys(o *object, row *models.Execution) {
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	o.text("workflow_id", row.Workflow())
	o.text("status", string(row.Status))
	o.maybe("status_reason", row.StatusReason)
	o.text("target", row.Target())
	o.text("agent_node_id", row.NodeID)
	o.text("reasoner_id", row.Function)
	o.text("type", row.FunctionKind)
	o.text("mode", row.Mode)
}

// lineageKeys say where an execution comes from, and which try at it is the last.
func lineageKeys(o *object, row *models.Execution) {
	o.maybe("parent_execution_id", row.ParentID)
	o.maybe("rerun_of", row.RerunOf)
	o.maybe("session_id", row.SessionID)
	o.maybe("actor_id", row.ActorID)
	o.number("attempt", int64(row.Attempt))
	o.number("priority", int64(row.Priority()))
	if row.ConcurrencyKey != nil {
		o.value("concurrency", execution.Concurrency{Key: *row.ConcurrencyKey, Limit: *row.KeyLimit})
	}
}

// executionEvents lists the history of one execution, oldest first, after the event id ?after=; who accepts a stream follows it.
func (s *Server) executionEvents(c *fiber.Ctx) error {
	row, err := s.Executions.Row(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	if strings.Contains(c.Get(fiber.HeaderAccept), "text/event-stream") {
		return s.followExecution(c, row)
	}
	after, err := strconv.ParseInt(c.Query("after", "0"), 10, 64)
	if err != nil {
		return badRequest("invalid_cursor", "after must be the id of an event")
	}
	const limit = 500
	history, err := s.Executions.History(c.UserContext(), row.ID, after, limit)
	if err != nil {
		return err
	}
	list := make([]eventJSON, len(history))
	for i, e := range history {
		list[i] = asEventJSON(e)
	}
	o := newObject(256 * (len(list) + 1))
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	o.text("status", string(row.Status))
	o.value("events", list)
	o.truth("has_more", len(history) == limit)
	return sendJSON(c, fiber.StatusOK, o.end())
}

type eventJSON struct {
	ID      int64           `json:"id"`
	Type    string          `json:"type"`
	Status  string          `json:"status,omitempty"`
	Attempt int             `json:"attempt"`
	At      string          `json:"timestamp"`
	Data    json.RawMessage `json:"data,omitempty"`
}

func asEventJSON(e models.Event) eventJSON {
	out := eventJSON{ID: e.ID, Type: e.Kind, Attempt: e.Attempt, At: formatMs(e.At)}
	if status, ok := models.ParseStatus(strings.TrimPrefix(e.Kind, "execution.")); ok {
		out.Status = string(status)
	}
	if e.Data != nil {
		out.Data = json.RawMessage(*e.Data)
	}
	return out
}

func (s *Server) downloadInput(c *fiber.Ctx) error {
	return s.download(c, models.PayloadInput, "input")
}

func (s *Server) downloadResult(c *fiber.Ctx) error {
	return s.download(c, models.PayloadResult, "result")
}

// download gives a payload as the bytes that were stored.
func (s *Server) download(c *fiber.Ctx, kind models.PayloadKind, name string) error {
	row, err := s.Executions.Row(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	body, err := s.Executions.PayloadOrNil(c.UserContext(), row.ID, kind)
	if err != nil {
		return err
	}
	if body == nil {
		return about(row, &failure{status: fiber.StatusNotFound, code: "payload_not_found", title: "No " + name, details: "this execution has no " + name})
	}
	c.Set(fiber.HeaderContentDisposition, `attachment; filename="`+safeName(row.ID)+"-"+name+`.json"`)
	return sendJSON(c, fiber.StatusOK, body)
}

func safeName(id string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, id)
}
