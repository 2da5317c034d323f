package models_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/models"
)

func TestTerminalStatusesAreFinal(t *testing.T) {
	var terminal []models.Status
	for _, s := range models.Statuses {
		if !s.Terminal() {
			continue
		}
		terminal = append(terminal, s)
		for _, next := range models.Statuses {
			if s.CanBecome(next) {
				t.Errorf("%s may become %s, but is final", s, next)
			}
		}
	}
	if want := []models.Status{models.Succeeded, models.Failed, models.Timeout, models.Cancelled}; !slices.Equal(terminal, want) {
		t.Errorf("final statuses are %v, want %v", terminal, want)
	}
}

func TestEveryOpenExecutionCanEndInEveryUnhappyWay(t *testing.T) {
	for _, s := range models.Statuses {
		for _, end := range []models.Status{models.Failed, models.Timeout, models.Cancelled} {
			if !s.Terminal() && !s.CanBecome(end) {
				t.Errorf("%s cannot become %s", s, end)
			}
		}
	}
}

func TestOnlyRunningWorkSucceedsOrWaits(t *testing.T) {
	for _, next := range []models.Status{models.Succeeded, models.Waiting} {
		if from := next.Before(); !slices.Equal(from, []models.Status{models.Running}) {
			t.Errorf("%s follows %v, want running alone", next, from)
		}
	}
}

func TestNothingStaysAsItIsByAMove(t *testing.T) {
	for _, s := range models.Statuses {
		if s.CanBecome(s) {
			t.Errorf("%s may become itself: a repeated report would be recorded as a change", s)
		}
	}
}

func TestBeforeIsCanBecomeReadBackwards(t *testing.T) {
	for _, next := range models.Statuses {
		for _, s := range models.Statuses {
			if slices.Contains(next.Before(), s) != s.CanBecome(next) {
				t.Errorf("%s → %s: Before and CanBecome disagree", s, next)
			}
		}
	}
}

func TestReportedWords(t *testing.T) {
	for word, want := range map[string]models.Status{
		"completed": models.Succeeded, "SUCCESS": models.Succeeded, " done ": models.Succeeded, "ok": models.Succeeded, "succeeded": models.Succeeded,
		"error": models.Failed, "Failure": models.Failed, "failed": models.Failed,
		"canceled": models.Cancelled, "cancelled": models.Cancelled, "timed_out": models.Timeout, "timeout": models.Timeout,
		"wait": models.Queued, "awaiting_approval": models.Waiting, "in_progress": models.Running, "on_hold": models.Paused,
	} {
		if got, ok := models.ReportedStatus(word); !ok || got != want {
			t.Errorf("%q is read as %q, %t, want %q", word, got, ok, want)
		}
	}
	for _, word := range []string{"", "unknown", "finished?", "suc ceeded"} {
		if got, ok := models.ReportedStatus(word); ok {
			t.Errorf("%q is read as %q", word, got)
		}
	}
}

func TestFiltersTakeCanonicalWordsOnly(t *testing.T) {
	for _, s := range models.Statuses {
		if got, ok := models.ParseStatus(strings.ToUpper(string(s))); !ok || got != s {
			t.Errorf("%s is not read back: %q, %t", s, got, ok)
		}
	}
	if got, ok := models.ParseStatus("completed"); !ok || got != models.Succeeded {
		t.Errorf("completed is read as %q, %t", got, ok)
	}
	if got, ok := models.ParseStatus("done"); ok {
		t.Errorf("done is taken as a filter: %q", got)
	}
}

// TestTheDiagramIsTheTable holds docs/state-machine.md to the table, arrow by arrow.
func TestTheDiagramIsTheTable(t *testing.T) {
	page, err := os.ReadFile("../docs/state-machine.md")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[[2]models.Status]bool{}
	ends := map[models.Status]bool{}
	for _, arrow := range regexp.MustCompile(`(?m)^\s+(\w+) --> (\w+|\[\*\])`).FindAllStringSubmatch(string(page), -1) {
		if arrow[2] == "[*]" {
			ends[models.Status(arrow[1])] = true
			continue
		}
		drawn[[2]models.Status{models.Status(arrow[1]), models.Status(arrow[2])}] = true
	}
	for _, from := range models.Statuses {
		for _, to := range models.Statuses {
			if move := [2]models.Status{from, to}; from.CanBecome(to) != drawn[move] {
				t.Errorf("%s → %s: allowed %t, drawn %t", from, to, from.CanBecome(to), drawn[move])
			}
			delete(drawn, [2]models.Status{from, to})
		}
		if ends[from] != from.Terminal() {
			t.Errorf("%s: final %t, drawn as final %t", from, from.Terminal(), ends[from])
		}
		if !strings.Contains(string(page), "| `"+string(from)+"` |") {
			t.Errorf("%s is not explained", from)
		}
	}
	for move := range drawn {
		t.Errorf("%s → %s is drawn, but these are no statuses", move[0], move[1])
	}
}
