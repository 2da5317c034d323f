package main

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// completing is how long a shell may wait for an answer when somebody presses the tabulator.
const completing = 2 * time.Second

// complete makes the values that a list of the server offers known to the shell; a server that does not answer offers none.
func (p program) complete(path string, q url.Values, offers func(remote.Answer) []string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault // the input may be a file
		}
		server, _ := c.Flags().GetString("server")
		key, _ := c.Flags().GetString("api-key")
		r := &reach{program: p, server: server, key: key}
		if r.find() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx := c.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		answer, err := r.Do(ctx, remote.Request{Method: http.MethodGet, Path: path, Query: q, Patience: completing})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(offers(answer), func(v string) bool { return !strings.HasPrefix(v, begun) }), cobra.ShellCompDirectiveNoFileComp
	}
}

func (p program) completeTargets(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return p.complete(remote.Path("discovery", "capabilities"), nil, func(a remote.Answer) []string {
		var found struct {
			Agents []struct {
				ID        string     `json:"agent_id"`
				Reasoners []function `json:"reasoners"`
				Skills    []function `json:"skills"`
			} `json:"capabilities"`
		}
		_ = a.Decode(&found)
		var targets []string
		for _, agent := range found.Agents {
			for _, f := range slices.Concat(agent.Reasoners, agent.Skills) {
				targets = append(targets, agent.ID+"."+f.ID)
			}
		}
		return targets
	})(c, args, begun)
}

// completeIDs offers the latest executions, with what they are of.
func (p program) completeIDs(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return p.complete(remote.Path("executions"), url.Values{"limit": {"30"}}, func(a remote.Answer) []string {
		var list struct {
			Rows []executed `json:"executions"`
		}
		_ = a.Decode(&list)
		var ids []string
		for _, x := range list.Rows {
			ids = append(ids, x.ID+"\t"+x.Target+", "+x.Status)
		}
		return ids
	})(c, args, begun)
}

func (p program) completeApprovals(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	return p.complete(remote.Path("approvals"), url.Values{"state": {"pending"}, "limit": {"30"}}, func(a remote.Answer) []string {
		var list struct {
			Rows []approvalRow `json:"approvals"`
		}
		_ = a.Decode(&list)
		var ids []string
		for _, x := range list.Rows {
			ids = append(ids, x.RequestID+"\t"+x.Title)
		}
		return ids
	})(c, args, begun)
}

func completeTables(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, t := range tables() {
		if len(args) == 0 && strings.HasPrefix(t.name, begun) {
			names = append(names, t.name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
