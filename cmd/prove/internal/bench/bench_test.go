package bench

import (
	"strings"
	"testing"

	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

func TestAnAimIsMetOnlyWhenAllItsPartsAre(t *testing.T) {
	for _, c := range []struct {
		aims   []aim
		want   string
		missed int
	}{
		{nil, "", 0},
		{[]aim{{"a", true}, {"b", true}}, "met", 0},
		{[]aim{{"a", true}, {"b", false}}, "missed", 1},
		{[]aim{{"a", false}, {"b", true}}, "missed", 1},
	} {
		b := &bench{table: report.NewTable("", "", "", "", "", "")}
		b.row("x", "1", "", "", c.aims...)
		var out strings.Builder
		if err := b.table.Write(&out); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; !strings.HasSuffix(last, c.want) || b.missed != c.missed {
			t.Errorf("%v: got %q and %d missed", c.aims, last, b.missed)
		}
	}
}

func TestIdOfFindsTheIdOrNothing(t *testing.T) {
	for answer, want := range map[string]string{
		`{"execution_id":"exec_1","status":"queued"}`: "exec_1", `{"error":"full"}`: "", `{"execution_id":"exec_`: "", ``: "",
	} {
		if got := idOf([]byte(answer)); got != want {
			t.Errorf("%s: got %q, want %q", answer, got, want)
		}
	}
}
