package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// lookEvery is the time between two looks at the files of an agent. A look costs a few system calls for each directory, and works on
// every file system, mounted ones included.
const lookEvery = 250 * time.Millisecond

// sources are the files of an agent that make it start anew when they change.
type sources struct {
	dir  string
	seen map[string]state
}

type state struct {
	size int64
	at   time.Time
}

func newSources(dir string) *sources {
	s := &sources{dir: dir}
	s.seen = s.look()
	return s
}

// changed waits until a file has changed, appeared or gone, and names it; "" when ctx has ended.
func (s *sources) changed(ctx context.Context) string {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
		now := s.look()
		if name := difference(s.seen, now); name != "" {
			s.seen = now
			return name
		}
	}
}

func difference(before, now map[string]state) string {
	var names []string
	for name, is := range now {
		if was, known := before[name]; !known || was != is {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, there := now[name]; !there {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return slices.Min(names)
}

// look notes every source file below the directory. What cannot be read is as good as absent: editors replace files.
func (s *sources) look() map[string]state {
	found := map[string]state{}
	_ = filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if entry.IsDir() {
			if path != s.dir && foreign(path, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if info, err := entry.Info(); err == nil && source(entry.Name()) {
			name, _ := filepath.Rel(s.dir, path) // below dir, as it was found there
			found[name] = state{info.Size(), info.ModTime()}
		}
		return nil
	})
	return found
}

// foreign are directories that hold nothing of the agent's own: hidden ones, packages, environments, data.
func foreign(path, name string) bool {
	if strings.HasPrefix(name, ".") || slices.Contains([]string{"node_modules", "__pycache__", "agentfield-data"}, name) {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "pyvenv.cfg"))
	return err == nil
}

func source(name string) bool {
	return name == projectFile || name == "go.mod" ||
		slices.Contains([]string{".py", ".go", ".mjs", ".js", ".cjs", ".ts", ".json", ".toml", ".txt", ".yaml", ".yml", ".md", ".env"}, filepath.Ext(name))
}
