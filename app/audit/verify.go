package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Anchor is an entry whose hash somebody noted elsewhere. Whoever can write to the database could recompute the whole chain; not so that
// an anchor still fits.
type Anchor struct {
	ID   int64
	Hash []byte
}

// ErrBadAnchor says that an anchor cannot be read.
var ErrBadAnchor = errors.New("an anchor is the number of an entry and its hash, as in 42:9f86d0…, as verify prints it")

// ParseAnchor reads what Anchor.String wrote.
func ParseAnchor(s string) (Anchor, error) {
	id, hash, _ := strings.Cut(s, ":")
	n, err := strconv.ParseInt(id, 10, 64)
	sum, hexErr := hex.DecodeString(hash)
	if err != nil || hexErr != nil || n < 1 || len(sum) != 32 {
		return Anchor{}, ErrBadAnchor
	}
	return Anchor{ID: n, Hash: sum}, nil
}

func (a Anchor) String() string {
	return strconv.FormatInt(a.ID, 10) + ":" + hex.EncodeToString(a.Hash)
}

// Report is what a verification found.
type Report struct {
	Entries int64  // that were looked at and are good
	Head    Anchor // the newest entry, to note elsewhere; ID 0: the log is empty
	BadID   int64  // the first entry that does not fit; 0: all do
	Problem string // what is wrong there, in a sentence
}

// OK reports whether nobody has changed the log.
func (r Report) OK() bool { return r.BadID == 0 }

const (
	page    = 500
	columns = `id, at, actor, actor_kind, channel, action, object, object_kind, before, after, reason, ip, request_id, prev_hash, hash`
	after   = `SELECT ` + columns + ` FROM audit_log WHERE id > $1 AND id <= $2 ORDER BY id LIMIT 500`
)

// Verify recomputes the chain from its first entry to what is its end at the moment. A damaged chain is a report, not an error.
func Verify(ctx context.Context, db *database.DB, anchors ...Anchor) (Report, error) {
	var end models.AuditHead
	if err := db.QueryRow(ctx, head, nil, &end.Seq, &end.Hash); err != nil {
		return Report{}, fmt.Errorf("find the end of the audit log: %w", err)
	}
	v := verification{anchors: anchors, report: Report{Head: Anchor{ID: end.Seq, Hash: end.Hash}}}
	for v.report.OK() {
		entries, err := read(ctx, db, v.last.Seq, end.Seq)
		if err != nil {
			return Report{}, err
		}
		for i := range entries {
			if !v.takes(&entries[i]) {
				break
			}
		}
		if len(entries) < page {
			break
		}
	}
	v.conclude(end)
	return v.report, nil
}

func read(ctx context.Context, db *database.DB, from, to int64) ([]models.AuditEntry, error) {
	rows, err := db.Query(ctx, after, from, to)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer rows.Close()
	var entries []models.AuditEntry
	for rows.Next() {
		var e models.AuditEntry
		if err := rows.Scan(&e.ID, &e.At, &e.Actor, &e.ActorKind, &e.Channel, &e.Action, &e.Object, &e.ObjectKind, &e.Before, &e.After,
			&e.Reason, &e.IP, &e.RequestID, &e.PrevHash, &e.Hash); err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return entries, nil
}

// verification walks along the chain.
type verification struct {
	anchors []Anchor
	last    models.AuditHead
	report  Report
}

// takes checks the next entry and reports whether it fits.
func (v *verification) takes(e *models.AuditEntry) bool {
	switch {
	case e.ID != v.last.Seq+1:
		return v.bad(v.last.Seq+1, "the entry is missing")
	case !bytes.Equal(e.PrevHash, v.last.Hash):
		return v.bad(e.ID, "it does not follow the entry before it: one of the two was replaced")
	case !bytes.Equal(e.Hash, digest(e)):
		return v.bad(e.ID, "its content does not fit its hash: it was changed")
	}
	for _, a := range v.anchors {
		if a.ID == e.ID && !bytes.Equal(a.Hash, e.Hash) {
			return v.bad(e.ID, "it is not the entry of the anchor: the log was rewritten")
		}
	}
	v.last.Seq, v.last.Hash = e.ID, e.Hash
	v.report.Entries++
	return true
}

func (v *verification) bad(id int64, problem string) bool {
	v.report.BadID, v.report.Problem = id, problem
	return false
}

// conclude checks what only the end of the log shows.
func (v *verification) conclude(end models.AuditHead) {
	if !v.report.OK() {
		return
	}
	switch {
	case v.last.Seq < end.Seq:
		v.bad(v.last.Seq+1, "the newest entries are missing")
	case !bytes.Equal(v.last.Hash, end.Hash):
		v.bad(max(end.Seq, 1), "the newest entry is not the one that was written last")
	}
	for _, a := range v.anchors {
		if v.report.OK() && a.ID > end.Seq {
			v.bad(end.Seq+1, "the log ends before the anchor: entries were cut off")
		}
	}
}
