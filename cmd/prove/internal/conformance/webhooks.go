package conformance

import (
	"net/http"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
)

const secret = "your-webhook-secret-key"

// hooked is a call that announces its end at a hook, as the async guide shows it.
func hooked(c client.Call, h *fake.Hook) client.Call {
	webhook := fields{"url": h.URL, "secret": secret, "headers": fields{"X-Custom-ID": "request-123"}}
	c.Fields = fields{"webhook": webhook}
	return c
}

// announced is a webhook as JSON, to be asked like an answer.
func announced(d fake.Delivery) client.Answer {
	return client.Answer{Request: "webhook", Header: d.Header, Body: d.Body}
}

func customHeaders(t *Trial) {
	a, h := t.Agent(), t.Hook()
	t.Start(hooked(call(a, "echo", fields{"topic": "quantum computing applications"}), h))
	d := t.Deliveries(h, 1)[0]
	t.True(d.Header.Get("X-Custom-ID") == "request-123", "X-Custom-ID: request-123, got %q", d.Header.Get("X-Custom-ID"))
	t.True(d.Header.Get("Content-Type") == "application/json", "Content-Type: application/json, got %q", d.Header.Get("Content-Type"))
}

func webhookIsToldAtSubmit(t *Trial) {
	a, h := t.Agent(), t.Hook()
	good := t.Submit(hooked(call(a, "echo", fields{}), h))
	t.Is(good, "webhook_registered", true)
	t.Has(good, "execution_id", "run_id", "status", "target")
	t.End(good.Text("execution_id"))
	other := t.Agent()
	bad := call(other, "echo", fields{})
	bad.Fields = fields{"webhook": fields{"url": "ftp://x"}}
	t.Refused(t.TrySubmit(bad), http.StatusBadRequest, "webhook_invalid")
	t.Refused(t.Execute(bad), http.StatusBadRequest, "webhook_invalid")
	t.noRows(other.ID)
}

func successIsAnnounced(t *Trial) {
	a, h := t.Agent(), t.Hook()
	id := t.Start(hooked(call(a, "echo", fields{"topic": "x"}), h))
	d := announced(t.Deliveries(h, 1)[0])
	end := t.End(id)
	t.Is(d, "event", "execution.completed")
	t.Is(d, "execution_id", id)
	t.Is(d, "run_id", end.Text("run_id"))
	t.Is(d, "status", "succeeded")
	t.Is(d, "result.topic", "x")
	t.Is(d, "duration_ms", valueOf(end, "duration_ms"))
	t.Is(d, "target", a.Target("echo"))
	t.Is(d, "agent_node_id", a.ID)
	t.Is(d, "reasoner_id", "echo")
	t.Is(d, "retry_count", 0)
	t.Has(d, "workflow_id", "type", "started_at", "completed_at", "timestamp")
}

func signatureFits(t *Trial) {
	a, h := t.Agent(), t.Hook()
	t.Start(hooked(call(a, "echo", fields{"umlaut": "ü<b>"}), h))
	d := t.Deliveries(h, 1)[0]
	signature := d.Header.Get("X-AgentField-Signature")
	t.True(fake.Signed(secret, signature, d.Body), "the documented handler to accept %q", signature)
	changed := append([]byte(nil), d.Body...)
	changed[len(changed)/2] ^= 1
	t.True(!fake.Signed(secret, signature, changed), "the handler to refuse a changed byte")
	for _, name := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"} {
		t.True(d.Header.Get(name) != "", "the Standard Webhooks header %s", name)
	}
}

func toldAtOnceAndOnce(t *Trial) {
	a := t.Agent()
	t.Within(250*time.Millisecond, "after the end", func() time.Duration {
		h := t.Hook()
		id := t.Start(hooked(call(a, "sleep", fields{"ms": 1500}), h))
		d := t.Deliveries(h, 1)[0]
		own := time.Duration(t.End(id).Number("result.own_ms") * float64(time.Millisecond))
		after := d.At.Sub(a.Arrivals(id)[0].At.Add(own)) // by our own clock: the agent's end, not the server's idea of it
		t.True(after > 0, "no delivery before the end, it came %s before", -after)
		t.True(d.Field("event") == "execution.completed", "event execution.completed, got %s", d.Body)
		t.Pause(400 * time.Millisecond)
		t.True(len(h.Deliveries()) == 1, "exactly one delivery, got %d", len(h.Deliveries()))
		return after
	})
}

