package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/app/audit"
	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/app/database"
)

// errRunning says why a verb cannot have the database, and what to do instead.
var errRunning = errors.New("a server runs on this data directory, and SQLite belongs to one process: stop it, or use Settings on its pages, " +
	"or its API under /api/v1/settings with the key of an admin. With PostgreSQL this works beside servers")

// people is the database as the verbs token, user and audit use it: without a server, and with all rights, because whoever can open the
// database has them anyway.
type people struct {
	*access.Service
	log    *audit.Reader
	origin audit.Origin
	who    access.Principal
	close  func()
}

// open takes the database for one verb.
func (p program) open(c *cobra.Command) (*people, error) {
	cfg, err := p.settings(c)
	if err != nil {
		return nil, err
	}
	return p.openPeople(c.Context(), cfg)
}

func (p program) openPeople(ctx context.Context, cfg config.Config) (*people, error) {
	db, err := database.Open(ctx, database.Config{DataDir: cfg.DataDir, URL: cfg.DatabaseURL, Log: p.log(cfg)})
	if errors.Is(err, database.ErrInUse) {
		return nil, errRunning
	}
	if err != nil {
		return nil, err
	}
	who := access.CommandLine(systemUser())
	return &people{
		Service: access.New(access.Options{DB: db, Log: p.log(cfg)}), log: audit.NewReader(db), who: who,
		origin: audit.Origin{Actor: who.ID, ActorKind: string(who.Kind), Channel: audit.CLI}, close: db.Close,
	}, nil
}

// systemUser is who runs the command, as the machine knows them.
func systemUser() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}

// databaseFlags are those settings that say which database.
func databaseFlags(c *cobra.Command) *cobra.Command {
	config.AddFlags(c.Flags())
	c.Flags().VisitAll(func(f *pflag.Flag) {
		f.Hidden = f.Name != "data-dir" && f.Name != "database-url" && f.Name != "config"
	})
	return c
}

// named makes a verb take the name of one thing.
func named(c *cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(1)(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
	return c
}

// asUsage turns what was typed wrong into a usage error.
func asUsage(err error) error {
	for _, mistake := range []error{
		access.ErrBadName, access.ErrBadDisplayName, access.ErrBadRole, access.ErrBadGroup, access.ErrWeakPassword, access.ErrBadKeyName,
		access.ErrBadScopes, access.ErrAgentScope, access.ErrBadExpiry, audit.ErrBadAnchor, audit.ErrFormat,
	} {
		if errors.Is(err, mistake) {
			return usageError{err}
		}
	}
	return err
}

// print writes value as JSON, or lets table write lines for people.
func (p program) print(asJSON bool, value any, table func(w *tabwriter.Writer)) error {
	if asJSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	table(w)
	return w.Flush()
}

func instant(ms *int64) string {
	if ms == nil {
		return "-"
	}
	return time.UnixMilli(*ms).UTC().Format("2006-01-02T15:04:05Z")
}

// say writes one line.
func (p program) say(format string, args ...any) error {
	_, err := fmt.Fprintf(p.stdout, format+"\n", args...)
	return err
}
