package database_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HOLD_DATA_DIR"); dir != "" {
		hold(dir)
	}
	dbtest.Main(m)
}

const put = "INSERT INTO settings (name, value) VALUES ($1, $2)"

func names(t *testing.T, db *database.DB) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), "SELECT name FROM settings ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

var errRefused = errors.New("refused")

// item of a group: it is written under its name, unless it is bad.
type item struct {
	name string
	bad  error
	gate chan struct{} // apply waits for it
}

// group writes items; entered receives whenever a batch begins.
func group(db *database.DB, entered chan<- int) *database.Group[*item] {
	return database.NewGroup(db, func(ctx context.Context, tx *database.Tx, items []*item) error {
		if entered != nil {
			entered <- len(items)
		}
		for _, it := range items {
			if it.gate != nil {
				<-it.gate
			}
			if it.bad != nil && !errors.Is(it.bad, errRefused) {
				panic(it.bad)
			}
			if _, err := tx.Exec(ctx, put, it.name, []byte("x")); err != nil {
				return err
			}
			if it.bad != nil {
				return it.bad
			}
		}
		return nil
	})
}

// A hundred items come while a commit is on its way, three of them bad: those three learn of it, the others are written.
func TestABadItemHarmsNobodyElse(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		entered := make(chan int, 1000)
		g := group(db, entered)
		gates := holdWriters(t, db, g, entered)
		var wg sync.WaitGroup
		results := make([]error, 100)
		for i := range results {
			wg.Go(func() {
				it := &item{name: fmt.Sprintf("item %03d", i)}
				switch i {
				case 10:
					it.bad = errRefused
				case 20:
					it.bad = errors.New("a panic")
				case 30:
					it.name = "held 0" // is there already
				}
				results[i] = g.Do(t.Context(), it)
			})
		}
		closeAll(gates)
		wg.Wait()
		for i, err := range results {
			if bad := i == 10 || i == 20 || i == 30; (err != nil) != bad {
				t.Errorf("item %d: %v", i, err)
			}
		}
		if !errors.Is(results[10], errRefused) {
			t.Errorf("the error became %v", results[10])
		}
		all := names(t, db)
		if want := 97 + len(gates); len(all) != want || slices.Contains(all, "item 010") || slices.Contains(all, "item 020") {
			t.Errorf("%d rows, want %d", len(all), want)
		}
		if err := g.Do(t.Context(), &item{name: "after all"}); err != nil {
			t.Errorf("after all: %v", err)
		}
	})
}

// holdWriters keeps every writer of a group busy until its gate is closed.
func holdWriters(t *testing.T, db *database.DB, g *database.Group[*item], entered <-chan int) []chan struct{} {
	t.Helper()
	writers := 1
	if db.Postgres() {
		writers = 2
	}
	var gates []chan struct{}
	for i := range writers {
		gate := make(chan struct{})
		gates = append(gates, gate)
		held := make(chan error, 1)
		go func() { held <- g.Do(context.Background(), &item{name: fmt.Sprint("held ", i), gate: gate}) }()
		t.Cleanup(func() {
			if err := <-held; err != nil {
				t.Errorf("held: %v", err)
			}
		})
		dbtest.Soon(t, entered)
	}
	return gates
}

func closeAll(gates []chan struct{}) {
	for _, gate := range gates {
		close(gate)
	}
}

func TestWhoFindsTheQueueFullIsToldSoAtOnce(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		entered := make(chan int, 10*database.MaxQueue)
		g := group(db, entered)
		gates := holdWriters(t, db, g, entered)
		const more = 100
		var wg sync.WaitGroup
		var busy, written atomic.Int64
		told := make(chan struct{}, more)
		for i := range database.MaxQueue + more {
			wg.Go(func() {
				switch err := g.Do(t.Context(), &item{name: fmt.Sprint("item ", i)}); {
				case err == nil:
					written.Add(1)
				case errors.Is(err, database.ErrBusy):
					busy.Add(1)
					told <- struct{}{}
				default:
					t.Error(err)
				}
			})
		}
		for range more {
			dbtest.Soon(t, told) // while nothing can be written
		}
		closeAll(gates)
		wg.Wait()
		if busy.Load() != more || written.Load() != database.MaxQueue {
			t.Errorf("%d were told busy, %d written", busy.Load(), written.Load())
		}
		if n := len(names(t, db)); n != database.MaxQueue+len(gates) {
			t.Errorf("%d rows", n)
		}
	})
}

