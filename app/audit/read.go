package audit

import (
	"context"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

// Reader shows the log.
type Reader struct{ db *database.DB }

// NewReader returns a reader of the log in db.
func NewReader(db *database.DB) *Reader { return &Reader{db: db} }

// Filter chooses entries. What is empty chooses all.
type Filter struct {
	Actor   string
	Action  string // a whole action, or its first word: "user" is all of user.*
	Object  string
	Channel string
	Since   int64 // ms since 1970
	Until   int64
}

// Verify is Verify.
func (r *Reader) Verify(ctx context.Context, anchors ...Anchor) (Report, error) {
	return Verify(ctx, r.db, anchors...)
}

// List returns up to limit entries older than the entry before (0: the newest), newest first, and whether there are more.
func (r *Reader) List(ctx context.Context, f Filter, before int64, limit int) (entries []models.AuditEntry, more bool, err error) {
	q := f.where(r.db.Gorm(ctx))
	if before > 0 {
		q = q.Where("id < ?", before)
	}
	if err := q.Order("id DESC").Limit(limit + 1).Find(&entries).Error; err != nil {
		return nil, false, fmt.Errorf("list the audit log: %w", err)
	}
	if len(entries) > limit {
		return entries[:limit], true, nil
	}
	return entries, false, nil
}

// next returns a page of entries after last and up to end, oldest first.
func (r *Reader) next(ctx context.Context, f Filter, last, end int64) ([]models.AuditEntry, error) {
	var entries []models.AuditEntry
	if err := f.where(r.db.Gorm(ctx)).Where("id > ? AND id <= ?", last, end).Order("id").Limit(page).Find(&entries).Error; err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	return entries, nil
}

func (f Filter) where(q *gorm.DB) *gorm.DB {
	if f.Actor != "" {
		q = q.Where("actor = ?", f.Actor)
	}
	if f.Object != "" {
		q = q.Where("object = ?", f.Object)
	}
	if f.Channel != "" {
		q = q.Where("channel = ?", f.Channel)
	}
	if f.Action != "" {
		escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Action)
		q = q.Where(`(action = ? OR action LIKE ? ESCAPE '\')`, f.Action, escaped+".%")
	}
	if f.Since > 0 {
		q = q.Where("at >= ?", f.Since)
	}
	if f.Until > 0 {
		q = q.Where("at < ?", f.Until)
	}
	return q
}

// Record adds entries that have no change to stand beside, such as that somebody took a copy of the log.
func (r *Reader) Record(ctx context.Context, entries ...Entry) error {
	return r.db.Tx(ctx, func(tx *database.Tx) error { return Append(ctx, tx, entries...) })
}
