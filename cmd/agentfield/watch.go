package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

func (p program) watch() *cobra.Command {
	c := one(&cobra.Command{
		Use:   "watch ID",
		Short: "Follow an execution or a run until it has ended",
		Long: "Prints what has happened and what happens, until the execution or the run has ended; a lost connection is taken up again. " +
			"With --json every event is a line. Exit code 0: it succeeded; 1: it did not.",
		ValidArgsFunction: p.completeIDs,
	}, "the id of an execution or of a run")
	return p.reaching(c, func(ctx context.Context, r *reach, args []string) error {
		if !strings.HasPrefix(args[0], "run_") {
			err := r.watchExecution(ctx, args[0])
			if !remote.Missing(err) || strings.HasPrefix(args[0], "exec_") {
				return err
			}
		}
		return r.watchRun(ctx, args[0])
	})
}

// happening is one line of watch.
type happening struct {
	ID        int64          `json:"id,omitempty"`
	Type      string         `json:"type"`
	Execution string         `json:"execution_id"` // left out for people who watch one
	Target    string         `json:"target,omitempty"`
	Status    string         `json:"status,omitempty"`
	Attempt   int            `json:"attempt,omitempty"`
	At        string         `json:"timestamp,omitempty"`
	Data      map[string]any `json:"data,omitempty"`
}

// followedOne is one execution. Its history is what is printed; the stream only says when to read on, so that nothing is missed or told
// twice whatever becomes of connections.
type followedOne struct {
	*reach
	id     string
	last   int64
	status string
}

