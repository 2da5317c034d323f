package conformance

import (
	"net/http"
	"strings"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
)

// misbehaves calls a function and checks how its end is told: the HTTP status, the word and the category.
func (t *Trial) misbehaves(c client.Call, status int, word, category string) client.Answer {
	answer := t.Execute(c)
	if answer.Status != status {
		t.Failf("%s: expected %d, got %s", c.Target, status, answer)
	}
	t.Is(answer, "error_category", category)
	id := answer.Text("execution_id")
	row := t.Get(id)
	t.Is(row, "status", word)
	t.Has(row, "error", "completed_at")
	return answer
}

func within(c client.Call, seconds int) client.Call {
	c.Fields = fields{"timeout_seconds": seconds}
	return c
}

func agentHangs(t *Trial) {
	a := t.Agent()
	answer := t.misbehaves(within(call(a, "hang", fields{}), 1), http.StatusGatewayTimeout, "timeout", "agent_timeout")
	t.True(answer.Took < 1600*time.Millisecond, "an answer after 1 s, it took %s", answer.Took)
}

func agentDrips(t *Trial) {
	a := t.Agent()
	answer := t.misbehaves(within(call(a, "drip", fields{}), 1), http.StatusGatewayTimeout, "timeout", "agent_timeout")
	t.True(answer.Took < 1600*time.Millisecond, "an answer after 1 s, it took %s", answer.Took)
}

func agentFloods(t *Trial) {
	s := t.Own()
	a := t.Agent()
	before, err := s.RSS()
	t.Must(err)
	t.Together(3, func(int) {
		t.misbehaves(call(a, "huge", fields{"megabytes": 100}), http.StatusOK, "failed", "bad_response")
	})
	peak, err := s.PeakRSS()
	t.Must(err)
	t.True(peak < before+250e6, "memory bounded under 3 × 100 MB, it rose from %.0f to %.0f MB", float64(before)/1e6, float64(peak)/1e6)
	t.Notef("peak %.0f MB", float64(peak)/1e6)
}

func agentSendsNonsense(t *Trial) {
	a := t.Agent()
	t.misbehaves(call(a, "broken_json", fields{}), http.StatusOK, "failed", "bad_response")
	words := t.Execute(call(a, "text", fields{}))
	t.Status(words, http.StatusOK)
	t.Is(words, "result", "plain words")
}

func agentRedirects(t *Trial) {
	a := t.Agent()
	answer := t.Execute(call(a, "redirect", fields{}))
	t.Status(answer, http.StatusOK)
	t.Is(answer, "status", "failed")
	for _, arrival := range a.Arrivals(answer.Text("execution_id")) {
		t.True(arrival.Function == "redirect", "the redirect not to be followed, but %s was called", arrival.Function)
	}
}

func agentSlams(t *Trial) {
	a := t.Agent()
	answer := t.Execute(call(a, "slam", fields{}))
	t.True(answer.Status == http.StatusOK || answer.Status == http.StatusBadGateway, "200 or 502, got %s", answer)
	t.Is(t.Get(answer.Text("execution_id")), "status", "failed")
	t.Has(answer, "error")
}

func agentIsGone(t *Trial) {
	a := t.Agent()
	a.Close()
	answer := t.misbehaves(call(a, "echo", fields{}), http.StatusBadGateway, "failed", "agent_unreachable")
	t.Is(answer, "code", "agent_unreachable")
}

func agentErrorTextIsShort(t *Trial) {
	a := t.Agent()
	answer := t.Execute(call(a, "fail", fields{"status": 422, "message": strings.Repeat("long ", 2000)}))
	t.Is(answer, "status", "failed")
	text := answer.Text("error")
	t.True(text != "" && len(text) < 1200, "about 1,024 bytes of error text at most, got %d: %.60q", len(text), text)
	t.Has(answer, "error_details.error")
}

func agentHTTPErrors(t *Trial) {
	a := t.Agent()
	for _, status := range []int{400, 404, 422, 429, 499, 500, 503} {
		answer := t.Execute(call(a, "fail", fields{"status": status}))
		t.Status(answer, http.StatusOK)
		t.Is(answer, "status", "failed")
		t.Is(answer, "error_category", "agent_error")
	}
}
