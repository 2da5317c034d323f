package webhook

import (
	"context"
	"fmt"
	"slices"

	"github.com/agentfield/agentfield/models"
)

// healthOf is how many of the newest deliveries tell how a receiver is doing.
const healthOf = 100

// Health is how the newest deliveries of a receiver went, those counted that were tried at least once.
type Health struct {
	Of            int // deliveries looked at
	Delivered     int
	Failed        int   // given up
	P50, P95      int64 // ms, of the last attempt of each
	LastDelivered *int64
	LastError     string
	LastErrorAt   int64 // when the delivery was created that it came of
}

// Rate is the share of deliveries that the receiver has taken, in percent.
func (h Health) Rate() int {
	if h.Of == 0 {
		return 0
	}
	return 100 * h.Delivered / h.Of
}

// HealthOf looks at the newest deliveries that a filter finds.
func (s *Service) HealthOf(ctx context.Context, f Filter) (Health, error) {
	var rows []*models.WebhookDelivery
	err := s.filtered(ctx, f).Where("last_class IS NOT NULL").Order("created_at DESC, id DESC").Limit(healthOf).Find(&rows).Error
	if err != nil {
		return Health{}, fmt.Errorf("read how a receiver is doing: %w", err)
	}
	return healthFrom(rows), nil
}

// healthFrom sums up deliveries, newest first.
func healthFrom(rows []*models.WebhookDelivery) Health {
	h := Health{Of: len(rows)}
	var took []int64
	for _, d := range rows {
		switch d.Status {
		case Delivered:
			h.Delivered++
		case Failed:
			h.Failed++
		}
		if d.DeliveredAt != nil && (h.LastDelivered == nil || *d.DeliveredAt > *h.LastDelivered) {
			h.LastDelivered = d.DeliveredAt
		}
		if d.LastError != nil && h.LastError == "" {
			h.LastError, h.LastErrorAt = *d.LastError, d.CreatedAt
		}
		if d.LastLatencyMs != nil {
			took = append(took, *d.LastLatencyMs)
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		h.P50, h.P95 = took[len(took)/2], took[min(len(took)*95/100, len(took)-1)]
	}
	return h
}
