package main

import (
	"slices"
	"strings"
	"testing"
)

func TestEnginesFollowWhatIsKnown(t *testing.T) {
	t.Setenv("TEST_PG_DSN", "")
	const url = "postgres://h/db"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{""}},
		{[]string{"--postgres-url", url}, []string{"", url}},
		{[]string{"--postgres-url", url, "--on", "postgres"}, []string{url}},
		{[]string{"--postgres-url", url, "--on", "sqlite"}, []string{""}},
		{[]string{"--on", "both"}, nil},
		{[]string{"--on", "oracle"}, nil},
	} {
		f := flags("test")
		if err := f.parse(c.args); err != nil {
			t.Fatal(err)
		}
		if got, err := f.engines(); !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) {
			t.Errorf("%v: got %q %v, want %q", c.args, got, err, c.want)
		}
	}
}

func TestMistakesOnTheCommandLineAreTold(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"crash", "now"}, {"burst", "--binary", "/no/such/program"}, {"conformance", "--rows", "x-y", "--url", "http://127.0.0.1:1"}} {
		if err := run(t.Context(), args, &strings.Builder{}); err == nil {
			t.Errorf("%v must be refused", args)
		}
	}
	var out strings.Builder
	if err := run(t.Context(), nil, &out); err != nil || !strings.Contains(out.String(), "prove conformance") {
		t.Errorf("without a verb the usage is shown, got %v %q", err, out.String())
	}
}
