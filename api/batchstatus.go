package api

import (
	"bytes"
	"context"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentfield/agentfield/app/execution"
	"github.com/agentfield/agentfield/models"
)

// The statuses of many executions in one answer, for callers that poll.

const (
	maxBatchIDs   = 1000
	maxKept       = 4096 // answers about ended executions that are kept in memory
	maxKeptAnswer = 2048 // bytes of one of them
)

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
