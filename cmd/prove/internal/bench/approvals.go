package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/load"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

const decisions = 300

// approvals measures the reviewer's queue and the decisions while many requests are open.
func (b *bench) approvals(ctx context.Context) error {
	began := time.Now()
	ids, _, err := b.submitTo(ctx, "bench-agent.later", b.pending)
	if err != nil {
		return err
	}
	asked, err := b.askAll(ctx, ids)
	if err != nil {
		return err
	}
	pending := report.Count(b.pending) + " pending"
	b.row(fmt.Sprintf("%s requests for approval", report.Count(b.pending)), report.Rate(float64(b.pending)/time.Since(began).Seconds()), "", "")
	for _, page := range []struct{ what, path string }{
		{"queue page", "/approvals"}, {"queue as JSON", "/api/v1/approvals"}, {"item page", "/approvals/" + asked[len(asked)/2]},
	} {
		result, err := b.get(ctx, 1, func(int) string { return page.path })
		if err != nil {
			return err
		}
		b.p95(page.what+", "+pending, result)
	}
	decided := b.decide(ctx, asked[:decisions])
	if err := decided.Check(); err != nil {
		return fmt.Errorf("decide: %w", err)
	}
	b.p95("decision, "+pending, decided)
	return nil
}

// askAll lets each execution ask for an approval as soon as it runs, and returns the ids of the requests.
func (b *bench) askAll(ctx context.Context, ids []string) ([]string, error) {
	asked := make([]string, len(ids))
	deadline := time.Now().Add(awaitLimit)
	for open := index(len(ids)); len(open) > 0; {
		load.Run(ctx, load.Plan{
			URL: b.server.URL, Clients: 32, Total: len(open),
			Next: func(n int) load.Request {
				return load.Request{Method: http.MethodPost, Path: "/api/v1/executions/" + ids[open[n]] + "/request-approval", Body: []byte(`{"title":"Pay the claim","risk":"low"}`)}
			},
			Take: func(n, status int, answer []byte) bool {
				if status != http.StatusOK && status != http.StatusCreated {
					return false // it does not run yet
				}
				asked[open[n]] = member(answer, "approval_request_id")
				return asked[open[n]] != ""
			},
		})
		if open = slices.DeleteFunc(open, func(i int) bool { return asked[i] != "" }); len(open) > 0 && time.Now().After(deadline) {
			return nil, errSlow
		}
	}
	return asked, nil
}

func index(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func (b *bench) decide(ctx context.Context, asked []string) load.Result {
	return load.Run(ctx, load.Plan{
		URL: b.server.URL, Clients: 1, Total: len(asked),
		Next: func(n int) load.Request {
			return load.Request{Method: http.MethodPost, Path: "/api/v1/webhooks/approval", Body: []byte(`{"approval_request_id":"` + asked[n] + `","decision":"approved"}`)}
		},
		Take: func(_, status int, answer []byte) bool {
			return status == http.StatusOK && member(answer, "decision") == "approved"
		},
	})
}

func (b *bench) p95(what string, result load.Result) {
	p95 := result.Took.Percentile(95)
	b.row(what, report.Rate(result.PerSecond()), "p50 "+report.Ms(result.Took.Percentile(50))+" ms, p95 "+report.Ms(p95)+" ms", "",
		aim{"p95 ≤ 30 ms", p95 <= 30*time.Millisecond})
}
