package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/models"
)

func entry(n int) audit.Entry {
	return audit.Entry{
		Origin: audit.Origin{Actor: "user:alice", ActorKind: "user", Channel: audit.UI, IP: "192.0.2.1", RequestID: fmt.Sprintf("req_%d", n)},
		At:     int64(1_700_000_000_000 + n), Action: "user.created", ObjectKind: "user", Object: fmt.Sprintf("user:%d", n),
		Before: nil, After: map[string]any{"n": n, "html": "<b>&"}, Reason: "because",
	}
}

func add(t *testing.T, db *database.DB, entries ...audit.Entry) {
	t.Helper()
	if err := db.Tx(t.Context(), func(tx *database.Tx) error { return audit.Append(t.Context(), tx, entries...) }); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, db *database.DB, anchors ...audit.Anchor) audit.Report {
	t.Helper()
	report, err := audit.Verify(t.Context(), db, anchors...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestAChainOfManyWritersHasNoForksAndNoGaps(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		if r := verify(t, db); !r.OK() || r.Entries != 0 {
			t.Fatalf("an empty log: %+v", r)
		}
		var wg sync.WaitGroup
		errs := make(chan error, 20)
		for i := range 20 {
			wg.Go(func() {
				errs <- db.Tx(context.WithoutCancel(t.Context()), func(tx *database.Tx) error {
					return audit.Append(t.Context(), tx, entry(3*i), entry(3*i+1), entry(3*i+2))
				})
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
		if r := verify(t, db); !r.OK() || r.Entries != 60 || r.Head.ID != 60 {
			t.Fatalf("60 entries: %+v", r)
		}
	})
}

func TestAnActThatIsRolledBackLeavesNoEntry(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		add(t, db, entry(1))
		failed := errors.New("the act failed")
		err := db.Tx(t.Context(), func(tx *database.Tx) error {
			if err := audit.Append(t.Context(), tx, entry(2)); err != nil {
				return err
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Fatal(err)
		}
		add(t, db, entry(3))
		if r := verify(t, db); !r.OK() || r.Entries != 2 {
			t.Fatalf("%+v", r)
		}
	})
}

func TestNobodyEditsOrDeletesThroughTheDatabase(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		add(t, db, entry(1))
		for _, statement := range []string{"UPDATE audit_log SET reason = 'other'", "DELETE FROM audit_log"} {
			err := db.Tx(t.Context(), func(tx *database.Tx) error { _, err := tx.Exec(t.Context(), statement); return err })
			if err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: %v", statement, err)
			}
		}
	})
}

func TestVerifyFindsWhatWasChangedBehindItsBack(t *testing.T) {
	// What somebody with all rights on the database may do.
	for name, c := range map[string]struct {
		statement string
		bad       int64
	}{
		"edited":           {"UPDATE audit_log SET reason = 'other' WHERE id = 3", 3},
		"edited time":      {"UPDATE audit_log SET at = at + 1 WHERE id = 1", 1},
		"moved text":       {"UPDATE audit_log SET actor = actor || actor_kind, actor_kind = '' WHERE id = 2", 2},
		"deleted":          {"DELETE FROM audit_log WHERE id = 2", 2},
		"first deleted":    {"DELETE FROM audit_log WHERE id = 1", 1},
		"newest deleted":   {"DELETE FROM audit_log WHERE id = 5", 5},
		"all deleted":      {"DELETE FROM audit_log", 1},
		"renumbered":       {"UPDATE audit_log SET id = 9 WHERE id = 5", 5},
		"hash exchanged":   {"UPDATE audit_log SET hash = prev_hash WHERE id = 4", 4},
		"head turned back": {"UPDATE audit_head SET seq = 4", 4},
	} {
		t.Run(name, func(t *testing.T) {
			dbtest.Each(t, func(t *testing.T, db *database.DB) {
				add(t, db, entry(1), entry(2), entry(3), entry(4), entry(5))
				unguarded(t, db, c.statement)
				if r := verify(t, db); r.OK() || r.BadID != c.bad || r.Problem == "" {
					t.Errorf("%+v, want the entry %d", r, c.bad)
				}
			})
		})
	}
}

