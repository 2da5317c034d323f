package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	var hundred report.Durations
	for i := 100; i >= 1; i-- {
		hundred = append(hundred, time.Duration(i)*time.Millisecond)
	}
	for _, c := range []struct {
		samples report.Durations
		p       float64
		want    time.Duration
	}{
		{nil, 50, 0},
		{report.Durations{7}, 50, 7},
		{report.Durations{7}, 99, 7},
		{report.Durations{3, 1, 2}, 50, 2},
		{report.Durations{4, 3, 1, 2}, 50, 2},
		{hundred, 50, 50 * time.Millisecond},
		{hundred, 99, 99 * time.Millisecond},
		{hundred, 99.5, 100 * time.Millisecond},
		{hundred, 0, time.Millisecond},
	} {
		if got := c.samples.Percentile(c.p); got != c.want {
			t.Errorf("p%v of %d samples: got %v, want %v", c.p, len(c.samples), got, c.want)
		}
	}
	if hundred[0] != 100*time.Millisecond {
		t.Error("Percentile must not reorder the samples it was given")
	}
}

func TestTableAlignsByRunesAndSpansSections(t *testing.T) {
	table := report.NewTable("id", "title", "state")
	table.Section("first")
	table.Add("S1", "näh", "ok")
	table.Add("S10", "a", "FAILED")
	var out strings.Builder
	if err := table.Write(&out); err != nil {
		t.Fatal(err)
	}
	want := "id   title  state\n---  -----  ------\n\nfirst\nS1   näh    ok\nS10  a      FAILED\n"
	if out.String() != want {
		t.Errorf("got\n%q\nwant\n%q", out.String(), want)
	}
}

func TestFiguresAreReadable(t *testing.T) {
	for got, want := range map[string]string{
		report.Ms(1234567 * time.Nanosecond): "1.23",
		report.Ms(12 * time.Millisecond):     "12.0",
		report.Ms(1500 * time.Millisecond):   "1500",
		report.Rate(12345.6):                 "12,346/s",
		report.Rate(9.75):                    "9.8/s",
		report.Count(1234567):                "1,234,567",
		report.Count(12):                     "12",
		report.MB(39_940_000):                "39.9 MB",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
