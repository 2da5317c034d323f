package database

import "time"

// ShiftClock makes the local clock wrong.
func (db *DB) ShiftClock(by time.Duration) {
	db.clock.base = func() time.Time { return time.Now().Add(by) }
}

// MaxQueue is how many writes may wait.
const MaxQueue = maxQueue