func TestTransactions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var after []string
		write := func(name string, err error) func(tx *database.Tx) error {
			return func(tx *database.Tx) error {
				if _, failed := tx.Exec(t.Context(), put, name, []byte("x")); failed != nil {
					return failed
				}
				tx.AfterCommit(func() {
					if !slices.Contains(names(t, db), name) {
						t.Errorf("%s is announced and not there", name)
					}
					after = append(after, name)
				})
				return err
			}
		}
		if err := db.Tx(t.Context(), write("a", nil)); err != nil {
			t.Error(err)
		}
		if err := db.Tx(t.Context(), write("b", errRefused)); !errors.Is(err, errRefused) {
			t.Error(err)
		}
		if err := db.Tx(t.Context(), write("a", nil)); err == nil {
			t.Error("the same name twice")
		}
		if err := db.Tx(t.Context(), func(tx *database.Tx) error {
			if err := write("c", nil)(tx); err != nil {
				return err
			}
			panic("oh")
		}); err == nil {
			t.Error("a panic is no error")
		}
		if err := db.Tx(t.Context(), write("d", nil)); err != nil {
			t.Error(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Tx(ended, write("e", nil)); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that has ended: %v", err)
		}
		if got := fmt.Sprint(names(t, db), after); got != "[a d] [a d]" {
			t.Errorf("%s", got)
		}
	})
}

// Panics must not leave connections or locks behind.
func TestManyPanics(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		for range 40 { // more than there are connections
			_ = db.Tx(t.Context(), func(tx *database.Tx) error {
				_, _ = tx.Exec(t.Context(), put, "x", []byte("x"))
				panic("oh")
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), dbtest.Patience)
		defer cancel()
		if err := db.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

// What runs after a commit cannot undo it, and must not make it happen twice.
func TestAPanicAfterTheCommit(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		g := database.NewGroup(db, func(ctx context.Context, tx *database.Tx, items []string) error {
			for _, name := range items {
				if _, err := tx.Exec(ctx, put, name, []byte("x")); err != nil {
					return err
				}
			}
			tx.AfterCommit(func() { panic("oh") })
			return nil
		})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := g.Do(t.Context(), fmt.Sprint(i)); err != nil {
					t.Errorf("what was committed is reported as %v", err)
				}
			})
		}
		wg.Wait()
		if n := len(names(t, db)); n != 20 {
			t.Errorf("%d rows", n)
		}
	})
}

func TestAfterCloseNothingIsWrittenAndNothingBreaks(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		g := group(db, nil)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					if err := g.Do(context.Background(), &item{name: fmt.Sprint(i, " ", n)}); err != nil {
						return
					}
				}
			})
		}
		if err := g.Do(t.Context(), &item{name: "before"}); err != nil {
			t.Error(err)
		}
		db.Close()
		wg.Wait()
		if err := g.Do(t.Context(), &item{name: "after"}); err == nil {
			t.Error("written after the end")
		}
		if err := db.Tx(t.Context(), func(*database.Tx) error { return nil }); err == nil {
			t.Error("a transaction after the end")
		}
		db.Close() // twice is once
	})
}

// R8 in small: readers and writers together, and nobody hears of a lock.
func TestManyWritersAndReaders(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		const writers, each = 64, 5
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				for n := range each {
					err := db.Tx(t.Context(), func(tx *database.Tx) error { // reads, then writes: the pattern that a deferred BEGIN fails with
						var count int
						if err := tx.QueryRow(t.Context(), "SELECT count(*) FROM settings", nil, &count); err != nil {
							return err
						}
						_, err := tx.Exec(t.Context(), put, fmt.Sprint(i, " ", n), []byte{1})
						return err
					})
					if err != nil {
						t.Error(err)
					}
					var count int
					if err := db.QueryRow(t.Context(), "SELECT count(*) FROM settings WHERE name LIKE $1", []any{fmt.Sprint(i, " %")}, &count); err != nil || count != n+1 {
						t.Errorf("wrote %d, read %d, %v", n+1, count, err)
					}
				}
			})
		}
		wg.Wait()
		if n := len(names(t, db)); n != writers*each {
			t.Errorf("%d rows", n)
		}
	})
}

