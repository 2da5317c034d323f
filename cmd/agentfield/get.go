package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

func (p program) get() *cobra.Command {
	var wait, input, result bool
	c := one(&cobra.Command{
		Use:               "get ID",
		Short:             "Show an execution, a run, an approval or an agent",
		Long:              "Shows whatever has this id: an execution, a run (by its id or the name its callers gave it), a request for a decision (appr_…) or an agent.",
		ValidArgsFunction: p.completeIDs,
	}, "one id")
	c = p.reaching(c, func(ctx context.Context, r *reach, args []string) error {
		switch {
		case wait:
			return r.await(ctx, args[0])
		case input:
			return r.payload(ctx, args[0], "input")
		case result:
			return r.payload(ctx, args[0], "result")
		}
		return r.get(ctx, args[0])
	})
	c.Flags().BoolVar(&wait, "wait", false, "wait for the end of the execution and print its result")
	c.Flags().BoolVar(&input, "input", false, "print the input of the execution as it came, and nothing else")
	c.Flags().BoolVar(&result, "result", false, "print the result of the execution as it came, and nothing else")
	c.MarkFlagsMutuallyExclusive("wait", "input", "result")
	return c
}

// payload writes bytes as they are: they may be anything.
func (r *reach) payload(ctx context.Context, id, which string) error {
	answer, err := r.Get(ctx, remote.Path("executions", id, which), nil)
	if err != nil {
		return err
	}
	_, err = r.stdout.Write(answer.Body)
	return err
}

// kind is one kind of thing that has an id.
type kind struct {
	prefix, path string // empty: any id may be one
	print        func(w *tabwriter.Writer, body []byte) error
}

func kinds() []kind {
	return []kind{
		{"exec_", "executions", printExecution},
		{"run_", "runs", printRun},
		{"appr_", "approvals", printApproval},
		{"", "executions", printExecution},
		{"", "runs", printRun},
		{"", "nodes", printNode},
	}
}

// get asks for the kinds that the id may be of, until one is found.
func (r *reach) get(ctx context.Context, id string) error {
	for _, k := range kinds() {
		if k.prefix == "" && telling(id) || !strings.HasPrefix(id, k.prefix) {
			continue
		}
		answer, err := r.Get(ctx, remote.Path(k.path, id), nil)
		if remote.Missing(err) && k.prefix == "" {
			continue
		}
		if err != nil {
			return err
		}
		if r.json {
			return r.show(answer.Body)
		}
		w := tabwriter.NewWriter(r.stdout, 0, 4, 2, ' ', 0)
		if err := k.print(w, answer.Body); err != nil {
			return err
		}
		return w.Flush()
	}
	return fmt.Errorf("there is no execution, run or agent %q at %s; `agentfield list` shows what there is", id, r.Base)
}

// telling reports whether an id says itself what it is of.
func telling(id string) bool {
	for _, k := range kinds() {
		if k.prefix != "" && strings.HasPrefix(id, k.prefix) {
			return true
		}
	}
	return false
}

// fields prints those that have a value.
func fields(w *tabwriter.Writer, pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", pairs[i], pairs[i+1])
		}
	}
}

// value prints JSON below its name.
func value(w *tabwriter.Writer, name string, text json.RawMessage) {
	if len(text) == 0 {
		return
	}
	_ = w.Flush() // what follows is no table
	var pretty strings.Builder
	encoder := json.NewEncoder(&pretty)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("  ", "  ")
	if encoder.Encode(text) != nil {
		return
	}
	_, _ = fmt.Fprintf(w, "%s\n  %s", name, pretty.String())
}

var errNoAnswer = errors.New("the answer is not understood: is the server older than this program?")

func understand(body []byte, into any) error {
	if json.Unmarshal(body, into) != nil {
		return errNoAnswer
	}
	return nil
}

