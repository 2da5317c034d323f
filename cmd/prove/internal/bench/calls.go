package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/load"
	"github.com/agentfield/agentfield/cmd/prove/internal/process"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

// body is about 1 KB of input, as the figures of the design assume.
var body = []byte(`{"input":{"message":"` + string(bytes.Repeat([]byte("m"), 960)) + `","n":1}}`)

// synchronous measures the echo at 1, 8 and 64 clients.
func (b *bench) synchronous(ctx context.Context) error {
	mine := contender{process: b.server.Process, path: "/api/v1/execute/" + b.target}
	bare := contender{process: b.yardstick, path: "/execute"}
	for _, clients := range []int{1, 8, 64} {
		if err := b.inTurn(ctx, clients, &mine, &bare); err != nil {
			return err
		}
		share := mine.PerSecond() / bare.PerSecond()
		var aims []aim
		switch clients {
		case 1:
			aims = []aim{{"p50 ≤ 1 ms", mine.Took.Percentile(50) <= time.Millisecond}}
		case 64:
			aims = []aim{{"≥ 50 % of the yardstick", share >= 0.5}}
		}
		b.row(fmt.Sprintf("sync echo, %d clients", clients), report.Rate(mine.PerSecond()),
			percentiles(mine.Took)+fmt.Sprintf(", cpu %d µs, %.0f %%", mine.cost.Microseconds(), 100*share),
			report.Rate(bare.PerSecond())+", "+percentiles(bare.Took)+fmt.Sprintf(", cpu %d µs", bare.cost.Microseconds()), aims...)
	}
	return nil
}

// contender is one of the two programs that are compared.
type contender struct {
	process *process.Process
	path    string

	load.Result
	cost time.Duration // processor time of one request
}

// turns is how often the two take turns, so that what else happens on the machine strikes both.
const turns = 4

// inTurn measures both in short turns, after one turn that only warms up.
func (b *bench) inTurn(ctx context.Context, clients int, both ...*contender) error {
	used := make([]time.Duration, len(both))
	for turn := range turns + 1 {
		for i, c := range both {
			before, err := c.process.CPU()
			if err != nil {
				return err
			}
			result, err := b.echo(ctx, c.process.URL, c.path, clients, b.period/turns)
			if err != nil {
				return err
			}
			after, err := c.process.CPU()
			if err != nil {
				return err
			}
			if turn == 0 {
				c.Result, used[i] = load.Result{}, 0
				continue
			}
			c.Add(result)
			used[i] += after - before
		}
	}
	for i, c := range both {
		c.cost = used[i] / time.Duration(len(c.Took))
	}
	return nil
}

func (b *bench) echo(ctx context.Context, url, path string, clients int, period time.Duration) (load.Result, error) {
	result := load.Run(ctx, load.Plan{
		URL: url, Clients: clients, For: period,
		Next: func(int) load.Request { return load.Request{Method: http.MethodPost, Path: path, Body: body} },
		Take: func(_, status int, answer []byte) bool {
			return status == http.StatusOK && bytes.Contains(answer, []byte(`"status":"succeeded"`))
		},
	})
	if err := result.Check(); err != nil {
		return result, fmt.Errorf("sync echo: %w", err)
	}
	return result, nil
}

// asynchronous measures from the first submit to the end of the last execution.
func (b *bench) asynchronous(ctx context.Context) error {
	began := time.Now()
	ids, result, err := b.submit(ctx, b.submits)
	if err != nil {
		return err
	}
	if err := b.awaitAll(ctx, ids); err != nil {
		return err
	}
	rate := float64(len(ids)) / time.Since(began).Seconds()
	b.row(fmt.Sprintf("async submit, 64 clients, %s of them", report.Count(b.submits)), report.Rate(result.PerSecond()),
		percentiles(result.Took)+fmt.Sprintf(", %d refused", result.Failed), "",
		aim{"p99 ≤ 50 ms", result.Took.Percentile(99) <= 50*time.Millisecond}, aim{"0 refused", result.Failed == 0})
	b.row("async submit → terminal", report.Rate(rate), "", "", aim{"≥ 5,000/s", rate >= 5000})
	return nil
}

