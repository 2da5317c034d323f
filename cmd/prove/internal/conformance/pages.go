package conformance

import (
	"bufio"
	"net/http"
	"strings"
	"time"
)

// shows reads a page as a browser without script does, and looks for what it has to say.
func (t *Trial) shows(path string, texts ...string) {
	page := t.Do(http.MethodGet, path, nil, "Accept", "text/html")
	t.Status(page, http.StatusOK)
	for _, text := range texts {
		t.True(strings.Contains(string(page.Body), text), "%s to show %q", path, text)
	}
}

// report posts as the agent of an execution does.
func (t *Trial) report(id, token, kind string, body fields) {
	t.Status(t.Do(http.MethodPost, "/api/v1/executions/"+id+"/"+kind, body, "X-Execution-Token", token), http.StatusOK)
}

// progressIsThereOnReturn looks at the pages, leaves, lets the work go on, and comes back to the same addresses.
func progressIsThereOnReturn(t *Trial) {
	id, token := t.handed(t.Agent())
	run := "/runs/" + t.Get(id).Text("run_id") + "?node=" + id
	t.report(id, token, "progress", fields{"progress": 0.25, "message": "a quarter is done"})
	t.shows("/executions/"+id, "Running", "a quarter is done", "25 %")
	t.shows(run, "Running", "a quarter is done")
	t.report(id, token, "progress", fields{"progress": 0.75, "message": "nearly there"})
	t.shows("/executions/"+id, "nearly there", "75 %")
	t.shows(run, "nearly there")
	t.report(id, token, "status", fields{"status": "succeeded", "result": fields{"answer": "forty-two"}})
	t.shows("/executions/"+id, "Succeeded", "forty-two")
	t.shows(run, "Succeeded", "forty-two")
}

// threePageStates: what runs shows its progress, what has ended its result, what failed its error.
func threePageStates(t *Trial) {
	a := t.Agent()
	running, token := t.handed(a)
	t.report(running, token, "progress", fields{"progress": 0.5, "message": "half way"})
	t.shows("/executions/"+running, "Running", "half way", "50 %")
	failed, other := t.handed(a)
	t.report(failed, other, "status", fields{"status": "failed", "error": "the model is overloaded"})
	t.shows("/executions/"+failed, "Failed", "the model is overloaded")
	t.report(running, token, "status", fields{"status": "succeeded", "result": fields{"answer": "forty-two"}})
	t.shows("/executions/"+running, "Succeeded", "forty-two")
}

// pageRefreshes does over HTTP what the page's script does. The page names the region that follows its execution; the stream says that
// something changed; the page's own address then answers that region alone, changed. Without the stream the same address, asked again and
// again, shows every change as well.
func pageRefreshes(t *Trial) {
	a := t.Agent()
	t.Within(2*time.Second, "from the change to the changed region", func() time.Duration {
		id, token := t.handed(a)
		t.shows("/executions/"+id, `<article id="execution"`, `data-live="exec `, `data-live-id="`+id+`"`, `<script type="module" src="/static/app.`)
		heard := t.hints(id)
		began := time.Now()
		t.report(id, token, "progress", fields{"progress": 0.5, "message": "half way"})
		t.hear(heard)
		t.True(strings.Contains(t.region(id), "half way"), "the region to show the progress")
		return time.Since(began)
	})
	id, token := t.handed(a)
	before := t.region(id)
	t.report(id, token, "status", fields{"status": "succeeded", "result": fields{"answer": "forty-two"}})
	after := t.region(id)
	t.True(strings.Contains(before, "Running") && !strings.Contains(before, "forty-two"), "the region to show a running execution first")
	t.True(strings.Contains(after, "Succeeded") && strings.Contains(after, "forty-two"), "the region asked again to show the end")
}

// region asks for the part of the page that follows its execution, as a page does that polls or was told of a change.
func (t *Trial) region(id string) string {
	answer := t.Do(http.MethodGet, "/executions/"+id, nil, "Accept", "text/html", "HX-Request", "true", "HX-Target", "execution")
	t.Status(answer, http.StatusOK)
	text := string(answer.Body)
	t.True(strings.Contains(text, `id="execution"`) && !strings.Contains(text, "<html"), "the region alone, without its page")
	return text
}

// hints opens the stream of the pages; the channel tells when it has spoken of an execution.
func (t *Trial) hints(id string) <-chan struct{} {
	request, err := http.NewRequestWithContext(t.ctx, http.MethodGet, t.api.Base+"/events", nil)
	t.Must(err)
	stream, err := t.api.HTTP.Do(request)
	t.Must(err)
	t.atEnd(func() { _ = stream.Body.Close() })
	t.True(strings.HasPrefix(stream.Header.Get("Content-Type"), "text/event-stream"), "a stream of events, got %q", stream.Header.Get("Content-Type"))
	lines := bufio.NewScanner(stream.Body)
	for lines.Scan() && lines.Text() != ": connected" {
		continue
	}
	heard := make(chan struct{})
	go func() {
		event := ""
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			} else if event == "exec" && strings.Contains(lines.Text(), `"id":"`+id+`"`) {
				close(heard)
				return
			}
		}
	}()
	return heard
}

func (t *Trial) hear(heard <-chan struct{}) {
	select {
	case <-heard:
	case <-t.ctx.Done():
		t.Fatalf("the stream did not speak of the execution")
	}
}
