package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

// replayed is how many missed events a stream tells again; who missed more has to read the run anew.
const replayed = 1000

// followed is a stream about one run or one execution. What it needs of the request is read before the body is written: that happens
// after the handler has returned.
type followed struct {
	server    *Server
	ctx       context.Context //nolint:containedctx // the body is written after the handler
	stream    *event.Stream
	execution string // empty: the whole run
	run       *models.Run
	status    map[string]models.Status // where each execution stands, as far as it was told
	missed    []models.Event           // what has happened since the client was here last
	told      map[int64]bool           // those of them, which the hub may send again
	resync    bool
	ended     models.Status // "" while there is more to come
}

// followRun streams what happens in a run, in the shape of wire.md 3.16, until it has ended.
func (s *Server) followRun(c *fiber.Ctx) error {
	run, err := s.Workflows.Run(c.UserContext(), c.Params("run"))
	if err != nil {
		return err
	}
	return s.follow(c, &followed{run: run})
}

// followExecution is followRun for one execution.
func (s *Server) followExecution(c *fiber.Ctx, row *models.Execution) error {
	run, err := s.Workflows.Run(c.UserContext(), row.RunID)
	if err != nil {
		return err
	}
	return s.follow(c, &followed{run: run, execution: row.ID})
}

func (s *Server) follow(c *fiber.Ctx, f *followed) error {
	last, err := strconv.ParseInt(c.Get("Last-Event-ID", c.Query("last", "0")), 10, 64)
	if err != nil || last < 0 {
		return badRequest("invalid_cursor", "Last-Event-ID must be the id of an event")
	}
	f.server, f.ctx = s, c.UserContext()
	f.stream = s.Hub.Follow(0) // before anything is read, so that nothing falls between
	if err := f.begin(last); err != nil {
		f.stream.Close()
		return err
	}
	if last > 0 && f.ended != "" && len(f.missed) == 0 && !f.resync {
		f.stream.Close()
		return c.SendStatus(fiber.StatusNoContent) // browsers ask again after every end; this tells them to stop
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no")
	c.Context().SetBodyStreamWriter(f.write)
	return nil
}

// begin reads where everything stands and what was missed.
func (f *followed) begin(last int64) error {
	workflows := f.server.Workflows
	steps, _, err := workflows.Steps(f.ctx, f.run.ID)
	if err != nil {
		return err
	}
	f.status, f.told = make(map[string]models.Status, len(steps)), map[int64]bool{}
	for i := range steps {
		if f.execution == "" || steps[i].ID == f.execution {
			f.status[steps[i].ID] = steps[i].Status
		}
	}
	if last > 0 {
		since, id := workflows.Since, f.run.ID
		if f.execution != "" {
			since, id = workflows.SinceOfOne, f.execution
		}
		events, complete, err := since(f.ctx, id, last, replayed)
		if err != nil {
			return err
		}
		if f.resync = !complete; complete {
			f.missed = events
		}
	}
	return f.checkEnd()
}

// checkEnd looks whether more is to come. The row decides: a run that has ended goes on when it is called again.
func (f *followed) checkEnd() error {
	if f.execution != "" {
		if status := f.status[f.execution]; status.Terminal() {
			f.ended = status
		}
		return nil
	}
	run, err := f.server.Workflows.Run(f.ctx, f.run.ID)
	if err == nil && run.FinishedAt != nil {
		f.ended = run.Status
	}
	return err
}

// write is the body of the answer. It ends with the run, with the connection or with the server.
func (f *followed) write(w *bufio.Writer) {
	defer f.stream.Close()
	f.frame(w, 0, f.connected())
	if f.resync {
		f.frame(w, 0, runEvent{Type: "resync", WorkflowID: f.run.Workflow(), RunID: f.run.ID, At: f.now()})
	}
	for _, e := range f.missed {
		f.tell(w, e)
		f.told[e.ID] = true
	}
	f.missed = nil
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for f.ended == "" {
		if w.Flush() != nil {
			return
		}
		select {
		case <-f.stream.Done():
			return
		case <-beat.C:
			_, _ = w.WriteString("event: beat\ndata: {}\n\n") // an event, since scripts do not see comments
		case <-f.stream.Ready():
			if f.take(w) != nil {
				return
			}
		}
	}
	f.frame(w, 0, runEvent{Type: "stream_end", Reason: "terminal_status", Status: f.ended, WorkflowID: f.run.Workflow(), RunID: f.run.ID, ExecutionID: f.execution, At: f.now()})
	_ = w.Flush()
}

func (f *followed) now() string { return formatMs(f.server.Now().UnixMilli()) }

func (f *followed) connected() runEvent {
	return runEvent{Type: "connected", WorkflowID: f.run.Workflow(), RunID: f.run.ID, ExecutionID: f.execution, Status: f.standing(), At: f.now()}
}

// standing is the status of what is followed when the stream begins.
func (f *followed) standing() models.Status {
	if f.execution != "" {
		return f.status[f.execution]
	}
	return f.run.Status
}

// take passes on what the hub has gathered.
func (f *followed) take(w *bufio.Writer) error {
	events, resync := f.stream.Take()
	if resync {
		f.frame(w, 0, runEvent{Type: "resync", WorkflowID: f.run.Workflow(), RunID: f.run.ID, At: f.now()})
	}
	ends := resync
	for _, e := range events {
		if !f.about(e) || f.told[e.ID] {
			continue
		}
		f.tell(w, e)
		ends = ends || f.status[*e.ExecutionID].Terminal()
	}
	if ends {
		return f.checkEnd()
	}
	return nil
}

func (f *followed) about(e models.Event) bool {
	if e.ExecutionID == nil {
		return false
	}
	if f.execution != "" {
		return *e.ExecutionID == f.execution
	}
	return e.RunID != nil && *e.RunID == f.run.ID
}

// runEvent is one frame. Status is that of the execution after the event; Event is what happened in our own words.
type runEvent struct {
	Type        string          `json:"type"`
	Event       string          `json:"event,omitempty"`
	ExecutionID string          `json:"execution_id,omitempty"`
	WorkflowID  string          `json:"workflow_id"`
	RunID       string          `json:"run_id"`
	NodeID      string          `json:"agent_node_id,omitempty"`
	Status      models.Status   `json:"status,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	At          string          `json:"timestamp"`
	Data        json.RawMessage `json:"data,omitempty"`
}

func (f *followed) tell(w *bufio.Writer, e models.Event) {
	id := *e.ExecutionID
	before, known := f.status[id]
	status, moved := models.ParseStatus(strings.TrimPrefix(e.Kind, "execution."))
	if moved {
		f.status[id] = status
	}
	out := runEvent{
		Type: frameType(e, before, status, known), Event: e.Kind, ExecutionID: id, WorkflowID: f.run.Workflow(), RunID: f.run.ID, NodeID: e.NodeID,
		Status: f.status[id], At: formatMs(e.At),
	}
	if e.Data != nil {
		out.Data = json.RawMessage(*e.Data)
	}
	f.frame(w, e.ID, out)
}

// frameType is the word of the protocol for what happened.
func frameType(e models.Event, before, status models.Status, known bool) string {
	if !known && status != "" {
		return "execution_created"
	}
	switch e.Kind {
	case event.KindLogged:
		return "execution_log"
	case event.KindAttemptFailed, event.KindRedelivered:
		return "execution_retried"
	}
	if _, h := hintOf(e); e.Kind == event.KindApproval && h.Status != "pending" && h.Status != "held" {
		return "execution_approval_resolved"
	}
	if before == models.Paused && !status.Terminal() && status != "" {
		return "execution_resumed"
	}
	switch status { //nolint:exhaustive // the others have no word of their own
	case models.Running:
		return "execution_started"
	case models.Succeeded:
		return "execution_completed"
	case models.Failed, models.Timeout:
		return "execution_failed"
	case models.Waiting, models.Paused, models.Cancelled:
		return "execution_" + string(status)
	}
	return "execution_updated"
}

func (f *followed) frame(w *bufio.Writer, id int64, e runEvent) {
	data, err := json.Marshal(e)
	if err != nil {
		return
	}
	if id > 0 {
		_, _ = fmt.Fprintf(w, "id: %d\n", id)
	}
	_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
}
