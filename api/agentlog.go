package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/agentlog"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

const maxLogBody = 10 << 20

// saidRoutes are what agents say while they work and what is read of it.
func (s *Server) saidRoutes() []Route {
	return []Route{
		{"POST", "/executions/:id/logs", access.Agent, s.appendLogs},
		{"GET", "/executions/:id/logs", access.Read, s.readLogs},
		{"GET", "/executions/:id/logs/stream", access.Read, s.streamLogs},
		{"GET", "/executions/:id/notes", access.Read, s.listNotes},
		{"POST", "/workflow/executions/events", access.Agent, s.workflowEvent},
		{"POST", "/workflow/executions", access.Agent, s.workflowExecution},
	}
}

// saidTools are the same under /api/ui, where SDKs and tools of the protocol know them.
func (s *Server) saidTools() []Route {
	return []Route{
		{"POST", "/v1/executions/note", access.Agent, s.note},
		{"GET", "/v1/executions/events", access.Read, s.streamExecutions},
		{"GET", "/v1/executions/:id/logs", access.Read, s.readLogs},
		{"GET", "/v1/executions/:id/logs/stream", access.Read, s.streamLogs},
		{"GET", "/v1/nodes/:id/logs", access.Read, s.nodeLogs},
	}
}

// logEntry is an entry on the wire (wire.md 3.12). What is not here is accepted and not kept.
type logEntry struct {
	TS          string          `json:"ts"`
	ExecutionID string          `json:"execution_id"`
	NodeID      string          `json:"agent_node_id"`
	Level       string          `json:"level"`
	Source      string          `json:"source"`
	Message     string          `json:"message"`
	Seq         int64           `json:"seq"`
	Attributes  json.RawMessage `json:"attributes"`
	loggedMore
}

// loggedMore are the members that are kept together as one text.
type loggedMore struct {
	WorkflowID      string          `json:"workflow_id,omitempty"`
	RunID           string          `json:"run_id,omitempty"`
	RootWorkflowID  string          `json:"root_workflow_id,omitempty"`
	ParentID        string          `json:"parent_execution_id,omitempty"`
	ReasonerID      string          `json:"reasoner_id,omitempty"`
	EventType       string          `json:"event_type,omitempty"`
	SystemGenerated bool            `json:"system_generated,omitempty"`
	Language        string          `json:"sdk_language,omitempty"`
	Attempt         int             `json:"attempt,omitempty"`
	SpanID          string          `json:"span_id,omitempty"`
	StepID          string          `json:"step_id,omitempty"`
	ErrorCategory   string          `json:"error_category,omitempty"`
	Attributes      json.RawMessage `json:"attributes,omitempty"`
}

// appendLogs takes one entry or a batch.
func (s *Server) appendLogs(c *fiber.Ctx) error {
	if len(c.Body()) > maxLogBody {
		return &failure{
			status: fiber.StatusRequestEntityTooLarge, code: "payload_too_large", title: "request body too large", maxBytes: maxLogBody,
			details: "send the entries in smaller batches",
		}
	}
	var r struct {
		Entries []logEntry `json:"entries"`
		logEntry
	}
	if err := bind(c, &r, false); err != nil {
		return err
	}
	id := c.Params("id")
	sent := r.Entries
	if sent == nil {
		sent = []logEntry{r.logEntry}
	}
	above := []string{id}
	entries := make([]models.ExecutionLog, len(sent))
	for i := range sent {
		entry, err := s.logged(c, id, &sent[i])
		if err != nil {
			return aboutID(err, id)
		}
		entries[i] = entry
		if parent := sent[i].ParentID; parent != "" && len(above) < 4 {
			above = append(above, parent)
		}
	}
	if err := s.Executions.Vouched(c.Get("X-Execution-Token"), above...); err != nil {
		return aboutID(err, id)
	}
	n, err := s.Logs.Append(c.UserContext(), id, entries)
	if err != nil {
		return aboutID(err, id)
	}
	o := newObject(128)
	o.truth("success", true)
	o.text("execution_id", id)
	o.number("accepted", int64(n))
	if n < len(entries) {
		o.number("dropped", int64(len(entries)-n))
		o.text("message", agentlog.ErrFull.Error())
	}
	return sendJSON(c, fiber.StatusAccepted, o.end())
}

