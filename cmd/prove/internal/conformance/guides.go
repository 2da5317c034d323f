package conformance

import (
	"net/http"
	"strings"
)

// guide is a page of the documentation that the server carries, as Markdown; that its blocks do what they say is shown by tests of the
// repository, which run them.
func guide(t *Trial, name string, says ...string) {
	page := t.Do(http.MethodGet, "/docs/"+name+".md", nil)
	t.Status(page, http.StatusOK)
	for _, words := range says {
		t.True(strings.Contains(string(page.Body), words), "the guide %s says %q", name, words)
	}
	t.Status(t.Do(http.MethodGet, "/docs/"+name, nil), http.StatusOK)
}

func guideToWebhooks(t *Trial) {
	guide(t, "webhooks", "def verify(", "export function verify(", "func Verify(", "webhook-signature", "execution.completed", "execution.failed")
}

func adviceOnWebhooks(t *Trial) {
	guide(t, "webhooks", "HTTPS", "200", "execution.failed", "AGENTFIELD_WEBHOOK_ALLOWED_HOSTS")
}

func adviceOnModes(t *Trial) {
	guide(t, "executions", "Which one?", "/api/v1/execute/async/", "webhook", "poll")
}
