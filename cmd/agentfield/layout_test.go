package main

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/agentfield/agentfield/"

// rule says what the packages below from may import of this module, and which foreign modules they may not.
type rule struct {
	from   string
	within []string // packages of this module, without its path; a trailing slash allows all below
	not    []string // beginnings of foreign import paths
}

// rules is "who may import whom": cmd → app → api → views → models, and the concepts below app know only the store and the queue.
func rules() []rule {
	web := []string{"github.com/gofiber/", "github.com/valyala/", "github.com/a-h/templ"}
	store := []string{"gorm.io/", "github.com/jackc/", "github.com/ncruces/", "database/sql"}
	concept := func(name string, more ...string) rule {
		within := append([]string{
			"models", "app/database", "app/lease", "app/event", "app/audit", "app/payload", "app/secret", "app/" + name,
		}, more...)
		return rule{from: "app/" + name, within: within, not: web}
	}
	return []rule{
		{from: "models", within: []string{}, not: slices.Concat(web, store, []string{"net/http"})},
		{from: "app/access", within: []string{"models", "app/database", "app/audit"}, not: web},
		{from: "app/audit", within: []string{"models", "app/database"}, not: web},
		{from: "migrations", within: []string{}, not: web},
		{from: "app/config", within: []string{}, not: slices.Concat(web, store)},
		{from: "app/database", within: []string{"models", "migrations", "app/database"}, not: web},
		{from: "app/secret", within: []string{"models", "app/database"}, not: web},
		{from: "app/payload", within: []string{"models", "app/database"}, not: web},
		{from: "app/event", within: []string{"models", "app/database"}, not: web},
		{from: "app/lease", within: []string{"models", "app/database", "app/event"}, not: web},
		{from: "app/memory", within: []string{"models", "app/database"}, not: web},
		{from: "app/view", within: []string{"models", "app/database"}, not: web},
		{from: "app/filter", within: []string{"models"}, not: slices.Concat(web, store, []string{"net/http"})},
		concept("agentlog"),
		concept("desk"),
		concept("execution", "app/filter"),
		concept("bulk", "app/execution", "app/workflow"),
		concept("node"),
		concept("notify"),
		concept("webhook", "app/execution"),
		{from: "app/trace", within: []string{"models", "app/lease"}, not: slices.Concat(web, store)},
		{from: "app/workflow", within: []string{"models", "app/database", "app/filter"}, not: web},
		{from: "views", within: []string{"models", "views/", "static"}, not: slices.Concat(store, []string{"github.com/gofiber/"})},
		{from: "docs", within: []string{}, not: slices.Concat(store, web)},
		{from: "static", within: []string{}, not: slices.Concat(store, web)},
		{from: "cmd/agentfield/internal/conform", within: []string{}, not: slices.Concat(store, web)},
		{from: "cmd/agentfield/internal/remote", within: []string{}, not: slices.Concat(store, web)},
		{from: "sdk/go/agent", within: []string{}, not: slices.Concat(store, web)},
		{from: "sdk/python", within: []string{}, not: slices.Concat(store, web)},
	}
}

func TestWhoMayImportWhom(t *testing.T) {
	imports := listImports(t, false)
	for _, r := range rules() {
		for pkg, imported := range imports {
			if pkg != r.from && !strings.HasPrefix(pkg, r.from+"/") || owner(pkg) != r.from {
				continue
			}
			for _, target := range imported {
				if breaks(r, target) {
					t.Errorf("%s imports %s, which it must not know", pkg, target)
				}
			}
		}
	}
}

// owner is the longest rule that covers a package, so that app/database/dbtest is judged as part of app/database.
func owner(pkg string) string {
	longest := ""
	for _, r := range rules() {
		if (pkg == r.from || strings.HasPrefix(pkg, r.from+"/")) && len(r.from) > len(longest) {
			longest = r.from
		}
	}
	return longest
}

