package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// StrictSchema is the input schema of the function "strict".
const StrictSchema = `{"type":"object","required":["message"],"properties":{"message":{"type":"string"},"count":{"type":"integer"}}}`

// Standard are the functions every fake agent has. Their input says in detail what they do.
func Standard() []Function {
	return []Function{
		{Name: "greet", Serve: greet},
		{Name: "echo", Serve: echo},
		{Name: "tool", Skill: true, Serve: echo},
		{Name: "strict", Serve: echo, Schema: StrictSchema},
		{Name: "value", Serve: value},
		{Name: "headers", Serve: headers},
		{Name: "sleep", Serve: slowly},
		{Name: "fail", Serve: fail},
		{Name: "flaky", Serve: flaky},
		{Name: "accept", Serve: accept},
		{Name: "later", Serve: later},
		{Name: "chain", Serve: chain},
		{Name: "hang", Serve: hang},
		{Name: "drip", Serve: drip},
		{Name: "huge", Serve: huge},
		{Name: "broken_json", Serve: brokenJSON},
		{Name: "text", Serve: text},
		{Name: "redirect", Serve: redirect},
		{Name: "slam", Serve: slam},
	}
}

func greet(_ *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) {
	var in struct{ Name string }
	call.Input(&in)
	answerJSON(w, http.StatusOK, map[string]any{"greeting": "Hello, " + in.Name + "!"})
}

// echo answers with its input.
func echo(_ *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(call.Body)
}

// value answers with exactly the JSON under "value".
func value(_ *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) {
	var in struct{ Value json.RawMessage }
	call.Input(&in)
	if in.Value == nil {
		in.Value = json.RawMessage("null")
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(in.Value)
}

// headers answers with the headers it got, names in lower case.
func headers(_ *Agent, w http.ResponseWriter, r *http.Request, _ Arrival) {
	got := map[string]string{}
	for name := range r.Header {
		got[strings.ToLower(name)] = r.Header.Get(name)
	}
	answerJSON(w, http.StatusOK, got)
}

// slowly holds the call for "ms" and measures itself.
func slowly(a *Agent, w http.ResponseWriter, r *http.Request, call Arrival) {
	var in struct {
		Ms  int
		Tag any
	}
	call.Input(&in)
	if !sleep(either(r.Context(), a.life), time.Duration(in.Ms)*time.Millisecond) {
		return
	}
	answerJSON(w, http.StatusOK, map[string]any{"slept_ms": in.Ms, "own_ms": ms(time.Since(call.At)), "tag": in.Tag})
}

// fail answers with "status" (500) and an error text.
func fail(_ *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) {
	in := struct {
		Status  int
		Message string
	}{http.StatusInternalServerError, "LLM API rate limit exceeded"}
	call.Input(&in)
	answerJSON(w, in.Status, map[string]any{"error": in.Message})
}

// flaky fails the first "failures" attempts of an execution with "status" (503), then succeeds.
func flaky(a *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) {
	in := struct{ Failures, Status int }{1, http.StatusServiceUnavailable}
	call.Input(&in)
	n := a.try(call.ExecutionID)
	if n <= in.Failures {
		answerJSON(w, in.Status, map[string]any{"error": "not yet"})
		return
	}
	answerJSON(w, http.StatusOK, map[string]any{"tries": n})
}

// accept answers 202 and reports "report" after "after_ms".
func accept(a *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) {
	var in struct {
		AfterMs int `json:"after_ms"`
		Report  map[string]any
	}
	call.Input(&in)
	if in.Report == nil {
		in.Report = map[string]any{"status": "succeeded", "result": map[string]any{"done": true}}
	}
	taken(w, call)
	a.Report(call.ExecutionID, time.Duration(in.AfterMs)*time.Millisecond, in.Report)
}

// later answers 202 and leaves the report to the check.
func later(_ *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) { taken(w, call) }

// chain calls "target" through the control plane as a child of its own execution and answers with the child's result.
func chain(a *Agent, w http.ResponseWriter, r *http.Request, call Arrival) {
	var in struct {
		Target string
		Input  json.RawMessage
	}
	call.Input(&in)
	payload, _ := json.Marshal(map[string]any{"input": in.Input})
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, a.ControlPlane+"/api/v1/execute/"+in.Target, bytes.NewReader(payload))
	if err != nil {
		answerJSON(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Run-ID", call.Header.Get("X-Run-ID"))
	req.Header.Set("X-Parent-Execution-ID", call.ExecutionID)
	req.Header.Set("X-Caller-Agent-ID", a.ID)
	res, err := a.client.Do(req)
	if err != nil {
		answerJSON(w, http.StatusBadGateway, map[string]any{"error": err.Error()})
		return
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	answerJSON(w, http.StatusOK, map[string]any{"child_status": res.StatusCode, "child": json.RawMessage(body)})
}

// hang never answers.
func hang(a *Agent, _ http.ResponseWriter, r *http.Request, _ Arrival) {
	<-either(r.Context(), a.life).Done()
}

// drip sends its answer one byte at a time, for as long as it is let.
func drip(a *Agent, w http.ResponseWriter, r *http.Request, _ Arrival) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"drip":"`)
	flusher, _ := w.(http.Flusher)
	for sleep(either(r.Context(), a.life), 50*time.Millisecond) {
		if _, err := io.WriteString(w, "."); err != nil {
			return
		}
		flusher.Flush()
	}
}

// huge answers with "megabytes" of valid JSON.
func huge(_ *Agent, w http.ResponseWriter, _ *http.Request, call Arrival) {
	in := struct{ Megabytes int }{100}
	call.Input(&in)
	w.Header().Set("Content-Type", "application/json")
	chunk := bytes.Repeat([]byte("x"), 1<<20)
	_, _ = io.WriteString(w, `{"blob":"`)
	for range in.Megabytes {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, `"}`)
}

func brokenJSON(_ *Agent, w http.ResponseWriter, _ *http.Request, _ Arrival) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"half": `)
}

func text(_ *Agent, w http.ResponseWriter, _ *http.Request, _ Arrival) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, "plain words")
}

func redirect(a *Agent, w http.ResponseWriter, r *http.Request, _ Arrival) {
	http.Redirect(w, r, a.URL+"/reasoners/echo", http.StatusFound)
}

// slam closes the connection without an answer.
func slam(_ *Agent, w http.ResponseWriter, _ *http.Request, _ Arrival) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}

func taken(w http.ResponseWriter, call Arrival) {
	answerJSON(w, http.StatusAccepted, map[string]any{"status": "processing", "execution_id": call.ExecutionID})
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// either ends with the first of two contexts, and lets go of the longer one when the shorter one ends.
func either(request, life context.Context) context.Context {
	ctx, cancel := context.WithCancel(request)
	stop := context.AfterFunc(life, cancel)
	context.AfterFunc(request, func() { stop() })
	return ctx
}
