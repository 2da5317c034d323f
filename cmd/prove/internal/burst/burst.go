// Package burst offers far more work at once than one agent may queue and looks at the refusals. Its one invariant: every request is
// counted as exactly one of accepted, refused or broken.
package burst

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// Options say how large the burst is and how little the agent takes.
type Options struct {
	Binary      string
	PostgresURL string
	Submits     int
	Clients     int
	Depth       int           // executions that may wait for the agent
	Concurrency int           // executions the agent works on at once
	Work        time.Duration // of one execution
}

// ErrBroken is returned when a promise was broken.
var ErrBroken = errors.New("a promise was broken")

// outcome is what became of the requests.
type outcome struct {
	mu       sync.Mutex
	accepted []string
	took     report.Durations
	refusals report.Durations
	silent   int // refusals without Retry-After
	others   []string
	lasted   time.Duration
}

// Run sends the burst and judges the answers.
func Run(ctx context.Context, options Options, out io.Writer) error {
	store, err := server.NewStore(ctx, options.PostgresURL)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	s, err := server.Start(ctx, server.Settings{Binary: options.Binary, Store: store, Env: []string{
		"AGENTFIELD_NODE_DEPTH=" + strconv.Itoa(options.Depth), "AGENTFIELD_NODE_CONCURRENCY=" + strconv.Itoa(options.Concurrency),
	}})
	if err != nil {
		return err
	}
	defer func() { _ = s.Kill() }()
	api := client.New(s.URL)
	api.HTTP.Transport.(*http.Transport).MaxIdleConnsPerHost = options.Clients //nolint:forcetypeassert // client.New made it
	defer api.Close()
	agent, err := register(ctx, api)
	if err != nil {
		return err
	}
	defer agent.Close()
	o := send(ctx, api, agent, options)
	return judge(ctx, api, agent, s, options, o, out)
}

func register(ctx context.Context, api *client.Client) (*fake.Agent, error) {
	agent, err := fake.NewAgent("", api.Base)
	if err != nil {
		return nil, err
	}
	answer, err := api.Do(ctx, http.MethodPost, "/api/v1/nodes/register", agent.Registration())
	if err == nil && answer.Status != http.StatusCreated {
		err = fmt.Errorf("register the agent: %s", answer)
	}
	if err != nil {
		agent.Close()
		return nil, err
	}
	return agent, nil
}

// send lets all clients start at the same instant.
func send(ctx context.Context, api *client.Client, agent *fake.Agent, options Options) *outcome {
	o := &outcome{}
	call := client.Call{Target: agent.Target("sleep"), Input: map[string]any{"ms": options.Work.Milliseconds()}}
	next := make(chan struct{}, options.Submits)
	for range options.Submits {
		next <- struct{}{}
	}
	close(next)
	start := make(chan struct{})
	var clients sync.WaitGroup
	for range options.Clients {
		clients.Go(func() {
			<-start
			for range next {
				o.take(api.Submit(ctx, call))
			}
		})
	}
	began := time.Now()
	close(start)
	clients.Wait()
	o.lasted = time.Since(began)
	return o
}

func (o *outcome) take(answer client.Answer, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.others = append(o.others, err.Error())
		return
	}
	o.took = append(o.took, answer.Took)
	switch answer.Status {
	case http.StatusAccepted:
		o.accepted = append(o.accepted, answer.Text("execution_id"))
	case http.StatusTooManyRequests:
		o.refusals = append(o.refusals, answer.Took)
		if answer.Header.Get("Retry-After") == "" {
			o.silent++
		}
	default:
		o.others = append(o.others, answer.String())
	}
}

func judge(ctx context.Context, api *client.Client, agent *fake.Agent, s *server.Server, options Options, o *outcome, out io.Writer) error {
	listed, err := api.ListAll(ctx, "node", agent.ID)
	if err != nil {
		return err
	}
	strangers := 0
	for _, id := range listed {
		if !slices.Contains(o.accepted, id) {
			strangers++
		}
	}
	succeeded, err := await(ctx, api, o.accepted)
	if err != nil {
		return err
	}
	peak, err := s.PeakRSS()
	if err != nil {
		return err
	}
	engine := "SQLite"
	if options.PostgresURL != "" {
		engine = "PostgreSQL"
	}
	_, _ = fmt.Fprintf(out, "%s, a burst at an agent of %s that works on %d at once, depth %d\n\n", engine, options.Work, options.Concurrency, options.Depth)
	table := report.NewTable("what", "value", "must be")
	table.Add("submits", report.Count(options.Submits), "")
	table.Add("answered in", o.lasted.Round(time.Millisecond).String(), "")
	table.Add("accepted", report.Count(len(o.accepted)), "≥ "+report.Count(options.Depth))
	table.Add("refused with 429", report.Count(len(o.refusals)), "> 0")
	table.Add("  without Retry-After", report.Count(o.silent), "0")
	table.Add("  p99 ms", report.Ms(o.refusals.Percentile(99)), "< 1000")
	table.Add("p50 / p99 ms of all answers", report.Ms(o.took.Percentile(50))+" / "+report.Ms(o.took.Percentile(99)), "< 1000")
	table.Add("other answers", report.Count(len(o.others)), "0")
	table.Add("rows in the list", report.Count(len(listed)), report.Count(len(o.accepted)))
	table.Add("  that nobody was told about", report.Count(strangers), "0")
	table.Add("accepted and succeeded", report.Count(succeeded), report.Count(len(o.accepted)))
	table.Add("peak memory of the server", report.MB(peak), "")
	if err := table.Write(out); err != nil {
		return err
	}
	for _, other := range o.others[:min(len(o.others), 5)] {
		_, _ = fmt.Fprintln(out, "  ", other)
	}
	good := len(o.refusals) > 0 && o.silent == 0 && len(o.others) == 0 && o.took.Percentile(99) < time.Second &&
		len(o.accepted) >= options.Depth && len(listed) == len(o.accepted) && strangers == 0 && succeeded == len(o.accepted)
	if !good {
		_, _ = fmt.Fprintln(out, "FAILED")
		return ErrBroken
	}
	_, err = fmt.Fprintln(out, "ok")
	return err
}

// await waits for the end of the accepted work and counts what succeeded.
func await(ctx context.Context, api *client.Client, ids []string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	succeeded := 0
	for _, id := range ids {
		end, err := api.End(ctx, id)
		if err != nil {
			return succeeded, err
		}
		if end.Text("status") == "succeeded" {
			succeeded++
		}
	}
	return succeeded, nil
}
