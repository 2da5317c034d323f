package main

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// act is what a person does to an execution, or to all of a run at once.
type act struct {
	verb, done string // cancel, cancelled
	short      string
	long       string
	reason     string
}

func (p program) cancel() *cobra.Command {
	return p.act(act{
		verb: "cancel", done: "cancelled", short: "End an execution, or all of a run, by hand",
		long: "Ends an execution that has not ended; the agent is told. The id of a run, or the name its callers gave it, ends everything in it.",
	})
}

func (p program) pause() *cobra.Command {
	return p.act(act{
		verb: "pause", done: "paused", short: "Hold an execution, or all of a run, back",
		long: "What has not been given to an agent is not until it is resumed. An agent that works on it goes on, and its result counts once it is resumed.",
	})
}

func (p program) resume() *cobra.Command {
	return p.act(act{
		verb: "resume", done: "resumed", short: "Let an execution, or all of a run, go on that was paused",
		long: "Lets an execution go on where it was paused; the id of a run, or the name its callers gave it, does so for everything in it.",
	})
}

func (p program) act(a act) *cobra.Command {
	c := one(&cobra.Command{Use: a.verb + " ID", Short: a.short, Long: a.long, ValidArgsFunction: p.completeIDs}, "the id of an execution or of a run")
	c = p.reaching(c, a.do)
	if a.verb != "resume" {
		c.Flags().StringVar(&a.reason, "reason", "", "why; stands in the record")
	}
	return c
}

// executionVerbs are the same under the names that existing scripts know.
func (p program) executionVerbs() *cobra.Command {
	c := group("execution", "The same verbs under the names of existing scripts", p.get(), p.cancel(), p.pause(), p.resume())
	c.Hidden = true
	return c
}

// do tries the execution of this id first, where it may be the name of a run.
func (a *act) do(ctx context.Context, r *reach, args []string) error {
	id, body := args[0], map[string]any{}
	if a.reason != "" {
		body["reason"] = a.reason
	}
	if !strings.HasPrefix(id, "run_") {
		answer, err := r.Post(ctx, remote.Path("executions", id, a.verb), body)
		if err == nil {
			return a.told(r, answer)
		}
		if !remote.Missing(err) || strings.HasPrefix(id, "exec_") {
			return err
		}
	}
	answer, err := r.Post(ctx, remote.Path("workflows", id, a.verb+"-tree"), body)
	if err != nil {
		return err
	}
	return a.toldOfRun(r, answer)
}

func (a *act) told(r *reach, answer remote.Answer) error {
	if r.json {
		return r.show(answer.Body)
	}
	var said struct {
		ID     string `json:"execution_id"`
		Before string `json:"previous_status"`
		Now    string `json:"status"`
	}
	if err := answer.Decode(&said); err != nil {
		return err
	}
	return r.say("%s is %s; it was %s.", said.ID, said.Now, said.Before)
}

func (a *act) toldOfRun(r *reach, answer remote.Answer) error {
	if r.json {
		return r.show(answer.Body)
	}
	var said struct {
		Run     string `json:"workflow_id"`
		Total   int    `json:"total_nodes"`
		Skipped int    `json:"skipped_count"`
		Failed  int    `json:"error_count"`
	}
	counts := map[string]json.RawMessage{} // the name of the count says what was done
	if err := answer.Decode(&said); err != nil {
		return err
	}
	if err := answer.Decode(&counts); err != nil {
		return err
	}
	if said.Failed > 0 {
		r.tell("%d executions could not be %s; --json says why.", said.Failed, a.done)
	}
	return r.say("%s: of %d executions %s are %s, %d were left alone.", said.Run, said.Total, counts[a.done+"_count"], a.done, said.Skipped)
}
