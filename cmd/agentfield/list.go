package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// listed is what is to be listed.
type listed struct {
	limit        int
	cursor       string
	since, until string
	all          bool
	state        string
}

// table is one of the lists: what it asks for and how it is shown.
type table struct {
	name, path, also string // also is another name
	head             string
	rows             func(w *tabwriter.Writer, body []byte) (next string, n int, err error)
}

func tables() []table {
	return []table{
		{"executions", "executions", "execution", "EXECUTION\tTARGET\tSTATUS\tAGE\tTOOK\tERROR", executionRows},
		{"runs", "runs", "run", "RUN\tTARGET\tSTATUS\tAGE\tTOOK\tEXECUTIONS", runRows},
		{"approvals", "approvals", "approval", "REQUEST\tTITLE\tSTATUS\tRISK\tTARGET\tEXPIRES", approvalRows},
		{"agents", "nodes", "nodes", "AGENT\tHEALTH\tVERSION\tINSTANCES\tFUNCTIONS", nodeRows},
	}
}

func (p program) list() *cobra.Command {
	var l listed
	c := &cobra.Command{
		Use:   "list [executions|runs|approvals|agents] [FILTER…]",
		Short: "List executions, runs, approvals or agents",
		Long: "Lists executions when not told otherwise, newest first. FILTER is the language of the dashboard: key:value terms such as status:failed,timeout, " +
			"node:support-*, dur:>10s, age:<1h, session:…, -error:\"no route\"; for runs also steps:>50 and waiting:>0; for approvals words of the title.\n\n" +
			"A term that begins with - stands after --, as in: agentfield list -- -status:succeeded",
		Example: `  agentfield list status:failed 'age:<24h' -n 50
  agentfield list runs 'steps:>10'
  agentfield list approvals --state expiring
  agentfield list agents --all`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeTables,
	}
	c = p.reaching(c, l.do)
	f := c.Flags()
	f.IntVarP(&l.limit, "limit", "n", 20, "how many, up to 200")
	f.StringVar(&l.cursor, "cursor", "", "go on where the list before ended")
	f.StringVar(&l.since, "since", "", "executions and runs accepted then or later: a time, or how long ago")
	f.StringVar(&l.until, "until", "", "executions and runs accepted before then")
	f.StringVar(&l.state, "state", "", "approvals: pending, mine, expiring or decided (default pending)")
	f.BoolVar(&l.all, "all", false, "agents: those too that are not there")
	return c
}

func (l *listed) do(ctx context.Context, r *reach, args []string) error {
	t, words := chooseTable(args)
	if t.path == "nodes" && len(words) > 0 {
		return usageError{errors.New("the list of agents takes no filter")}
	}
	filter := strings.Join(words, " ")
	q := only("q", filter, "cursor", l.cursor, "since", l.since, "until", l.until, "state", l.state, "limit", strconv.Itoa(l.limit))
	if t.path == "nodes" {
		q = only("show_all", strconv.FormatBool(l.all))
	}
	answer, err := r.Get(ctx, remote.Path(t.path), q)
	if err != nil {
		return pointed(err, filter)
	}
	if r.json {
		return r.show(answer.Body)
	}
	return r.table(t, answer.Body)
}

// chooseTable takes the first word for a list when it names one.
func chooseTable(args []string) (table, []string) {
	all := tables()
	if len(args) > 0 {
		i := slices.IndexFunc(all, func(t table) bool { return t.name == args[0] || t.also == args[0] || t.path == args[0] })
		if i >= 0 {
			return all[i], args[1:]
		}
	}
	return all[0], args
}

func (r *reach) table(t table, body []byte) error {
	w := tabwriter.NewWriter(r.stdout, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, t.head)
	next, n, err := t.rows(w, body)
	switch {
	case err != nil:
		return err
	case n == 0:
		r.tell("Nothing found.")
		return nil
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if next != "" {
		r.tell("There is more: --cursor %s", next)
	}
	return nil
}

// pointed shows where in a filter the mistake is.
func pointed(err error, filter string) error {
	refusal, ok := errors.AsType[*remote.Refusal](err)
	if !ok || refusal.Position < 1 || refusal.Position > utf8.RuneCountInString(filter)+1 {
		return err
	}
	return usageError{fmt.Errorf("%s\n\n  %s\n  %s^", refusal.Message, filter, strings.Repeat(" ", refusal.Position-1))}
}

// page is what every list has beside its rows.
type page struct {
	Next string `json:"next_cursor"`
}

func executionRows(w *tabwriter.Writer, body []byte) (string, int, error) {
	var list struct {
		page
		Rows []struct {
			executed
			Created time.Time `json:"created_at"`
		} `json:"executions"`
	}
	if err := understand(body, &list); err != nil {
		return "", 0, err
	}
	for _, x := range list.Rows {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Target, x.Status, ago(x.Created), took(x.DurationMS), clip(first(x.Error, x.Reason)))
	}
	return list.Next, len(list.Rows), nil
}

