package components_test

import (
	"strings"
	"testing"

	"github.com/agentfield/agentfield/views/components"
)

func TestTimesAreWrittenInTheChosenZone(t *testing.T) {
	t.Parallel()
	const noon = 1_769_860_800_000 // 2026-01-31 12:00 UTC
	for name, want := range map[string][]string{
		"utc":              {">12:00:00<", `title="2026-01-31 12:00:00 UTC"`},
		"local":            {">12:00:00<", `title="2026-01-31 12:00:00 UTC"`},
		"Europe/Berlin":    {">13:00:00<", `title="2026-01-31 12:00:00 UTC · 2026-01-31 13:00:00 Europe/Berlin"`},
		"Pacific/Auckland": {">01:00:00<", "2026-02-01 01:00:00 Pacific/Auckland"},
	} {
		ctx, ok := components.WithZone(t.Context(), name)
		var b strings.Builder
		if err := components.Clock(noon).Render(ctx, &b); err != nil || !ok {
			t.Fatal(ok, err)
		}
		for _, part := range want {
			if !strings.Contains(b.String(), part) {
				t.Errorf("%s: %s does not hold %s", name, b.String(), part)
			}
		}
	}
	for _, wrong := range []string{"", "Europe/Nowhere", "../etc/passwd", "Berlin", "\x00/"} {
		if _, ok := components.WithZone(t.Context(), wrong); ok {
			t.Errorf("%q is a zone", wrong)
		}
	}
}
