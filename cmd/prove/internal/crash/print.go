package crash

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/agentfield/agentfield/cmd/prove/internal/history"
	"github.com/agentfield/agentfield/cmd/prove/internal/report"
)

func (r *run) print(out io.Writer, executions []history.Execution) error {
	verdict := history.Judge(executions)
	for _, write := range []func(io.Writer) error{
		func(out io.Writer) error { return r.printPromises(out, verdict, executions) },
		func(out io.Writer) error { return r.printCalls(out, executions) },
	} {
		if err := write(out); err != nil {
			return err
		}
	}
	for _, problem := range verdict.Problems {
		_, _ = fmt.Fprintln(out, "  ", problem)
	}
	repeated := repeatedRuns(r.submissions)
	if !verdict.Good() || repeated > 0 || r.settled > settleLimit {
		_, _ = fmt.Fprintln(out, "FAILED")
		return ErrBroken
	}
	_, err := fmt.Fprintln(out, "ok")
	return err
}

func (r *run) engine() string {
	if r.options.PostgresURL != "" {
		return "PostgreSQL"
	}
	return "SQLite"
}

func (r *run) printPromises(out io.Writer, v history.Verdict, executions []history.Execution) error {
	unknown, deliveries := 0, 0
	for i, s := range r.submissions {
		if s.unknown {
			unknown++
		}
		deliveries += len(executions[i].Deliveries)
	}
	_, _ = fmt.Fprintf(out, "%s, %s executions of %s, %d × kill -9, seed %d\n\n",
		r.engine(), report.Count(len(r.submissions)), r.options.Work, r.options.Kills, r.options.Seed)
	table := report.NewTable("what", "count", "must be")
	for _, line := range []struct {
		what string
		n    int
		must string
	}{
		{"accepted", len(r.submissions), ""},
		{"  answered only after a repeat (the connection broke)", unknown, ""},
		{"lost", v.Lost, "0"},
		{"not ended within 30 s of the last restart", v.Stuck, "0"},
		{"one submission, several executions", v.Doubled, "0"},
		{"not exactly one terminal event", v.DoubleTerminal, "0"},
		{"succeeded without a call", v.NeverCalled, "0"},
		{"begun twice by an agent that joins repeated calls", repeatedRuns(r.submissions), "0"},
		{"webhooks arrived", deliveries, "≥ " + report.Count(len(r.submissions))},
		{"  missing", v.MissingWebhooks, "0"},
		{"  false", v.FalseWebhooks, "0"},
		{"  before the end", v.EarlyWebhooks, "0"},
		{"  with a changed webhook-id", v.ForeignIDs, "0"},
	} {
		table.Add(line.what, report.Count(line.n), line.must)
	}
	table.Add("all ended after the last restart in", r.settled.Round(10*time.Millisecond).String(), "≤ 30s")
	return table.Write(out)
}

// printCalls shows how often agents were called for one execution.
func (r *run) printCalls(out io.Writer, executions []history.Execution) error {
	_, _ = fmt.Fprintf(out, "\nwebhooks seen at each kill: %s\n\n", strings.Trim(fmt.Sprint(r.killed), "[]"))
	table := report.NewTable("calls per execution", "once", "twice", "more", "most", "begun more than once", "ended in other ways than succeeded")
	for _, w := range r.workers {
		var once, twice, more, most, again, others int
		for i, e := range executions {
			if r.submissions[i].worker != w {
				continue
			}
			switch {
			case e.Calls == 1:
				once++
			case e.Calls == 2:
				twice++
			case e.Calls > 2:
				more++
			}
			most = max(most, e.Calls)
			if e.Runs > 1 {
				again++
			}
			if e.Status != "succeeded" {
				others++
			}
		}
		table.Add("agent that "+w.manner.String(), strconv.Itoa(once), strconv.Itoa(twice), strconv.Itoa(more), strconv.Itoa(most), strconv.Itoa(again), strconv.Itoa(others))
	}
	return table.Write(out)
}

// repeatedRuns counts submissions that an agent which honours the execution id has begun more than once.
func repeatedRuns(submissions []*submission) int {
	n := 0
	for _, s := range submissions {
		if s.worker.manner == forgets || len(s.ids) == 0 {
			continue
		}
		if _, runs, _ := s.worker.seen(s.ids[0], s.key); runs > 1 {
			n++
		}
	}
	return n
}
