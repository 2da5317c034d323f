package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/app/filter"
	"github.com/agentfield/agentfield/app/webhook"
	"github.com/agentfield/agentfield/models"
)

const (
	maxBatchIDs   = 1000
	maxWait       = 60 * time.Second
	maxKept       = 4096 // answers about ended executions that are kept in memory
	maxKeptAnswer = 2048 // bytes of one of them
)

// detail is an execution with everything its page and its JSON show.
type detail struct {
	execution.Finished
	attempts   []models.WebhookAttempt
	deliveries []models.WebhookDelivery
	approval   *models.Approval // of the last round; nil when it never asked
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

// batchStatus answers for up to 1,000 ids at once: a map from id to the shape of a single GET.
func (s *Server) batchStatus(c *fiber.Ctx) error {
	var r struct {
		IDs []string `json:"execution_ids"`
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	if len(r.IDs) > maxBatchIDs {
		return badRequest("too_many_ids", "at most %d execution ids can be asked for at once", maxBatchIDs)
	}
	batch, err := s.readBatch(c.UserContext(), r.IDs)
	if err != nil {
		return err
	}
	o := newObject(640 * (len(r.IDs) + 1))
	written := make(map[string]struct{}, len(r.IDs))
	for _, id := range r.IDs {
		if _, twice := written[id]; !twice {
			written[id] = struct{}{}
			s.appendStatus(o, id, batch)
		}
	}
	return sendJSON(c, fiber.StatusOK, o.end())
}

// batch is what is known of the executions of one batch-status request. Those that are final come from the answers kept earlier.
type batch struct {
	kept       map[string][]byte
	found      map[string]execution.Finished
	attempts   map[string][]models.WebhookAttempt
	deliveries map[string][]models.WebhookDelivery
}

// readBatch reads with one query what has not been answered for good.
func (s *Server) readBatch(ctx context.Context, ids []string) (batch, error) {
	b := batch{kept: map[string][]byte{}}
	open := make([]string, 0, len(ids))
	for _, id := range ids {
		if answer, ok := s.final.Get(id); ok {
			b.kept[id] = answer
		} else if opaque("id", id) == nil {
			open = append(open, id)
		}
	}
	if len(open) == 0 {
		return b, nil
	}
	var err error
	if b.found, err = s.Executions.GetMany(ctx, open); err != nil {
		return b, err
	}
	b.attempts, b.deliveries, err = s.webhooksOf(ctx, b.found)
	return b, err
}

// appendStatus writes one member of the answer. What can never change again is kept for the next who asks: pollers ask for a whole
// list until its last execution has ended.
func (s *Server) appendStatus(o *object, id string, b batch) {
	if answer, ok := b.kept[id]; ok {
		o.b = appendMember(o.b, id, answer)
		return
	}
	f, ok := b.found[id]
	if !ok {
		o.b = appendMember(o.b, id, unknownExecution(id))
		return
	}
	o.b = appendMember(o.b, id, []byte{'{'})
	from := len(o.b) - 1
	detail{Finished: f, attempts: b.attempts[id], deliveries: b.deliveries[id]}.write(o, "")
	o.b = append(o.b, '}')
	if answer := o.b[from:]; f.Row.Status.Terminal() && !f.Row.HasWebhook && len(answer) <= maxKeptAnswer {
		s.final.Add(strings.Clone(id), bytes.Clone(answer))
	}
}

// appendMember writes a member whose name is somebody else's text.
func appendMember(b []byte, name string, value []byte) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = append(appendText(b, name), ':')
	return append(b, value...)
}

func (s *Server) webhooksOf(ctx context.Context, found map[string]execution.Finished) (map[string][]models.WebhookAttempt, map[string][]models.WebhookDelivery, error) {
	var ids []string
	for id, f := range found {
		if f.Row.HasWebhook {
			ids = append(ids, id)
		}
	}
	attempts, deliveries := map[string][]models.WebhookAttempt{}, map[string][]models.WebhookDelivery{}
	if len(ids) == 0 {
		return attempts, deliveries, nil
	}
	tried, err := s.Webhooks.Attempts(ctx, ids...)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range tried {
		attempts[a.ExecutionID] = append(attempts[a.ExecutionID], a)
	}
	queued, err := s.Webhooks.Deliveries(ctx, ids...)
	for _, d := range queued {
		deliveries[d.ExecutionID] = append(deliveries[d.ExecutionID], d)
	}
	return attempts, deliveries, err
}

func unknownExecution(id string) []byte {
	o := newObject(128)
	o.text("execution_id", id)
	o.text("run_id", "")
	o.text("status", "not_found")
	o.text("started_at", "")
	o.truth("webhook_registered", false)
	return o.end()
}

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
	row := done.Row
	if !wantsJSON(c) {
		return seeOther(c, "/executions/"+row.ID)
	}
	o := newObject(256)
	o.text("execution_id", row.ID)
	o.text("run_id", row.RunID)
	o.text("previous_status", string(done.Previous))
	o.text("status", string(row.Status))
	o.maybe("reason", row.StatusReason)
	o.instant("cancelled_at", *row.FinishedAt)
	endKeys(o, row)
	return sendJSON(c, fiber.StatusOK, o.end())
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
