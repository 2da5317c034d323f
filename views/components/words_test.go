package components_test

import (
	"testing"
	"time"

	"github.com/agentfield/agentfield/models"
	"github.com/agentfield/agentfield/views/components"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                         "0 ms",
		743 * time.Millisecond:               "743 ms",
		5870 * time.Millisecond:              "5.8 s",
		42 * time.Second:                     "42 s",
		4*time.Minute + 12*time.Second:       "4 min 12 s",
		4 * time.Minute:                      "4 min",
		3*time.Hour + 12*time.Minute:         "3 h 12 min",
		51*time.Hour + 30*time.Minute:        "2 d 3 h",
		9*time.Second + 999*time.Millisecond: "9.9 s",
	} {
		if got := components.Span(d); got != want {
			t.Errorf("Span(%d ms) = %q, want %q", d.Milliseconds(), got, want)
		}
	}
}

func TestNumbersAndIds(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1204: "1,204", 1234567: "1,234,567", -1204: "-1,204"} {
		if got := components.Number(n); got != want {
			t.Errorf("Number(%d) = %q, want %q", n, got, want)
		}
	}
	for id, want := range map[string]string{
		"exec_01jd9k3m2p7q0v5x8y1z4w6t2r": "exec_…1z4w6t2r",
		"exec_abc123":                     "exec_abc123",
		"a-caller-chose-this-long-name":   "…ong-name",
	} {
		if got := components.ShortID(id); got != want {
			t.Errorf("ShortID(%q) = %q, want %q", id, got, want)
		}
	}
}

func TestNoTwoStatusesLookAlike(t *testing.T) {
	seen := map[string]models.Status{}
	for _, s := range models.Statuses {
		look := components.LookOf(s)
		for _, mark := range []string{look.Icon, look.Label} {
			if other, taken := seen[mark]; taken {
				t.Errorf("%s and %s share %q", s, other, mark)
			}
			seen[mark] = s
		}
		if look.Label == string(s) {
			t.Errorf("%s has no label", s)
		}
	}
}

func TestCurlIsOneCommandOfTheShell(t *testing.T) {
	got := components.Command{Method: "POST", URL: "http://h/p?a=1&b=2", Headers: []string{"X-A: it's"}, Body: `{"a":"$(rm)"}`}.Curl()
	want := "curl -X POST 'http://h/p?a=1&b=2' \\\n  -H 'Content-Type: application/json' \\\n  -H 'X-A: it'\\''s' \\\n  -d '{\"a\":\"$(rm)\"}'"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
