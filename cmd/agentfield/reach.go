package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/cmd/agentfield/internal/remote"
)

// reach is how a verb finds the server that it talks to, and how it shows what that says.
type reach struct {
	program
	*remote.Server
	server, key, file string
	json              bool
}

// reaching makes the verb of a command one that talks to a server.
func (p program) reaching(c *cobra.Command, verb func(ctx context.Context, r *reach, args []string) error) *cobra.Command {
	r := &reach{program: p}
	c.Flags().StringVarP(&r.server, "server", "s", "", "address of the server (default $AGENTFIELD_SERVER, else the one that the settings describe)")
	c.Flags().StringVarP(&r.key, "api-key", "k", "", "key to show it (default $AGENTFIELD_TOKEN or $AGENTFIELD_API_KEY)")
	c.Flags().StringVar(&r.key, "token", "", "same as --api-key")
	c.Flags().StringVar(&r.file, "config", "", "configuration file that says where the server listens")
	c.Flags().BoolVar(&r.json, "json", false, "print what the server answers")
	c.Flags().Lookup("token").Hidden = true
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := r.find(); err != nil {
			return err
		}
		return r.advise(verb(c.Context(), r, args))
	}
	return c
}

// find decides whom to ask and what to show them. The key of a configuration file is meant for the server of that file and goes to no other.
func (r *reach) find() error {
	r.Server = &remote.Server{HTTP: &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4}}}
	named, key := r.server, r.key
	if named == "" {
		named = r.variable("AGENTFIELD_SERVER", "AGENTFIELD_SERVER_URL")
	}
	if key == "" {
		key = r.variable("AGENTFIELD_TOKEN", "AGENTFIELD_API_KEY")
	}
	if named != "" {
		base, err := serverAddress(named)
		r.Base, r.Key = base, key
		return err
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(fs)
	if r.file != "" {
		_ = fs.Set("config", r.file)
	}
	cfg, _, err := config.Load(config.Sources{Environ: r.environ, Flags: fs})
	if err != nil {
		return usageError{err}
	}
	if key == "" {
		key = cfg.APIKey
	}
	r.Base, r.Key = "http://"+reachable(cfg.Listen), key
	return nil
}

// variable is the first of several environment variables that is set.
func (p program) variable(names ...string) string {
	for _, name := range names {
		if value := environment(p.environ, name); value != "" {
			return value
		}
	}
	return ""
}

func serverAddress(named string) (string, error) {
	if !strings.HasPrefix(named, "http://") && !strings.HasPrefix(named, "https://") {
		return "", usageError{fmt.Errorf("the server is %q: write its address with http:// or https://", named)}
	}
	return strings.TrimRight(named, "/"), nil
}

// advise says what to do about errors that the server cannot explain itself.
func (r *reach) advise(err error) error {
	refusal, refused := errors.AsType[*remote.Refusal](err)
	switch {
	case errors.Is(err, remote.ErrUnreachable):
		return fmt.Errorf("%w\nStart one with `agentfield server`, or name another with --server or AGENTFIELD_SERVER.", err) //nolint:revive,staticcheck // an advice is a sentence
	case refused && refusal.Status == http.StatusUnauthorized && r.Key == "":
		return fmt.Errorf("%w\nGive a key with --api-key or AGENTFIELD_API_KEY; `agentfield token create` makes one.", err) //nolint:revive,staticcheck // an advice is a sentence
	}
	return err
}

// show prints a JSON answer, indented.
func (r *reach) show(body []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		return fmt.Errorf("the answer is no JSON, is %s an Agentfield server? %w", r.Base, err)
	}
	return r.say("%s", strings.TrimRight(out.String(), "\n"))
}

// line prints a value as one line of JSON.
func (r *reach) line(value any) error { return json.NewEncoder(r.stdout).Encode(value) }

// tell writes a line for people beside the output.
func (p program) tell(format string, args ...any) { _, _ = fmt.Fprintf(p.stderr, format+"\n", args...) }

// lost tells that a stream broke.
func (r *reach) lost(err error, pause time.Duration) {
	r.tell("%v; trying again in %s", err, pause.Round(100*time.Millisecond))
}

// some makes a verb take at least one word, with a sentence about what they are.
func some(c *cobra.Command, what string) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{fmt.Errorf("%s needs %s", c.CommandPath(), what)}
		}
		return nil
	}
	return c
}

// one makes a verb take one word, with a sentence about what it is.
func one(c *cobra.Command, what string) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError{fmt.Errorf("%s needs %s", c.CommandPath(), what)}
		}
		return nil
	}
	return c
}
