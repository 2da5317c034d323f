package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/client"
	"github.com/agentfield/agentfield/cmd/prove/internal/fake"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
	"github.com/agentfield/agentfield/cmd/prove/internal/server"
)

// The words of the last but one column.
const (
	passed  = "ok"
	failed  = "FAILED"
	skipped = "skipped"
)

// How many checks run beside each other: those on the common server mostly wait, those with a server of their own cost a start.
const (
	sharedAtOnce  = 16
	privateAtOnce = 4
)

// Options say what to check and against what.
type Options struct {
	Binary      string
	URL         string // a running server; empty starts the binary
	PostgresURL string // empty for SQLite
	Rows        string // rows to run; others do not appear
	Built       string // rows that count as built; empty for all that have a check
}

// Bench is the common server of a run and what the checks share.
type Bench struct {
	options      Options
	api          *client.Client
	server       *server.Server
	receiver     *fake.Receiver
	hooksAllowed bool

	mu       sync.Mutex
	accepted []string
}

// result is one line of the table.
type result struct {
	row    Row
	state  string
	detail string
	took   time.Duration
}

// Counts sum up a table.
type Counts struct{ Passed, Failed, Skipped int }

func (c Counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.Passed, c.Failed, c.Skipped)
}

// Add joins the counts of another table.
func (c Counts) Add(other Counts) Counts {
	return Counts{c.Passed + other.Passed, c.Failed + other.Failed, c.Skipped + other.Skipped}
}

// Run checks the rows and prints the table.
func Run(ctx context.Context, options Options, out io.Writer) (Counts, error) {
	wanted, err := Select(options.Rows)
	if err != nil {
		return Counts{}, err
	}
	built, err := Select(options.Built)
	if err != nil {
		return Counts{}, err
	}
	bench, err := newBench(ctx, options)
	if err != nil {
		return Counts{}, err
	}
	defer bench.close()
	began := time.Now()
	results := bench.runAll(ctx, wanted, built)
	_, _ = fmt.Fprintf(out, "%s, %s\n\n", bench.describe(), time.Since(began).Round(100*time.Millisecond))
	return printTable(out, results, bench.errorsLogged())
}

// errorsShown is how many lines of the server's log are worth printing.
const errorsShown = 10