func (r *reach) watchExecution(ctx context.Context, id string) error {
	w := &followedOne{reach: r, id: id}
	if err := w.catchUp(ctx); err != nil {
		return err
	}
	if !(executed{Status: w.status}).ended() {
		err := r.Follow(ctx, remote.Follow{
			Next: func() remote.Request { return remote.Request{Path: remote.Path("executions", id, "events")} },
			Take: func(remote.Event) (bool, error) {
				err := w.catchUp(ctx)
				return err == nil && executed{Status: w.status}.ended(), transient(err)
			},
			Lost: r.lost, Reached: true,
		})
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	return w.end(ctx)
}

// transient forgives what the next event may mend: that the server could not be asked.
func transient(err error) error {
	if errors.Is(err, remote.ErrUnreachable) || err != nil && !remote.Final(err) {
		return nil
	}
	return err
}

// catchUp prints what has happened since the last time.
func (w *followedOne) catchUp(ctx context.Context) error {
	for {
		answer, err := w.Get(ctx, remote.Path("executions", w.id, "events"), url.Values{"after": {strconv.FormatInt(w.last, 10)}})
		if err != nil {
			return err
		}
		var history struct {
			Status string      `json:"status"`
			Events []happening `json:"events"`
			More   bool        `json:"has_more"`
		}
		if err := answer.Decode(&history); err != nil {
			return err
		}
		for _, e := range history.Events {
			w.last = e.ID
			if w.json {
				e.Execution = w.id
			}
			if err := w.happened(e); err != nil {
				return err
			}
		}
		w.status = history.Status
		if !history.More {
			return nil
		}
	}
}

// end tells how it went.
func (w *followedOne) end(ctx context.Context) error {
	answer, err := w.Get(ctx, remote.Path("executions", w.id), nil)
	if err != nil {
		return err
	}
	var x executed
	if err := answer.Decode(&x); err != nil {
		return err
	}
	if x.Status != "succeeded" {
		return x.failure()
	}
	if w.json {
		return nil
	}
	return w.show(orNull(x.Result))
}

// happened prints one line.
func (r *reach) happened(e happening) error {
	if r.json {
		return r.line(e)
	}
	words := []string{clock(e.At)}
	for _, word := range []string{e.Execution, e.Target} {
		if word != "" {
			words = append(words, word)
		}
	}
	words = append(words, strings.ReplaceAll(strings.TrimPrefix(e.Type, "execution."), "_", " "))
	if e.Attempt > 1 {
		words = append(words, "attempt "+strconv.Itoa(e.Attempt))
	}
	if text := about(e.Data); text != "" {
		words = append(words, text)
	}
	return r.say("%s", strings.Join(words, "  "))
}

// clock is the time of the day on this machine.
func clock(instant string) string {
	at := moment(instant)
	if at.IsZero() {
		return "            "
	}
	return at.Local().Format("15:04:05.000")
}

// about picks out of the data of an event what a person wants to read on one line.
func about(data map[string]any) string {
	var parts []string
	if progress, ok := data["progress"].(float64); ok {
		parts = append(parts, fmt.Sprintf("%.0f %%", 100*progress))
	}
	for _, key := range []string{"message", "error", "reason", "decision", "feedback", "decided_by", "instance", "http_status"} {
		if text := plain(data[key]); text != "" {
			parts = append(parts, clip(text))
		}
	}
	return strings.Join(parts, " · ")
}

func plain(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}

// watchedRun follows all executions of a run. The graph says where everything stands, the stream what has changed.
type watchedRun struct {
	*reach
	id     string
	status string            // of the run
	stands map[string]string // status by execution
	target map[string]string
}

func (r *reach) watchRun(ctx context.Context, id string) error {
	w := &watchedRun{reach: r, id: id, stands: map[string]string{}, target: map[string]string{}}
	if err := w.look(ctx); err != nil {
		return err
	}
	if !(executed{Status: w.status}).ended() {
		err := r.Follow(ctx, remote.Follow{
			Next: func() remote.Request { return remote.Request{Path: remote.Path("workflows", id, "events")} },
			Take: func(e remote.Event) (bool, error) { return w.take(ctx, e) },
			Lost: r.lost, Reached: true,
		})
		if err != nil || ctx.Err() != nil {
			return err
		}
	}
	if w.status != "succeeded" {
		return errors.New("the run " + id + " has ended: " + w.status)
	}
	return nil
}

// look reads the whole run and prints what is new.
func (w *watchedRun) look(ctx context.Context) error {
	answer, err := w.Get(ctx, remote.Path("workflows", w.id, "dag"), url.Values{"mode": {"lightweight"}})
	if err != nil {
		return err
	}
	var graph struct {
		Status   string `json:"run_status"`
		Timeline []struct {
			ID       string `json:"execution_id"`
			Node     string `json:"agent_node_id"`
			Function string `json:"reasoner_id"`
			Status   string `json:"status"`
			Reason   string `json:"status_reason"`
			Started  string `json:"started_at"`
			Ended    string `json:"completed_at"`
		} `json:"timeline"`
	}
	if err := answer.Decode(&graph); err != nil {
		return err
	}
	for _, x := range graph.Timeline {
		w.target[x.ID] = x.Node + "." + x.Function
		e := happening{Type: "execution." + x.Status, Execution: x.ID, Status: x.Status, At: first(x.Ended, x.Started)}
		if x.Reason != "" {
			e.Data = map[string]any{"reason": x.Reason}
		}
		if err := w.moved(e); err != nil {
			return err
		}
	}
	w.status = graph.Status
	return nil
}

// moved prints an execution that has another status than the last time.
func (w *watchedRun) moved(e happening) error {
	if e.Status == "" || w.stands[e.Execution] == e.Status {
		return nil
	}
	w.stands[e.Execution] = e.Status
	e.Target = w.target[e.Execution]
	return w.happened(e)
}

// take is given each frame of the stream. After a connection, and where the frames name an unknown execution, the graph is read again.
func (w *watchedRun) take(ctx context.Context, sent remote.Event) (done bool, err error) {
	var frame struct {
		happening
		Frame string `json:"type"`
		Event string `json:"event"`
	}
	if err := json.Unmarshal(sent.Data, &frame); err != nil {
		return false, fmt.Errorf("an event of the run is not understood: %w", err)
	}
	_, known := w.target[frame.Execution]
	switch {
	case slices.Contains([]string{"connected", "resync", "stream_end"}, frame.Frame), frame.Execution != "" && !known:
		err := w.look(ctx)
		return frame.Frame == "stream_end" && err == nil, transient(err)
	case frame.Execution == "":
		return false, nil
	}
	frame.ID, _ = strconv.ParseInt(sent.ID, 10, 64)
	frame.Type = frame.Event
	return false, w.moved(frame.happening)
}