func failureIsAnnounced(t *Trial) {
	a := t.Agent()
	slow := call(a, "sleep", fields{"ms": 3000})
	for want, c := range map[string]client.Call{"failed": call(a, "fail", fields{"message": "LLM API rate limit exceeded"}), "timeout": slow} {
		h := t.Hook()
		c = hooked(c, h)
		if want == "timeout" {
			c.Fields["timeout_seconds"] = 1
		}
		id := t.Start(c)
		d := announced(t.Deliveries(h, 1)[0])
		t.Is(d, "event", "execution.failed")
		t.Is(d, "execution_id", id)
		t.Is(d, "status", want)
		t.True(d.Text("error") != "" && d.Text("error_message") != "", "error and error_message in %s", d)
		t.instant(d, "timestamp")
	}
}

func attemptsAreShown(t *Trial) {
	a, h := t.Agent(), t.Hook(http.StatusInternalServerError, http.StatusOK)
	id := t.Start(hooked(call(a, "echo", fields{}), h))
	got := t.Deliveries(h, 2)
	t.True(got[0].Header.Get("Webhook-Id") == got[1].Header.Get("Webhook-Id"), "one webhook-id over both attempts")
	answer := t.untilEvents(id, 2)
	t.Is(answer, "webhook_registered", true)
	for i, status := range []int{500, 200} {
		entry := "webhook_events." + string(rune('0'+i))
		t.Is(answer, entry+".attempt", i+1)
		t.Is(answer, entry+".http_status", status)
		t.instant(answer, entry+".timestamp")
	}
}

// untilEvents reads an execution until it shows n webhook attempts.
func (t *Trial) untilEvents(id string, n int) client.Answer {
	for {
		answer := t.Get(id)
		if len(answer.List("webhook_events")) >= n {
			return answer
		}
		t.Pause(30 * time.Millisecond)
	}
}

func fiveAttemptsThenFailed(t *Trial) {
	t.Own(webhookBackoff+"250ms", webhookMaxBackoff+"2s")
	a, h := t.Agent(), t.Hook(http.StatusInternalServerError)
	id := t.Start(hooked(call(a, "echo", fields{}), h))
	got := t.Deliveries(h, 5)
	var gaps []time.Duration
	for i := 1; i < len(got); i++ {
		gaps = append(gaps, got[i].At.Sub(got[i-1].At))
	}
	t.True(gaps[3] > gaps[0] && gaps[3] > 1500*time.Millisecond, "growing gaps, got %v", gaps)
	t.Pause(4 * time.Second) // a sixth would follow after 2 s, jitter and the second that a due delivery may wait
	t.True(len(h.Deliveries()) == 5, "exactly 5 attempts, got %d", len(h.Deliveries()))
	t.untilEvents(id, 5)
	t.Is(t.Get(id), "status", "succeeded")
	t.Notef("gaps %v", rounded(gaps))
}

func rounded(gaps []time.Duration) []time.Duration {
	for i := range gaps {
		gaps[i] = gaps[i].Round(time.Millisecond)
	}
	return gaps
}

func deliverySurvivesAKill(t *Trial) {
	s := t.Own(webhookBackoff + "1500ms")
	a, h := t.Agent(), t.Hook(http.StatusInternalServerError, http.StatusOK)
	id := t.Start(hooked(call(a, "echo", fields{}), h))
	t.Deliveries(h, 1)
	t.Must(s.Kill())
	t.Must(s.Restart(t.ctx))
	got := t.Deliveries(h, 2)
	t.True(got[0].Header.Get("Webhook-Id") == got[1].Header.Get("Webhook-Id"), "one webhook-id over the restart")
	t.True(fake.Signed(secret, got[1].Header.Get("X-AgentField-Signature"), got[1].Body), "a good signature after the restart")
	t.Is(t.End(id), "status", "succeeded")
	redeliverySends(t)
}

func redeliverySends(t *Trial) {
	t.Own(webhookBackoff + "10ms")
	a, h := t.Agent(), t.Hook(http.StatusInternalServerError)
	id := t.Start(hooked(call(a, "echo", fields{}), h))
	t.Deliveries(h, 5)
	t.untilEvents(id, 5)
	h.SetStatuses(http.StatusOK)
	answer := t.Do(http.MethodPost, "/api/v1/executions/"+id+"/webhook/retry", nil)
	t.True(answer.Status < 300, "a redelivery to be taken, got %s", answer)
	got := t.Deliveries(h, 6)
	t.True(got[5].Header.Get("Webhook-Id") == got[0].Header.Get("Webhook-Id"), "the same webhook-id on the redelivery")
}

