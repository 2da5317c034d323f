// Package bench measures the server and, in the same run, the yardstick beside it. Its one invariant: every figure counts only answers
// that were what they had to be; a measurement with a wrong answer in it is an error, not a figure.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/process"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// Options say what to measure.
type Options struct {
	Binary      string
	Self        string // this program, which also plays the echo agent and the yardstick
	PostgresURL string
	Quick       bool
}

// scale is how much is done for each figure.
type scale struct {
	period   time.Duration // of each closed-loop measurement
	submits  int           // of the asynchronous measurement
	listed   int           // executions in the list
	webhooks int
	pending  int // requests for approval
	starts   int
}

var (
	whole = scale{period: 5 * time.Second, submits: 20_000, listed: 100_000, webhooks: 300, pending: 10_000, starts: 5}
	quick = scale{period: 1500 * time.Millisecond, submits: 5_000, listed: 10_000, webhooks: 60, pending: 1000, starts: 3}
)

// bench is one run: a server, an echo agent, a yardstick, a table.
type bench struct {
	scale
	options    Options
	table      *report.Table
	store      *server.Store
	server     *server.Server
	api        *client.Client
	agent      *process.Process
	yardstick  *process.Process
	target     string
	loadBefore string
	missed     int // aims that were not reached
	cleanups   []func()
}

// Run measures and prints the table.
func Run(ctx context.Context, options Options, out io.Writer) error {
	b := &bench{scale: whole, options: options, table: report.NewTable("what", "measured", "", "yardstick", "aim", "")}
	if options.Quick {
		b.scale = quick
	}
	b.loadBefore = loadAverage()
	defer b.close()
	if err := b.start(ctx); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{
		b.synchronous, b.asynchronous, b.reads, b.list, b.webhooksArrive, b.approvals, b.footprint,
	} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintf(out, "%s on %d cores that server, agent, load and yardstick share; cpu is the program's own time for one request\n", b.engine(), runtime.NumCPU())
	_, _ = fmt.Fprintf(out, "load average of the machine before: %s, after: %s\n\n", b.loadBefore, loadAverage())
	if err := b.table.Write(out); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d aims missed\n", b.missed)
	return err
}

func (b *bench) engine() string {
	if b.options.PostgresURL != "" {
		return "PostgreSQL"
	}
	return "SQLite"
}

func (b *bench) close() {
	for _, undo := range slices.Backward(b.cleanups) {
		undo()
	}
}

func (b *bench) start(ctx context.Context) (err error) {
	if b.store, err = server.NewStore(ctx, b.options.PostgresURL); err != nil {
		return err
	}
	b.cleanups = append(b.cleanups, func() { _ = b.store.Close() })
	if b.agent, err = b.child(ctx, "agent"); err != nil {
		return err
	}
	if err := b.startYardstick(ctx); err != nil {
		return err
	}
	b.server, err = server.Start(ctx, server.Settings{
		Binary: b.options.Binary, Store: b.store, Env: []string{"AGENTFIELD_NODE_DEPTH=200000", "AGENTFIELD_QUEUE_DEPTH=400000"},
	})
	if err != nil {
		return err
	}
	b.cleanups = append(b.cleanups, func() { _ = b.server.Kill() })
	b.api = client.New(b.server.URL)
	b.cleanups = append(b.cleanups, b.api.Close)
	b.target = "bench-agent.echo"
	answer, err := b.api.Do(ctx, http.MethodPost, "/api/v1/nodes/register", map[string]any{
		"id": "bench-agent", "base_url": b.agent.URL, "version": "1.0.0", "reasoners": []any{map[string]any{"id": "echo"}, map[string]any{"id": "later"}}, "skills": []any{},
	})
	if err != nil {
		return err
	}
	if answer.Status != http.StatusCreated {
		return fmt.Errorf("register the echo agent: %s", answer)
	}
	return nil
}

// startYardstick gives the yardstick a store of its own.
func (b *bench) startYardstick(ctx context.Context) error {
	store, err := server.NewStore(ctx, b.options.PostgresURL)
	if err != nil {
		return err
	}
	b.cleanups = append(b.cleanups, func() { _ = store.Close() })
	args := []string{"yardstick", "--agent-url", b.agent.URL, "--data-dir", store.Dir}
	if store.Postgres() {
		args = append(args, "--database-url", store.DatabaseURL)
	}
	b.yardstick, err = b.child(ctx, args...)
	return err
}

// child starts this program once more in another part.
func (b *bench) child(ctx context.Context, args ...string) (*process.Process, error) {
	cmd := exec.Command(b.options.Self, args...) //nolint:noctx // ended by close
	cmd.Env = os.Environ()
	p, err := process.Start(ctx, cmd, &process.Log{})
	if err != nil {
		return nil, err
	}
	b.cleanups = append(b.cleanups, func() { _ = p.Kill() })
	return p, nil
}

// aim is a figure that is wanted.
type aim struct {
	text string
	met  bool
}

// row adds a line to the table; without an aim the last columns stay empty.
func (b *bench) row(what, measured, more, yardstick string, aims ...aim) {
	text, verdict := "", ""
	for _, a := range aims {
		if text != "" {
			text += ", "
		}
		text += a.text
		if !a.met {
			verdict = "missed"
		} else if verdict == "" {
			verdict = "met"
		}
	}
	if verdict == "missed" {
		b.missed++
	}
	b.table.Add(what, measured, more, yardstick, text, verdict)
}

// percentiles writes p50 and p99.
func percentiles(d report.Durations) string {
	return "p50 " + report.Ms(d.Percentile(50)) + " ms, p99 " + report.Ms(d.Percentile(99)) + " ms"
}

// loadAverage tells how busy the machine has been in the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	oneMinute, _, _ := strings.Cut(string(text), " ")
	return oneMinute
}

var errSlow = errors.New("the executions did not end in time")
