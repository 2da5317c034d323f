package database

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	maxBatch = 256  // items of one commit
	maxQueue = 4096 // items that may wait; beyond that the store says ErrBusy
)

// Group commits what many callers want written in one transaction. There is no linger: while one commit is on its way the next
// batch forms by itself.
//
// apply receives the items of one batch and writes the outcome into them. An error of apply rolls the batch back; its items are
// then tried one by one, so that a bad one harms nobody else. Outcomes that are answers ("no longer ours") are not errors.
type Group[I any] struct {
	db    *DB
	apply func(ctx context.Context, tx *Tx, items []I) error
	queue chan *groupItem[I] // PostgreSQL only
	mu    sync.RWMutex
	ended bool
	wg    sync.WaitGroup
}

type groupItem[I any] struct {
	item I
	done chan error
}

// NewGroup makes a group; on PostgreSQL with two writers, of which one fills its batch while the other waits for the disk. They end
// with the database.
func NewGroup[I any](db *DB, apply func(ctx context.Context, tx *Tx, items []I) error) *Group[I] {
	g := &Group[I]{db: db, apply: apply}
	if db.writer == nil {
		g.queue = make(chan *groupItem[I], maxQueue)
		for range 2 {
			g.wg.Go(g.loop)
		}
		db.closers = append(db.closers, g.stop)
	}
	return g
}

func (g *Group[I]) stop() {
	g.mu.Lock()
	g.ended = true
	close(g.queue)
	g.mu.Unlock()
	g.wg.Wait()
}

// Do writes the item and returns after the commit; ErrBusy, with nothing written, when too many wait already.
func (g *Group[I]) Do(ctx context.Context, item I) error {
	if g.db.writer != nil {
		return g.db.writer.enqueue(ctx, &job{group: g, item: item})
	}
	it := &groupItem[I]{item: item, done: make(chan error, 1)}
	g.mu.RLock()
	if g.ended {
		g.mu.RUnlock()
		return sql.ErrConnDone
	}
	select {
	case g.queue <- it:
		g.mu.RUnlock()
		return <-it.done
	default:
		g.mu.RUnlock()
		return ErrBusy
	}
}

func (g *Group[I]) loop() {
	for first := range g.queue {
		batch := []*groupItem[I]{first}
		for len(batch) < maxBatch {
			select {
			case it, ok := <-g.queue:
				if !ok {
					g.flush(batch)
					return
				}
				batch = append(batch, it)
				continue
			default:
			}
			break
		}
		g.flush(batch)
	}
}

func (g *Group[I]) flush(batch []*groupItem[I]) {
	items := make([]I, len(batch))
	for i, it := range batch {
		items[i] = it.item
	}
	err := g.commit(items)
	if err != nil && len(batch) > 1 {
		for _, it := range batch {
			it.done <- g.commit([]I{it.item})
		}
		return
	}
	for _, it := range batch {
		it.done <- err
	}
}

func (g *Group[I]) commit(items []I) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return g.db.pgTx(ctx, func(tx *Tx) error { return g.apply(ctx, tx, items) })
}

// applyAny lets the one writer of SQLite run the items of a group without knowing their type.
func (g *Group[I]) applyAny(ctx context.Context, tx *Tx, items []any) error {
	typed := make([]I, len(items))
	for i, it := range items {
		typed[i] = it.(I)
	}
	return g.apply(ctx, tx, typed)
}

type anyGroup interface {
	applyAny(ctx context.Context, tx *Tx, items []any) error
}

// job is one thing the writer of SQLite has to do: an item of a group, or a function of its own.
type job struct {
	group anyGroup
	item  any
	fn    func(tx *Tx) error
	done  chan error
}

// writer owns the only connection that writes to SQLite. What waits is committed together.
type writer struct {
	conn  *liteConn
	log   *slog.Logger
	queue chan *job
	mu    sync.RWMutex
	ended bool
	wg    sync.WaitGroup
}

func startWriter(ctx context.Context, uri string, log *slog.Logger) (*writer, error) {
	conn, err := openLite(ctx, uri)
	if err != nil {
		return nil, err
	}
	w := &writer{conn: conn, log: log, queue: make(chan *job, maxQueue)}
	w.wg.Go(w.loop)
	return w, nil
}

func (w *writer) stop() {
	w.mu.Lock()
	ended := w.ended
	w.ended = true
	w.mu.Unlock()
	if ended {
		return
	}
	close(w.queue)
	w.wg.Wait()
	w.conn.conn.SetInterrupt(context.Background())
	_ = w.conn.conn.Exec("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)")
	_ = w.conn.close()
}

func (w *writer) do(ctx context.Context, fn func(tx *Tx) error) error {
	return w.enqueue(ctx, &job{fn: fn})
}

func (w *writer) enqueue(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.done = make(chan error, 1)
	w.mu.RLock()
	if w.ended {
		w.mu.RUnlock()
		return sql.ErrConnDone
	}
	select {
	case w.queue <- j:
		w.mu.RUnlock()
		return <-j.done
	default:
		w.mu.RUnlock()
		return ErrBusy
	}
}

func (w *writer) loop() {
	for first := range w.queue {
		batch := []*job{first}
		for len(batch) < maxBatch {
			select {
			case j, ok := <-w.queue:
				if ok {
					batch = append(batch, j)
					continue
				}
			default:
			}
			break
		}
		w.flush(batch)
	}
}

func (w *writer) flush(batch []*job) {
	err := w.commit(batch)
	if err != nil && len(batch) > 1 {
		for _, j := range batch {
			j.done <- w.commit([]*job{j})
		}
		return
	}
	for _, j := range batch {
		j.done <- err
	}
}

func (w *writer) commit(batch []*job) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := w.conn.exec(ctx, "BEGIN IMMEDIATE", nil); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	tx := &Tx{lite: w.conn}
	err := tx.guard(func(tx *Tx) error { return runJobs(ctx, tx, batch) })
	if err == nil {
		if _, err = w.conn.exec(ctx, "COMMIT", nil); err != nil {
			err = fmt.Errorf("commit: %w", err)
		}
	}
	if err != nil {
		_, _ = w.conn.exec(context.Background(), "ROLLBACK", nil)
		return err
	}
	tx.committed(w.log)
	return nil
}

// runJobs runs the jobs in the order of their arrival; the items of one group go together.
func runJobs(ctx context.Context, tx *Tx, batch []*job) error {
	grouped := map[anyGroup][]any{}
	for _, j := range batch {
		if j.group != nil {
			grouped[j.group] = append(grouped[j.group], j.item)
		}
	}
	for _, j := range batch {
		var err error
		if j.fn != nil {
			err = j.fn(tx)
		} else if items := grouped[j.group]; items != nil {
			delete(grouped, j.group)
			err = j.group.applyAny(ctx, tx, items)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
