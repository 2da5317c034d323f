package desk_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/desk"
)

func TestADraftLiesOnOneDesk(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		d := desk.New(db, slog.New(slog.DiscardHandler))
		ctx := t.Context()
		save := func(owner, kind, text string) {
			t.Helper()
			if err := d.SaveDraft(ctx, owner, kind, "exec_1", text); err != nil {
				t.Fatal(err)
			}
		}
		read := func(owner, kind string) string {
			t.Helper()
			draft, err := d.Draft(ctx, owner, kind, "exec_1")
			if err != nil {
				t.Fatal(err)
			}
			if draft == nil {
				return ""
			}
			return draft.Text
		}
		save("ada", desk.Rerun, "one")
		save("ada", desk.Rerun, "two")
		save("ben", desk.Rerun, "his")
		if read("ada", desk.Rerun) != "two" || read("ben", desk.Rerun) != "his" || read("ada", "approval") != "" {
			t.Errorf("%q %q %q", read("ada", desk.Rerun), read("ben", desk.Rerun), read("ada", "approval"))
		}
		save("ada", desk.Rerun, "")
		if read("ada", desk.Rerun) != "" || read("ben", desk.Rerun) != "his" {
			t.Error("forgetting a draft went wrong")
		}
		if err := d.SaveDraft(ctx, "ada", desk.Rerun, "exec_1", strings.Repeat("x", 3<<20)); !errors.Is(err, desk.ErrDraftTooLong) {
			t.Errorf("a text without measure: %v", err)
		}
	})
}

func TestWhatHasBeenSeenOnlyGrows(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		d := desk.New(db, slog.New(slog.DiscardHandler))
		see := func(owner string, event int64) int64 {
			t.Helper()
			before, err := d.See(t.Context(), owner, desk.Execution, "exec_1", event)
			if err != nil {
				t.Fatal(err)
			}
			if before == nil {
				return -1
			}
			return before.EventID
		}
		for i, c := range []struct {
			owner         string
			event, before int64
		}{{"ada", 7, -1}, {"ada", 9, 7}, {"ada", 8, 9}, {"ada", 9, 9}, {"ben", 1, -1}} {
			if got := see(c.owner, c.event); got != c.before {
				t.Errorf("step %d: %d was seen before, not %d", i, got, c.before)
			}
		}
	})
}
