package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app/access"
	"github.com/agentfield/agentfield/models"
)

// user is the verb that looks after people.
func (p program) user() *cobra.Command {
	return group("user", "Add, list and change the people who may sign in",
		p.userAdd(), p.userList(), p.userPassword(), p.userRole(),
		p.userSwitch("disable", "Keep somebody out, with all sessions and keys", true), p.userSwitch("enable", "Let somebody in again", false))
}

func (p program) userAdd() *cobra.Command {
	var role, display string
	var groups []string
	var stdin bool
	c := databaseFlags(named(&cobra.Command{
		Use:   "add NAME",
		Short: "Add somebody; without --password-stdin a password is made and printed once",
		RunE: func(c *cobra.Command, args []string) error {
			password, made, err := p.password(stdin)
			if err != nil {
				return err
			}
			db, err := p.open(c)
			if err != nil {
				return err
			}
			defer db.close()
			u, err := db.CreateUser(c.Context(), db.origin, access.NewUser{
				Name: args[0], DisplayName: display, Role: access.Role(role), Groups: groups, Password: password,
			})
			if err != nil {
				return asUsage(err)
			}
			if err := p.say("%s can sign in as %s.", u.Name, u.Role); err != nil || !made {
				return err
			}
			return p.say("Password, shown this once: %s", password)
		},
	}))
	c.Flags().StringVar(&role, "role", string(access.Viewer), "viewer, reviewer, operator or admin")
	c.Flags().StringVar(&display, "display-name", "", "how the pages call them; default: the name")
	c.Flags().StringSliceVar(&groups, "group", nil, "group they belong to, for approval policies; several with commas")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from the first line of the standard input")
	return c
}

// password reads one, or makes one that nobody guesses.
func (p program) password(stdin bool) (password string, made bool, err error) {
	if !stdin {
		return rand.Text(), true, nil
	}
	line, err := bufio.NewReader(p.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), false, nil
}

func (p program) userList() *cobra.Command {
	var asJSON bool
	c := databaseFlags(&cobra.Command{
		Use:   "list",
		Short: "List everybody who may sign in, or might once",
		RunE: func(c *cobra.Command, _ []string) error {
			db, err := p.open(c)
			if err != nil {
				return err
			}
			defer db.close()
			users, err := db.Users(c.Context())
			if err != nil {
				return err
			}
			list := make([]userShown, len(users))
			for i, u := range users {
				list[i] = userShown{Name: u.Name, DisplayName: u.DisplayName, Role: u.Role, Groups: u.Groups, Disabled: u.Disabled, SignedInAt: instant(u.SignedInAt)}
			}
			return p.print(asJSON, list, func(w *tabwriter.Writer) {
				_, _ = fmt.Fprintln(w, "NAME\tROLE\tGROUPS\tDISABLED\tLAST SIGN-IN")
				for _, u := range list {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%t\t%s\n", u.Name, u.Role, strings.Join(u.Groups, ","), u.Disabled, u.SignedInAt)
				}
			})
		},
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// userShown is somebody as --json prints them.
type userShown struct {
	Name        string   `json:"name"`
	DisplayName string   `json:"display_name"`
	Role        string   `json:"role"`
	Groups      []string `json:"groups"`
	Disabled    bool     `json:"disabled"`
	SignedInAt  string   `json:"signed_in_at"`
}

func (p program) userPassword() *cobra.Command {
	var stdin bool
	c := databaseFlags(named(&cobra.Command{
		Use:   "passwd NAME",
		Short: "Give somebody another password and end their sessions; without --password-stdin one is made and printed once",
		RunE: func(c *cobra.Command, args []string) error {
			password, made, err := p.password(stdin)
			if err != nil {
				return err
			}
			u, err := p.changeUser(c, func(db *people) (models.User, error) {
				return db.SetPassword(c.Context(), db.origin, args[0], password)
			})
			if err != nil {
				return err
			}
			if err := p.say("%s has another password and is signed out everywhere.", u.Name); err != nil || !made {
				return err
			}
			return p.say("Password, shown this once: %s", password)
		},
	}))
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from the first line of the standard input")
	return c
}

func (p program) userRole() *cobra.Command {
	c := databaseFlags(&cobra.Command{
		Use:   "role NAME ROLE",
		Short: "Give somebody another role (viewer, reviewer, operator, admin) and end their sessions",
		RunE: func(c *cobra.Command, args []string) error {
			u, err := p.changeUser(c, func(db *people) (models.User, error) {
				return db.SetRole(c.Context(), db.origin, args[0], access.Role(args[1]))
			})
			if err != nil {
				return err
			}
			return p.say("%s is %s now.", u.Name, u.Role)
		},
	})
	c.Args = func(c *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(2)(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
	return c
}

func (p program) userSwitch(verb, short string, disabled bool) *cobra.Command {
	return databaseFlags(named(&cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		RunE: func(c *cobra.Command, args []string) error {
			u, err := p.changeUser(c, func(db *people) (models.User, error) {
				return db.SetDisabled(c.Context(), db.origin, args[0], disabled)
			})
			if err != nil {
				return err
			}
			return p.say("%s is %sd.", u.Name, verb)
		},
	}))
}

// changeUser opens the database for one act upon somebody.
func (p program) changeUser(c *cobra.Command, act func(db *people) (models.User, error)) (models.User, error) {
	db, err := p.open(c)
	if err != nil {
		return models.User{}, err
	}
	defer db.close()
	u, err := act(db)
	return u, asUsage(err)
}
