package event

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/models"
)

const (
	channel      = "agentfield" // one channel with one meaning: look again
	tailEvery    = 500 * time.Millisecond
	tailPage     = 2000
	reread       = 500 // ids behind the newest that are read again: numbers become visible out of order
	notifyAtMost = 5 * time.Millisecond
)

// Tail connects the hubs of several replicas on one PostgreSQL: it follows the event log, and it tells the others that there is
// something to read. On SQLite, and while this is the only replica, it rests.
type Tail struct {
	db     *database.DB
	hub    *Hub
	log    *slog.Logger
	others func() int // live replicas besides this one
	wake   func()     // called when another replica says "look again"

	mu     sync.Mutex
	newest int64
	seen   map[int64]struct{}

	notify chan struct{}
	poke   chan struct{}
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewTail returns a tail; others tells how many replicas live besides this one, wake is called on every hint from them.
func NewTail(db *database.DB, hub *Hub, log *slog.Logger, others func() int, wake func()) *Tail {
	t := &Tail{
		db: db, hub: hub, log: log, others: others, wake: wake, seen: map[int64]struct{}{},
		notify: make(chan struct{}, 1), poke: make(chan struct{}, 1),
	}
	if db.Postgres() {
		hub.Tap(t.published)
	}
	return t
}

// Start begins to follow and to notify.
func (t *Tail) Start() {
	if !t.db.Postgres() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.wg.Go(func() { t.listen(ctx) })
	t.wg.Go(func() { t.follow(ctx) })
	t.wg.Go(func() { t.announce(ctx) })
}

// Stop ends all three loops.
func (t *Tail) Stop() {
	if t.cancel != nil {
		t.cancel()
	}
	t.wg.Wait()
}

// published remembers what this replica has published itself and lets the others know.
func (t *Tail) published(events []*models.Event) {
	if t.others() == 0 {
		return
	}
	t.mu.Lock()
	known := len(t.seen)
	for _, e := range events {
		t.seen[e.ID] = struct{}{}
	}
	own := len(t.seen) > known // what came from another replica is known already: no answer to an answer
	t.mu.Unlock()
	if own {
		poke(t.notify)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// announce sends NOTIFY after the commit, at most one at a time: inside the transaction it would serialise all commits.
func (t *Tail) announce(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.notify:
		}
		if _, err := t.db.Pool().Exec(ctx, "SELECT pg_notify('"+channel+"', '')"); err != nil && ctx.Err() == nil {
			t.log.Warn("cannot notify the other replicas; they poll", "error", err)
		}
		sleep(ctx, notifyAtMost)
	}
}

// listen holds a connection of its own; lost notifications cost at most one poll.
func (t *Tail) listen(ctx context.Context) {
	for ctx.Err() == nil {
		if err := t.listenOnce(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("the listening connection was lost; polling until it is back", "error", err)
		}
		sleep(ctx, time.Second)
	}
}

func (t *Tail) listenOnce(ctx context.Context) error {
	conn, err := t.db.Listen(ctx, channel)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for {
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("wait for a notification: %w", err)
		}
		poke(t.poke)
		t.wake()
	}
}

func (t *Tail) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := t.read(ctx); err != nil && ctx.Err() == nil {
			t.log.Warn("cannot follow the event log", "error", err)
			sleep(ctx, time.Second)
		}
		select {
		case <-ctx.Done():
		case <-t.poke:
		case <-time.After(tailEvery):
		}
	}
}

// read publishes what other replicas have written. While alone it only keeps its place.
func (t *Tail) read(ctx context.Context) error {
	if t.others() == 0 || t.newest == 0 {
		return t.skip(ctx)
	}
	rows, err := t.db.Query(ctx, `SELECT id, execution_id, run_id, node_id, kind, attempt, at, data FROM events
		WHERE id > $1 ORDER BY id LIMIT $2`, max(t.newest-reread, 0), tailPage)
	if err != nil {
		return fmt.Errorf("read the event log: %w", err)
	}
	defer rows.Close()
	var fresh []*models.Event
	t.mu.Lock()
	for rows.Next() {
		e := &models.Event{}
		if err := rows.Scan(&e.ID, &e.ExecutionID, &e.RunID, &e.NodeID, &e.Kind, &e.Attempt, &e.At, &e.Data); err != nil {
			t.mu.Unlock()
			return fmt.Errorf("read an event: %w", err)
		}
		if _, known := t.seen[e.ID]; !known {
			t.seen[e.ID] = struct{}{}
			fresh = append(fresh, e)
		}
		t.newest = max(t.newest, e.ID)
	}
	for id := range t.seen {
		if id < t.newest-2*reread {
			delete(t.seen, id)
		}
	}
	t.mu.Unlock()
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the event log: %w", err)
	}
	if len(fresh) > 0 {
		t.hub.Publish(fresh...)
	}
	return nil
}

func (t *Tail) skip(ctx context.Context) error {
	var newest int64
	if err := t.db.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM events", nil, &newest); err != nil {
		return fmt.Errorf("read the end of the event log: %w", err)
	}
	t.mu.Lock()
	t.newest = max(newest, 1)
	clear(t.seen)
	t.mu.Unlock()
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
