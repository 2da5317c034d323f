package webhook

import (
	"context"
	"errors"
	"fmt"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
)

// ErrNothingWaits says that there is nothing to stop: each was delivered or given up.
var ErrNothingWaits = errors.New("there is no webhook among them that would be tried again")

const stopQueued = `UPDATE webhook_deliveries SET status = 'failed', available_at = $1, stopped_by = $2, hold = NULL WHERE id %s AND status = 'queued'`

// Stopped is what came of an act.
type Stopped struct {
	Stopped  int // are not tried again
	InFlight int // had an attempt on its way and were left alone
}

// GiveUp stops trying deliveries. They are dead letters then, as those whose attempts are used up, and can be sent again.
func (s *Service) GiveUp(ctx context.Context, who audit.Origin, ids ...string) (Stopped, error) {
	switch {
	case len(ids) > RedeliverLimit:
		return Stopped{}, ErrTooMany
	case len(ids) == 0:
		return Stopped{}, ErrNothingWaits
	}
	var done Stopped
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		var err error
		if done, err = s.stop(ctx, tx, who, ids); err != nil {
			return err
		}
		object := ids[0]
		if len(ids) > 1 {
			object = ""
		}
		return audit.Append(ctx, tx, audit.Entry{
			Origin: who, At: s.DB.NowMs(), Action: "webhook.stopped", ObjectKind: "webhook", Object: object,
			After: map[string]any{"deliveries": done.Stopped, "ids": ids[:min(len(ids), recordedIDs)]},
		})
	})
	if err != nil {
		return Stopped{}, fmt.Errorf("stop webhooks: %w", err)
	}
	return done, nil
}

func (s *Service) stop(ctx context.Context, tx *database.Tx, who audit.Origin, ids []string) (Stopped, error) {
	list, err := s.idsArg(ids)
	if err != nil {
		return Stopped{}, err
	}
	n, err := tx.Exec(ctx, s.among(stopQueued, "$3"), s.DB.NowMs(), who.Actor, list)
	if err != nil {
		return Stopped{}, err
	}
	done := Stopped{Stopped: int(n)}
	if err := tx.QueryRow(ctx, s.among(countInFlight, "$1"), []any{list}, &done.InFlight); err != nil {
		return Stopped{}, err
	}
	switch {
	case done.Stopped > 0:
		return done, nil
	case done.InFlight > 0:
		return Stopped{}, ErrInFlight
	}
	return Stopped{}, ErrNothingWaits
}

// GiveUpMatching stops what a filter finds, the oldest first, RedeliverLimit at most.
func (s *Service) GiveUpMatching(ctx context.Context, who audit.Origin, f Filter) (Stopped, error) {
	f.Waiting = true
	ids, err := s.matching(ctx, f, RedeliverLimit)
	if err != nil {
		return Stopped{}, err
	}
	return s.GiveUp(ctx, who, ids...)
}