func webhookWithoutHeaders(t *Trial) {
	a, h := t.Agent(), t.Hook()
	c := call(a, "echo", fields{"topic": "market analysis"})
	c.Fields = fields{"webhook": fields{"url": h.URL, "secret": "your-secret"}}
	t.Is(t.Submit(c), "webhook_registered", true)
	d := t.Deliveries(h, 1)[0]
	t.True(fake.Signed("your-secret", d.Header.Get("X-AgentField-Signature"), d.Body), "a good signature")
	c.Fields = fields{"webhook": fields{"url": h.URL}}
	t.Submit(c)
	bare := t.Deliveries(h, 2)[1]
	t.True(bare.Header.Get("X-AgentField-Signature") == "", "no signature without a secret")
}

func fastOneIsToldFirst(t *Trial) {
	a, h := t.Agent(), t.Hook()
	slow := t.Start(hooked(call(a, "sleep", fields{"ms": 900}), h))
	fast := t.Start(hooked(call(a, "sleep", fields{"ms": 10}), h))
	got := t.Deliveries(h, 2)
	t.True(got[0].Field("execution_id") == fast && got[1].Field("execution_id") == slow, "the fast one's webhook first")
}

func contextIsEchoed(t *Trial) {
	a, h := t.Agent(), t.Hook()
	c := hooked(call(a, "echo", fields{}), h)
	c.Fields["context"] = fields{"order": 7}
	c.Headers = []string{"X-Session-ID", "session_1", "X-Actor-ID", "user_1"}
	t.Start(c)
	d := announced(t.Deliveries(h, 1)[0])
	t.Is(d, "context.order", 7)
	t.Is(d, "session_id", "session_1")
	t.Is(d, "actor_id", "user_1")
}

func redirectsAreNotFollowed(t *Trial) {
	a, h := t.Agent(), t.Hook(http.StatusFound, http.StatusOK)
	id := t.Start(hooked(call(a, "echo", fields{}), h))
	t.Deliveries(h, 2)
	t.Is(t.untilEvents(id, 2), "webhook_events.0.http_status", 302)
}

// webhookForms are registrations that must be refused before anything is stored.
func webhookForms() map[string]any {
	many := fields{}
	for i := range 21 {
		many["X-H"+string(rune('A'+i))] = "v"
	}
	long := string(make512())
	url := "http://127.0.0.1:1/hook"
	return map[string]any{
		"no url":             fields{},
		"empty url":          fields{"url": ""},
		"relative url":       fields{"url": "/hook"},
		"other scheme":       fields{"url": "ftp://example.com/x"},
		"file":               fields{"url": "file:///etc/passwd"},
		"userinfo":           fields{"url": "https://user:pass@example.com/"},
		"no host":            fields{"url": "http:///x"},
		"metadata address":   fields{"url": "http://169.254.169.254/latest"},
		"private address":    fields{"url": "http://10.0.0.1/"},
		"unspecified":        fields{"url": "http://0.0.0.0/"},
		"IPv6 loopback":      fields{"url": "http://[::1]:1/"},
		"mapped metadata":    fields{"url": "http://[::ffff:169.254.169.254]/"},
		"url is a number":    fields{"url": 5},
		"webhook is text":    url,
		"21 headers":         fields{"url": url, "headers": many},
		"long header value":  fields{"url": url, "headers": fields{"X-Long": long + "x"}},
		"header with a CRLF": fields{"url": url, "headers": fields{"X-A": "a\r\nX-B: b"}},
		"reserved header":    fields{"url": url, "headers": fields{"X-AgentField-Signature": "sha256=00"}},
		"host header":        fields{"url": url, "headers": fields{"Host": "example.com"}},
		"long secret":        fields{"url": url, "secret": long + long + long + long + long + long + long + long + "x"},
	}
}

func make512() []byte {
	b := make([]byte, 512)
	for i := range b {
		b[i] = 'a'
	}
	return b
}

func badWebhooksAreRefused(t *Trial) {
	a := t.Agent()
	for name, webhook := range webhookForms() {
		c := call(a, "echo", fields{})
		c.Fields = fields{"webhook": webhook}
		answer := t.TrySubmit(c)
		if answer.Status != http.StatusBadRequest {
			t.Failf("%s: expected 400, got %s", name, answer)
		}
		t.Has(answer, "error", "details", "code")
	}
	t.noRows(a.ID)
	t.True(len(a.Arrivals("")) == 0, "the agent not to be called")
}
