// Command prove shows the promises of the server from outside: it starts and kills the program, plays its agents and receivers, and
// speaks to it over HTTP only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

const usage = `prove shows from outside that the server keeps its promises.

  prove conformance   checks every row of the requirements and prints the table
  prove crash         kills the server while it works: nothing lost, nothing doubled
  prove burst         offers more than one agent may queue: refusals are told and leave nothing behind
  prove fairness      lets one caller queue 50,000 executions: another must not wait for them, and no cap is exceeded
  prove instances     makes copies of an agent sick and restarts them: callers must not notice
  prove webhooks      kills the server while it delivers to a receiver that often fails: all arrive, every attempt is on record
  prove bench         measures the server beside a bare handler on the same machine

Each verb starts bin/agentfield (--binary) on SQLite and, when --postgres-url or TEST_PG_DSN names a server, on a fresh PostgreSQL
database as well; "prove VERB --help" lists its flags.
`

// verb is one thing the program does; it returns after having printed what it found.
type verb func(ctx context.Context, args []string, out io.Writer) error

func main() {
	signal.Ignore(syscall.SIGPIPE) // a reader that leaves early, as head does, must not keep us from cleaning up
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		_, _ = fmt.Fprintln(os.Stderr, "prove:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	verbs := map[string]verb{
		"conformance": conform, "crash": crashTest, "burst": burstTest, "fairness": fairnessTest, "instances": instancesTest, "bench": measure, "webhooks": webhookTest,
		"agent": echoAgent, "yardstick": bareHandler, // the two parts that bench starts as children
	}
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		_, err := io.WriteString(out, usage)
		return err
	}
	do, ok := verbs[args[0]]
	if !ok {
		return fmt.Errorf("there is no verb %q; try prove help", args[0])
	}
	return do(ctx, args[1:], out)
}