type runRow struct {
	ID         string `json:"run_id"`
	Workflow   string `json:"workflow_id"`
	Status     string `json:"status"`
	Target     string `json:"target"`
	Session    string `json:"session_id"`
	Actor      string `json:"actor_id"`
	Total      int    `json:"total"`
	Waiting    int    `json:"waiting"`
	Failed     int    `json:"failed"`
	TimedOut   int    `json:"timeout"`
	Created    string `json:"created_at"`
	Ended      string `json:"finished_at"`
	DurationMS *int64 `json:"duration_ms"`
	Page       string `json:"ui_url"`
}

// name is what its callers call the run, when that is not its id.
func (x runRow) name() string {
	if x.Workflow == x.ID {
		return ""
	}
	return x.Workflow
}

func (x runRow) counts() string {
	text := strconv.Itoa(x.Total)
	if n := x.Failed + x.TimedOut; n > 0 {
		text += fmt.Sprintf(", %d failed", n)
	}
	if x.Waiting > 0 {
		text += fmt.Sprintf(", %d waiting", x.Waiting)
	}
	return text
}

func runRows(w *tabwriter.Writer, body []byte) (string, int, error) {
	var list struct {
		page
		Rows []runRow `json:"runs"`
	}
	if err := understand(body, &list); err != nil {
		return "", 0, err
	}
	for _, x := range list.Rows {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", x.Workflow, x.Target, x.Status, ago(moment(x.Created)), took(x.DurationMS), x.counts())
	}
	return list.Next, len(list.Rows), nil
}

type approvalRow struct {
	ID        string `json:"id"`
	RequestID string `json:"approval_request_id"`
	Title     string `json:"title"`
	Status    string `json:"status"`
	Risk      string `json:"risk"`
	Target    string `json:"target"`
	Execution string `json:"execution_id"`
	Expires   string `json:"expires_at"`
	DecidedBy string `json:"decided_by"`
}

func approvalRows(w *tabwriter.Writer, body []byte) (string, int, error) {
	var list struct {
		page
		Rows []approvalRow `json:"approvals"`
	}
	if err := understand(body, &list); err != nil {
		return "", 0, err
	}
	for _, x := range list.Rows {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", x.RequestID, clip(x.Title), x.Status, x.Risk, x.Target, x.Expires)
	}
	return list.Next, len(list.Rows), nil
}

type nodeRow struct {
	ID        string     `json:"id"`
	URL       string     `json:"base_url"`
	Version   string     `json:"version"`
	Health    string     `json:"health_status"`
	Lifecycle string     `json:"lifecycle_status"`
	Heartbeat string     `json:"last_heartbeat"`
	Reasoners []function `json:"reasoners"`
	Skills    []function `json:"skills"`
	Instances []struct {
		URL      string `json:"base_url"`
		Health   string `json:"health_status"`
		InFlight int    `json:"in_flight"`
	} `json:"instances"`
}

type function struct {
	ID string `json:"id"`
}

func nodeRows(w *tabwriter.Writer, body []byte) (string, int, error) {
	var list struct {
		Rows []nodeRow `json:"nodes"`
	}
	if err := understand(body, &list); err != nil {
		return "", 0, err
	}
	for _, x := range list.Rows {
		var names []string
		for _, f := range slices.Concat(x.Reasoners, x.Skills) {
			names = append(names, f.ID)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", x.ID, x.Health, x.Version, len(x.Instances), clip(strings.Join(names, ", ")))
	}
	return "", len(list.Rows), nil
}

func moment(text string) time.Time {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// ago is how long ago something was, in the largest unit that fits.
func ago(at time.Time) string {
	d := time.Since(at)
	switch {
	case at.IsZero():
		return "-"
	case d < time.Minute:
		return strconv.Itoa(max(0, int(d.Seconds()))) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

func took(ms *int64) string {
	if ms == nil {
		return "-"
	}
	return (time.Duration(*ms) * time.Millisecond).String()
}

// clip keeps a text on its line.
func clip(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > 60 {
		return string(runes[:59]) + "…"
	}
	return text
}
