package execution_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/agentfield/agentfield/app/database"
	"github.com/agentfield/agentfield/app/database/dbtest"
	"github.com/agentfield/agentfield/app/execution"
)

func TestErrorsThatDifferOnlyInDetailsAreOneGroup(t *testing.T) {
	t.Parallel()
	for _, group := range [][]string{
		{"Timeout after 30 s", "timeout  after 45 s\n", "TIMEOUT after 1.5 s"},
		{`no such file "a.txt"`, `no such file "b and c.txt"`, "no such file \"\""},
		{"dial tcp 10.0.0.1:8080: connection refused", "dial tcp 192.168.7.13:443: connection refused"},
		{"user 'ann' can't log in", "user 'bob' can't log in"},
		{"execution exec_01abcdefgh is gone", "execution exec_99zyxwvuts is gone"},
		{"bad id 6f9619ff-8b86-d011-b42d-00c04fc964ff.", "bad id 0f9619ff-8b86-d011-b42d-00c04fc964fe."},
		{"hash deadbeef differs", "hash 0badcafe differs"},
		{"at line 3, column 4", "at line 30, column 41"},
		{"retry after 2026-01-31T10:00:00Z", "retry after 2025-12-01T09:30:00Z"},
		{"100% of quota used", "97% of quota used"},
		{"long " + strings.Repeat("x ", 400) + "a", "long " + strings.Repeat("x ", 400) + "b"},
	} {
		first := execution.Fingerprint("code", group[0])
		for _, other := range group[1:] {
			if got := execution.Fingerprint("code", other); got != first {
				t.Errorf("%q and %q are two: %q and %q", group[0], other, execution.Normalised(group[0]), execution.Normalised(other))
			}
		}
	}
}

func TestDifferentErrorsAreDifferentGroups(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, message := range []string{
		"connection refused", "connection reset", "no route to host", "Timeout after 30 s", "user 'ann' can't log in", "the decade ended", "", "§", "faceless error",
	} {
		fp := execution.Fingerprint("code", message)
		if other, twice := seen[fp]; twice {
			t.Errorf("%q and %q are one", message, other)
		}
		seen[fp] = message
	}
	if execution.Fingerprint("a", "x") == execution.Fingerprint("b", "x") {
		t.Error("two codes are one")
	}
}

func TestAnyMessageHasAFingerprint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		message := string(rapid.SliceOf(rapid.Byte()).Draw(t, "message"))
		normal := execution.Normalised(message)
		if strings.ContainsAny(normal, "0123456789") || !utf8.ValidString(normal) || strings.Contains(normal, "  ") || execution.Normalised(message) != normal {
			t.Fatalf("%q becomes %q", message, normal)
		}
		if fp := execution.Fingerprint("", message); len(fp) != 13 {
			t.Fatalf("the fingerprint of %q is %s", message, fp)
		}
	})
}

func TestFailuresAreGroupedByErrorAndTarget(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, db *database.DB) {
		n := 0
		r := newRig(t, db, func(w http.ResponseWriter, req *http.Request) {
			n++
			w.WriteHeader(http.StatusBadRequest)
			text := fmt.Sprintf(`{"error":"row %d is locked"}`, n)
			if strings.Contains(req.Header.Get("X-Session-ID"), "other") {
				text = `{"error":"no such table"}`
			}
			_, _ = w.Write([]byte(text))
		})
		begin := db.NowMs()
		ids := map[string][]string{}
		for _, session := range []string{"same", "other", "same", "same"} {
			sub := call(`{}`)
			sub.SessionID = session
			ended := r.finish(t, r.submit(t, sub))
			if ended.Row.ErrorGroup == nil {
				t.Fatalf("%+v has no group", ended.Row)
			}
			ids[*ended.Row.ErrorGroup] = append(ids[*ended.Row.ErrorGroup], ended.Row.ID)
		}
		groups, cut, err := r.FailureGroups(t.Context(), begin, 10)
		if err != nil || cut || len(groups) != 2 {
			t.Fatalf("%+v, %v, %v", groups, cut, err)
		}
		for _, g := range groups {
			if len(ids[g.Group]) != g.Count || g.NodeID != "n" || g.Function != "f" || g.First < begin || g.Last < g.First || g.Message == "" {
				t.Errorf("group %+v holds %v", g, ids[g.Group])
			}
		}
		if groups[0].Count != 3 {
			t.Errorf("the larger is not the first: %+v", groups)
		}
		found := r.search(t, "error:#"+groups[1].Group)
		if want := strings.TrimPrefix(ids[groups[1].Group][0], "exec_"); len(found) != 1 || found[0] != want {
			t.Errorf("the filter finds %v, not %s", found, want)
		}
		if later, _, err := r.FailureGroups(t.Context(), db.NowMs()+1000, 10); err != nil || len(later) != 0 {
			t.Errorf("later than all: %v, %v", later, err)
		}
	})
}
