package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/models"
)

// token is the verb that looks after the keys of programs and agents.
func (p program) token() *cobra.Command {
	return group("token", "Make, list and revoke the API keys of programs and agents", p.tokenCreate(), p.tokenList(), p.tokenRevoke())
}

func (p program) tokenCreate() *cobra.Command {
	var name, expires string
	var scopes []string
	var asJSON bool
	c := databaseFlags(&cobra.Command{
		Use:   "create",
		Short: "Make an API key and print it; it is never shown again",
		RunE: func(c *cobra.Command, _ []string) error {
			lasts, err := parseSpan(expires)
			if err != nil {
				return usageError{err}
			}
			k := access.NewKey{Name: name, ExpiresIn: lasts}
			for _, s := range scopes {
				k.Scopes = append(k.Scopes, access.Scope(strings.TrimSpace(s)))
			}
			db, err := p.open(c)
			if err != nil {
				return err
			}
			defer db.close()
			key, row, err := db.CreateKey(c.Context(), db.who, db.origin, k)
			if err != nil {
				return asUsage(err)
			}
			if !asJSON {
				return p.say("%s", key)
			}
			return p.print(true, shownKey(row, key), nil)
		},
	})
	c.Flags().StringVar(&name, "name", "", "what the key is for")
	c.Flags().StringSliceVar(&scopes, "scope", nil, "what it may do: read, execute, approve, operate, admin, agent; several with commas")
	c.Flags().StringVar(&expires, "expires", "90d", "how long it works, as in 90d or 12h; never: for ever")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// parseSpan reads 90d, 12h or never (0).
func parseSpan(text string) (time.Duration, error) {
	if text == "never" {
		return 0, nil
	}
	var days int
	if n, err := fmt.Sscanf(text, "%dd", &days); err == nil && n == 1 && text == fmt.Sprintf("%dd", days) && days > 0 && days < 100_000 {
		return time.Duration(days) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no time span: write 90d, 12h or never", text)
	}
	return d, nil
}

// keyShown is a key as --json prints it.
type keyShown struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Scopes     []string `json:"scopes"`
	User       *string  `json:"user"`
	CreatedBy  string   `json:"created_by"`
	CreatedAt  string   `json:"created_at"`
	ExpiresAt  string   `json:"expires_at"`
	LastUsedAt string   `json:"last_used_at"`
	RevokedAt  string   `json:"revoked_at"`
	Key        string   `json:"key,omitempty"`
}

func shownKey(k models.APIKey, key string) keyShown {
	return keyShown{
		ID: k.ID, Name: k.Name, Scopes: strings.Fields(k.Scopes), User: k.UserName, CreatedBy: k.CreatedBy, CreatedAt: instant(&k.CreatedAt),
		ExpiresAt: instant(k.ExpiresAt), LastUsedAt: instant(k.LastUsedAt), RevokedAt: instant(k.RevokedAt), Key: key,
	}
}

func (p program) tokenList() *cobra.Command {
	var asJSON bool
	c := databaseFlags(&cobra.Command{
		Use:   "list",
		Short: "List the API keys, without their secrets",
		RunE: func(c *cobra.Command, _ []string) error {
			db, err := p.open(c)
			if err != nil {
				return err
			}
			defer db.close()
			keys, err := db.Keys(c.Context(), db.who)
			if err != nil {
				return err
			}
			list := make([]keyShown, len(keys))
			for i, k := range keys {
				list[i] = shownKey(k, "")
			}
			return p.print(asJSON, list, func(w *tabwriter.Writer) {
				_, _ = fmt.Fprintln(w, "ID\tNAME\tSCOPES\tLAST USED\tEXPIRES\tREVOKED")
				for _, k := range list {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, strings.Join(k.Scopes, ","), k.LastUsedAt, k.ExpiresAt, k.RevokedAt)
				}
			})
		},
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p program) tokenRevoke() *cobra.Command {
	return databaseFlags(named(&cobra.Command{
		Use:   "revoke ID",
		Short: "End an API key for good",
		RunE: func(c *cobra.Command, args []string) error {
			db, err := p.open(c)
			if err != nil {
				return err
			}
			defer db.close()
			// Whoever has the whole key at hand may give that.
			id, _, _ := strings.Cut(strings.TrimPrefix(args[0], "af_"), "_")
			k, err := db.RevokeKey(c.Context(), db.who, db.origin, id)
			if err != nil {
				return err
			}
			return p.say("The key %s (%s) is revoked; servers that run refuse it within 2 seconds.", k.ID, k.Name)
		},
	}))
}
