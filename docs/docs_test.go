package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/docs"
)

func library(t *testing.T) *docs.Library {
	t.Helper()
	contract, err := os.ReadFile("../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l, err := docs.NewLibrary(contract)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEveryFileIsAGuide(t *testing.T) {
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(docs.Guides(), strings.TrimSuffix(file, ".md")) {
			t.Errorf("%s stands in no section: order() says where it belongs", file)
		}
	}
}

func TestGuidesHaveATitleASummaryAndNothingThatAPageMayNotHave(t *testing.T) {
	for _, s := range library(t).Sections() {
		for _, p := range s.Pages {
			if p.Title == "" || p.Summary == "" || strings.Count(p.HTML, "<h1") != 1 {
				t.Errorf("%s has the title %q and the summary %q", p.Name, p.Title, p.Summary)
			}
			if found := regexp.MustCompile(`<script| style=| on\w+=|javascript:|<th></th>`).FindString(p.HTML); found != "" {
				t.Errorf("%s has %q", p.Name, found)
			}
			if rest := strings.ReplaceAll(p.HTML, "<!-- raw HTML omitted -->\n", ""); strings.Contains(rest, "raw HTML omitted") {
				t.Errorf("%s has tags, which are not taken over: write them as code", p.Name)
			}
		}
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	l := library(t)
	link := regexp.MustCompile(`href="([^"]*)"`)
	for _, s := range l.Sections() {
		for _, p := range s.Pages {
			for _, found := range link.FindAllStringSubmatch(p.HTML, -1) {
				to, part, _ := strings.Cut(found[1], "#")
				name, ours := strings.CutPrefix(to, "/docs/")
				if !ours {
					if !strings.HasPrefix(to, "https://") && !strings.HasPrefix(to, "http://localhost") && !strings.HasPrefix(to, "adr/") {
						t.Errorf("%s links to %s", p.Name, found[1])
					}
					continue
				}
				target, ok := l.Page(name)
				if !ok || part != "" && !strings.Contains(target.HTML, `id="`+part+`"`) {
					t.Errorf("%s links to %s, which is not there", p.Name, found[1])
				}
			}
		}
	}
}

func TestTheReferenceHasTheWholeContract(t *testing.T) {
	contract, err := os.ReadFile("../api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := library(t).Page(docs.Reference)
	path, codes := "", false
	operations, words := 0, 0
	for line := range strings.Lines(string(contract)) {
		switch line = strings.TrimRight(line, "\n"); {
		case strings.HasPrefix(line, "x-error-codes:"):
			codes = true
		case codes && regexp.MustCompile(`^  \w+: \{`).MatchString(line):
			word, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			if words++; !strings.Contains(string(page.Markdown), "| `"+word+"` |") {
				t.Errorf("the code %s is missing", word)
			}
		case strings.HasPrefix(line, "  /"):
			path = strings.TrimSuffix(strings.TrimSpace(line), ":")
		case regexp.MustCompile(`^    (get|post|patch|put|delete):$`).MatchString(line):
			method := strings.ToUpper(strings.Trim(line, " :"))
			if operations++; !strings.Contains(string(page.Markdown), "\n### "+method+" "+path+"\n") {
				t.Errorf("%s %s is missing", method, path)
			}
		}
	}
	if operations < 50 || words < 30 {
		t.Errorf("only %d operations and %d codes were looked for", operations, words)
	}
}