func TestAnAnchorFindsARewrittenLog(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		add(t, db, entry(1), entry(2), entry(3))
		anchor, err := audit.ParseAnchor(verify(t, db).Head.String())
		if err != nil {
			t.Fatal(err)
		}
		add(t, db, entry(4))
		if r := verify(t, db, anchor); !r.OK() {
			t.Fatalf("an untouched log: %+v", r)
		}
		unguarded(t, db, "DELETE FROM audit_log WHERE id >= 3")
		unguarded(t, db, "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_log WHERE id = 2)")
		if r := verify(t, db); !r.OK() {
			t.Fatalf("without an anchor a log that was cut with care looks whole: %+v", r)
		}
		if r := verify(t, db, anchor); r.BadID != 3 {
			t.Errorf("cut: %+v", r)
		}
		add(t, db, entry(30), entry(40))
		if r := verify(t, db, anchor); r.BadID != 3 {
			t.Errorf("rewritten: %+v", r)
		}
	})
}

func TestAnchorsAreRead(t *testing.T) {
	for _, s := range []string{"", "1", "x:00", "1:zz", "1:00", "0:" + strings.Repeat("00", 32), "-1:" + strings.Repeat("00", 32)} {
		if a, err := audit.ParseAnchor(s); !errors.Is(err, audit.ErrBadAnchor) {
			t.Errorf("%q is read as %v, %v", s, a, err)
		}
	}
}

// TestTheHashIsThatOfTheDocumentedBytes computes it a second time, as an auditor would from an export.
func TestTheHashIsThatOfTheDocumentedBytes(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		add(t, db, entry(1), entry(2))
		out := export(t, db, audit.NDJSON, audit.Filter{})
		prev := ""
		for line := range strings.Lines(out) {
			var r audit.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			prevHash, _ := hex.DecodeString(r.PrevHash)
			sum := []byte("agentfield audit entry v1")
			for _, part := range []string{
				fmt.Sprint(r.ID), fmt.Sprint(r.AtMs), r.Actor, r.ActorKind, r.Channel, r.Action, r.Object, r.ObjectKind, string(r.Before), string(r.After),
				r.Reason, r.IP, r.RequestID, string(prevHash),
			} {
				sum = binary.BigEndian.AppendUint64(sum, uint64(len(part)))
				sum = append(sum, part...)
			}
			if want := fmt.Sprintf("%x", sha256.Sum256(sum)); r.Hash != want || r.PrevHash != prev {
				t.Errorf("entry %d: hash %s after %s, want %s after %s", r.ID, r.Hash, r.PrevHash, want, prev)
			}
			prev = r.Hash
		}
	})
}

func TestWhatDoesNotFitIsBoundedAndNeverStopsTheAct(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		e := entry(1)
		e.Reason = "a\x00b\xff" + strings.Repeat("ü", 5000)
		e.After = strings.Repeat("x", 20_000)
		add(t, db, e)
		list, more, err := audit.NewReader(db).List(t.Context(), audit.Filter{}, 0, 10)
		if err != nil || more || len(list) != 1 {
			t.Fatal(list, more, err)
		}
		if got := list[0]; len(got.Reason) > 4200 || !strings.HasPrefix(got.Reason, "ab\uFFFDü") || !strings.HasPrefix(got.After, `{"omitted_bytes":20002,"sha256":"`) {
			t.Errorf("kept as %.20q… (%d bytes) and %s", got.Reason, len(got.Reason), got.After)
		}
		if r := verify(t, db); !r.OK() {
			t.Errorf("%+v", r)
		}
		err = db.Tx(t.Context(), func(tx *database.Tx) error { return audit.Append(t.Context(), tx, audit.Entry{Action: "x"}) })
		if !errors.Is(err, audit.ErrNoTime) {
			t.Errorf("an entry without a time: %v", err)
		}
	})
}

