package api_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentfield/agentfield/app"
	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/app/database"
)

// BenchmarkRuns asks a server on SQLite for graphs and for the list of runs, over four connections. It reports the median.
func BenchmarkRuns(b *testing.B) {
	dir := b.TempDir()
	fill(b, dir)
	url := serve(b, dir)
	for name, path := range map[string]string{
		"DAG1000":   "/api/v1/workflows/run_1000/dag",
		"DAG5000":   "/api/v1/workflows/run_5000/dag",
		"Live1000":  "/api/v1/workflows/live_1000/dag", // under way, with a hundred executions changing each second
		"Live5000":  "/api/v1/workflows/live_5000/dag",
		"Light5000": "/api/v1/workflows/run_5000/dag?mode=lightweight",
		"Runs":      "/api/v1/runs",
		"Failed":    "/api/v1/runs?status=failed",
		"Numbered":  "/api/ui/v2/workflow-runs?page_size=25",
		"SVG5000":   "/api/v1/workflows/run_5000/dag.svg",
	} {
		b.Run(name, func(b *testing.B) {
			if size, live := strings.CutPrefix(name, "Live"); live {
				defer keepChanging(b, dir, "live_"+size)()
			}
			measure(b, url+path)
		})
	}
}

// keepChanging moves ten executions of a run every tenth of a second, until the returned function is called. It has a connection of its
// own beside the server's.
func keepChanging(b *testing.B, dir, run string) (stop func()) {
	b.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "agentfield.db")+"?_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n += 10 {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := moveTen(db, run, n); err != nil {
				b.Error(err)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
		_ = db.Close()
	}
}

func moveTen(db *sql.DB, run string, from int) error {
	ctx := context.Background()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for i := from; i < from+10; i++ {
		id := fmt.Sprintf("exec_%s_%020d", run, i%1000)
		if _, err := tx.ExecContext(ctx, "UPDATE executions SET attempt = attempt + 1 WHERE id = $1", id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO events (execution_id, run_id, node_id, kind, attempt, at) VALUES ($1, $2, 'n', 'execution.running', 1, 0)", id, run)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

const benchConnections = 4

func measure(b *testing.B, url string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchConnections}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var all []time.Duration
	var size int64
	var wg sync.WaitGroup
	todo := make(chan struct{})
	for range benchConnections {
		wg.Go(func() {
			for range todo {
				began := time.Now()
				answer, err := client.Get(url) //nolint:noctx // a benchmark
				if err != nil {
					b.Error(err)
					continue
				}
				n, err := io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if err != nil || answer.StatusCode != http.StatusOK {
					b.Error(answer.StatusCode, err)
				}
				mu.Lock()
				all, size = append(all, time.Since(began)), n
				mu.Unlock()
			}
		})
	}
	before := cpu(b)
	for b.Loop() {
		todo <- struct{}{}
	}
	close(todo)
	wg.Wait()
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/1000/float64(len(all)), "cpu-ms/op") // of server and client together
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(size)/1024, "KB")
}

// cpu is the time that this process has computed: what waiting for a busy machine does not change.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// fill writes 100,000 executions in 20,000 runs, and besides runs of 1,000 and of 5,000, ended and not.
func fill(b *testing.B, dir string) {
	b.Helper()
	db, err := database.Open(context.Background(), database.Config{DataDir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	err = db.Tx(context.Background(), func(tx *database.Tx) error {
		for i := range 20_000 {
			if err := fillRun(tx, fmt.Sprintf("run_%05dx", i), 5, int64(1_700_000_000_000+i), true); err != nil {
				return err
			}
		}
		for _, size := range []int{1000, 5000} {
			for prefix, ended := range map[string]bool{"run": true, "live": false} {
				if err := fillRun(tx, fmt.Sprintf("%s_%d", prefix, size), size, 1_600_000_000_000, ended); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func fillRun(tx *database.Tx, run string, size int, at int64, ended bool) error {
	ctx := context.Background()
	id := func(i int) string { return fmt.Sprintf("exec_%s_%020d", run, i) }
	for i := range size {
		var parent *string
		if i > 0 {
			p := id((i - 1) / 5)
			parent = &p
		}
		_, err := tx.Exec(ctx, `INSERT INTO executions (id, run_id, parent_id, node_id, function, function_kind, mode, status, available_at, attempt,
			failures, max_attempts, redeliveries, has_webhook, created_at, started_at, finished_at, input_bytes, result_bytes)
			VALUES ($1, $2, $3, $4, $5, 'reasoner', 'async', 'succeeded', 0, 1, 0, 1, 0, false, $6, $6, $7, 0, 0)`,
			id(i), run, parent, fmt.Sprintf("node-%d", i%4), fmt.Sprintf("function_%d", i%9), at+int64(i), at+int64(i)+100)
		if err != nil {
			return err
		}
		if i%10 != 9 {
			continue
		}
		_, err = tx.Exec(ctx, `INSERT INTO events (execution_id, run_id, node_id, kind, attempt, at, data)
			VALUES ($1, $2, 'n', 'execution.note', 1, $3, '{"message":"half way through the documents"}')`, id(i), run, at)
		if err != nil {
			return err
		}
	}
	status, end := "running", (*int64)(nil)
	if ended {
		last := at + int64(size) + 100
		status, end = "succeeded", &last
	}
	_, err := tx.Exec(ctx, `INSERT INTO runs (id, root_id, node_id, function, status, total, waiting, succeeded, failed, timeout, cancelled, roots, worst_root,
		created_at, finished_at) VALUES ($1, $2, 'node-0', 'function_0', $6, $3, 0, $3, 0, 0, 0, 1, 0, $4, $5)`,
		run, id(0), size, at, end, status)
	return err
}

func serve(b *testing.B, dir string) string {
	b.Helper()
	c := config.Default()
	c.Listen, c.DataDir = "127.0.0.1:0", dir
	a, err := app.New(context.Background(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = a.Stop(context.Background()) })
	return a.URL()
}
