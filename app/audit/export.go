package audit

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/models"
)

// Format is the form of an export.
type Format string

// The forms.
const (
	NDJSON Format = "ndjson" // one JSON object a line; at_ms and the texts are the bytes that were hashed
	CSV    Format = "csv"    // for a spreadsheet; cells that it would take for a formula begin with '
)

// ErrFormat says that there is no such form.
var ErrFormat = errors.New("the log can be exported as csv or ndjson")

// Record is an entry as programs read it.
type Record struct {
	ID         int64           `json:"id"`
	At         string          `json:"at"`
	AtMs       int64           `json:"at_ms"`
	Actor      string          `json:"actor"`
	ActorKind  string          `json:"actor_kind"`
	Channel    string          `json:"channel"`
	Action     string          `json:"action"`
	Object     string          `json:"object"`
	ObjectKind string          `json:"object_kind"`
	Before     json.RawMessage `json:"before,omitempty"`
	After      json.RawMessage `json:"after,omitempty"`
	Reason     string          `json:"reason,omitempty"`
	IP         string          `json:"ip,omitempty"`
	RequestID  string          `json:"request_id,omitempty"`
	PrevHash   string          `json:"prev_hash"`
	Hash       string          `json:"hash"`
}

// RecordOf is the entry as programs read it.
func RecordOf(e *models.AuditEntry) Record {
	return Record{
		ID: e.ID, At: time.UnixMilli(e.At).UTC().Format("2006-01-02T15:04:05.000Z"), AtMs: e.At, Actor: e.Actor, ActorKind: e.ActorKind,
		Channel: e.Channel, Action: e.Action, Object: e.Object, ObjectKind: e.ObjectKind, Before: json.RawMessage(e.Before),
		After: json.RawMessage(e.After), Reason: e.Reason, IP: e.IP, RequestID: e.RequestID, PrevHash: hex.EncodeToString(e.PrevHash),
		Hash: hex.EncodeToString(e.Hash),
	}
}

// Export returns the entries that there are now as a text, oldest first. It reads the log page by page while it is read itself, so that
// the log may be longer than memory, and ends with an error rather than early.
func (r *Reader) Export(ctx context.Context, format Format, f Filter) (io.Reader, error) {
	if format != NDJSON && format != CSV {
		return nil, ErrFormat
	}
	e := &export{ctx: ctx, log: r, filter: f, write: writeLine}
	if err := r.db.QueryRow(ctx, head, nil, &e.end.Seq, &e.end.Hash); err != nil {
		return nil, fmt.Errorf("find the end of the audit log: %w", err)
	}
	if format == CSV {
		e.write = writeRow
		return e, writeCells(&e.text, []string{
			"id", "at", "actor", "actor_kind", "channel", "action", "object", "object_kind", "before", "after", "reason", "ip", "request_id", "prev_hash", "hash",
		})
	}
	return e, nil
}

// export is a text that is made while it is read.
type export struct {
	ctx    context.Context //nolint:containedctx // a reader has no other way to be told when to stop
	log    *Reader
	filter Filter
	write  func(w *bytes.Buffer, e *models.AuditEntry) error
	last   int64 // the entry that was written last
	end    models.AuditHead
	done   bool
	text   bytes.Buffer
}

func (e *export) Read(p []byte) (int, error) {
	for e.text.Len() == 0 {
		if e.done {
			return 0, io.EOF
		}
		if err := e.fill(); err != nil {
			return 0, err
		}
	}
	return e.text.Read(p)
}

func (e *export) fill() error {
	entries, err := e.log.next(e.ctx, e.filter, e.last, e.end.Seq)
	if err != nil {
		return err
	}
	for i := range entries {
		if err := e.write(&e.text, &entries[i]); err != nil {
			return fmt.Errorf("write entry %d: %w", entries[i].ID, err)
		}
		e.last = entries[i].ID
	}
	e.done = len(entries) < page
	return nil
}

func writeLine(w *bytes.Buffer, e *models.AuditEntry) error {
	// The log stores JSON text as it came; an encoder would escape < and > anew, which changes the bytes that were hashed.
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(RecordOf(e))
}

func writeRow(w *bytes.Buffer, e *models.AuditEntry) error {
	r := RecordOf(e)
	return writeCells(w, []string{
		strconv.FormatInt(r.ID, 10), r.At, cell(r.Actor), cell(r.ActorKind), cell(r.Channel), cell(r.Action), cell(r.Object), cell(r.ObjectKind),
		e.Before, e.After, cell(r.Reason), cell(r.IP), cell(r.RequestID), r.PrevHash, r.Hash,
	})
}

func writeCells(w *bytes.Buffer, cells []string) error {
	out := csv.NewWriter(w)
	if err := out.Write(cells); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

// cell keeps a spreadsheet from running what somebody else wrote.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
