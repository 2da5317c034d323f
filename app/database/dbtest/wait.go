package dbtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentfield/agentfield/app/database"
)

// Main runs the tests of a package and fails when one of them leaves a goroutine behind.
func Main(m *testing.M, but ...goleak.Option) {
	// GORM's cache of prepared statements keeps one goroutine per database and offers no way to end it.
	goleak.VerifyTestMain(m, append(but, goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1"))...)
}

// Patience is how long anything may take before it counts as stuck.
const Patience = 30 * time.Second

// Soon is what arrives next.
func Soon[T any](t *testing.T, c <-chan T) (got T) {
	t.Helper()
	select {
	case got = <-c:
	case <-time.After(Patience):
		t.Fatalf("nothing came within %s", Patience)
	}
	return got
}

// Eventually waits until something holds.
func Eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(Patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("after %s not yet: %s", Patience, what)
		}
	}
}

// Change runs a statement in a transaction of its own.
func Change(t testing.TB, db *database.DB, statement string, args ...any) {
	t.Helper()
	ctx := context.Background() // benchmarks call it before they begin
	err := db.Tx(ctx, func(tx *database.Tx) error {
		_, err := tx.Exec(ctx, statement, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Count is the number that a query answers with.
func Count(t testing.TB, db *database.DB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := db.QueryRow(context.Background(), query, args, &n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Clock stands still until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock is one that stands at an instant.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now is where it stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves it.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
