package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/bench"
	"github.com/agentfield/agentfield/cmd/prove/internal/burst"
	"github.com/agentfield/agentfield/cmd/prove/internal/conformance"
	"github.com/agentfield/agentfield/cmd/prove/internal/crash"
	"github.com/agentfield/agentfield/cmd/prove/internal/fairness"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/instances"
	"github.com/agentfield/agentfield/cmd/prove/internal/webhooks"
	"github.com/agentfield/agentfield/cmd/prove/internal/yardstick"
)

// common are the flags that every verb has.
type common struct {
	*flag.FlagSet
	binary   *string
	postgres *string
	on       *string
}

func flags(name string) common {
	set := flag.NewFlagSet("prove "+name, flag.ContinueOnError)
	return common{
		FlagSet:  set,
		binary:   set.String("binary", "bin/agentfield", "program to prove"),
		postgres: set.String("postgres-url", os.Getenv("TEST_PG_DSN"), "PostgreSQL server on which a fresh database is made for the run; empty for SQLite (TEST_PG_DSN)"),
		on:       set.String("on", "", "sqlite, postgres or both; by default SQLite, and PostgreSQL too when its URL is known"),
	}
}

// engines are the stores to run on, each by its PostgreSQL URL, which is empty for SQLite.
func (c common) engines() ([]string, error) {
	known := *c.postgres != ""
	switch {
	case *c.on == "sqlite", *c.on == "" && !known:
		return []string{""}, nil
	case *c.on == "postgres" && known:
		return []string{*c.postgres}, nil
	case (*c.on == "both" || *c.on == "") && known:
		return []string{"", *c.postgres}, nil
	case *c.on == "postgres", *c.on == "both":
		return nil, errors.New("--on " + *c.on + " needs --postgres-url")
	}
	return nil, fmt.Errorf("--on knows sqlite, postgres and both, not %q", *c.on)
}

// onEach runs on every engine; a failure on one does not keep the others from running.
func (c common) onEach(out io.Writer, run func(postgresURL string) error) error {
	engines, err := c.engines()
	if err != nil {
		return err
	}
	if _, err := os.Stat(*c.binary); err != nil {
		return fmt.Errorf("%s is not there: run make build, or name another with --binary", *c.binary)
	}
	var failures error
	for i, url := range engines {
		if i > 0 {
			_, _ = fmt.Fprintln(out)
		}
		failures = errors.Join(failures, run(url))
	}
	return failures
}

// parse reads the flags; anything beside them is a mistake.
func (c common) parse(args []string) error {
	if err := c.Parse(args); err != nil {
		return err
	}
	if c.NArg() > 0 {
		return fmt.Errorf("%s takes no arguments, got %q", c.Name(), c.Args())
	}
	return nil
}

// errRows is returned when at least one row of the table failed.
var errRows = errors.New("at least one row failed")

func conform(ctx context.Context, args []string, out io.Writer) error {
	f := flags("conformance")
	url := f.String("url", os.Getenv("CONFORMANCE_URL"), "running server to check instead of starting one (CONFORMANCE_URL)")
	rows := f.String("rows", "", "only these rows, as in S1-S8,S15,I3")
	built := f.String("built", "", "rows that count as built; empty for all that have a check")
	if err := f.parse(args); err != nil {
		return err
	}
	options := conformance.Options{Binary: *f.binary, URL: *url, Rows: *rows, Built: *built}
	if *url != "" {
		return verdict(conformance.Run(ctx, options, out))
	}
	var total conformance.Counts
	tables := 0
	err := f.onEach(out, func(postgresURL string) error {
		options.PostgresURL = postgresURL
		counts, err := conformance.Run(ctx, options, out)
		total, tables = total.Add(counts), tables+1
		return err
	})
	if tables > 1 {
		_, _ = fmt.Fprintf(out, "\nboth databases together:\n%s\n", total)
	}
	return verdict(total, err)
}

func verdict(counts conformance.Counts, err error) error {
	if err == nil && counts.Failed > 0 {
		return errRows
	}
	return err
}

func crashTest(ctx context.Context, args []string, out io.Writer) error {
	f := flags("crash")
	executions := f.Int("executions", 2000, "executions to submit")
	kills := f.Int("kills", 5, "times to kill the server")
	work := f.Duration("work", 50*time.Millisecond, "duration of one execution")
	clients := f.Int("clients", 16, "clients that submit at once")
	seed := f.Uint64("seed", rand.Uint64N(1_000_000), "seed of the instants at which the server is killed") //nolint:gosec // no secret
	if err := f.parse(args); err != nil {
		return err
	}
	return f.onEach(out, func(postgresURL string) error {
		return crash.Run(ctx, crash.Options{
			Binary: *f.binary, PostgresURL: postgresURL, Executions: *executions, Kills: *kills, Work: *work, Clients: *clients, Seed: *seed,
		}, out)
	})
}

