package agent

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

func (a *Agent) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /reasoners/{name}", a.answering("reasoner"))
	mux.HandleFunc("POST /skills/{name}", a.answering("skill"))
	mux.HandleFunc("POST /_internal/executions/{id}/cancel", a.cancel)
	mux.HandleFunc("POST /webhooks/approval", a.decided)
	mux.HandleFunc("GET /health", a.health)
	mux.HandleFunc("GET /status", a.status)
	mux.HandleFunc("GET /metrics", a.metrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "this agent has no "+r.URL.Path)
	})
	return mux
}

// answering holds the call until the function ends and answers with what came of it.
func (a *Agent) answering(kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.trusted(w, r) {
			return
		}
		name := r.PathValue("name")
		f := a.functions[kind+" "+name]
		if f == nil {
			refuse(w, http.StatusNotFound, fmt.Sprintf("%s has no %s %q", a.config.NodeID, kind, name))
			return
		}
		input, ok := a.input(w, r)
		if !ok {
			return
		}
		execution, token := executionOf(r.Header, a.config.NodeID, name), r.Header.Get("X-Execution-Token")
		run := a.begin(f, execution, token, input) //nolint:contextcheck // a function outlives the connection that asked for it
		delivered := false
		select {
		case <-run.done:
			delivered = deliver(w, r, run.offer())
		case <-r.Context().Done(): // the connection is gone; the function goes on
		}
		a.leave(run, delivered) //nolint:contextcheck // and so does the report of its outcome
	}
}

// deliver writes an outcome and reports whether the connection took it.
func deliver(w http.ResponseWriter, r *http.Request, o outcome) bool {
	if r.Context().Err() != nil {
		return false
	}
	body := o.body()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(o.status)
	_, err := w.Write(body) //nolint:gosec // it is JSON and says so
	return err == nil && http.NewResponseController(w).Flush() == nil
}

// input reads the body: JSON, where nothing at all means an empty object.
func (a *Agent) input(w http.ResponseWriter, r *http.Request) (input json.RawMessage, ok bool) {
	input, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.config.MaxInputBytes))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the input is larger than %d bytes", tooLarge.Limit))
	case err != nil:
		refuse(w, http.StatusBadRequest, "the input could not be read: "+err.Error())
	case len(input) == 0:
		return json.RawMessage("{}"), true
	case !json.Valid(input):
		refuse(w, http.StatusBadRequest, "the input is not JSON")
	default:
		return input, true
	}
	return nil, false
}

// trusted demands the internal token, if there is one.
func (a *Agent) trusted(w http.ResponseWriter, r *http.Request) bool {
	want := "Bearer " + a.config.InternalToken
	if a.config.InternalToken == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) == 1 {
		return true
	}
	refuse(w, http.StatusUnauthorized, "this agent takes calls only from its control plane: the bearer token is missing or wrong")
	return false
}

// cancel ends the context of an execution's function.
func (a *Agent) cancel(w http.ResponseWriter, r *http.Request) {
	if !a.trusted(w, r) {
		return
	}
	id := r.PathValue("id")
	var notice struct {
		Reason string `json:"reason"`
	}
	_ = json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&notice) // the reason is for people; none is fine
	run := a.ledger.get(id)
	if run == nil || run.ended() {
		write(w, http.StatusOK, map[string]any{"cancelled": false, "execution_id": id, "reason": "execution_not_active"})
		return
	}
	cause := error(ErrCancelled)
	if notice.Reason != "" {
		cause = fmt.Errorf("%w: %s", ErrCancelled, notice.Reason)
	}
	run.cancel(cause)
	write(w, http.StatusOK, map[string]any{"cancelled": true, "execution_id": id})
}

// decided takes the word that a request of Pause is decided. What was decided is read from the control plane, not from here.
func (a *Agent) decided(w http.ResponseWriter, r *http.Request) {
	if !a.trusted(w, r) {
		return
	}
	var word struct {
		ExecutionID string `json:"execution_id"`
		RequestID   string `json:"approval_request_id"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, a.config.MaxInputBytes)).Decode(&word); err != nil {
		refuse(w, http.StatusBadRequest, "the body is not JSON")
		return
	}
	run := a.ledger.get(word.ExecutionID)
	write(w, http.StatusOK, map[string]any{"status": "received", "resolved": run != nil && run.hear(word.RequestID)})
}

func (a *Agent) health(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]any{"status": "ok", "node_id": a.config.NodeID})
}

func (a *Agent) status(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]any{
		"status": "running", "node_id": a.config.NodeID, "instance_id": a.instanceID, "version": a.config.Version,
		"uptime_seconds": int(time.Since(a.started).Seconds()), "in_flight": a.counters.inFlight.Load(),
	})
}

// metrics are in the text format of Prometheus.
func (a *Agent) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, m := range []struct {
		name, kind, help string
		value            int64
	}{
		{"agent_executions_started_total", "counter", "Executions that this process began.", a.counters.started.Load()},
		{"agent_executions_succeeded_total", "counter", "Executions that ended with a result.", a.counters.succeeded.Load()},
		{"agent_executions_failed_total", "counter", "Executions that ended with a failure or were cancelled.", a.counters.failed.Load()},
		{"agent_executions_in_flight", "gauge", "Executions that run or wait for a slot.", a.counters.inFlight.Load()},
	} {
		_, _ = fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n%s{node=%q} %d\n", m.name, m.help, m.name, m.kind, m.name, a.config.NodeID, m.value)
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	write(w, status, map[string]string{"error": message})
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the connection is all that can fail
}

// report hands over an outcome that no connection could carry, until the control plane has it, does not want it, or it is too old. A
// connection that joins in the meantime may be quicker.
func (a *Agent) report(r *run) {
	until, cancel := context.WithTimeout(a.outbox, keepFor)
	defer cancel()
	body := map[string]any{"status": "succeeded", "result": r.outcome.result}
	if r.outcome.failed() {
		body = map[string]any{"status": "failed", "error": r.outcome.message, "error_details": r.outcome.details}
	}
	for failures := 1; !r.isTaken(); failures++ {
		err := a.plane.send(until, shortTimeout, http.MethodPost, executionPath(r.ID, "/status"), a.from(r), body, nil)
		if !undelivered(err) {
			a.log.Info("reported the outcome of an execution whose connection was lost", "execution_id", r.ID, "error", err)
			break
		}
		if a.plane.rest(until, failures, err) != nil {
			a.log.Warn("could not report the outcome of an execution", "execution_id", r.ID, "error", err)
			break
		}
	}
	a.settled(r)
}

// undelivered: trying again may help. A 5xx is a fault of the moment here, while a 4xx means that the report is not wanted.
func undelivered(err error) bool {
	var answer *planeError
	return err != nil && (passing(err) || errors.As(err, &answer) && answer.Status >= 500)
}