func TestListsAreFilteredAndPaged(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		for i := 1; i <= 9; i++ {
			e := entry(i)
			if i%3 == 0 {
				e.Actor, e.Channel, e.Action = "key:k1", audit.API, "key.revoked"
			}
			add(t, db, e)
		}
		r := audit.NewReader(db)
		for name, c := range map[string]struct {
			filter audit.Filter
			want   string
		}{
			"all":          {audit.Filter{}, "987654321"},
			"actor":        {audit.Filter{Actor: "key:k1"}, "963"},
			"action":       {audit.Filter{Action: "user.created"}, "875421"},
			"noun":         {audit.Filter{Action: "key"}, "963"},
			"wildcards":    {audit.Filter{Action: "k_y"}, ""},
			"object":       {audit.Filter{Object: "user:4"}, "4"},
			"channel":      {audit.Filter{Channel: audit.API}, "963"},
			"since, until": {audit.Filter{Since: 1_700_000_000_003, Until: 1_700_000_000_005}, "43"},
		} {
			if got := ids(t, r, c.filter, 4); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	})
}

// ids lists in pages of a size.
func ids(t *testing.T, r *audit.Reader, f audit.Filter, size int) string {
	t.Helper()
	var all strings.Builder
	for before, more := int64(0), true; more; {
		var entries []models.AuditEntry
		var err error
		if entries, more, err = r.List(t.Context(), f, before, size); err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			fmt.Fprint(&all, entries[i].ID)
			before = entries[i].ID
		}
	}
	return all.String()
}

func TestCSVCannotRunInASpreadsheet(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		e := entry(1)
		e.Reason, e.Object = "=HYPERLINK(\"x\")", "+1"
		add(t, db, e)
		rows, err := csv.NewReader(strings.NewReader(export(t, db, audit.CSV, audit.Filter{}))).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Fatal(rows, err)
		}
		if rows[1][10] != "'=HYPERLINK(\"x\")" || rows[1][6] != "'+1" || rows[0][14] != "hash" {
			t.Errorf("%q", rows)
		}
		if _, err := audit.NewReader(db).Export(t.Context(), "xml", audit.Filter{}); !errors.Is(err, audit.ErrFormat) {
			t.Errorf("xml: %v", err)
		}
	})
}

func TestAnExportIsAsLongAsTheLog(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		var entries []audit.Entry
		for i := range 1203 {
			e := entry(i)
			if i%2 == 0 {
				e.Actor = "user:bob"
			}
			entries = append(entries, e)
		}
		add(t, db, entries...)
		if r := verify(t, db); !r.OK() || r.Entries != 1203 {
			t.Errorf("%+v", r)
		}
		if n := strings.Count(export(t, db, audit.NDJSON, audit.Filter{}), "\n"); n != 1203 {
			t.Errorf("%d lines", n)
		}
		if n := strings.Count(export(t, db, audit.CSV, audit.Filter{Actor: "user:bob"}), "\n"); n != 603 {
			t.Errorf("%d lines with the head", n)
		}
	})
}

func export(t *testing.T, db *database.DB, format audit.Format, f audit.Filter) string {
	t.Helper()
	text, err := audit.NewReader(db).Export(t.Context(), format, f)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// unguarded runs a statement as somebody does who may drop the triggers.
func unguarded(t *testing.T, db *database.DB, statement string) {
	t.Helper()
	err := db.Tx(t.Context(), func(tx *database.Tx) error {
		drop := []string{"DROP TRIGGER IF EXISTS audit_log_keep", "DROP TRIGGER IF EXISTS audit_log_keep_all"}
		if tx.Postgres() {
			drop = []string{"DROP TRIGGER IF EXISTS audit_log_keep ON audit_log"}
		}
		for _, s := range append(drop, statement) {
			if _, err := tx.Exec(t.Context(), s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