func burstTest(ctx context.Context, args []string, out io.Writer) error {
	f := flags("burst")
	submits := f.Int("submits", 5000, "requests of the burst")
	clients := f.Int("clients", 1000, "clients that send at once")
	depth := f.Int("depth", 1000, "executions that may wait for the agent")
	concurrency := f.Int("concurrency", 200, "executions the agent works on at once")
	work := f.Duration("work", time.Second, "duration of one execution")
	if err := f.parse(args); err != nil {
		return err
	}
	return f.onEach(out, func(postgresURL string) error {
		return burst.Run(ctx, burst.Options{
			Binary: *f.binary, PostgresURL: postgresURL, Submits: *submits, Clients: *clients, Depth: *depth, Concurrency: *concurrency, Work: *work,
		}, out)
	})
}

func fairnessTest(ctx context.Context, args []string, out io.Writer) error {
	f := flags("fairness")
	queued := f.Int("queued", 50_000, "executions that one caller has in the queue")
	asks := f.Int("asks", 30, "executions that another asks for meanwhile, one a second")
	limit := f.Int("cap", 10, "executions the agent works on at once")
	burst := f.Int("burst", 1000, "executions of the burst at the cap")
	if err := f.parse(args); err != nil {
		return err
	}
	return f.onEach(out, func(postgresURL string) error {
		return fairness.Run(ctx, fairness.Options{
			Binary: *f.binary, PostgresURL: postgresURL, Queued: *queued, Asks: *asks, Cap: *limit, Burst: *burst,
		}, out)
	})
}

func instancesTest(ctx context.Context, args []string, out io.Writer) error {
	f := flags("instances")
	rate := f.Int("rate", 100, "calls per second")
	sick := f.Duration("sick", 30*time.Second, "how long one of the three instances is sick")
	if err := f.parse(args); err != nil {
		return err
	}
	return f.onEach(out, func(postgresURL string) error {
		return instances.Run(ctx, instances.Options{Binary: *f.binary, PostgresURL: postgresURL, Rate: *rate, Sick: *sick}, out)
	})
}

func webhookTest(ctx context.Context, args []string, out io.Writer) error {
	f := flags("webhooks")
	count := f.Int("webhooks", 1000, "webhooks to deliver")
	kills := f.Int("kills", 10, "times to kill the server")
	failures := f.Int("failures", 30, "percent of the receiver's answers that are failures")
	seed := f.Uint64("seed", rand.Uint64N(1_000_000), "seed of the kills and of the receiver's mood") //nolint:gosec // no secret
	if err := f.parse(args); err != nil {
		return err
	}
	return f.onEach(out, func(postgresURL string) error {
		return webhooks.Run(ctx, webhooks.Options{
			Binary: *f.binary, PostgresURL: postgresURL, Webhooks: *count, Kills: *kills, Failures: *failures, Seed: *seed,
		}, out)
	})
}

func measure(ctx context.Context, args []string, out io.Writer) error {
	f := flags("bench")
	quick := f.Bool("quick", false, "shorter measurements and a shorter list")
	if err := f.parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	return f.onEach(out, func(postgresURL string) error {
		return bench.Run(ctx, bench.Options{Binary: *f.binary, Self: self, PostgresURL: postgresURL, Quick: *quick}, out)
	})
}

// echoAgent is the agent that bench calls, in a process of its own.
func echoAgent(ctx context.Context, _ []string, out io.Writer) error { return fake.ServeEcho(ctx, out) }

// bareHandler is the yardstick, in a process of its own.
func bareHandler(ctx context.Context, args []string, out io.Writer) error {
	set := flag.NewFlagSet("prove yardstick", flag.ContinueOnError)
	agent := set.String("agent-url", "", "agent to call")
	dir := set.String("data-dir", ".", "directory of the SQLite file")
	database := set.String("database-url", "", "PostgreSQL database to use instead")
	if err := set.Parse(args); err != nil {
		return err
	}
	return yardstick.Serve(ctx, yardstick.Options{Dir: *dir, DatabaseURL: *database, AgentURL: *agent}, out)
}
