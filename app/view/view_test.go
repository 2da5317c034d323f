package view_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/view"
)

func TestViewsBelongToOneOwnerAndOneListAndOpenForAll(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &view.Service{DB: db}
		save := func(owner, list, name, query string) string {
			t.Helper()
			id, err := s.Save(t.Context(), owner, list, name, query)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		slow := save("ann", "executions", "Slow", "q=dur:>10s")
		save("ann", "executions", "Failed", "status=failed")
		save("ann", "approvals", "Slow", "risk=high")
		save("bob", "executions", "Slow", "q=dur:>1h")
		if again := save("ann", "executions", "Slow", "q=dur:>20s"); again != slow {
			t.Errorf("saving again made %s beside %s", again, slow)
		}
		views, err := s.List(t.Context(), "ann", "executions")
		if err != nil || len(views) != 2 || views[0].Name != "Failed" || views[1].Query != "q=dur:>20s" {
			t.Errorf("ann has %+v, %v", views, err)
		}
		if shared, err := s.Get(t.Context(), "executions", slow); err != nil || shared.Owner != "ann" || shared.Query != "q=dur:>20s" {
			t.Errorf("the shared view is %+v, %v", shared, err)
		}
		if _, err := s.Get(t.Context(), "approvals", slow); !errors.Is(err, view.ErrNotFound) {
			t.Errorf("as a view of another list it is %v", err)
		}
		if err := errors.Join(s.Delete(t.Context(), "bob", slow)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "executions", slow); err != nil {
			t.Errorf("bob deleted what is ann's: %v", err)
		}
		if err := s.Delete(t.Context(), "ann", slow); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "executions", slow); !errors.Is(err, view.ErrNotFound) {
			t.Errorf("after its owner deleted it: %v", err)
		}
	})
}

func TestViewsAreBounded(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		s := &view.Service{DB: db}
		for name, c := range map[string]struct {
			name, query string
			want        error
		}{
			"no name": {"", "", view.ErrBadName}, "a long name": {strings.Repeat("n", 101), "", view.ErrBadName}, "a long filter": {"n", strings.Repeat("q", 9<<10), view.ErrTooLong},
		} {
			if _, err := s.Save(t.Context(), "ann", "executions", c.name, c.query); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		var err error
		for i := range 51 {
			_, err = s.Save(t.Context(), "ann", "executions", fmt.Sprint("view ", i), "")
		}
		if !errors.Is(err, view.ErrTooMany) {
			t.Errorf("the 51st: %v", err)
		}
		if _, err := s.Save(t.Context(), "ann", "executions", "view 7", "status=failed"); err != nil {
			t.Errorf("one of the 50 cannot be changed: %v", err)
		}
	})
}
