// Package audit is the record of who did what. Its one invariant: entries are only ever added, each carries the hash of the one before
// it, and an entry is committed with the act that it tells of, or neither is.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Channels by which something was done.
const (
	UI     = "ui"
	API    = "api"
	CLI    = "cli"
	Server = "server" // nobody did it: a time was over, a rule applied
)

// maxState is the size in bytes above which Before and After are replaced by their size and hash: the log is for what was done, not for
// payloads.
const maxState = 8 << 10

// maxText is the longest text of any other part, in bytes.
const maxText = 4 << 10

// ErrNoTime is a mistake in wiring: an entry that does not say when.
var ErrNoTime = errors.New("an audit entry needs the time of the act")

// Origin is who acts, and from where.
type Origin struct {
	Actor     string // Principal.ID: user:alice, key:…, local; or "server"
	ActorKind string
	Channel   string
	IP        string
	RequestID string
}

// ByServer is the origin of what nobody in particular did.
func ByServer() Origin { return Origin{Actor: "server", ActorKind: "server", Channel: Server} }

// Entry is one act. Before and After are small values that become JSON; they must hold no secret, because the log never forgets.
type Entry struct {
	Origin
	At            int64  // ms since 1970
	Action        string // <object kind>.<past participle>: user.created, approval.decided
	ObjectKind    string
	Object        string
	Before, After any
	Reason        string
}

const (
	head     = `SELECT seq, hash FROM audit_head WHERE id = 1`
	headHeld = head + ` FOR UPDATE`
	insert   = `INSERT INTO audit_log
	(id, at, actor, actor_kind, channel, action, object, object_kind, before, after, reason, ip, request_id, prev_hash, hash)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`
)

// Append adds entries in tx. On PostgreSQL it holds the head of the chain until the commit, so call it last: whoever else appends waits.
// A trigger moves the head.
func Append(ctx context.Context, tx *database.Tx, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	query := head
	if tx.Postgres() {
		query = headHeld
	}
	var last models.AuditHead
	if err := tx.QueryRow(ctx, query, nil, &last.Seq, &last.Hash); err != nil {
		return fmt.Errorf("find the end of the audit log: %w", err)
	}
	for _, e := range entries {
		row, err := e.row(last)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insert, row.ID, row.At, row.Actor, row.ActorKind, row.Channel, row.Action, row.Object, row.ObjectKind,
			row.Before, row.After, row.Reason, row.IP, row.RequestID, row.PrevHash, row.Hash); err != nil {
			return fmt.Errorf("append to the audit log: %w", err)
		}
		last.Seq, last.Hash = row.ID, row.Hash
	}
	return nil
}

// row is the entry as the next link after last.
func (e Entry) row(last models.AuditHead) (models.AuditEntry, error) {
	if e.At == 0 {
		return models.AuditEntry{}, ErrNoTime
	}
	before, err := state(e.Before)
	if err != nil {
		return models.AuditEntry{}, fmt.Errorf("write what %s changed: %w", e.Action, err)
	}
	after, err := state(e.After)
	if err != nil {
		return models.AuditEntry{}, fmt.Errorf("write what %s changed: %w", e.Action, err)
	}
	row := models.AuditEntry{
		ID: last.Seq + 1, At: e.At, Actor: text(e.Actor), ActorKind: text(e.ActorKind), Channel: text(e.Channel), Action: text(e.Action),
		Object: text(e.Object), ObjectKind: text(e.ObjectKind), Before: before, After: after, Reason: text(e.Reason), IP: text(e.IP),
		RequestID: text(e.RequestID), PrevHash: append([]byte{}, last.Hash...),
	}
	row.Hash = digest(&row)
	return row, nil
}

// state is a value as small JSON; "" when there is none.
func state(value any) (string, error) {
	if value == nil {
		return "", nil
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	if len(encoded) > maxState {
		return fmt.Sprintf(`{"omitted_bytes":%d,"sha256":"%x"}`, len(encoded), sha256.Sum256(encoded)), nil
	}
	// An escaped NUL is fine in JSON text; a raw one json.Marshal never writes.
	return string(encoded), nil
}

// text is what both databases can store, bounded.
func text(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

const domain = "agentfield audit entry v1"

// digest is the SHA-256 of the domain and then of each part, in the order of the columns, with its length before it as 8 bytes
// big-endian. Numbers are decimal text. So no two different entries have the same bytes, and any language can compute it.
func digest(e *models.AuditEntry) []byte {
	h := sha256.New()
	_, _ = h.Write([]byte(domain))
	for _, part := range []string{
		strconv.FormatInt(e.ID, 10), strconv.FormatInt(e.At, 10), e.Actor, e.ActorKind, e.Channel, e.Action, e.Object, e.ObjectKind,
		e.Before, e.After, e.Reason, e.IP, e.RequestID, string(e.PrevHash),
	} {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(part)))
		_, _ = h.Write(size[:])
		_, _ = h.Write([]byte(part))
	}
	return h.Sum(nil)
}
