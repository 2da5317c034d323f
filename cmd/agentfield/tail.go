package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// tailed is the log of one execution as the flags ask for it.
type tailed struct {
	lines  int
	levels string
	words  string
	once   bool

	seq int64 // of the last entry that was printed
}

func (p program) tail() *cobra.Command {
	var t tailed
	c := one(&cobra.Command{
		Use:   "tail EXECUTION",
		Short: "Follow the log of an execution",
		Long: "Prints what the agent has logged about an execution and what it logs, until the execution has ended; a lost connection is taken up again, " +
			"and no entry is printed twice. With --json every entry is a line.",
		Example:           "  agentfield tail exec_06gzwa51sssex85nvzv5h18d2m --level warn,error",
		ValidArgsFunction: p.completeIDs,
	}, "the id of an execution")
	c = p.reaching(c, t.do)
	c.Flags().IntVarP(&t.lines, "lines", "n", 100, "how many of the entries that are there, up to 1000")
	c.Flags().StringVar(&t.levels, "level", "", "only these levels, with commas between")
	c.Flags().StringVar(&t.words, "grep", "", "only entries with this text")
	c.Flags().BoolVar(&t.once, "no-follow", false, "print what is there and stop")
	return c
}

func (t *tailed) query() url.Values {
	q := only("levels", t.levels, "q", t.words)
	if t.seq == 0 {
		q.Set("tail", strconv.Itoa(t.lines)) // behind a known entry nothing may be left out
	}
	return q
}

func (t *tailed) do(ctx context.Context, r *reach, args []string) error {
	if t.lines < 1 {
		return usageError{errors.New("--lines must be at least 1")}
	}
	if t.once {
		return t.read(ctx, r, args[0])
	}
	err := r.Follow(ctx, remote.Follow{
		Next: func() remote.Request {
			q := t.query()
			q.Set("since_seq", strconv.FormatInt(t.seq, 10))
			return remote.Request{Path: remote.Path("executions", args[0], "logs", "stream"), Query: q}
		},
		Take: func(e remote.Event) (bool, error) { return t.take(r, e.Data) },
		Lost: r.lost,
	})
	if errors.Is(err, context.Canceled) {
		err = nil // whoever stops to look has seen enough
	}
	return err
}

func (t *tailed) read(ctx context.Context, r *reach, id string) error {
	answer, err := r.Get(ctx, remote.Path("executions", id, "logs"), t.query())
	if err != nil {
		return err
	}
	var list struct {
		Entries []json.RawMessage `json:"entries"`
	}
	if err := answer.Decode(&list); err != nil {
		return err
	}
	for _, entry := range list.Entries {
		if _, err := t.take(r, entry); err != nil {
			return err
		}
	}
	return nil
}

// logged is an entry of a log, or with a type a word about the stream.
type logged struct {
	Type       string         `json:"type"`
	Status     string         `json:"status"`
	Seq        int64          `json:"seq"`
	Level      string         `json:"level"`
	Node       string         `json:"agent_node_id"`
	Message    string         `json:"message"`
	At         string         `json:"ts"`
	Attributes map[string]any `json:"attributes"`
}

func (t *tailed) take(r *reach, data []byte) (done bool, err error) {
	var e logged
	switch err := json.Unmarshal(data, &e); {
	case err != nil:
		return false, fmt.Errorf("an entry of the log is not understood: %w", err)
	case e.Type == "stream_end":
		r.tell("The execution has ended: %s.", e.Status)
		return true, nil
	case e.Type != "", e.Seq != 0 && e.Seq <= t.seq:
		return false, nil
	}
	t.seq = e.Seq
	if r.json {
		return false, r.say("%s", data)
	}
	return false, r.say("%s", e)
}

func (e logged) String() string {
	text := fmt.Sprintf("%s  %-5s  %s  %s", clock(e.At), strings.ToUpper(e.Level), e.Node, e.Message)
	var pairs []string
	for key, value := range e.Attributes {
		pairs = append(pairs, key+"="+plain(value))
	}
	slices.Sort(pairs)
	if len(pairs) > 0 {
		text += "  " + strings.Join(pairs, " ")
	}
	return text
}
