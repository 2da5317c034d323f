package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNoRows is returned by QueryRow when there is none.
var ErrNoRows = sql.ErrNoRows

// Rows is what both engines give back.
type Rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close()
}

// Tx is an open transaction. Statements are written once: $1, $2 … work on both engines.
type Tx struct {
	pg    pgx.Tx
	lite  *liteConn
	after []func()
}

// Postgres reports which dialect the statements have to be in, where they differ.
func (tx *Tx) Postgres() bool { return tx.pg != nil }

// Pgx is the transaction of PostgreSQL, for statements that only it has; nil on SQLite.
func (tx *Tx) Pgx() pgx.Tx { return tx.pg }

// AfterCommit runs f once the transaction is committed; never if it is rolled back. f must not block.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	if tx.pg != nil {
		tag, err := tx.pg.Exec(ctx, query, args...)
		return tag.RowsAffected(), err
	}
	return tx.lite.exec(ctx, query, args)
}

// Insert runs an INSERT … RETURNING id on PostgreSQL and a plain INSERT on SQLite and returns the number the table gave the row.
// query must not have the RETURNING part.
func (tx *Tx) Insert(ctx context.Context, query string, args ...any) (int64, error) {
	if tx.pg != nil {
		var id int64
		err := tx.pg.QueryRow(ctx, query+" RETURNING id", args...).Scan(&id)
		return id, err
	}
	return tx.lite.insert(ctx, query, args)
}

// Query runs a statement that returns rows. They must be closed before the next statement.
func (tx *Tx) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	if tx.pg != nil {
		return tx.pg.Query(ctx, query, args...)
	}
	rows, err := tx.lite.query(ctx, query, args)
	if err != nil {
		return nil, err // not rows: a nil *liteRows would not be a nil Rows
	}
	return rows, nil
}

// QueryRow reads one row into dest; ErrNoRows when there is none.
func (tx *Tx) QueryRow(ctx context.Context, query string, args []any, dest ...any) error {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	return one(rows, dest)
}

func one(rows Rows, dest []any) error {
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return err
		}
		return ErrNoRows
	}
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	rows.Close()
	return rows.Err()
}

// Tx runs fn in a transaction. fn may run more than once: after a serialisation failure, and on SQLite when a neighbour in the same
// group commit failed. It must therefore only set variables, never add to them, and must not call the network.
func (db *DB) Tx(ctx context.Context, fn func(tx *Tx) error) error {
	if db.writer != nil {
		return db.writer.do(ctx, fn)
	}
	return db.pgTx(ctx, fn)
}

const serialisationRetries = 4

func (db *DB) pgTx(ctx context.Context, fn func(tx *Tx) error) error {
	var err error
	for try := range serialisationRetries {
		if try > 0 {
			if err := pause(ctx, time.Duration(1+rand.IntN(10<<try))*time.Millisecond); err != nil { //nolint:gosec // jitter
				return err
			}
		}
		if err = db.pgTxOnce(ctx, fn); !retryable(err) {
			return err
		}
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (db *DB) pgTxOnce(ctx context.Context, fn func(tx *Tx) error) error {
	raw, err := db.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	tx := &Tx{pg: raw}
	if err := tx.guard(fn); err != nil {
		_ = raw.Rollback(context.WithoutCancel(ctx))
		return err
	}
	if err := raw.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	tx.committed(db.log)
	return nil
}

// guard turns a panic of fn into an error, so that it is rolled back and neither a connection nor a lock is left behind.
func (tx *Tx) guard(fn func(tx *Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a transaction: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(tx)
}

// committed runs what was to follow the commit. Whatever becomes of it, the commit stands.
func (tx *Tx) committed(log *slog.Logger) {
	for _, f := range tx.after {
		func() {
			defer func() {
				if p := recover(); p != nil {
					log.Error("panic after a commit", "panic", p, "stack", string(debug.Stack()))
				}
			}()
			f()
		}()
	}
}

// retryable: serialization_failure and deadlock_detected are the database's way of asking for another try.
func retryable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// Query reads outside a transaction, from the read pool. On SQLite statements stay prepared: query must be one of a few constants.
func (db *DB) Query(ctx context.Context, query string, args ...any) (Rows, error) {
	if db.pool != nil {
		return db.pool.Query(ctx, query, args...)
	}
	return db.quick.query(ctx, query, args)
}

// QueryRow reads one row into dest; ErrNoRows when there is none.
func (db *DB) QueryRow(ctx context.Context, query string, args []any, dest ...any) error {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	return one(rows, dest)
}
