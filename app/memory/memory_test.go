package memory_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/memory"
)

var everywhere = memory.Scope{Kind: memory.Global, ID: memory.Global} //nolint:gochecknoglobals // a constant

// together runs f many times at once and counts how often it succeeds; other errors than a conflict fail the test.
func together(t *testing.T, n int, f func(i int) error) int64 {
	t.Helper()
	var all sync.WaitGroup
	var won atomic.Int64
	for i := range n {
		all.Go(func() {
			switch err := f(i); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, memory.ErrConflict):
				t.Error(err)
			}
		})
	}
	all.Wait()
	return won.Load()
}

func TestOfManyWhoSawTheSameVersionOneWrites(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &memory.Service{DB: db}
		set := func(expected int64) func(int) error {
			return func(i int) error {
				_, err := s.Set(t.Context(), everywhere, "leader", strconv.Itoa(i), "", expected)
				return err
			}
		}
		for version := range int64(3) {
			if won := together(t, 8, set(version)); won != 1 {
				t.Errorf("%d have written over version %d", won, version)
			}
		}
		m, err := s.Get(t.Context(), everywhere, "leader")
		if err != nil || m.Version != 3 {
			t.Errorf("the version is %d, %v", m.Version, err)
		}
		if won := together(t, 8, func(int) error { return s.Delete(t.Context(), everywhere, "leader", 2) }); won != 0 {
			t.Errorf("%d have deleted a version that is gone", won)
		}
		if won := together(t, 8, set(memory.Any)); won != 8 {
			t.Errorf("%d of 8 who do not care have written", won)
		}
	})
}

func TestAKeyIsFoundInTheNarrowestScope(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &memory.Service{DB: db}
		scopes := []memory.Scope{{Kind: memory.Workflow, ID: "w"}, {Kind: memory.Session, ID: "s"}, everywhere}
		if _, err := s.Find(t.Context(), scopes, "k"); !errors.Is(err, memory.ErrNotFound) {
			t.Errorf("nothing is found with %v", err)
		}
		for _, scope := range []memory.Scope{everywhere, scopes[1], scopes[0]} {
			if _, err := s.Set(t.Context(), scope, "k", strconv.Quote(scope.Kind), "", memory.Any); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Find(t.Context(), scopes, "k"); err != nil || m.Scope != scope.Kind || m.Data != strconv.Quote(scope.Kind) {
				t.Errorf("found %s in %s, %v", m.Data, m.Scope, err)
			}
		}
	})
}

func TestAKeyIsOneLineOfBoundedText(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &memory.Service{DB: db}
		for _, key := range []string{"", "a\nb", "a\x00", "\xff", string(make([]byte, 1025))} {
			if _, err := s.Set(t.Context(), everywhere, key, "1", "", memory.Any); !errors.Is(err, memory.ErrBadKey) {
				t.Errorf("%q is stored: %v", key, err)
			}
		}
	})
}