func printExecution(w *tabwriter.Writer, body []byte) error {
	var x struct {
		executed
		Run           string          `json:"workflow_id"`
		Parent        string          `json:"parent_execution_id"`
		Session       string          `json:"session_id"`
		Actor         string          `json:"actor_id"`
		Mode          string          `json:"mode"`
		Created       string          `json:"created_at"`
		Ended         string          `json:"completed_at"`
		Attempt       int             `json:"attempt"`
		Attempts      int             `json:"max_attempts"`
		Progress      float64         `json:"progress"`
		ProgressSays  string          `json:"progress_message"`
		ErrorDetails  json.RawMessage `json:"error_details"`
		WebhookStatus string          `json:"webhook_status"`
		Page          string          `json:"ui_url"`
	}
	if err := understand(body, &x); err != nil {
		return err
	}
	fields(w, "Execution", x.ID, "Target", x.Target, "Status", x.Status+x.after(), "Reason", x.Reason, "Error", x.Error, "Code", x.Code,
		"Attempt", fmt.Sprintf("%d of %d", x.Attempt, x.Attempts), "Mode", x.Mode, "Run", x.Run, "Parent", x.Parent, "Session", x.Session, "Actor", x.Actor,
		"Accepted", x.Created, "Ended", x.Ended, "Webhook", x.WebhookStatus)
	if !x.ended() && (x.Progress > 0 || x.ProgressSays != "") {
		fields(w, "Progress", strings.TrimSpace(fmt.Sprintf("%.0f %% %s", 100*x.Progress, x.ProgressSays)))
	}
	if x.WaitingFor != nil {
		fields(w, "Waits for", x.WaitingFor.ID, "Decide at", x.WaitingFor.URL)
	}
	fields(w, "Page", x.Page)
	value(w, "Result", x.Result)
	value(w, "Details", x.ErrorDetails)
	return nil
}

func printRun(w *tabwriter.Writer, body []byte) error {
	var x runRow
	if err := understand(body, &x); err != nil {
		return err
	}
	fields(w, "Run", x.ID, "Name", x.name(), "Status", x.Status, "Target", x.Target, "Executions", x.counts(), "Session", x.Session, "Actor", x.Actor,
		"Begun", x.Created, "Ended", x.Ended, "Page", x.Page)
	return nil
}

func printApproval(w *tabwriter.Writer, body []byte) error {
	var x struct {
		approvalRow
		URL         string          `json:"approval_request_url"`
		Description string          `json:"description"`
		Next        string          `json:"next"`
		Run         string          `json:"run_id"`
		Quorum      int             `json:"quorum"`
		Feedback    string          `json:"feedback"`
		DecidedAt   string          `json:"decided_at"`
		Payload     json.RawMessage `json:"payload"`
		Form        json.RawMessage `json:"form"`
	}
	if err := understand(body, &x); err != nil {
		return err
	}
	fields(w, "Approval", x.ID, "Request", x.RequestID, "Title", x.Title, "About", x.Description, "Status", x.Status, "Risk", x.Risk, "If approved", x.Next,
		"Target", x.Target, "Execution", x.Execution, "Run", x.Run, "Expires", x.Expires, "Decided by", x.DecidedBy, "Decided", x.DecidedAt,
		"Feedback", x.Feedback, "Page", x.URL)
	if x.Quorum > 1 {
		fields(w, "Decisions", fmt.Sprintf("%d people have to approve", x.Quorum))
	}
	value(w, "Payload", x.Payload)
	value(w, "Form", x.Form)
	return nil
}

func printNode(w *tabwriter.Writer, body []byte) error {
	var x nodeRow
	if err := understand(body, &x); err != nil {
		return err
	}
	fields(w, "Agent", x.ID, "Health", x.Health, "State", x.Lifecycle, "Version", x.Version, "Address", x.URL, "Last heard", x.Heartbeat)
	for _, f := range x.Reasoners {
		fields(w, "Function", x.ID+"."+f.ID)
	}
	for _, f := range x.Skills {
		fields(w, "Skill", x.ID+"."+f.ID)
	}
	for _, i := range x.Instances {
		fields(w, "Instance", strings.Join([]string{i.URL, i.Health, fmt.Sprintf("%d calls open", i.InFlight)}, "  "))
	}
	return nil
}

// only is the query of a list from the flags that were given.
func only(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}
