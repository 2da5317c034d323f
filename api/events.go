package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

const (
	heartbeatEvery = 10 * time.Second
	gather         = 50 * time.Millisecond // what happens within it goes out together
)

// stream follows everything that happens, as hints: what changed, never its content. The body is written after the handler has
// returned, so all it needs is read before.
func (s *Server) stream(c *fiber.Ctx) error {
	last, err := strconv.ParseInt(c.Get("Last-Event-ID", c.Query("last", "0")), 10, 64)
	if err != nil {
		last = 0
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no")
	follow := s.Hub.Follow(last)
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer follow.Close()
		if _, err := w.WriteString("retry: 2000\n: connected\n\n"); err != nil || w.Flush() != nil {
			return
		}
		writeStream(w, follow)
	})
	return nil
}

func writeStream(w *bufio.Writer, follow *event.Stream) {
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	for {
		select {
		case <-follow.Done():
			return
		case <-beat.C:
			_, _ = w.WriteString("event: beat\ndata: {}\n\n") // an event, since scripts do not see comments
		case <-follow.Ready():
			pause := time.NewTimer(gather)
			select {
			case <-follow.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
			writeEvents(w, follow)
		}
		if w.Flush() != nil {
			return
		}
	}
}

func writeEvents(w *bufio.Writer, follow *event.Stream) {
	events, resync := follow.Take()
	if resync {
		_, _ = w.WriteString("event: resync\ndata: {}\n\n")
	}
	for _, e := range events {
		topic, hint := hintOf(e)
		data, err := json.Marshal(hint)
		if err != nil {
			continue
		}
		_, _ = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, topic, data)
	}
}

// hint is what a page needs to know which of its regions to fetch again.
type hint struct {
	ID      string `json:"id"`
	Of      string `json:"execution,omitempty"` // of a delivery: its execution
	Run     string `json:"run,omitempty"`
	Status  string `json:"status,omitempty"`
	Version int64  `json:"v"`
}

func hintOf(e models.Event) (topic string, h hint) {
	h.Version = e.ID
	switch {
	case e.Kind == event.KindDelivery && e.ExecutionID == nil: // of a test event
		return "delivery", deliveryHint(e, h)
	case e.ExecutionID == nil:
		h.ID = e.NodeID
		return "node", h
	}
	h.ID = *e.ExecutionID
	if e.RunID != nil {
		h.Run = *e.RunID
	}
	switch e.Kind {
	case event.KindApproval:
		return "approval", approvalHint(e, h)
	case event.KindDelivery:
		return "delivery", deliveryHint(e, h)
	}
	if status, ok := models.ParseStatus(strings.TrimPrefix(e.Kind, "execution.")); ok {
		h.Status = string(status)
	}
	return "exec", h
}

// deliveryHint names the delivery beside its execution.
func deliveryHint(e models.Event, h hint) hint {
	var data struct {
		ID     string `json:"delivery_id"`
		Status string `json:"status"`
	}
	h.Of = h.ID
	if e.Data != nil && json.Unmarshal([]byte(*e.Data), &data) == nil {
		h.ID, h.Status = data.ID, data.Status
	}
	return h
}

// approvalHint names the request instead of its execution.
func approvalHint(e models.Event, h hint) hint {
	var data struct {
		ID     string `json:"approval_id"`
		Status string `json:"status"`
	}
	if e.Data != nil && json.Unmarshal([]byte(*e.Data), &data) == nil {
		h.ID, h.Status = data.ID, data.Status
	}
	return h
}
