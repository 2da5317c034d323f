// Package trace tells a collector of OpenTelemetry about executions that have ended, one span each. Its invariant: nobody waits for the
// collector. What it does not take in time is counted and dropped; the truth is in the rows.
package trace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentfield/agentfield/app/lease"
	"github.com/agentfield/agentfield/models"
)

// Options are the parts and settings.
type Options struct {
	Client   *http.Client
	Endpoint string // base address of the collector; empty: nothing is told
	Headers  http.Header
	Version  string // of this server
	Replica  string // its id
	Log      *slog.Logger
}

// Exporter takes executions as they end and tells of them in batches.
type Exporter struct {
	Options
	url    string
	ended  chan models.Execution
	cancel context.CancelFunc
	done   chan struct{}
	spans  *prometheus.CounterVec // by outcome
}

const (
	room     = 8192        // executions that wait to be told of
	batch    = 512         // spans of one request
	every    = time.Second // longest wait of a span for its batch
	tries    = 3
	farewell = 3 * time.Second // for what is left when the server stops
)

// New returns an exporter at rest.
func New(o Options) *Exporter {
	return &Exporter{
		Options: o, url: strings.TrimSuffix(o.Endpoint, "/") + "/v1/traces", ended: make(chan models.Execution, room), done: make(chan struct{}),
		spans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentfield_spans_total", Help: "Spans of ended executions, by what became of them: sent, or dropped.",
		}, []string{"outcome"}),
	}
}

// Collectors are its metrics.
func (x *Exporter) Collectors() []prometheus.Collector { return []prometheus.Collector{x.spans} }

// Ended takes note of an execution that has ended. It never waits.
func (x *Exporter) Ended(row *models.Execution) {
	if x.Endpoint == "" || !row.Traceparent().Sampled {
		return
	}
	select {
	case x.ended <- *row:
	default:
		x.spans.WithLabelValues("dropped").Inc()
	}
}

// Start begins to tell.
func (x *Exporter) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	go func() {
		defer close(x.done)
		if x.Endpoint != "" {
			x.run(ctx)
		}
	}()
}

// Stop tells of what is left, for a moment.
func (x *Exporter) Stop() {
	if x.cancel != nil {
		x.cancel()
		<-x.done
	}
}

func (x *Exporter) run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	rows := make([]models.Execution, 0, batch)
	for {
		select {
		case row := <-x.ended:
			if rows = append(rows, row); len(rows) < batch {
				continue
			}
		case <-tick.C:
		case <-ctx.Done():
			x.finish(rows) //nolint:contextcheck // what is left is told although the work has ended
			return
		}
		x.tell(ctx, rows)
		rows = rows[:0]
	}
}

func (x *Exporter) finish(rows []models.Execution) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	for {
		select {
		case row := <-x.ended:
			if rows = append(rows, row); len(rows) == batch {
				x.tell(ctx, rows)
				rows = rows[:0]
			}
			continue
		default:
		}
		x.tell(ctx, rows)
		return
	}
}

// tell sends a batch, and again a few times while the collector is away or asks for patience.
func (x *Exporter) tell(ctx context.Context, rows []models.Execution) {
	if len(rows) == 0 {
		return
	}
	body, err := encode(rows, x.Version, x.Replica)
	backoff := lease.Backoff{First: 200 * time.Millisecond, Max: 2 * time.Second}
	for n := 1; err == nil; n++ {
		var again bool
		if again, err = x.post(ctx, body); err == nil {
			x.spans.WithLabelValues("sent").Add(float64(len(rows)))
			return
		}
		if !again || n == tries || !lease.Rest(ctx, backoff.Delay(n)) {
			break
		}
		err = nil
	}
	x.spans.WithLabelValues("dropped").Add(float64(len(rows)))
	x.Log.Warn("the collector of traces did not take spans", "spans", len(rows), "error", err)
}

var errRefused = errors.New("the collector refused")

// post sends one request. again reports whether another try may do better, as OTLP/HTTP says.
func (x *Exporter) post(ctx context.Context, body []byte) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, x.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	maps.Copy(request.Header, x.Headers)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "agentfield")
	answer, err := x.Client.Do(request)
	if err != nil {
		return true, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection is used again
	if answer.StatusCode/100 == 2 {
		return false, nil
	}
	switch answer.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	return again, fmt.Errorf("%w with status %d", errRefused, answer.StatusCode)
}
