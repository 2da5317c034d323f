package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// ruling is a decision of the person at the terminal.
type ruling struct {
	decision         string
	feedback         string
	response, edited string
}

func (p program) approve() *cobra.Command {
	return p.decide("approve", "approved", "Approve what an agent asks for")
}

func (p program) reject() *cobra.Command {
	return p.decide("reject", "rejected", "Reject what an agent asks for")
}

func (p program) requestChanges() *cobra.Command {
	return p.decide("request-changes", "request_changes", "Send what an agent asks for back, with what to change")
}

func (p program) decide(verb, decision, short string) *cobra.Command {
	d := ruling{decision: decision}
	c := one(&cobra.Command{
		Use:   verb + " ID",
		Short: short,
		Long: short + ". ID is the approval_request_id, the id of the request (appr_…), or the id of the execution that waits. " +
			"It needs a key that may approve; agents never decide.",
		Example:           "  agentfield list approvals\n  agentfield " + verb + ` claim-12345 -m "Claim verified against policy"`,
		ValidArgsFunction: p.completeApprovals,
	}, "the id of a request or of the execution that waits")
	c = p.reaching(c, d.do)
	c.Flags().StringVarP(&d.feedback, "feedback", "m", "", "what to tell the agent")
	c.Flags().StringVar(&d.response, "response", "", "answers to the form of the request, as a JSON object")
	c.Flags().StringVar(&d.edited, "edited", "", "the payload as you corrected it, as JSON")
	return c
}

func (d *ruling) do(ctx context.Context, r *reach, args []string) error {
	path, body, err := d.request(ctx, r, args[0])
	if err != nil {
		return err
	}
	answer, err := r.Post(ctx, path, body)
	if err != nil {
		return err
	}
	if r.json {
		return r.show(answer.Body)
	}
	var said struct {
		Status    string `json:"status"`
		Execution string `json:"execution_id"`
		Request   string `json:"approval_request_id"`
		Decision  string `json:"decision"`
		Now       string `json:"current_status"`
		Warning   string `json:"warning"`
	}
	if err := answer.Decode(&said); err != nil {
		return err
	}
	if said.Status == "already_processed" {
		r.tell("This was decided before.")
	}
	if said.Warning != "" {
		r.tell("%s", said.Warning)
	}
	return r.say("%s: %s; %s is %s.", said.Request, strings.ReplaceAll(said.Decision, "_", " "), said.Execution, said.Now)
}

// request decides which request is meant.
func (d *ruling) request(ctx context.Context, r *reach, id string) (path string, body map[string]any, err error) {
	body = map[string]any{"decision": d.decision}
	if d.feedback != "" {
		body["feedback"] = d.feedback
	}
	for name, text := range map[string]string{"response": d.response, "edited": d.edited} {
		if text == "" {
			continue
		}
		if !json.Valid([]byte(text)) {
			return "", nil, usageError{fmt.Errorf("--%s is no JSON", name)}
		}
		body[name] = json.RawMessage(text)
	}
	if strings.HasPrefix(id, "appr_") {
		return remote.Path("approvals", id, "decide"), body, nil
	}
	if strings.HasPrefix(id, "exec_") {
		if id, err = r.askedBy(ctx, id); err != nil {
			return "", nil, err
		}
	}
	body["approval_request_id"] = id
	return remote.Path("webhooks", "approval"), body, nil
}

// askedBy is the last request of an execution. What is no execution may be the name of a request.
func (r *reach) askedBy(ctx context.Context, id string) (string, error) {
	answer, err := r.Get(ctx, remote.Path("executions", id), nil)
	if remote.Missing(err) {
		return id, nil
	}
	if err != nil {
		return "", err
	}
	var x executed
	if err := answer.Decode(&x); err != nil {
		return "", err
	}
	if x.ApprovalID == "" {
		return "", errors.New(id + " is " + x.Status + " and has asked for no decision")
	}
	return x.ApprovalID, nil
}
