package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app/audit"
)

// errTampered makes the exit code tell what the text tells.
var errTampered = errors.New("the audit log was tampered with")

// audit is the verb that checks and copies the record of who did what.
func (p program) audit() *cobra.Command {
	return group("audit", "Check and export the record of who did what", p.auditVerify(), p.auditExport())
}

func (p program) auditVerify() *cobra.Command {
	var noted []string
	c := databaseFlags(&cobra.Command{
		Use:   "verify",
		Short: "Recompute the chain of the audit log; exit code 1 if an entry is missing or was changed",
		Long: "Recomputes the hash of every entry and prints that of the newest. Note it elsewhere and give it as --anchor later: " +
			"whoever may write to the database could recompute the whole chain, but not so that a noted hash still fits.",
		RunE: func(c *cobra.Command, _ []string) error {
			var anchors []audit.Anchor
			for _, text := range noted {
				anchor, err := audit.ParseAnchor(text)
				if err != nil {
					return usageError{err}
				}
				anchors = append(anchors, anchor)
			}
			db, err := p.open(c)
			if err != nil {
				return err
			}
			defer db.close()
			report, err := db.log.Verify(c.Context(), anchors...)
			if err != nil {
				return err
			}
			if !report.OK() {
				return fmt.Errorf("%w at entry %d: %s", errTampered, report.BadID, report.Problem)
			}
			if report.Entries == 0 {
				return p.say("The audit log is empty.")
			}
			return p.say("%d entries, all as they were written. Newest: %s", report.Entries, report.Head)
		},
	})
	c.Flags().StringArrayVar(&noted, "anchor", nil, "an entry noted before, as NUMBER:HASH; may be given several times")
	return c
}

func (p program) auditExport() *cobra.Command {
	var format, since string
	var f audit.Filter
	c := databaseFlags(&cobra.Command{
		Use:   "export",
		Short: "Write the audit log to the standard output, oldest entry first",
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if f.Since, err = sinceMs(since); err != nil {
				return usageError{err}
			}
			db, err := p.open(c)
			if err != nil {
				return err
			}
			defer db.close()
			text, err := db.log.Export(c.Context(), audit.Format(format), f)
			if err != nil {
				return asUsage(err)
			}
			if _, err := io.Copy(p.stdout, text); err != nil {
				return fmt.Errorf("write the export: %w", err)
			}
			return nil
		},
	})
	c.Flags().StringVar(&format, "format", string(audit.NDJSON), "ndjson or csv")
	c.Flags().StringVar(&since, "since", "", "only entries from this time on, as in 2026-01-31T00:00:00Z")
	c.Flags().StringVar(&f.Actor, "actor", "", "only of this actor, as in user:alice")
	c.Flags().StringVar(&f.Action, "action", "", "only this action, or all of a kind, as in key.revoked or key")
	c.Flags().StringVar(&f.Object, "object", "", "only about this object")
	c.Flags().StringVar(&f.Channel, "channel", "", "only by this way in: ui, api, cli or server")
	return c
}

func sinceMs(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("%q is no time: write 2026-01-31T00:00:00Z", text)
	}
	return at.UnixMilli(), nil
}
