package conformance

import (
	"slices"
	"strconv"
	"testing"
)

func TestSelectReadsRangesAndIds(t *testing.T) {
	chosen, err := Select("S1-S3, S10,I4")
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"S1": true, "S2": true, "S3": true, "S4": false, "S10": true, "I4": true, "I1": false} {
		if chosen(id) != want {
			t.Errorf("%s: chosen %v, want %v", id, chosen(id), want)
		}
	}
	for _, bad := range []string{"S3-S1", "S1-I2", "1-2", "S-S2"} {
		if _, err := Select(bad); err == nil {
			t.Errorf("Select(%q) must be refused", bad)
		}
	}
	everything, err := Select("")
	if err != nil || !everything("S161") {
		t.Error("an empty list names every row")
	}
}

func TestCatalogueHasEveryRowOnce(t *testing.T) {
	var ids []string
	for _, section := range Catalogue() {
		for _, r := range section.Rows {
			ids = append(ids, r.ID)
			if states := (r.Check != nil) || (r.By != nil) || (r.Why != ""); !states || r.Title == "" {
				t.Errorf("%s has neither a check nor a reason for having none, or no title", r.ID)
			}
		}
	}
	for n := 1; n <= 161; n++ {
		if !slices.Contains(ids, "S"+strconv.Itoa(n)) {
			t.Errorf("S%d is missing", n)
		}
	}
	for n := 1; n <= 8; n++ {
		if !slices.Contains(ids, "D"+strconv.Itoa(n)) {
			t.Errorf("D%d is missing", n)
		}
	}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			t.Errorf("%s is there twice", id)
		}
	}
	for _, section := range Catalogue() {
		for _, r := range section.Rows {
			for _, source := range r.By {
				if !slices.Contains(ids, source) {
					t.Errorf("%s is shown by %s, which does not exist", r.ID, source)
				}
			}
		}
	}
}

func TestWantedRowBringsTheRowsThatShowIt(t *testing.T) {
	wanted := withSources(func(id string) bool { return id == "S76" })
	for id, want := range map[string]bool{"S76": true, "S11": true, "S13": true, "S12": false} {
		if wanted(id) != want {
			t.Errorf("%s: wanted %v, want %v", id, wanted(id), want)
		}
	}
}

func TestSharedOutcomeIsTheWorst(t *testing.T) {
	byID := map[string]*result{"A1": {state: passed}, "A2": {state: failed}, "A3": {state: skipped, detail: "needs PostgreSQL"}}
	for _, c := range []struct {
		by   []string
		want string
	}{
		{[]string{"A1"}, passed}, {[]string{"A1", "A2"}, failed}, {[]string{"A1", "A3"}, skipped}, {[]string{"A3", "A2"}, failed},
	} {
		r := &result{row: Row{By: c.by}}
		if r.copyFrom(byID); r.state != c.want {
			t.Errorf("shown by %v: got %s, want %s", c.by, r.state, c.want)
		}
	}
}

func TestTrialTellsBrokenChecksFromFailedOnes(t *testing.T) {
	for name, c := range map[string]struct {
		check func(*Trial)
		want  string
	}{
		"passes":         {func(*Trial) {}, passed},
		"fails":          {func(tr *Trial) { tr.True(false, "the impossible") }, failed},
		"ends early":     {func(tr *Trial) { tr.Fatalf("no"); tr.Skipf("unreachable") }, failed},
		"cannot be seen": {func(tr *Trial) { tr.Skipf("needs Node") }, skipped},
		"breaks":         {func(*Trial) { panic("index out of range") }, failed},
		"breaks beside":  {func(tr *Trial) { tr.Together(3, func(i int) { tr.True(i != 1, "no second one") }) }, failed},
	} {
		undone := false
		tr := &Trial{ctx: t.Context()}
		tr.atEnd(func() { undone = true })
		tr.run(c.check)
		if got, _ := tr.verdict(); got != c.want || !undone {
			t.Errorf("%s: got %s (undone: %v), want %s", name, got, undone, c.want)
		}
	}
}