// submit sends n executions as fast as 64 clients can and returns their ids.
func (b *bench) submit(ctx context.Context, n int) ([]string, load.Result, error) {
	return b.submitTo(ctx, b.target, n)
}

func (b *bench) submitTo(ctx context.Context, target string, n int) ([]string, load.Result, error) {
	ids := make([]string, n)
	result := load.Run(ctx, load.Plan{
		URL: b.server.URL, Clients: 64, Total: n,
		Next: func(int) load.Request {
			return load.Request{Method: http.MethodPost, Path: "/api/v1/execute/async/" + target, Body: body}
		},
		Take: func(n, status int, answer []byte) bool {
			ids[n] = idOf(answer)
			return status == http.StatusAccepted && ids[n] != ""
		},
	})
	if err := result.Check(); err != nil {
		return nil, result, fmt.Errorf("async submit: %w", err)
	}
	return ids, result, nil
}

// idOf cuts the execution id out of an answer without decoding it.
func idOf(answer []byte) string {
	return member(answer, "execution_id")
}

// member cuts a text out of an object without decoding it.
func member(answer []byte, name string) string {
	_, rest, _ := bytes.Cut(answer, []byte(`"`+name+`":"`))
	value, _, found := bytes.Cut(rest, []byte(`"`))
	if !found {
		return ""
	}
	return string(value)
}

// awaitLimit is how long accepted executions may take to end.
const awaitLimit = 2 * time.Minute

