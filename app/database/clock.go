package database

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// clock tells the time of the database: on PostgreSQL the local clock corrected by the measured difference, so that replicas whose
// clocks disagree still agree on leases and deadlines.
type clock struct {
	base   func() time.Time
	follow bool
	offset atomic.Int64 // ns to add to base
}

// Now is the time of the database.
func (db *DB) Now() time.Time {
	return db.clock.base().Add(time.Duration(db.clock.offset.Load())).UTC()
}

// NowMs is Now as it is stored: ms since 1970.
func (db *DB) NowMs() int64 { return db.Now().UnixMilli() }

// SyncClock measures how far the local clock is from PostgreSQL's. On SQLite there is only one clock and nothing to do.
func (db *DB) SyncClock(ctx context.Context) error {
	if !db.clock.follow {
		return nil
	}
	before := db.clock.base()
	var micros int64
	if err := db.QueryRow(ctx, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", nil, &micros); err != nil {
		return fmt.Errorf("read the clock of the database: %w", err)
	}
	took := db.clock.base().Sub(before)
	db.clock.offset.Store(int64(time.UnixMicro(micros).Sub(before.Add(took / 2))))
	return nil
}