// logged is an entry as it is kept.
func (s *Server) logged(c *fiber.Ctx, id string, e *logEntry) (models.ExecutionLog, error) {
	if e.NodeID == "" {
		e.NodeID = c.Get("X-Agent-Node-ID")
	}
	switch {
	case e.ExecutionID != "" && e.ExecutionID != id:
		return models.ExecutionLog{}, &failure{
			status: fiber.StatusBadRequest, code: "execution_id_mismatch", title: "execution_id_mismatch",
			details: "an entry names another execution than the address: send it to that one",
		}
	case e.Message == "":
		return models.ExecutionLog{}, badRequest("invalid_parameter", "message is missing")
	case e.NodeID == "" || opaque("agent_node_id", e.NodeID) != nil:
		return models.ExecutionLog{}, badRequest("invalid_parameter", "agent_node_id is missing or is no id")
	}
	entry := models.ExecutionLog{
		Seq: e.Seq, NodeID: e.NodeID, Level: levelOf(e.Level), Source: clipTo(e.Source, 64), Message: clipTo(e.Message, agentlog.MaxMessage),
		At: s.Now().UnixMilli(),
	}
	if entry.Source == "" {
		entry.Source = "sdk.user"
	}
	if at, err := time.Parse(time.RFC3339Nano, e.TS); err == nil {
		entry.At = at.UnixMilli()
	}
	entry.More = e.more()
	return entry, nil
}

// levelOf: agents write the same word in several ways.
func levelOf(word string) string {
	word = clipTo(strings.ToLower(strings.TrimSpace(word)), 32)
	switch word {
	case "":
		return "info"
	case "warning":
		return "warn"
	case "err", "fatal", "critical":
		return "error"
	}
	return word
}

func (e *logEntry) more() *string {
	m := e.loggedMore
	for _, field := range []*string{
		&m.WorkflowID, &m.RunID, &m.RootWorkflowID, &m.ParentID, &m.ReasonerID, &m.EventType, &m.Language, &m.SpanID, &m.StepID, &m.ErrorCategory,
	} {
		*field = clipTo(*field, maxID)
	}
	switch attributes := bytes.TrimSpace(e.Attributes); {
	case len(attributes) > agentlog.MaxMessage:
		m.Attributes = json.RawMessage(fmt.Sprintf(`{"omitted_bytes":%d}`, len(attributes)))
	case len(attributes) > 2 && attributes[0] == '{':
		m.Attributes = attributes
	}
	text, err := json.Marshal(m)
	if err != nil || string(text) == "{}" {
		return nil
	}
	return new(strings.ReplaceAll(string(text), "\x00", ""))
}

// logJSON is an entry as it is read back.
func logJSON(e *models.ExecutionLog) []byte {
	o := newObject(256 + len(e.Message))
	o.number("event_id", e.ID)
	o.text("execution_id", e.ExecutionID)
	o.number("seq", e.Seq)
	o.text("agent_node_id", e.NodeID)
	o.text("level", e.Level)
	o.text("source", e.Source)
	o.text("message", e.Message)
	o.instant("ts", e.At)
	o.instant("recorded_at", e.RecordedAt)
	if e.More != nil && len(*e.More) > 2 {
		o.b = append(append(o.b, ','), (*e.More)[1:len(*e.More)-1]...)
	}
	return o.end()
}

func listQuery(c *fiber.Ctx, names ...string) []string {
	var words []string
	for _, name := range names {
		words = append(words, strings.FieldsFunc(c.Query(name), func(r rune) bool { return r == ',' })...)
	}
	return words
}

// logQuery reads which entries are wanted.
func logQuery(c *fiber.Ctx, after string) (agentlog.Query, error) {
	q := agentlog.Query{
		Levels: listQuery(c, "levels", "level"), Nodes: listQuery(c, "node_ids"), Sources: listQuery(c, "sources"), Q: plainText(c.Query("q")),
	}
	if len(q.Levels)+len(q.Nodes)+len(q.Sources) > 100 || len(q.Q) > maxID {
		return q, badRequest("invalid_parameter", "that is more than can be looked for at once")
	}
	var err error
	if text := c.Query("tail"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 {
			return q, badRequest("invalid_parameter", "tail must be a number from 1 to %d", agentlog.MaxTail)
		}
	}
	if q.Limit > agentlog.MaxTail {
		return q, tailTooLarge(agentlog.MaxTail)
	}
	if text := c.Query(after); text != "" {
		if q.After, err = strconv.ParseInt(text, 10, 64); err != nil || q.After < 0 {
			return q, badRequest("invalid_parameter", "%s must be the seq of an entry", after)
		}
	}
	return q, nil
}

func tailTooLarge(most int64) error {
	o := newObject(128)
	o.text("error", "tail_too_large")
	o.text("code", "tail_too_large")
	o.text("message", "ask for fewer entries at once")
	o.text("details", "ask for fewer entries at once")
	o.number("max_allowed", most)
	return &failure{status: fiber.StatusBadRequest, code: "tail_too_large", title: "tail_too_large", body: o.end()}
}

