package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	firstagent "github.com/agentfield/agentfield/examples/start"
)

// agentName is what works as the id of a node, as a directory and as the name of a module.
var agentName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

func (p program) init() *cobra.Command {
	var language string
	c := named(&cobra.Command{
		Use:   "init NAME",
		Short: "Make a directory with a first agent that runs",
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if !agentName.MatchString(name) {
				return usageError{fmt.Errorf("the name %q: use up to 64 lower-case letters, digits, - and _, as in my-agent", name)}
			}
			files, err := firstagent.Files(name, language)
			if err != nil {
				return usageError{err}
			}
			if err := writeAgent(name, files); err != nil {
				return err
			}
			return p.say("Made %s. Now:\n\n  cd %s\n  agentfield dev", name, name)
		},
	})
	c.Flags().StringVar(&language, "language", "python", "language of the agent: "+strings.Join(firstagent.Languages(), ", "))
	return c
}

// writeAgent fills a new directory; what is there already is left alone.
func writeAgent(dir string, files map[string][]byte) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("the directory %s exists and is not empty: choose another name", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // source code, shared as its owner likes
			return fmt.Errorf("make %s: %w", dir, err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // as above
			return fmt.Errorf("make %s: %w", dir, err)
		}
	}
	return nil
}