// errorsLogged are the lines in which the common server said that something went wrong on its side.
func (b *Bench) errorsLogged() []string {
	if b.server == nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(b.server.Log()) {
		if strings.Contains(line, `"level":"ERROR"`) && len(found) < errorsShown {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func newBench(ctx context.Context, options Options) (*Bench, error) {
	receiver, err := fake.NewReceiver()
	if err != nil {
		return nil, err
	}
	b := &Bench{options: options, receiver: receiver}
	if options.URL != "" {
		b.api = client.New(options.URL)
		b.hooksAllowed = b.allowsLoopbackHooks(ctx)
		return b, nil
	}
	store, err := server.NewStore(ctx, options.PostgresURL)
	if err != nil {
		return nil, err
	}
	b.server, err = server.Start(ctx, server.Settings{Binary: options.Binary, Store: store, Env: commonSettings})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	b.api, b.hooksAllowed = client.New(b.server.URL), true
	return b, nil
}

func (b *Bench) close() {
	b.receiver.Close()
	b.api.Close()
	if b.server != nil {
		_ = b.server.Stop()
		_ = b.server.Discard()
	}
}

func (b *Bench) describe() string {
	switch {
	case b.options.URL != "":
		return "server " + b.options.URL
	case b.options.PostgresURL != "":
		return "PostgreSQL"
	}
	return "SQLite"
}

// allowsLoopbackHooks asks a foreign server with an execution that costs nothing.
func (b *Bench) allowsLoopbackHooks(ctx context.Context) bool {
	agent, err := fake.NewAgent("", b.api.Base)
	if err != nil {
		return false
	}
	defer agent.Close()
	if _, err := b.api.Do(ctx, http.MethodPost, "/api/v1/nodes/register", agent.Registration()); err != nil {
		return false
	}
	webhook := fields{"webhook": fields{"url": b.receiver.Hook().URL}}
	answer, err := b.api.Submit(ctx, client.Call{Target: agent.Target("echo"), Input: fields{}, Fields: webhook})
	if err != nil || answer.Status != http.StatusAccepted {
		return false
	}
	_, err = b.api.End(ctx, answer.Text("execution_id"))
	return err == nil
}

func (b *Bench) accept(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.accepted = append(b.accepted, id)
}

func (b *Bench) acceptedIDs() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.accepted...)
}

// runAll runs every check in its place and returns the results in the order of the catalogue.
func (b *Bench) runAll(ctx context.Context, wanted, built func(string) bool) []titled {
	var table []titled
	stages := map[place][]*result{}
	byID := map[string]*result{}
	wanted = withSources(wanted)
	for _, section := range Catalogue() {
		part := titled{title: section.Title}
		for _, row := range section.Rows {
			if !wanted(row.ID) {
				continue
			}
			r := &result{row: row}
			part.results = append(part.results, r)
			byID[row.ID] = r
			if r.state, r.detail = b.excuse(row, built); r.state == "" && row.Check != nil {
				stages[row.Place] = append(stages[row.Place], r)
			}
		}
		if len(part.results) > 0 {
			table = append(table, part)
		}
	}
	b.runStages(ctx, stages)
	for _, r := range byID {
		if r.row.By != nil && r.state == "" {
			r.copyFrom(byID)
		}
	}
	return table
}

// withSources adds to the wanted rows those whose checks they share.
func withSources(wanted func(string) bool) func(string) bool {
	sources := map[string]bool{}
	for _, section := range Catalogue() {
		for _, row := range section.Rows {
			for _, id := range row.By {
				sources[id] = sources[id] || wanted(row.ID)
			}
		}
	}
	return func(id string) bool { return wanted(id) || sources[id] }
}

// copyFrom takes the outcome of the rows whose checks this row shares: the worst of them.
func (r *result) copyFrom(byID map[string]*result) {
	r.state, r.detail = passed, "shown by "+strings.Join(r.row.By, ", ")
	for _, id := range r.row.By {
		switch source := byID[id]; source.state {
		case failed:
			r.state, r.detail = failed, "see "+id
			return
		case skipped:
			r.state, r.detail = skipped, source.detail
		}
	}
}

func (b *Bench) runStages(ctx context.Context, stages map[place][]*result) {
	var both sync.WaitGroup
	both.Go(func() { b.runStage(ctx, stages[shared], sharedAtOnce) })
	both.Go(func() { b.runStage(ctx, stages[private], privateAtOnce) })
	both.Wait()
	for _, alone := range []place{quiet, solitary, last} {
		b.runStage(ctx, stages[alone], 1)
	}
}

// excuse says why a row is not run, or nothing.
func (b *Bench) excuse(row Row, built func(string) bool) (string, string) {
	switch {
	case row.Why != "":
		return skipped, row.Why
	case !built(row.ID):
		return skipped, notBuilt
	case row.Place.ownServer() && b.options.URL != "":
		return skipped, "needs its own server"
	}
	return "", ""
}

func (b *Bench) runStage(ctx context.Context, results []*result, atOnce int) {
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, r := range results {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			b.runRow(ctx, r)
		})
	}
	all.Wait()
}

func (b *Bench) runRow(ctx context.Context, r *result) {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	t := &Trial{ctx: ctx, bench: b, api: b.api, server: b.server, receiver: b.receiver}
	began := time.Now()
	t.run(r.row.Check)
	r.took = time.Since(began)
	r.state, r.detail = t.verdict()
}

// titled is one section of the table.
type titled struct {
	title   string
	results []*result
}

func printTable(out io.Writer, sections []titled, logged []string) (Counts, error) {
	table := report.NewTable("row", "title", "state", "ms", "")
	var counts Counts
	var broken []*result
	for _, section := range sections {
		table.Section(section.title)
		for _, r := range section.results {
			state, note, ms := r.state, r.detail, strconv.FormatInt(r.took.Milliseconds(), 10)
			switch r.state {
			case passed:
				counts.Passed++
			case failed:
				counts.Failed++
				broken = append(broken, r)
				note = ""
			case skipped:
				counts.Skipped++
				state, note, ms = r.detail, "", ""
			}
			table.Add(r.row.ID, r.row.Title, state, ms, note)
		}
	}
	if err := table.Write(out); err != nil {
		return counts, err
	}
	for _, r := range broken {
		_, _ = fmt.Fprintf(out, "\n%s FAILED: %s\n    %s\n", r.row.ID, r.row.Title, strings.ReplaceAll(r.detail, "\n", "\n    "))
	}
	if len(logged) > 0 {
		_, _ = fmt.Fprintf(out, "\nthe server logged errors:\n    %s\n", strings.Join(logged, "\n    "))
	}
	_, err := fmt.Fprintf(out, "\n%s\n", counts)
	return counts, err
}