func breaks(r rule, target string) bool {
	local, ours := strings.CutPrefix(target, module)
	if !ours {
		return slices.ContainsFunc(r.not, func(prefix string) bool { return strings.HasPrefix(target, prefix) })
	}
	return !slices.ContainsFunc(r.within, func(allowed string) bool {
		return local == allowed || strings.HasSuffix(allowed, "/") && strings.HasPrefix(local, allowed)
	})
}

func TestHandlersAskServicesAndNotTheDatabase(t *testing.T) {
	for _, target := range listImports(t, false)["api"] {
		if strings.HasPrefix(target, "gorm.io/") || target == module+"app/database" || target == "database/sql" || target == module+"app" {
			t.Errorf("api imports %s: a handler that wants a query is missing a service method", target)
		}
	}
}

func TestTheSDKUsesTheStandardLibraryOnly(t *testing.T) {
	for _, target := range listImports(t, true)["sdk/go/agent"] {
		if first, _, _ := strings.Cut(target, "/"); strings.Contains(first, ".") && target != module+"sdk/go/agent" {
			t.Errorf("sdk/go/agent depends on %s: it uses the standard library only", target)
		}
	}
}

// TestTopLevel is the design card: these and no others, unless with a written reason.
func TestTopLevel(t *testing.T) {
	reasons := map[string]string{
		"sdk":      "code that other people's programs import; it must not read as server internals",
		"docs":     "guides and decisions, readable in the repository and in the binary",
		"deploy":   "scripts and files that run the server and its checks",
		"examples": "the demo agents, readable as a first program",
	}
	card := []string{"app", "views", "static", "models", "api", "cmd", "migrations"}
	for _, name := range append(card, "go.mod", "package.json", "README.md") {
		if _, err := os.Stat(path.Join("../..", name)); err != nil {
			t.Errorf("%s of the design card is missing", name)
		}
	}
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	made := []string{"bin", "node_modules", "agentfield-data"} // by the tools, ignored by git
	for _, e := range entries {
		known := slices.Contains(card, e.Name()) || slices.Contains(made, e.Name()) || reasons[e.Name()] != ""
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !known {
			t.Errorf("the folder %s is not on the design card and has no reason", e.Name())
		}
	}
}

func TestNoPackageIsADrawerForAnything(t *testing.T) {
	for pkg := range listImports(t, false) {
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "core", "infrastructure"}, path.Base(pkg)) {
			t.Errorf("%s says nothing about what is in it", pkg)
		}
	}
}

// listImports asks the go command for the imports of every package, tests left out: directly, or with everything below.
func listImports(t *testing.T, deep bool) map[string][]string {
	t.Helper()
	format := `{{.ImportPath}} {{join .Imports " "}}`
	if deep {
		format = `{{.ImportPath}} {{join .Deps " "}}`
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-f", format, "./...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		imports[strings.TrimPrefix(words[0], module)] = words[1:]
	}
	return imports
}

// TestEveryDependencyHasAReason holds docs/adr/0006-dependencies.md to go.mod and package.json.
func TestEveryDependencyHasAReason(t *testing.T) {
	reasons := read(t, "docs/adr/0006-dependencies.md")
	for line := range strings.Lines(read(t, "go.mod")) {
		words := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(words) != 2 || !strings.Contains(words[0], ".") || !strings.HasPrefix(words[1], "v") {
			continue // not a module, or an indirect one
		}
		if !strings.Contains(reasons, "`"+words[0]+"`") {
			t.Errorf("%s has no reason in docs/adr/0006-dependencies.md", words[0])
		}
	}
	var browser struct{ Dependencies, DevDependencies map[string]string }
	if err := json.Unmarshal([]byte(read(t, "package.json")), &browser); err != nil {
		t.Fatalf("read package.json: %v", err)
	}
	packages := map[string]string{}
	maps.Copy(packages, browser.Dependencies)
	maps.Copy(packages, browser.DevDependencies)
	for name, version := range packages {
		if !strings.Contains(reasons, "`"+name+"`") {
			t.Errorf("%s has no reason in docs/adr/0006-dependencies.md", name)
		}
		if strings.Trim(version, "0123456789.") != "" {
			t.Errorf("%s is at %q: pin the exact version", name, version)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(path.Join("../..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
