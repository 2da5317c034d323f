package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"

	firstagent "github.com/agentfield/agentfield/examples/start"
	"github.com/agentfield/agentfield/sdk/python"
)

const projectFile = "agentfield.yaml"

// project is an agent's directory.
type project struct {
	dir, name, language, entry string
}

// readProject reads agentfield.yaml. What it does not say follows from the language, Python when that is not said either.
func readProject(dir string) (project, error) {
	path := filepath.Join(dir, projectFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return project{}, fmt.Errorf("%s is missing: go into the directory of an agent, or make one with `agentfield init my-agent`", path)
	}
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return project{}, fmt.Errorf("read %s: %w", path, err)
	}
	p := project{dir: dir, name: first(k.String("name"), k.String("node_id")), language: first(k.String("language"), "python"), entry: k.String("entry")}
	known := firstagent.Entry()[p.language]
	if known == "" {
		return project{}, fmt.Errorf("%s: the language is %q: use %s", path, p.language, strings.Join(firstagent.Languages(), ", "))
	}
	p.entry = first(p.entry, known)
	if p.name == "" {
		whole, err := filepath.Abs(dir)
		if err != nil {
			return project{}, fmt.Errorf("find out where %s is: %w", dir, err)
		}
		p.name = filepath.Base(whole)
	}
	if _, err := os.Stat(filepath.Join(dir, p.entry)); err != nil {
		return project{}, fmt.Errorf("%s is missing: it is where the agent begins (entry in %s)", filepath.Join(dir, p.entry), path)
	}
	return p, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// command is how the agent is started, and its environment: the given one with what it needs besides.
func (p project) command(ctx context.Context, environ []string) (argv, with []string, err error) {
	with = slices.Clone(environ)
	switch p.language {
	case "go":
		return []string{"go", "run", "."}, with, nil
	case "node":
		return []string{"node", p.entry}, with, nil
	}
	interpreter, err := p.interpreter()
	if err != nil {
		return nil, nil, err
	}
	return p.python(ctx, interpreter, append(with, "PYTHONUNBUFFERED=1"))
}

// interpreter is the Python of the agent's own environment, else that of the machine.
func (p project) interpreter() (string, error) {
	for _, own := range []string{".venv", "venv"} {
		path, err := filepath.Abs(filepath.Join(p.dir, own, "bin", "python"))
		if err != nil {
			return "", fmt.Errorf("find the Python of %s: %w", p.dir, err)
		}
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	for _, name := range []string{"python3", "python"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no python3: install Python 3.9 or newer")
}

// askPython tells whether the interpreter is new enough, and which package agentfield it finds: none, ours, or another one.
const askPython = `import importlib.util, os, sys
found = importlib.util.find_spec("agentfield")
ours = found and found.origin and os.path.exists(os.path.join(os.path.dirname(found.origin), "presence.py"))
print("old" if sys.version_info < (3, 9) else "ours" if ours else "other" if found else "none")`

// python starts the agent with the SDK that is installed, or with the one that this program carries when none is.
func (p project) python(ctx context.Context, interpreter string, environ []string) (argv, with []string, err error) {
	ask := exec.CommandContext(ctx, interpreter, "-c", askPython) //nolint:gosec // the interpreter of this project
	ask.Dir, ask.Env = p.dir, environ
	found, err := ask.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s for its packages: %w", interpreter, err)
	}
	switch strings.TrimSpace(string(found)) {
	case "old":
		return nil, nil, fmt.Errorf("%s is too old: Python 3.9 or newer is needed", interpreter)
	case "other": // another SDK for this protocol; it runs agents in its own way
		return []string{interpreter, p.entry}, environ, nil
	case "none":
		cache, err := os.UserCacheDir()
		if err != nil {
			cache = os.TempDir()
		}
		home, err := python.Unpack(filepath.Join(cache, "agentfield"))
		if err != nil {
			return nil, nil, err
		}
		between := string(os.PathListSeparator)
		environ = append(environ, "PYTHONPATH="+strings.Trim(home+between+environment(environ, "PYTHONPATH"), between))
	}
	return []string{interpreter, "-m", "agentfield", p.entry}, environ, nil
}
