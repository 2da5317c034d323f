package conformance

import (
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

func acceptedSurvivesAKill(t *Trial) {
	s := t.Own(nodeCap + "1")
	a := t.Agent()
	blocker := t.Start(call(a, "later", fields{}))
	t.Until(blocker, "running")
	id := t.Start(call(a, "echo", fields{"x": 1}))
	t.Must(s.Kill())
	t.Must(s.Restart(t.ctx))
	t.Is(t.Get(id), "status", "queued")
	t.Report(blocker, fields{"status": "succeeded"})
	end := t.End(id)
	t.Is(end, "status", "succeeded")
	t.Is(end, "result.x", 1)
	t.Is(t.Get(blocker), "status", "succeeded")
}

func answeredSurvivesAKill(t *Trial) {
	s := t.Own()
	a := t.Agent()
	answer := t.Execute(call(a, "echo", fields{"x": 1}))
	t.Must(s.Kill())
	t.Status(answer, http.StatusOK)
	t.Must(s.Restart(t.ctx))
	row := t.Get(answer.Text("execution_id"))
	t.Is(row, "status", "succeeded")
	t.Is(row, "result.x", 1)
}

// killLoop submits while the server is killed twice; what was accepted must end once.
func killLoop(t *Trial) {
	s := t.Own()
	a := t.Agent()
	var accepted ids
	stopped := make(chan struct{})
	var submitters sync.WaitGroup
	for range 4 {
		submitters.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
				}
				answer, err := t.api.Submit(t.ctx, call(a, "sleep", fields{"ms": 30}))
				if err == nil && answer.Status == http.StatusAccepted {
					accepted.add(answer.Text("execution_id"))
				}
				if err != nil {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	for range 2 {
		t.Pause(400 * time.Millisecond)
		t.Must(s.Kill())
		t.Must(s.Restart(t.ctx))
	}
	t.Pause(200 * time.Millisecond)
	close(stopped)
	submitters.Wait()
	for _, id := range accepted.all() {
		end := t.End(id)
		t.Is(end, "status", "succeeded")
		t.oneTerminalEvent(id)
	}
	t.Notef("%d accepted over 2 kills", len(accepted.all()))
}

// bulkOutlivesAKill runs a hundred runs again while the server is killed; each must be made once more and once only.
func bulkOutlivesAKill(t *Trial) {
	const many = 100
	s := t.Own()
	a := t.Agent()
	t.Pool(8, many, func(i int) { t.Status(t.Execute(call(a, "echo", fields{"i": i})), http.StatusOK) })
	begun := t.Do(http.MethodPost, "/api/v1/bulk", fields{"list": "runs", "action": "rerun", "q": "node:" + a.ID})
	t.Status(begun, http.StatusAccepted)
	t.Is(begun, "total", many)
	job := "/api/v1/bulk/" + begun.Text("job_id")
	for t.Do(http.MethodGet, job, nil).Number("done") < 1 {
		t.Pause(5 * time.Millisecond)
	}
	t.Must(s.Kill())
	t.Must(s.Restart(t.ctx))
	t.True(t.Do(http.MethodGet, job, nil).Number("done") < many, "the job not to be over when the server was killed")
	end := t.Do(http.MethodGet, job, nil)
	for end.Text("finished_at") == "" {
		t.Pause(50 * time.Millisecond)
		end = t.Do(http.MethodGet, job, nil)
	}
	t.Is(end, "status", "done")
	t.Is(end, "done", many)
	made := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(t.Do(http.MethodGet, job+"/items.csv", nil).Body)), "\n")[1:] {
		id := strings.Split(strings.TrimSpace(line), ",")[3]
		made[id] = true
		t.Is(t.End(id), "status", "succeeded")
	}
	t.True(len(made) == many, "%d runs made again, got %d", many, len(made))
	lines := strings.Count(string(t.Do(http.MethodGet, "/api/v1/executions.ndjson?node="+a.ID, nil).Body), "\n")
	t.True(lines == 2*many, "%d executions in all, got %d", 2*many, lines)
}