func TestNobodyWritesPastTheWriter(t *testing.T) {
	db := dbtest.Open(t, database.Config{DataDir: dbtest.Dir(t)})
	if err := db.Gorm(t.Context()).Exec(put, "x", []byte("x")).Error; err == nil {
		t.Error("GORM wrote to SQLite")
	}
	if n := len(names(t, db)); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func TestOneRowOrNone(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var name string
		if err := db.QueryRow(t.Context(), "SELECT name FROM settings WHERE name = $1", []any{"none"}, &name); !errors.Is(err, database.ErrNoRows) {
			t.Error(err)
		}
		err := db.Tx(t.Context(), func(tx *database.Tx) error {
			return tx.QueryRow(t.Context(), "SELECT name FROM settings WHERE name = $1", []any{"none"}, &name)
		})
		if !errors.Is(err, database.ErrNoRows) {
			t.Error(err)
		}
	})
}

// hold is another process that has the data directory.
func hold(dir string) {
	db, err := database.Open(context.Background(), database.Config{DataDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer db.Close()
	fmt.Println("held")
	select {}
}

func TestASecondProcessIsRefusedUntilTheFirstIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data with ? and # and %")
	holder := exec.Command(os.Args[0]) //nolint:gosec // this test
	holder.Env = append(os.Environ(), "HOLD_DATA_DIR="+dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 4)
	if _, err := out.Read(said); err != nil || !bytes.Equal(said, []byte("held")) {
		t.Fatalf("%s, %v", said, err)
	}
	if _, err := database.Open(t.Context(), database.Config{DataDir: dir}); !errors.Is(err, database.ErrInUse) {
		t.Errorf("a second process: %v", err)
	}
	_ = holder.Process.Kill()
	_ = holder.Wait()
	db := dbtest.Open(t, database.Config{DataDir: dir})
	if _, err := database.Open(t.Context(), database.Config{DataDir: dir}); !errors.Is(err, database.ErrInUse) {
		t.Errorf("the same process: %v", err)
	}
	db.Close()
	dbtest.Open(t, database.Config{DataDir: dir})
}

// The model of a power cut: what has been answered as written is in the files at that moment.
func TestWhatIsCommittedIsInTheFiles(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	db := dbtest.Open(t, database.Config{DataDir: dir})
	g := group(db, nil)
	for i := range 50 {
		if err := g.Do(t.Context(), &item{name: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"agentfield.db", "agentfield.db-wal"} {
		content, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // of this test
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(names(t, dbtest.Open(t, database.Config{DataDir: copied}))); n != 50 {
		t.Errorf("%d of 50 are there", n)
	}
}

func TestTheClockIsThatOfTheDatabase(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		db.ShiftClock(24 * time.Hour)
		if err := db.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		off := time.Until(db.Now())
		if db.Postgres() && off.Abs() > 2*time.Second {
			t.Errorf("PostgreSQL is on this machine, its time is off by %s", off)
		}
		if !db.Postgres() && off < 23*time.Hour {
			t.Errorf("SQLite has no other clock, the time is off by %s", off)
		}
	})
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		at := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		c.Clock = func() time.Time { return at }
		db := dbtest.Open(t, c)
		if err := db.SyncClock(t.Context()); err != nil || !db.Now().Equal(at) || db.NowMs() != at.UnixMilli() {
			t.Errorf("a clock of our own says %s, %v", db.Now(), err)
		}
	})
}

func onPostgres(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	t.Helper()
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		if c.URL != "" {
			fn(t, dbtest.Open(t, c))
		}
	})
}

func TestSerialisationFailuresAreTriedAgain(t *testing.T) {
	onPostgres(t, func(t *testing.T, db *database.DB) {
		for code, want := range map[string]int{"40001": 4, "40P01": 4, "23505": 1} {
			tries := 0
			err := db.Tx(t.Context(), func(tx *database.Tx) error {
				tries++
				_, err := tx.Exec(t.Context(), "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '"+code+"'; END $$")
				return fmt.Errorf("try: %w", err)
			})
			var pg *pgconn.PgError
			if !errors.As(err, &pg) || pg.Code != code || tries != want {
				t.Errorf("%s: %d tries, %v", code, tries, err)
			}
		}
		tries := 0
		err := db.Tx(t.Context(), func(tx *database.Tx) error {
			if tries++; tries < 3 {
				_, err := tx.Exec(t.Context(), "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$")
				return err
			}
			_, err := tx.Exec(t.Context(), put, "x", []byte("x"))
			return err
		})
		if err != nil || tries != 3 || len(names(t, db)) != 1 {
			t.Errorf("%d tries, %v", tries, err)
		}
	})
}
