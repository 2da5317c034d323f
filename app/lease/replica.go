// Package lease decides who works on what: replicas that prove they live, rows they claim and lose, and the loops around them. Its
// invariant: work belongs to a living replica or to nobody, and what a dead one still says about it changes nothing.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/agentfield/agentfield/app/database"
)

var errDeclaredDead = errors.New("this replica was declared dead: its lease ran out before it could be renewed")

// Term is one life of a replica under one id. Ids are never used twice, so work claimed in an earlier term is fenced off.
type Term struct {
	ID  string
	ctx context.Context //nolint:containedctx // the term is the lifetime
	end context.CancelCauseFunc
}

// Context ends when the term does: cancel with it whatever was claimed in it.
func (t *Term) Context() context.Context { return t.ctx }

// Replica is this process among its equals. It renews its row a few times per TTL; when it could not do so in time it begins a new
// term under a new id, because others may have taken its work.
type Replica struct {
	db     *database.DB
	ttl    time.Duration
	log    *slog.Logger
	mu     sync.RWMutex
	term   *Term
	beat   time.Time // of the last renewal, by the local monotonic clock
	others atomic.Int32
	loop   *Loop
}

// Join announces this process. On SQLite every other replica is dead by definition, since only one process can have the file.
func Join(ctx context.Context, db *database.DB, ttl time.Duration, log *slog.Logger) (*Replica, error) {
	r := &Replica{db: db, ttl: ttl, log: log}
	if !db.Postgres() {
		if err := db.Tx(ctx, func(tx *database.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM replicas")
			return err
		}); err != nil {
			return nil, fmt.Errorf("forget the replicas before this one: %w", err)
		}
	}
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	r.loop = &Loop{Name: "heartbeat", Every: ttl / 4, Do: r.renew, Log: log}
	return r, nil
}

// Start begins to renew the lease.
func (r *Replica) Start() { r.loop.Start() }

// Term is the current one.
func (r *Replica) Term() *Term {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.term
}

// ID names the current term.
func (r *Replica) ID() string { return r.Term().ID }

// Others counts the replicas that live besides this one, as of the last heartbeat.
func (r *Replica) Others() int { return int(r.others.Load()) }

// TTL is how long a replica counts as living after its last heartbeat.
func (r *Replica) TTL() time.Duration { return r.ttl }

// Loop is the heartbeat, for supervision.
func (r *Replica) Loop() *Loop { return r.loop }

// Leave ends the term and withdraws the row, so that others need not wait for the lease to run out. Release what is held before.
func (r *Replica) Leave(ctx context.Context) {
	r.loop.Stop()
	id := r.ID()
	r.Term().end(context.Canceled)
	err := r.db.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM replicas WHERE id = $1", id)
		return err
	})
	if err != nil {
		r.log.Warn("cannot withdraw this replica; its lease runs out by itself", "error", err)
	}
}

func (r *Replica) begin(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	id := fmt.Sprintf("%s-%d-%s", host, os.Getpid(), uuid.NewString()[:13])
	beat := time.Now()
	now := r.db.NowMs()
	err = r.db.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO replicas (id, host, started_at, expires_at) VALUES ($1, $2, $3, $4)", id, host, now, now+r.ttl.Milliseconds())
		return err
	})
	if err != nil {
		return fmt.Errorf("announce this replica: %w", err)
	}
	termCtx, end := context.WithCancelCause(context.Background())
	r.mu.Lock()
	r.term = &Term{ID: id, ctx: termCtx, end: end}
	r.beat = beat
	r.mu.Unlock()
	return nil
}

// renew is one heartbeat. Zero rows changed means that we were declared dead.
func (r *Replica) renew(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.ttl)
	defer cancel()
	if r.Term().ctx.Err() != nil { // it has ended and the next one could not begin: renewing it would give a dead term a living lease
		return false, r.begin(ctx)
	}
	beat := time.Now()
	err := r.beatOnce(ctx)
	if err == nil {
		r.mu.Lock()
		r.beat = beat
		r.mu.Unlock()
		return false, nil
	}
	r.mu.RLock()
	late := time.Since(r.beat) > r.ttl
	r.mu.RUnlock()
	if errors.Is(err, errDeclaredDead) || late {
		r.Term().end(errDeclaredDead)
		r.log.Warn("beginning a new term: the lease was lost", "error", err)
		if err := r.begin(ctx); err != nil {
			return false, err
		}
		return false, nil
	}
	return false, err
}

func (r *Replica) beatOnce(ctx context.Context) error {
	if err := r.db.SyncClock(ctx); err != nil {
		return err
	}
	now := r.db.NowMs()
	var renewed, alive int64
	err := r.db.Tx(ctx, func(tx *database.Tx) (err error) {
		renewed, err = tx.Exec(ctx, "UPDATE replicas SET expires_at = $1 WHERE id = $2 AND expires_at > $3", now+r.ttl.Milliseconds(), r.ID(), now)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM replicas WHERE expires_at > $1", []any{now}, &alive)
	})
	if err != nil {
		return fmt.Errorf("renew the lease of this replica: %w", err)
	}
	if renewed == 0 {
		return errDeclaredDead
	}
	r.others.Store(int32(max(alive-1, 0))) //nolint:gosec // replicas are few
	return nil
}

// Bury removes the rows of replicas that have been dead for ten lease times; their work has long moved on.
func (r *Replica) Bury(ctx context.Context) error {
	before := r.db.NowMs() - 10*r.ttl.Milliseconds()
	return r.db.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM replicas WHERE expires_at < $1", before)
		return err
	})
}
