// Command agentfield is the whole product in one program: the server, its demo, and the verbs that look after them. Each verb has a
// file of its own; this one holds what they share: signals, exit codes, settings and the log.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // people choose their zone, and small images have no table of them

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app/config"
)

// Exit codes: scripts tell a failure of the work from a mistake in the command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default comes back, so that a second one ends the program at once.
	context.AfterFunc(ctx, stop)
	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ()}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// program is what a verb may use of the outside world.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
}

// usageError is a mistake in the command or in the settings: nothing was begun.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// run executes one command line and returns its exit code.
func (p program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(p.stderr, "agentfield: %v\n\n`agentfield --help` shows how it is used.\n", err)
		return exitUsage
	}
	_, _ = fmt.Fprintf(p.stderr, "agentfield: %v\n", err)
	return exitFailed
}

func (p program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "agentfield",
		Short:         "Makes remote agents callable like any API, and remembers every call",
		RunE:          p.runServer,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	config.AddFlags(root.Flags())
	root.AddCommand(p.server(), p.demo(), p.init(), p.dev(), p.runAgent(), p.migrate(), p.health(), p.config(), p.token(), p.user(), p.audit(), p.version())
	root.AddCommand(p.exec(), p.get(), p.list(), p.watch(), p.approve(), p.reject(), p.requestChanges(), p.cancel(), p.pause(), p.resume(), p.tail(), p.conform(), p.executionVerbs())
	for _, c := range root.Commands() {
		noArguments(c)
	}
	noArguments(root)
	return root
}

// group is a noun whose verbs are its children; alone it says nothing.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(c *cobra.Command, _ []string) error {
		return usageError{fmt.Errorf("%s needs a verb: `%s --help` lists them", c.CommandPath(), c.CommandPath())}
	}}
	c.AddCommand(verbs...)
	return c
}

// noArguments makes a stray word a usage error, except for verbs that say what they take.
func noArguments(c *cobra.Command) {
	for _, child := range c.Commands() {
		noArguments(child)
	}
	if c.Args != nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := cobra.NoArgs(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// settings loads the configuration for a verb that has its flags, and shows the warnings.
func (p program) settings(c *cobra.Command) (config.Config, error) {
	cfg, warnings, err := config.Load(config.Sources{Environ: p.environ, Flags: c.Flags()})
	if err != nil {
		return config.Config{}, usageError{err}
	}
	log := p.log(cfg)
	for _, warning := range warnings {
		log.Warn(warning)
	}
	return cfg, nil
}

// log writes to stderr: JSON, or text for people at a terminal.
func (p program) log(cfg config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level()}
	if cfg.LogFormat == "text" || cfg.LogFormat == "auto" && isTerminal(p.stderr) {
		return slog.New(slog.NewTextHandler(p.stderr, options))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
