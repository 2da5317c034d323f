package static_test

import (
	"strings"
	"testing"

	"github.com/agentfield/agentfield/static"
)

func TestFilesHaveTypesAndVersionedAddresses(t *testing.T) {
	for name, wanted := range map[string]string{
		"app.js":      "text/javascript; charset=utf-8",
		"app.css":     "text/css; charset=utf-8",
		"icons.svg":   "image/svg+xml",
		"favicon.svg": "image/svg+xml",
	} {
		body, contentType, ok := static.Open(name)
		if !ok || len(body) == 0 {
			t.Fatalf("%s is missing", name)
		}
		if contentType != wanted {
			t.Errorf("%s is %q, want %q", name, contentType, wanted)
		}
		if url := static.URL(name); url != "/static/"+name+"?v="+static.Version(name) || len(static.Version(name)) != 6 {
			t.Errorf("%s has the address %s", name, url)
		}
	}
}

func TestUnknownFile(t *testing.T) {
	for _, name := range []string{"", "nothing.js", "../embed.go", "dist/app.js"} {
		if _, _, ok := static.Open(name); ok {
			t.Errorf("Open(%q) found something", name)
		}
	}
	if url := static.URL("nothing.js"); strings.Contains(url, "?") {
		t.Errorf("a file that does not exist has the version %s", url)
	}
}
