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

// Export writes the entries to w, oldest first.
func (r *Reader) Export(ctx context.Context, w io.Writer, format Format, f Filter) error {
	switch format {
	case NDJSON:
		return r.Each(ctx, f, func(e *models.AuditEntry) error { return writeLine(w, e) })
	case CSV:
		return r.exportCSV(ctx, w, f)
	}
	return ErrFormat
}

func writeLine(w io.Writer, e *models.AuditEntry) error {
	// The log stores JSON text as it came; an encoder would escape < and > anew, which changes the bytes that were hashed.
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(RecordOf(e)); err != nil {
		return fmt.Errorf("write entry %d: %w", e.ID, err)
	}
	if _, err := w.Write(line.Bytes()); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

func (r *Reader) exportCSV(ctx context.Context, w io.Writer, f Filter) error {
	out := csv.NewWriter(w)
	err := out.Write([]string{
		"id", "at", "actor", "actor_kind", "channel", "action", "object", "object_kind", "before", "after", "reason", "ip", "request_id", "prev_hash", "hash",
	})
	if err == nil {
		err = r.Each(ctx, f, func(e *models.AuditEntry) error {
			row := RecordOf(e)
			return out.Write([]string{
				strconv.FormatInt(row.ID, 10), row.At, cell(row.Actor), cell(row.ActorKind), cell(row.Channel), cell(row.Action), cell(row.Object),
				cell(row.ObjectKind), e.Before, e.After, cell(row.Reason), cell(row.IP), cell(row.RequestID), row.PrevHash, row.Hash,
			})
		})
	}
	out.Flush()
	if err := errors.Join(err, out.Error()); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// cell keeps a spreadsheet from running what somebody else wrote.
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
