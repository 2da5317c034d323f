package agentlog_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app/agentlog"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/event"
	"github.com/agentfield/agentfield/models"
)

func newService(db *database.DB) *agentlog.Service {
	return agentlog.New(agentlog.Options{DB: db, Events: event.NewLog(event.NewHub()), Log: slog.New(slog.DiscardHandler)})
}

func entries(n int, message string) []models.ExecutionLog {
	list := make([]models.ExecutionLog, n)
	for i := range list {
		list[i] = models.ExecutionLog{NodeID: "n", Level: "info", Source: "sdk.user", Message: fmt.Sprintf("%s %d", message, i), At: 1}
	}
	return list
}

func seqs(list []models.ExecutionLog) string {
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "%d ", e.Seq)
	}
	return strings.TrimSpace(b.String())
}

func TestEntriesAreCountedOnFromTheLast(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := newService(db)
		list := entries(4, "a")
		list[1].Seq = 10
		for _, batch := range [][]models.ExecutionLog{list[:3], list[3:]} {
			if n, err := s.Append(t.Context(), "exec_1", batch); err != nil || n != len(batch) {
				t.Fatalf("%d %v", n, err)
			}
		}
		all, err := s.Read(t.Context(), "exec_1", agentlog.Query{})
		if err != nil || seqs(all) != "1 10 11 12" {
			t.Fatalf("%s %v", seqs(all), err)
		}
		newest, err := s.Read(t.Context(), "exec_1", agentlog.Query{Limit: 2})
		if err != nil || seqs(newest) != "11 12" {
			t.Errorf("the newest two: %s %v", seqs(newest), err)
		}
		if after, err := s.Read(t.Context(), "exec_1", agentlog.Query{After: 10}); err != nil || seqs(after) != "11 12" {
			t.Errorf("after 10: %s %v", seqs(after), err)
		}
		if other, err := s.Read(t.Context(), "exec_2", agentlog.Query{}); err != nil || len(other) != 0 {
			t.Errorf("of another execution: %s %v", seqs(other), err)
		}
	})
}

func TestALogIsReadByLevelNodeSourceAndText(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := newService(db)
		list := []models.ExecutionLog{
			{NodeID: "a", Level: "info", Source: "sdk.user", Message: "100% Done", At: 1},
			{NodeID: "b", Level: "warn", Source: "sdk.runtime", Message: "slow", At: 1},
			{NodeID: "b", Level: "error", Source: "sdk.user", Message: "it's BROKEN", At: 1},
		}
		if _, err := s.Append(t.Context(), "exec_1", list); err != nil {
			t.Fatal(err)
		}
		for want, q := range map[string]agentlog.Query{
			"1":     {Q: "100% d"},
			"2 3":   {Levels: []string{"warn", "error"}},
			"3":     {Q: "broken", Levels: []string{"error", "warn"}, Nodes: []string{"b"}, Sources: []string{"sdk.user"}},
			"":      {Q: "%" + "x"},
			"1 2 3": {Nodes: []string{"a", "b"}},
		} {
			if got, err := s.Read(t.Context(), "exec_1", q); err != nil || seqs(got) != want {
				t.Errorf("%+v: %q, not %q (%v)", q, seqs(got), want, err)
			}
		}
		if n, levels, err := s.Count(t.Context(), "exec_1"); err != nil || n != 3 || levels["warn"] != 1 {
			t.Errorf("%d %v %v", n, levels, err)
		}
	})
}

func TestALogIsBounded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := newService(db)
		var taken, refused atomic.Int64
		var writers sync.WaitGroup
		for range 7 { // 7 × 800 are more than fit
			writers.Go(func() {
				n, err := s.Append(t.Context(), "exec_1", entries(800, "x"))
				if errors.Is(err, agentlog.ErrFull) {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				}
				taken.Add(int64(n))
			})
		}
		writers.Wait()
		if taken.Load() != agentlog.MaxEntries {
			t.Errorf("%d entries were taken", taken.Load())
		}
		if n, _, err := s.Count(t.Context(), "exec_1"); err != nil || n != agentlog.MaxEntries {
			t.Errorf("%d entries are kept (%v)", n, err)
		}
		if _, err := s.Append(t.Context(), "exec_1", entries(1, "more")); !errors.Is(err, agentlog.ErrFull) {
			t.Errorf("one more: %v", err)
		}
		if n, err := s.Append(t.Context(), "exec_2", entries(1, "other")); err != nil || n != 1 {
			t.Errorf("another execution: %d %v", n, err)
		}
	})
}

func TestEntriesAreForgottenAfterADay(t *testing.T) {
	dbtest.EachConfig(t, func(t *testing.T, c database.Config) {
		var ahead atomic.Int64
		c.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		db := dbtest.Open(t, c)
		s := newService(db)
		write := func(n int) {
			t.Helper()
			if taken, err := s.Append(t.Context(), "exec_1", entries(n, "x")); err != nil || taken != n {
				t.Fatalf("%d %v", taken, err)
			}
		}
		left := func() int {
			t.Helper()
			if err := s.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			n, _, err := s.Count(t.Context(), "exec_1")
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		write(agentlog.MaxEntries)
		ahead.Store(int64(23 * time.Hour))
		if n := left(); n != agentlog.MaxEntries {
			t.Fatalf("%d are left within the day", n)
		}
		ahead.Store(int64(25 * time.Hour))
		if n := left(); n != 0 {
			t.Fatalf("%d are left after it", n)
		}
		write(agentlog.MaxEntries) // there is room again, for as many
		ahead.Store(int64(60 * time.Hour))
		if n := left(); n != 0 {
			t.Fatalf("%d are left", n)
		}
		var books int
		if err := db.QueryRow(t.Context(), "SELECT count(*) FROM execution_log_books", nil, &books); err != nil || books != 0 {
			t.Errorf("%d books are left (%v)", books, err)
		}
	})
}
