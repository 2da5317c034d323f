package crash

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
)

// manner is how an agent treats calls.
type manner int

const (
	joins   manner = iota // honours the execution id: a repeated call waits for the work that is under way, or gets its result
	forgets               // begins the work anew with every call
	reports               // joins, but answers 202 and reports the end later
)

func (m manner) String() string {
	return [...]string{"joins repeated calls", "begins anew each time", "answers 202, reports later"}[m]
}

// worker is one fake agent and what reached it.
type worker struct {
	manner manner
	work   time.Duration
	agent  *fake.Agent

	mu    sync.Mutex
	calls map[string]int           // by execution id
	runs  map[string]int           // by the key of the submission
	done  map[string]chan struct{} // by execution id; closed when the work is done
	ended map[string]time.Time     // by execution id; when the work was done first
}

func newWorker(m manner, work time.Duration, controlPlane string) (*worker, error) {
	w := prepare(m, work)
	var err error
	w.agent, err = fake.NewAgent("", controlPlane, fake.Function{Name: "work", Serve: w.serve})
	return w, err
}

func prepare(m manner, work time.Duration) *worker {
	return &worker{
		manner: m, work: work, calls: map[string]int{}, runs: map[string]int{}, done: map[string]chan struct{}{}, ended: map[string]time.Time{},
	}
}

func (w *worker) serve(a *fake.Agent, out http.ResponseWriter, r *http.Request, call fake.Arrival) {
	var in struct{ Key string }
	call.Input(&in)
	done, begun := w.begin(call.ExecutionID, in.Key)
	if w.manner == reports {
		answer(out, http.StatusAccepted, map[string]any{"status": "processing"})
		if begun {
			a.Report(call.ExecutionID, w.work, map[string]any{"status": "succeeded", "result": map[string]any{"key": in.Key}})
		}
		return
	}
	select {
	case <-done:
		answer(out, http.StatusOK, map[string]any{"key": in.Key})
	case <-r.Context().Done():
	}
}

// begin counts the call and starts the work, unless the agent joins repeated calls and this is one. The work goes on when the caller is
// gone, as work in an agent would.
func (w *worker) begin(executionID, key string) (done chan struct{}, begun bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[executionID]++
	if known, ok := w.done[executionID]; ok && w.manner != forgets {
		return known, false
	}
	w.runs[key]++
	finished := make(chan struct{})
	w.done[executionID] = finished
	time.AfterFunc(w.work, func() { w.end(executionID, finished) })
	return finished, true
}

func (w *worker) end(executionID string, finished chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, before := w.ended[executionID]; !before {
		w.ended[executionID] = time.Now()
	}
	close(finished)
}

// seen tells how often an execution arrived, how often the work was begun, and when it was done first (zero if never).
func (w *worker) seen(executionID, key string) (calls, runs int, ended time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[executionID], w.runs[key], w.ended[executionID]
}

func answer(out http.ResponseWriter, status int, body any) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(body)
}
