package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// everything is the stream of what happens to all executions, for agents that wait for the calls they have made (wire.md 3.16). It is a
// hint like every stream: who waits still asks for the execution itself.
type everything struct {
	server *Server
	stream *event.Stream
	paused map[string]bool // executions that were paused while somebody followed
}

// streamExecutions follows all executions until the connection ends.
func (s *Server) streamExecutions(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no")
	all := everything{server: s, stream: s.Hub.Follow(0), paused: map[string]bool{}}
	c.Context().SetBodyStreamWriter(all.write)
	return nil
}

func (e everything) write(w *bufio.Writer) {
	defer e.stream.Close()
	e.frame(w, "connected")
	beat := time.NewTicker(logBeat)
	defer beat.Stop()
	for w.Flush() == nil {
		select {
		case <-e.stream.Done():
			return
		case <-beat.C:
			e.frame(w, "heartbeat")
		case <-e.stream.Ready():
			e.take(w)
		}
	}
}

func (e everything) frame(w *bufio.Writer, kind string) {
	_, _ = fmt.Fprintf(w, "data: {\"type\":%q,\"timestamp\":%q}\n\n", kind, formatMs(e.server.Now().UnixMilli()))
}

// take passes on what has gathered. Whoever was too slow hears that something is missing.
func (e everything) take(w *bufio.Writer) {
	events, resync := e.stream.Take()
	if resync {
		e.frame(w, "resync")
	}
	events = slices.DeleteFunc(events, func(e models.Event) bool { return e.ExecutionID == nil })
	standing, err := e.standing(events)
	if err != nil {
		e.server.Log.Warn("cannot read what a stream tells of", "error", err)
		e.frame(w, "resync")
		return
	}
	for _, one := range events {
		if at, known := standing[*one.ExecutionID]; known {
			e.tell(w, one, at)
		}
	}
}

func (e everything) standing(events []models.Event) (map[string]execution.Standing, error) {
	if len(events) == 0 {
		return nil, nil //nolint:nilnil // nothing to read is an ordinary answer
	}
	ids := make([]string, len(events))
	for i, one := range events {
		ids[i] = *one.ExecutionID
	}
	slices.Sort(ids)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return e.server.Executions.Standings(ctx, slices.Compact(ids))
}

// tell always names the status: agents stop their own clock by it. An event that is no move names the present one.
func (e everything) tell(w *bufio.Writer, one models.Event, at execution.Standing) {
	status, moved := models.ParseStatus(strings.TrimPrefix(one.Kind, "execution."))
	known := one.Attempt > 0 || e.paused[*one.ExecutionID] // else it has just been accepted, and waits for its first attempt
	out := runEvent{
		Type: frameType(one, e.before(one), status, known), Event: one.Kind, ExecutionID: *one.ExecutionID, WorkflowID: at.Workflow, RunID: at.Run,
		NodeID: one.NodeID, Status: at.Status, At: formatMs(one.At),
	}
	if moved {
		out.Status = status
		delete(e.paused, *one.ExecutionID)
	}
	if status == models.Paused {
		e.paused[*one.ExecutionID] = true
	}
	data, err := json.Marshal(out)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
}

// before is where an execution stood, as far as it matters to the word for what happened.
func (e everything) before(one models.Event) models.Status {
	if e.paused[*one.ExecutionID] {
		return models.Paused
	}
	return ""
}
