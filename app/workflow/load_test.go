package workflow_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/workflow"
	"github.com/agentfield/agentfield/models"
)

const (
	happened    = "INSERT INTO events (execution_id, run_id, node_id, kind, attempt, at) VALUES ($1, $2, 'n', 'execution.changed', 1, 0)"
	countInRun  = "UPDATE runs SET total = total + 1 WHERE id = $1"
	changeState = "UPDATE executions SET status = $2 WHERE id = $1"
)

// written is a run on its way that tests change as the server does: the row and its event in one transaction.
type written struct {
	db    *database.DB
	run   string
	steps int
}

func (w *written) exec(t testing.TB, statements func(exec func(query string, args ...any))) {
	t.Helper()
	err := w.db.Tx(context.Background(), func(tx *database.Tx) (err error) {
		statements(func(query string, args ...any) {
			if err == nil {
				_, err = tx.Exec(context.Background(), query, args...)
			}
		})
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func (w *written) id(i int) string { return fmt.Sprintf("exec_%s_%05d", w.run, i) }

// call writes another execution, accepted at a time of its own: not always after the others.
func (w *written) call(t testing.TB, createdAt int64) {
	t.Helper()
	id, parent := w.id(w.steps), w.id(w.steps/3)
	w.exec(t, func(exec func(string, ...any)) {
		exec(insertStep, id, w.run, &parent, "queued", 0, false, createdAt, nil, nil, 0)
		exec(countInRun, w.run)
		exec(happened, id, w.run)
	})
	w.steps++
}

func (w *written) move(t testing.TB, i int, to models.Status) {
	t.Helper()
	w.exec(t, func(exec func(string, ...any)) {
		exec(changeState, w.id(i), string(to))
		exec(happened, w.id(i), w.run)
	})
}

func onItsWay(t testing.TB, db *database.DB, steps int) *written {
	t.Helper()
	w := &written{db: db, run: "run_way"}
	dbtest.Change(t, db, insertRun, w.run, nil, "n", nil, "running", 0, int64(1000), nil)
	dbtest.Change(t, db, "UPDATE runs SET total = 0 WHERE id = $1", w.run)
	for i := range steps {
		w.call(t, int64(1000+i))
	}
	return w
}

func TestAKeptGraphIsAlwaysWhatTheDatabaseHolds(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &workflow.Service{DB: db}
		w := onItsWay(t, db, 30)
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test that can be repeated
		for round := range 200 {
			for range random.IntN(4) {
				if random.IntN(3) == 0 {
					w.call(t, 1000+random.Int64N(500))
				} else {
					w.move(t, random.IntN(w.steps), []models.Status{models.Queued, models.Running, models.Succeeded}[random.IntN(3)])
				}
			}
			if round%50 == 49 { // much of other runs: not worth looking through
				w.exec(t, func(exec func(string, ...any)) {
					for range 1000 {
						exec(happened, "exec_of_others", "run_of_others")
					}
				})
			}
			loaded, err := s.Load(t.Context(), w.run)
			if err != nil {
				t.Fatal(err)
			}
			sameAsStored(t, s, loaded)
		}
	})
}

func sameAsStored(t *testing.T, s *workflow.Service, loaded workflow.Loaded) {
	t.Helper()
	stored, _, err := s.Steps(t.Context(), loaded.Run.ID)
	if err != nil || !reflect.DeepEqual(loaded.Steps, stored) {
		t.Fatalf("kept %d executions, %d are stored: %v", len(loaded.Steps), len(stored), err)
	}
	for i, n := range loaded.Graph.Nodes {
		if n.Step != &loaded.Steps[i] || n.ID != stored[i].ID || n.Parent != nil && n.Parent.ID != *stored[i].ParentID {
			t.Fatalf("the graph does not show what was read: %s", n.ID)
		}
	}
}

func TestWhoReadsAGraphKeepsItWhileItChangesForOthers(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &workflow.Service{DB: db}
		w := onItsWay(t, db, 5)
		before, err := s.Load(t.Context(), w.run)
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for range 20 {
					if _, err := s.Load(context.Background(), w.run); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range 5 {
			w.move(t, i, models.Succeeded)
		}
		readers.Wait()
		after, err := s.Load(t.Context(), w.run)
		if err != nil || after.Graph.Counts[models.Succeeded] != 5 || before.Graph.Counts[models.Queued] != 5 || before.Steps[0].Status != models.Queued {
			t.Errorf("before %v, after %v: %v", before.Graph.Counts, after.Graph.Counts, err)
		}
	})
}

// On PostgreSQL an event may become visible after one with a higher number.
func TestAChangeThatCommitsLateIsNotOverlooked(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		if !db.Postgres() {
			t.Skip("SQLite has one writer")
		}
		s := &workflow.Service{DB: db}
		w := onItsWay(t, db, 40)
		succeeded := func() int {
			t.Helper()
			l, err := s.Load(t.Context(), w.run)
			if err != nil {
				t.Fatal(err)
			}
			return l.Graph.Counts[models.Succeeded]
		}
		succeeded()
		succeeded()
		written, commit, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			w.exec(t, func(exec func(string, ...any)) {
				exec(changeState, w.id(3), "succeeded")
				exec(happened, w.id(3), w.run)
				close(written)
				<-commit
			})
		}()
		<-written
		for i := range 3 {
			w.move(t, 10+i, models.Succeeded)
			if n := succeeded(); n != i+1 {
				t.Errorf("%d have succeeded, want %d", n, i+1)
			}
		}
		close(commit)
		<-done
		if n := succeeded(); n != 4 {
			t.Errorf("%d have succeeded, want 4 with the one that committed last", n)
		}
	})
}
