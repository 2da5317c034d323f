// Package instances lets the copies of one agent fall ill and restart one after the other while callers call it a hundred times a
// second. Its one invariant: every call that was sent is counted as succeeded or as failed, with what its caller was told.
package instances

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// Options say how much is called and for how long.
type Options struct {
	Binary      string
	PostgresURL string
	Rate        int           // calls per second
	Sick        time.Duration // how long one of three instances is sick
}

// ErrBroken is returned when a promise was broken.
var ErrBroken = errors.New("a promise was broken")

// Of a sick instance: what its breaker costs, and how soon it must be back.
const (
	probeEvery = 10 * time.Second
	backWithin = 30 * time.Second
)

// Run makes the instances sick in each way, restarts them in each way, and prints what the callers noticed.
func Run(ctx context.Context, options Options, out io.Writer) error {
	store, err := server.NewStore(ctx, options.PostgresURL)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	s, err := server.Start(ctx, server.Settings{Binary: options.Binary, Store: store})
	if err != nil {
		return err
	}
	defer func() { _ = s.Kill() }()
	api := client.New(s.URL)
	defer api.Close()
	engine := "SQLite"
	if options.PostgresURL != "" {
		engine = "PostgreSQL"
	}
	_, _ = fmt.Fprintf(out, "%s, 3 instances of an agent, %d calls a second\n\n", engine, options.Rate)
	table := report.NewTable("what happens", "calls", "failed", "must be", "sick: calls", "then per 10 s", "must be", "back after", "must be")
	good, told := true, []string(nil)
	for _, ill := range []sickness{fails, hangs, refuses} {
		o, err := fallIll(ctx, api, ill, options)
		if err != nil {
			return err
		}
		table.Add(o.row()...)
		good, told = good && o.good(), append(told, o.calls.failures...)
	}
	for _, manner := range []manner{announced, abrupt} {
		o, err := restartAll(ctx, api, manner, options)
		if err != nil {
			return err
		}
		table.Add("all restarted, "+manner.String(), report.Count(o.sent), report.Count(len(o.failures)), "0")
		good, told = good && o.sent > 0 && len(o.failures) == 0, append(told, o.failures...)
	}
	if err := table.Write(out); err != nil {
		return err
	}
	for _, failure := range told[:min(len(told), 5)] {
		_, _ = fmt.Fprintln(out, "  ", failure)
	}
	if !good {
		_, _ = fmt.Fprintln(out, "FAILED")
		return ErrBroken
	}
	_, err = fmt.Fprintln(out, "ok")
	return err
}

// outcome is what one of three instances being sick has led to.
type outcome struct {
	ill    sickness
	calls  calls
	begun  int // calls it got until it was left alone
	probes int // most calls it got in ten seconds after that
	back   time.Duration
}

func (o outcome) good() bool {
	return o.calls.sent > 0 && len(o.calls.failures)*1000 <= o.calls.sent && o.probes <= 1 && o.back > 0 && o.back <= backWithin
}

func (o outcome) row() []string {
	row := []string{
		"one " + o.ill.String(), report.Count(o.calls.sent), report.Count(len(o.calls.failures)), "≤ 0.1 %",
		report.Count(o.begun), report.Count(o.probes), "≤ 1", "never", "≤ 30 s",
	}
	if o.ill == refuses {
		row[4], row[5], row[6] = "-", "-", "" // what is refused reaches nobody who could count it
	}
	if o.back > 0 {
		row[7] = o.back.Round(100 * time.Millisecond).String()
	}
	return row
}

// register makes an instance known, under an id of its own.
func register(ctx context.Context, api *client.Client, c *instance) error {
	body := c.agent.Registration()
	body["instance_id"] = c.name
	answer, err := api.Do(ctx, http.MethodPost, "/api/v1/nodes/register", body)
	if err == nil && answer.Status != http.StatusCreated {
		err = fmt.Errorf("register an instance: %s", answer)
	}
	return err
}

// shutDown says that an instance goes.
func shutDown(ctx context.Context, api *client.Client, c *instance) error {
	answer, err := api.Do(ctx, http.MethodPost, "/api/v1/nodes/"+c.agent.ID+"/shutdown", map[string]any{"instance_id": c.name})
	if err == nil && answer.Status != http.StatusAccepted {
		err = fmt.Errorf("say that an instance goes: %s", strings.TrimSpace(answer.String()))
	}
	return err
}