func (t *Trial) oneTerminalEvent(id string) {
	events, err := t.api.Events(t.ctx, id)
	t.Must(err)
	n := 0
	for _, e := range events {
		if client.Terminal(e.Status()) {
			n++
		}
	}
	t.True(n == 1, "one terminal event of %s, got %d", id, n)
}

// ids collects execution ids from several goroutines.
type ids struct {
	mu   sync.Mutex
	list []string
}

func (c *ids) add(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, id)
}

func (c *ids) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.list...)
}

// replicas starts two servers on one PostgreSQL; the check talks to the first, and the second is returned as a client.
func (t *Trial) replicas() (*server.Server, *client.Client) {
	if t.bench.options.PostgresURL == "" {
		t.Skipf("needs PostgreSQL")
	}
	store, err := server.NewStore(t.ctx, t.bench.options.PostgresURL)
	t.Must(err)
	t.atEnd(func() { _ = store.Close() })
	second := t.OwnOn(store, "second")
	other := client.New(second.URL)
	t.atEnd(other.Close)
	first := t.OwnOn(store, "first")
	return first, other
}

func replicasAreOne(t *Trial) {
	_, other := t.replicas()
	a := t.Instance("")
	a.ControlPlane = other.Base // reports go to the other replica
	t.Register(a)
	answer := t.Execute(call(a, "accept", fields{"after_ms": 200}))
	t.Status(answer, http.StatusOK)
	t.Is(answer, "status", "succeeded")
	t.True(answer.Took < 1500*time.Millisecond, "the caller to be woken across replicas within 1.3 s of the report, it took %s", answer.Took)
	id := answer.Text("execution_id")
	seen, err := other.Execution(t.ctx, id, 0)
	t.Must(err)
	t.Is(seen, "status", "succeeded")
	through, err := other.Execute(t.ctx, call(a, "echo", fields{"x": 2}))
	t.Must(err)
	t.Is(through, "result.x", 2)
	waited := t.Start(call(a, "later", fields{}))
	t.Until(waited, "running")
	done := make(chan client.Answer, 1)
	go func() {
		answer, _ := t.api.Execution(t.ctx, waited, 10*time.Second)
		done <- answer
	}()
	t.Pause(200 * time.Millisecond)
	_, err = other.Cancel(t.ctx, waited, "from the other side")
	t.Must(err)
	poll := <-done
	t.Is(poll, "status", "cancelled")
	t.True(poll.Took < 2*time.Second, "a long poll to see the other replica's change, it took %s", poll.Took)
}

func otherReplicaTakesOver(t *Trial) {
	first, other := t.replicas()
	a := t.Agent()
	var started []string
	for range 100 {
		started = append(started, t.Start(call(a, "sleep", fields{"ms": 1500})))
	}
	a.AwaitArrivals(t.ctx, "", 1)
	t.Must(first.Kill())
	began := time.Now()
	for _, id := range started {
		end, err := other.End(t.ctx, id)
		t.Must(err)
		t.Is(end, "status", "succeeded")
	}
	t.Notef("a killed replica's 100 ended on the other after %s", time.Since(began).Round(100*time.Millisecond))
}

func smallWhenIdle(t *Trial) {
	s := t.Own()
	t.Pause(time.Second)
	rss, err := s.RSS()
	t.Must(err)
	t.True(rss <= 40e6, "at most 40 MB idle, got %.1f MB", float64(rss)/1e6)
	t.Notef("%.1f MB idle", float64(rss)/1e6)
	if t.bench.options.PostgresURL != "" {
		otherReplicaTakesOver(t)
	}
}

func nothingOnDisk(t *Trial) {
	if t.bench.options.PostgresURL == "" {
		t.Skipf("needs PostgreSQL")
	}
	s := t.Own()
	a, h := t.Agent(), t.Hook()
	t.End(t.Start(hooked(call(a, "echo", fields{"x": 1}), h)))
	t.Deliveries(h, 1)
	err := filepath.WalkDir(s.DataDir(), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			t.Failf("expected nothing on disk outside PostgreSQL, found %s", filepath.Base(path))
		}
		return nil
	})
	t.Must(err)
}
