package api_test

import (
	"strings"
	"testing"

	"github.com/agentfield/agentfield/app/apptest"
	"github.com/agentfield/agentfield/app/config"
)

func TestTheGuidesAreServedAsPagesAndAsMarkdown(t *testing.T) {
	// A server that demands credentials shows its guides all the same: there is nothing in them that is not public.
	r := apptest.New(t, func(c *config.Config) { c.APIKey = "secret" })
	for path, c := range map[string]struct {
		status      int
		contentType string
		wants       string
	}{
		"/docs":               {200, "text/html", `href="/docs/executions"`},
		"/docs/executions":    {200, "text/html", `<h1 id="three-ways-to-call-an-agent">`},
		"/docs/reference":     {200, "text/html", "POST /api/v1/execute/{target}"},
		"/docs/executions.md": {200, "text/markdown", "# Three ways to call an agent\n"},
		"/docs/reference.md":  {200, "text/markdown", "### POST /api/v1/execute/{target}\n"},
		"/llms.txt":           {200, "text/plain", r.URL + "/docs/webhooks.md"},
		"/docs/nothing":       {404, "text/html", "Agentfield"},
		"/docs/nothing.md":    {404, "text/html", "Agentfield"},
	} {
		answer := r.Do(t, "GET", path, nil)
		if answer.Status != c.status || !strings.HasPrefix(answer.Header.Get("Content-Type"), c.contentType) || !strings.Contains(string(answer.Body), c.wants) {
			t.Errorf("%s: %d %s %.300s", path, answer.Status, answer.Header.Get("Content-Type"), answer.Body)
		}
		if policy := answer.Header.Get("Content-Security-Policy"); c.contentType == "text/html" && !strings.Contains(policy, "script-src 'self'") {
			t.Errorf("%s has the policy %q", path, policy)
		}
	}
}
