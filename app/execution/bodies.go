package execution

import (
	"context"
	"fmt"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// body is a payload on its way into the store.
type body struct {
	raw      []byte
	encoding int16
	stored   []byte
}

func (s *Service) newBody(raw []byte) *body {
	if raw == nil {
		return nil
	}
	encoding, stored := s.Codec.Encode(raw)
	return &body{raw: raw, encoding: encoding, stored: stored}
}

type storedPayload struct {
	id   string
	kind models.PayloadKind
	body *body
}

func storePayloads(ctx context.Context, tx *database.Tx, payloads []storedPayload) error {
	if len(payloads) == 0 {
		return nil
	}
	if !tx.Postgres() {
		for _, p := range payloads {
			if _, err := tx.Exec(ctx, upsertPayload, p.id, int16(p.kind), p.body.encoding, p.body.stored); err != nil {
				return fmt.Errorf("store a payload: %w", err)
			}
		}
		return nil
	}
	n := len(payloads)
	ids, kinds, encodings, bodies := make([]string, n), make([]int16, n), make([]int16, n), make([][]byte, n)
	for i, p := range payloads {
		ids[i], kinds[i], encodings[i], bodies[i] = p.id, int16(p.kind), p.body.encoding, p.body.stored
	}
	if _, err := tx.Exec(ctx, upsertPayloads, ids, kinds, encodings, bodies); err != nil {
		return fmt.Errorf("store payloads: %w", err)
	}
	return nil
}
