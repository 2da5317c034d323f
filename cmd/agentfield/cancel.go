package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

func (p program) cancel() *cobra.Command {
	var reason string
	c := one(&cobra.Command{
		Use:               "cancel ID",
		Short:             "End an execution, or all of a run, by hand",
		Long:              "Ends an execution that has not ended; the agent is told. The id of a run, or the name its callers gave it, ends everything in it.",
		ValidArgsFunction: p.completeIDs,
	}, "the id of an execution or of a run")
	c = p.reaching(c, func(ctx context.Context, r *reach, args []string) error { return r.cancel(ctx, args[0], reason) })
	c.Flags().StringVar(&reason, "reason", "", "why; stands in the record")
	return c
}

// executionVerbs are the same under the names that existing scripts know.
func (p program) executionVerbs() *cobra.Command {
	c := group("execution", "The same verbs under the names of existing scripts", p.get(), p.cancel())
	c.Hidden = true
	return c
}

func (r *reach) cancel(ctx context.Context, id, reason string) error {
	body := map[string]any{}
	if reason != "" {
		body["reason"] = reason
	}
	if !strings.HasPrefix(id, "run_") {
		answer, err := r.Post(ctx, remote.Path("executions", id, "cancel"), body)
		if err == nil {
			return r.cancelled(answer)
		}
		if !remote.Missing(err) || strings.HasPrefix(id, "exec_") {
			return err
		}
	}
	answer, err := r.Post(ctx, remote.Path("workflows", id, "cancel-tree"), body)
	if err != nil {
		return err
	}
	return r.cancelledTree(answer)
}

func (r *reach) cancelled(answer remote.Answer) error {
	if r.json {
		return r.show(answer.Body)
	}
	var said struct {
		ID     string `json:"execution_id"`
		Before string `json:"previous_status"`
	}
	if err := answer.Decode(&said); err != nil {
		return err
	}
	return r.say("%s is cancelled; it was %s.", said.ID, said.Before)
}

func (r *reach) cancelledTree(answer remote.Answer) error {
	if r.json {
		return r.show(answer.Body)
	}
	var said struct {
		Run       string `json:"workflow_id"`
		Total     int    `json:"total_nodes"`
		Cancelled int    `json:"cancelled_count"`
		Skipped   int    `json:"skipped_count"`
		Failed    int    `json:"error_count"`
	}
	if err := answer.Decode(&said); err != nil {
		return err
	}
	if said.Failed > 0 {
		r.tell("%d executions could not be cancelled; --json says why.", said.Failed)
	}
	return r.say("%s: of %d executions %d are cancelled, %d had ended.", said.Run, said.Total, said.Cancelled, said.Skipped)
}