// awaitAll returns when every execution has ended well. It asks for the newest first, which end last.
func (b *bench) awaitAll(ctx context.Context, ids []string) error {
	deadline := time.Now().Add(awaitLimit)
	for end := len(ids); end > 0; {
		part := ids[max(0, end-1000):end]
		ended, err := b.ended(ctx, part)
		if err != nil {
			return err
		}
		if ended {
			end -= len(part)
			continue
		}
		if time.Now().After(deadline) {
			return errSlow
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

func (b *bench) ended(ctx context.Context, ids []string) (bool, error) {
	answer, err := b.api.BatchStatus(ctx, ids)
	if err != nil {
		return false, err
	}
	var entries map[string]struct{ Status string }
	if err := json.Unmarshal(answer.Body, &entries); err != nil {
		return false, fmt.Errorf("batch status: %s", answer)
	}
	for _, id := range ids {
		switch status := entries[id].Status; {
		case !client.Terminal(status):
			return false, nil
		case status != "succeeded":
			return false, fmt.Errorf("execution %s is %s", id, status)
		}
	}
	return true, nil
}

// reads measures GET by id and batch status of 100 among executions that have ended.
func (b *bench) reads(ctx context.Context) error {
	ids, _, err := b.submit(ctx, 1000)
	if err != nil {
		return err
	}
	if err := b.awaitAll(ctx, ids); err != nil {
		return err
	}
	for _, clients := range []int{1, 64} {
		result, err := b.get(ctx, clients, func(n int) string { return "/api/v1/executions/" + ids[n%len(ids)] })
		if err != nil {
			return err
		}
		b.row(fmt.Sprintf("GET by id, %d clients", clients), report.Rate(result.PerSecond()), percentiles(result.Took), "")
	}
	batches := make([][]byte, 0, 10)
	for part := range slices.Chunk(ids, 100) {
		payload, err := json.Marshal(map[string]any{"execution_ids": part})
		if err != nil {
			return err
		}
		batches = append(batches, payload)
	}
	result := load.Run(ctx, load.Plan{
		URL: b.server.URL, Clients: 8, For: b.period,
		Next: func(n int) load.Request {
			return load.Request{Method: http.MethodPost, Path: "/api/v1/executions/batch-status", Body: batches[n%len(batches)]}
		},
		Take: func(_, status int, answer []byte) bool {
			return status == http.StatusOK && bytes.Count(answer, []byte(`"status":"succeeded"`)) == 100
		},
	})
	if err := result.Check(); err != nil {
		return fmt.Errorf("batch status: %w", err)
	}
	b.row("batch status of 100, 8 clients", report.Rate(result.PerSecond()), percentiles(result.Took), "",
		aim{"≥ 2,000/s", result.PerSecond() >= 2000})
	return nil
}

func (b *bench) get(ctx context.Context, clients int, path func(n int) string) (load.Result, error) {
	result := load.Run(ctx, load.Plan{
		URL: b.server.URL, Clients: clients, For: b.period,
		Next: func(n int) load.Request { return load.Request{Method: http.MethodGet, Path: path(n)} },
		Take: func(_, status int, answer []byte) bool { return status == http.StatusOK && len(answer) > 2 },
	})
	if err := result.Check(); err != nil {
		return result, fmt.Errorf("read: %w", err)
	}
	return result, nil
}

// list fills the store and reads pages of 50.
func (b *bench) list(ctx context.Context) error {
	began := time.Now()
	for sown := 0; sown < b.listed; {
		n := min(20_000, b.listed-sown)
		ids, _, err := b.submit(ctx, n)
		if err != nil {
			return err
		}
		if err := b.awaitAll(ctx, ids); err != nil {
			return err
		}
		sown += n
	}
	b.row(fmt.Sprintf("%s executions run to fill the list", report.Count(b.listed)), report.Rate(float64(b.listed)/time.Since(began).Seconds()), "", "")
	cursor, err := b.deepCursor(ctx)
	if err != nil {
		return err
	}
	for _, page := range [][2]string{
		{"newest", ""}, {"status=succeeded", "&status=succeeded"}, {"status=failed", "&status=failed"}, {"page 20", "&cursor=" + cursor},
	} {
		result, err := b.get(ctx, 1, func(int) string { return "/api/v1/executions?limit=50" + page[1] })
		if err != nil {
			return err
		}
		b.row(fmt.Sprintf("list of 50 among %s, %s", report.Count(b.listed), page[0]), report.Rate(result.PerSecond()), percentiles(result.Took), "",
			aim{"p50 ≤ 3 ms", result.Took.Percentile(50) <= 3*time.Millisecond})
	}
	return nil
}

// deepCursor is the cursor of the twentieth page.
func (b *bench) deepCursor(ctx context.Context) (string, error) {
	cursor := ""
	for range 19 {
		filters := []string{"limit", "50"}
		if cursor != "" {
			filters = append(filters, "cursor", cursor)
		}
		page, err := b.api.List(ctx, filters...)
		if err != nil {
			return "", err
		}
		if cursor = page.Text("next_cursor"); cursor == "" {
			return "", fmt.Errorf("the list ended early: %s", page)
		}
	}
	return cursor, nil
}

// webhooksArrive measures from the end of an execution to the arrival of its webhook.
func (b *bench) webhooksArrive(ctx context.Context) error {
	arrivals, err := newArrivals()
	if err != nil {
		return err
	}
	defer arrivals.close()
	var ids []string
	submitted := map[string]time.Time{}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := range b.webhooks {
		<-tick.C
		at := time.Now()
		answer, err := b.api.Submit(ctx, client.Call{
			Target: b.target, Input: map[string]any{"i": i},
			Fields: map[string]any{"webhook": map[string]any{"url": arrivals.url, "secret": "bench-secret"}},
		})
		if err != nil {
			return err
		}
		if answer.Status != http.StatusAccepted {
			return fmt.Errorf("submit with a webhook: %s", answer)
		}
		id := answer.Text("execution_id")
		ids = append(ids, id)
		submitted[id] = at
	}
	at, err := arrivals.await(ctx, len(ids))
	if err != nil {
		return err
	}
	var afterEnd, afterSubmit report.Durations
	for _, id := range ids {
		end, err := b.api.End(ctx, id)
		if err != nil {
			return err
		}
		completed, err := time.Parse(time.RFC3339Nano, end.Text("completed_at"))
		if err != nil {
			return fmt.Errorf("completed_at: %s", end)
		}
		afterEnd = append(afterEnd, max(at[id].Sub(completed), 0))
		afterSubmit = append(afterSubmit, at[id].Sub(submitted[id]))
	}
	b.row("webhook arrival after completion, 50/s", strconv.Itoa(len(ids))+" of "+strconv.Itoa(len(ids)), percentiles(afterEnd), "",
		aim{"p50 ≤ 30 ms", afterEnd.Percentile(50) <= 30*time.Millisecond})
	b.row("submit → webhook arrival, 50/s", "", percentiles(afterSubmit), "")
	return nil
}
