package trace_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/agentfield/agentfield/app/trace"
	"github.com/agentfield/agentfield/models"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func exporter(t *testing.T, answer http.HandlerFunc) *trace.Exporter {
	t.Helper()
	collector := httptest.NewServer(answer)
	t.Cleanup(collector.Close)
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	return trace.New(trace.Options{
		Client: client, Endpoint: collector.URL + "/", Headers: http.Header{"X-Team": {"a"}}, Version: "1.2.3", Replica: "replica_1", Log: slog.New(slog.DiscardHandler),
	})
}

func ended(id string, status models.Status) *models.Execution {
	at, started := int64(1_700_000_001_500), int64(1_700_000_000_250)
	return &models.Execution{
		ID: id, RunID: "run_1", NodeID: "n", Function: "f", FunctionKind: "reasoner", Mode: "async", Status: status, Attempt: 2,
		CreatedAt: 1_700_000_000_000, StartedAt: &started, FinishedAt: &at,
	}
}

type received struct {
	path, team string
	body       []byte
}

func TestSpansArriveAtTheCollector(t *testing.T) {
	got := make(chan received, 4)
	x := exporter(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{r.URL.Path, r.Header.Get("X-Team"), body}
	})
	x.Start()
	message := "no luck"
	failed := ended("exec_2", models.Failed)
	failed.ErrorMessage = &message
	x.Ended(ended("exec_1", models.Succeeded))
	x.Ended(failed)
	unsampled := ended("exec_3", models.Succeeded)
	header := "00-" + strings.Repeat("ab", 16) + "-" + strings.Repeat("cd", 8) + "-00"
	unsampled.Trace = &header
	x.Ended(unsampled)
	x.Stop() // tells of what is left
	r := <-got
	if r.path != "/v1/traces" || r.team != "a" {
		t.Errorf("%s for %q", r.path, r.team)
	}
	var body bytes.Buffer
	if err := json.Indent(&body, r.body, "", " "); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"traceId": "` + ended("exec_1", "").Traceparent().Trace + `"`, `"spanId": "` + models.SpanOf("exec_1") + `"`, `"name": "n.f"`,
		`"startTimeUnixNano": "1700000000000000000"`, `"endTimeUnixNano": "1700000001500000000"`, `"timeUnixNano": "1700000000250000000"`,
		`"stringValue": "exec_1"`, `"stringValue": "1.2.3"`, `"intValue": "2"`, `"message": "no luck"`,
	} {
		if !strings.Contains(body.String(), want) {
			t.Errorf("the spans lack %s", want)
		}
	}
	if strings.Contains(body.String(), "exec_3") || len(got) != 0 {
		t.Error("a span was told that its caller does not sample")
	}
	if n := counted(t, x); n != 2 {
		t.Errorf("%v spans are counted as sent", n)
	}
}

// counted is how many spans are counted, under whatever label.
func counted(t *testing.T, x *trace.Exporter) (n float64) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(x.Collectors()...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n += m.GetCounter().GetValue()
		}
	}
	return n
}

func TestACollectorThatIsBusyIsAskedAgain(t *testing.T) {
	var asked atomic.Int32
	told := make(chan struct{})
	x := exporter(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		close(told)
	})
	x.Start()
	x.Ended(ended("exec_1", models.Succeeded))
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Error("it was not asked again")
	}
	x.Stop()
}

func TestNobodyWaitsForACollectorThatHangs(t *testing.T) {
	hang := make(chan struct{})
	x := exporter(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	x.Start()
	for range 20_000 { // more than there is room for
		x.Ended(ended("exec_1", models.Succeeded))
	}
	x.Stop()
	if n := counted(t, x); n != 20_000 { // all of them, under the one label that there is
		t.Errorf("%v of 20000 were dropped", n)
	}
}
