// Package start has one first agent for each language. They are programs that run as they are, and what `agentfield init` copies: the name
// my-agent in them becomes that of the new agent.
package start

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	sdkgo "github.com/agentfield/agentfield/sdk/go"
)

//go:embed python/main.py go/main.go node/main.mjs
var files embed.FS

// Name stands in the files for that of the agent.
const Name = "my-agent"

// Entry are the languages, with the file that each begins in.
func Entry() map[string]string {
	return map[string]string{"python": "main.py", "go": "main.go", "node": "main.mjs"}
}

// Languages are those that an agent can begin in, in alphabetic order.
func Languages() []string { return slices.Sorted(maps.Keys(Entry())) }

// Files are those of a new agent, by their paths inside of its directory.
func Files(name, language string) (map[string][]byte, error) {
	entry := Entry()[language]
	if entry == "" {
		return nil, fmt.Errorf("there is no first agent in %q: choose %s", language, strings.Join(Languages(), ", "))
	}
	program, err := files.ReadFile(path.Join(language, entry))
	if err != nil {
		return nil, fmt.Errorf("read the first agent in %s: %w", language, err)
	}
	made := map[string][]byte{
		entry:             []byte(strings.ReplaceAll(string(program), Name, name)),
		"agentfield.yaml": fmt.Appendf(nil, "name: %s\nlanguage: %s\nentry: %s\n", name, language, entry),
		"README.md":       fmt.Appendf(nil, readme, name, entry, more()[language]),
		".gitignore":      []byte("/.agentfield/\n__pycache__/\n"),
	}
	if language == "go" {
		return made, addModule(made, name)
	}
	return made, nil
}

const readme = `# %[1]s

An agent. Its functions are in %[2]s.

	agentfield dev

runs it beside a server on this machine (and starts that if there is none), restarts it when a file changes, and prints a command to call
it with. Somewhere else it needs the address of the control plane only: AGENTFIELD_SERVER.

%[3]s`

func more() map[string]string {
	return map[string]string{
		"python": "The package agentfield comes with the program of the same name. Elsewhere install it from any server:\n\n" +
			"\tpip install http://localhost:8080/sdk/python/agentfield.tar.gz\n",
		"go":   "The SDK lies in agentfield-sdk, so that no network is needed. Remove the replace line of go.mod to take a published version instead.\n",
		"node": "It needs Node 20 and no package: the protocol is a registration, a heartbeat and an HTTP server.\n",
	}
}

// addModule makes the directory a module that carries the SDK.
func addModule(made map[string][]byte, name string) error {
	made["go.mod"] = fmt.Appendf(nil, "module %s\n\ngo %s\n\nrequire %s v0.0.0\n\nreplace %s => ./agentfield-sdk\n", name, sdkgo.GoVersion, sdkgo.Module, sdkgo.Module)
	made["agentfield-sdk/go.mod"] = fmt.Appendf(nil, "module %s\n\ngo %s\n", sdkgo.Module, sdkgo.GoVersion)
	return fs.WalkDir(sdkgo.Files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(name, "_test.go") {
			return err
		}
		content, err := sdkgo.Files.ReadFile(name)
		made[path.Join("agentfield-sdk/sdk/go", name)] = content
		return err
	})
}
