// Package agentlog keeps what agents log about executions. Its invariant: an execution has at most MaxEntries entries and none that came
// more than a day ago; what does not fit is refused and said so, never dropped in silence. The execution need not exist yet.
package agentlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

const (
	// MaxEntries is how many entries an execution may have at once.
	MaxEntries = 5000
	// MaxTail is how many entries can be read at once, and how many are when nobody says.
	MaxTail = 1000
	// MaxMessage is how many bytes of a message, and of what else an entry says, are kept.
	MaxMessage = 8 << 10

	kept = 24 * time.Hour // counted from receipt, so that a back-dated entry does not vanish at once
	page = 1000
)

// ErrFull says that an execution has logged as much as is kept.
var ErrFull = errors.New("the log of this execution is full: log less, entries are kept for 24 hours")

// Options are the parts of the service.
type Options struct {
	DB     *database.DB
	Events *event.Log
	Log    *slog.Logger
}

// Service takes and gives entries.
type Service struct {
	Options
	loops lease.Loops

	mu   sync.Mutex
	news map[string]string // executions with entries that nobody has been told of, with their nodes
}

// New wires the service; Start sets its background work going.
func New(o Options) *Service {
	s := &Service{Options: o, news: map[string]string{}}
	s.loops = lease.Loops{
		{Name: "announce logs", Every: time.Second, Do: s.announce, Log: o.Log},
		{Name: "expire logs", Every: 5 * time.Minute, Do: s.sweep, Log: o.Log},
	}
	return s
}

// Start begins to announce and to clear away.
func (s *Service) Start() {
	s.loops.Start()
}

// Stop ends the background work.
func (s *Service) Stop() {
	s.loops.Stop()
}

// Loops are the background loops, for supervision.
func (s *Service) Loops() lease.Loops { return s.loops }

const (
	openBook = `INSERT INTO execution_log_books (execution_id, entries, last_seq, written_at) VALUES ($1, 0, 0, $2)
		ON CONFLICT (execution_id) DO UPDATE SET written_at = excluded.written_at RETURNING entries, last_seq`
	closeBook   = `UPDATE execution_log_books SET entries = entries + $2, last_seq = $3 WHERE execution_id = $1`
	insertEntry = `INSERT INTO execution_logs (execution_id, seq, node_id, level, source, message, more, at, recorded_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	insertEntries = `INSERT INTO execution_logs (execution_id, seq, node_id, level, source, message, more, at, recorded_at)
		SELECT $1, v.seq, v.node, v.level, v.source, v.message, v.more, v.at, $2
		FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[]) WITH ORDINALITY
			AS v(seq, node, level, source, message, more, at, n) ORDER BY v.n`
)

// Append adds entries of one execution and returns how many of them fitted; ErrFull when none did. Entries without a Seq are counted on
// from the last one.
func (s *Service) Append(ctx context.Context, executionID string, entries []models.ExecutionLog) (int, error) {
	if len(entries) == 0 {
		return 0, nil
	}
	taken := 0
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		now := s.DB.NowMs()
		var had, last int64
		if err := tx.QueryRow(ctx, openBook, []any{executionID, now}, &had, &last); err != nil {
			return err
		}
		taken = int(min(max(MaxEntries-had, 0), int64(len(entries))))
		if taken == 0 {
			return nil
		}
		fit, last := numbered(entries[:taken], last)
		if err := write(ctx, tx, executionID, fit, now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, closeBook, executionID, taken, last)
		return err
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("write the log of %s: %w", executionID, err)
	case taken == 0:
		return 0, ErrFull
	}
	s.mu.Lock()
	s.news[executionID] = entries[0].NodeID
	s.mu.Unlock()
	return taken, nil
}

// numbered gives every entry a place after the last one, unless it has its own.
func numbered(entries []models.ExecutionLog, last int64) ([]models.ExecutionLog, int64) {
	out := make([]models.ExecutionLog, len(entries))
	for i, e := range entries {
		if e.Seq <= 0 {
			e.Seq = last + 1
		}
		last = max(last, e.Seq)
		out[i] = e
	}
	return out, last
}

func write(ctx context.Context, tx *database.Tx, executionID string, entries []models.ExecutionLog, now int64) error {
	if !tx.Postgres() {
		for _, e := range entries {
			if _, err := tx.Exec(ctx, insertEntry, executionID, e.Seq, e.NodeID, e.Level, e.Source, e.Message, e.More, e.At, now); err != nil {
				return err
			}
		}
		return nil
	}
	n := len(entries)
	seqs, at := make([]int64, n), make([]int64, n)
	nodes, levels, sources, messages, more := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]*string, n)
	for i, e := range entries {
		seqs[i], nodes[i], levels[i], sources[i], messages[i], more[i], at[i] = e.Seq, e.NodeID, e.Level, e.Source, e.Message, e.More, e.At
	}
	_, err := tx.Exec(ctx, insertEntries, executionID, now, seqs, nodes, levels, sources, messages, more, at)
	return err
}

// announce tells whoever looks at an execution that it has logged something: once a second however much it was, since each announcement is
// a row.
func (s *Service) announce(ctx context.Context) (bool, error) {
	s.mu.Lock()
	news := s.news
	s.news = map[string]string{}
	s.mu.Unlock()
	if len(news) == 0 {
		return false, nil
	}
	events := make([]*models.Event, 0, len(news))
	now := s.DB.NowMs()
	for id, node := range news {
		events = append(events, &models.Event{ExecutionID: &id, NodeID: node, Kind: event.KindLogged, At: now})
	}
	err := s.DB.Tx(ctx, func(tx *database.Tx) error { return s.Events.Append(ctx, tx, events...) })
	if err != nil {
		return false, fmt.Errorf("announce new log entries: %w", err)
	}
	return false, nil
}

// sweep forgets entries after a day, in small batches.
func (s *Service) sweep(ctx context.Context) (bool, error) {
	before := s.DB.Now().Add(-kept).UnixMilli()
	n := 0
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		n = 0
		rows, err := tx.Query(ctx, `DELETE FROM execution_logs WHERE id IN
			(SELECT id FROM execution_logs WHERE recorded_at < $1 ORDER BY recorded_at LIMIT $2) RETURNING execution_id`, before, page)
		if err != nil {
			return err
		}
		gone, err := countByID(rows)
		if err != nil {
			return err
		}
		for _, g := range gone {
			n += g.count
			if _, err := tx.Exec(ctx, "UPDATE execution_log_books SET entries = entries - $2 WHERE execution_id = $1", g.id, g.count); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `DELETE FROM execution_log_books WHERE execution_id IN
			(SELECT execution_id FROM execution_log_books WHERE entries = 0 AND written_at < $1 ORDER BY written_at LIMIT $2)`, before, page)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("forget old log entries: %w", err)
	}
	return n == page, nil
}