// readLogs lists the newest entries of an execution, in their order.
func (s *Server) readLogs(c *fiber.Ctx) error {
	q, err := logQuery(c, "after_seq")
	if err != nil {
		return err
	}
	id := c.Params("id")
	entries, err := s.Logs.Read(c.UserContext(), id, q)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		if _, err := s.Executions.Row(c.UserContext(), id); err != nil {
			return err
		}
	}
	list := make([]json.RawMessage, len(entries))
	for i := range entries {
		list[i] = logJSON(&entries[i])
	}
	o := newObject(512 * (len(list) + 1))
	o.text("execution_id", id)
	o.value("entries", list)
	return sendJSON(c, fiber.StatusOK, o.end())
}

// listNotes lists the remarks about an execution.
func (s *Server) listNotes(c *fiber.Ctx) error {
	row, err := s.Executions.Row(c.UserContext(), c.Params("id"))
	if err != nil {
		return err
	}
	notes, err := s.Executions.Notes(c.UserContext(), row.ID, listQuery(c, "tags"))
	if err != nil {
		return err
	}
	list := make([]noteJSON, len(notes))
	for i, n := range notes {
		list[i] = asNoteJSON(n)
	}
	o := newObject(128 * (len(list) + 1))
	o.text("execution_id", row.ID)
	o.value("notes", list)
	o.number("total", int64(len(list)))
	return sendJSON(c, fiber.StatusOK, o.end())
}

type noteJSON struct {
	Message   string   `json:"message"`
	Tags      []string `json:"tags"`
	Timestamp string   `json:"timestamp"`
}

func asNoteJSON(n execution.Noted) noteJSON {
	tags := n.Tags
	if tags == nil {
		tags = []string{}
	}
	return noteJSON{n.Message, tags, formatMs(n.At)}
}

const logBeat = 30 * time.Second

// streamLogs follows the log of an execution until the execution has ended. The body is written after the handler has returned, so all it
// needs is read before.
func (s *Server) streamLogs(c *fiber.Ctx) error {
	q, err := logQuery(c, "since_seq")
	if err != nil {
		return err
	}
	id := c.Params("id")
	row, err := s.Executions.Row(c.UserContext(), id)
	if err != nil {
		return err
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no")
	follow := s.Hub.Follow(s.Hub.Newest())
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer follow.Close()
		out := logStream{s: s, w: w, id: id, q: q}
		if out.entries() != nil || out.say("connected", "execution_id", id) != nil {
			return
		}
		if row.Status.Terminal() {
			_ = out.end(row.Status)
			return
		}
		out.follow(follow)
	})
	return nil
}

// logStream writes the log of one execution as server-sent events.
type logStream struct {
	s  *Server
	w  *bufio.Writer
	id string
	q  agentlog.Query
}

// entries writes what has come since the last time.
func (l *logStream) entries() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	entries, err := l.s.Logs.Read(ctx, l.id, l.q)
	if err != nil {
		return err
	}
	for i := range entries {
		l.q.After = max(l.q.After, entries[i].Seq)
		if _, err := fmt.Fprintf(l.w, "data: %s\n\n", logJSON(&entries[i])); err != nil {
			return err
		}
	}
	return l.w.Flush()
}

// say writes a frame that is no entry.
func (l *logStream) say(kind string, pairs ...string) error {
	o := newObject(128)
	o.text("type", kind)
	for i := 0; i+1 < len(pairs); i += 2 {
		o.text(pairs[i], pairs[i+1])
	}
	_, err := fmt.Fprintf(l.w, "data: %s\n\n", o.end())
	return errors.Join(err, l.w.Flush())
}

func (l *logStream) end(status models.Status) error {
	return errors.Join(l.entries(), l.say("stream_end", "reason", "terminal_status", "status", string(status)))
}

func (l *logStream) follow(follow *event.Stream) {
	beat := time.NewTicker(logBeat)
	defer beat.Stop()
	for {
		select {
		case <-follow.Done():
			return
		case <-beat.C:
			if l.say("heartbeat") != nil {
				return
			}
		case <-follow.Ready():
			events, resync := follow.Take()
			concerned := resync
			var ended models.Status
			for _, e := range events {
				if e.ExecutionID == nil || *e.ExecutionID != l.id {
					continue
				}
				concerned = true
				if status, ok := models.ParseStatus(strings.TrimPrefix(e.Kind, "execution.")); ok && status.Terminal() {
					ended = status
				}
			}
			if ended != "" {
				_ = l.end(ended)
				return
			}
			if concerned && l.entries() != nil {
				return
			}
		}
	}
}
