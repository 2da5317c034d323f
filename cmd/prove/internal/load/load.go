// Package load is a cheap closed-loop client: each of its clients sends the next request as soon as it has the answer to the last.
// Its one invariant: an answer that is not the expected one is counted as a failure, never as fast.
package load

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

// Request is what one client sends next.
type Request struct {
	Method string
	Path   string
	Body   []byte
}

// Plan says what to send, by how many clients and for how long.
type Plan struct {
	URL     string
	Clients int
	For     time.Duration                         // how long, unless Total is set
	Total   int                                   // how many requests
	Next    func(n int) Request                   // the n-th request, from any goroutine
	Take    func(n, status int, body []byte) bool // whether the answer is a good one; body is only valid until it returns
}

// Result is what was measured.
type Result struct {
	Took   report.Durations // of good answers
	Lasted time.Duration
	Failed int
	First  string // the first answer that was not good
}

// PerSecond is the rate of good answers.
func (r Result) PerSecond() float64 { return float64(len(r.Took)) / r.Lasted.Seconds() }

// Add joins what another run of the same plan measured.
func (r *Result) Add(other Result) {
	r.Took = append(r.Took, other.Took...)
	r.Lasted += other.Lasted
	r.Failed += other.Failed
	if r.First == "" {
		r.First = other.First
	}
}

// Check turns failures into an error.
func (r Result) Check() error {
	if r.Failed == 0 && len(r.Took) > 0 {
		return nil
	}
	if r.Failed == 0 {
		return errors.New("no answer at all")
	}
	return fmt.Errorf("%d answers were not as expected, the first: %s", r.Failed, r.First)
}

// Run carries out a plan.
func Run(ctx context.Context, plan Plan) Result {
	client := &fasthttp.HostClient{
		Addr: strings.TrimPrefix(plan.URL, "http://"), MaxConns: plan.Clients + 8, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
	}
	defer client.CloseIdleConnections()
	if plan.For > 0 {
		limited, cancel := context.WithTimeout(ctx, plan.For)
		defer cancel()
		ctx = limited
	}
	var counter atomic.Int64
	parts := make([]Result, plan.Clients)
	var clients sync.WaitGroup
	began := time.Now()
	for i := range parts {
		clients.Go(func() { parts[i] = runOne(ctx, client, plan, &counter) })
	}
	clients.Wait()
	return join(parts, time.Since(began))
}

func runOne(ctx context.Context, client *fasthttp.HostClient, plan Plan, counter *atomic.Int64) Result {
	req, res := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(res)
	var r Result
	for ctx.Err() == nil {
		n := int(counter.Add(1)) - 1
		if plan.Total > 0 && n >= plan.Total {
			return r
		}
		next := plan.Next(n)
		req.Reset()
		req.SetRequestURI(plan.URL + next.Path)
		req.Header.SetMethod(next.Method)
		req.Header.SetContentType("application/json")
		req.SetBodyRaw(next.Body)
		began := time.Now()
		err := client.Do(req, res)
		took := time.Since(began)
		if err == nil && plan.Take(n, res.StatusCode(), res.Body()) {
			r.Took = append(r.Took, took)
			continue
		}
		if r.Failed++; r.First == "" {
			r.First = fmt.Sprintf("%s %s → %d %.300s %v", next.Method, next.Path, res.StatusCode(), res.Body(), err)
		}
	}
	return r
}

func join(parts []Result, lasted time.Duration) Result {
	var all Result
	for _, part := range parts {
		all.Add(part)
	}
	all.Lasted = lasted
	return all
}
