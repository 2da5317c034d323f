package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app"
	"github.com/agentfield/agentfield/app/config"
)

const (
	devPatience  = 3 * time.Second  // for an agent that is started anew
	runPatience  = 35 * time.Second // for one that stops: the SDKs give its work 30 s
	defaultPlane = "http://127.0.0.1:8080"
)

// developer is the verbs dev and run: an agent beside a server, which is started when none answers.
type developer struct {
	p       program
	out     *wholeLines
	server  string // its address; empty: one that answers on the usual port, or a server of our own
	port    int    // of a server of our own; negative: the usual one, or the next free
	reload  bool
	verbose bool

	project project
	listen  string // where the agent is asked to listen: that is how its registration is recognised
}

func (p program) dev() *cobra.Command {
	d := &developer{p: p, out: &wholeLines{out: p.stdout}, reload: true}
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run the agent of this directory and start it anew when its files change",
		Long: "Needs agentfield.yaml and the file that the agent begins in (main.py). Starts a server if none answers, with its data in .agentfield, " +
			"merges the logs, and prints a command to call the agent with. app.ai answers with the offline model unless a key or an address of a model is set.",
		RunE: func(c *cobra.Command, _ []string) error { return d.run(c.Context(), ".") },
	}
	d.flags(c)
	return c
}

func (p program) runAgent() *cobra.Command {
	d := &developer{p: p, out: &wholeLines{out: p.stdout}}
	c := named(&cobra.Command{
		Use:   "run NAME",
		Short: "Run an agent: the one in the directory NAME, or the one of this directory if that is its name",
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := directoryOf(args[0])
			if err != nil {
				return err
			}
			return d.run(c.Context(), dir)
		},
	})
	d.flags(c)
	return c
}

func (d *developer) flags(c *cobra.Command) {
	c.Flags().StringVarP(&d.server, "server", "s", "", "address of the server (default: AGENTFIELD_SERVER, else "+defaultPlane+", else one that is started)")
	c.Flags().IntVar(&d.port, "port", -1, fmt.Sprintf("port of a server that is started (default %d, or the next free one; 0: any)", demoPort))
	c.Flags().BoolVar(&d.verbose, "verbose", false, "show everything that the server logs")
}

// directoryOf finds an agent by its name.
func directoryOf(name string) (string, error) {
	if _, err := os.Stat(filepath.Join(name, projectFile)); err == nil {
		return name, nil
	}
	if here, err := readProject("."); err == nil && here.name == name {
		return ".", nil
	}
	return "", fmt.Errorf("there is no agent %s: neither %s nor a %s here that names it; `agentfield init %s` makes one",
		name, filepath.Join(name, projectFile), projectFile, name)
}

func (d *developer) run(ctx context.Context, dir string) (err error) {
	if d.project, err = readProject(dir); err != nil {
		return err
	}
	if _, _, err := d.project.command(ctx, d.p.environ); err != nil { // what is missing shows before anything is started
		return err
	}
	if named := first(d.server, environment(d.p.environ, "AGENTFIELD_SERVER")); named != "" {
		return d.beside(ctx, strings.TrimRight(named, "/"))
	}
	if d.port < 0 && askHealth(ctx, defaultPlane) == nil {
		return d.beside(ctx, defaultPlane)
	}
	return d.withServer(ctx)
}

// withServer starts a server of our own and runs the agent beside it.
func (d *developer) withServer(ctx context.Context) error {
	port := d.port
	if port < 0 {
		var err error
		if port, err = freePort(ctx, demoPort, demoPorts); err != nil {
			return err
		}
	}
	cfg := config.Default()
	cfg.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cfg.DataDir = filepath.Join(d.project.dir, ".agentfield", "data")
	cfg.WebhookAllowedHosts = []string{"localhost", "127.0.0.0/8", "::1"}
	level := slog.LevelWarn
	if d.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(&prefixed{out: d.out, prefix: d.prefix("server")}, &slog.HandlerOptions{Level: level}))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	err := serve(ctx, cfg, log, func(ctx context.Context, server *app.App) (func(context.Context) error, error) {
		d.say("server", "listening on %s, with its data in %s", server.URL(), cfg.DataDir)
		agent := make(chan error, 1)
		go func() {
			agent <- d.beside(ctx, server.URL())
			cancel() // without its agent the server has nothing to do
		}()
		return func(context.Context) error { // what runs ends before the server does
			cancel()
			ended <- <-agent
			return nil
		}, nil
	})
	select {
	case agentErr := <-ended:
		return errors.Join(err, agentErr)
	default:
		return err
	}
}

// beside runs the agent until ctx ends; with reload, again and again.
func (d *developer) beside(ctx context.Context, server string) error {
	if err := d.chooseAddress(ctx); err != nil {
		return err
	}
	watched := newSources(d.project.dir)
	shown := false
	for {
		agent, err := d.start(ctx, server)
		if err != nil {
			return err
		}
		round, over := context.WithCancel(ctx)
		introduced := make(chan bool, 1)
		go func() { introduced <- !shown && d.introduce(round, server, agent) }()
		again, err := d.until(round, watched, agent)
		over()
		shown = <-introduced || shown
		if !again {
			return err
		}
	}
}

// until waits for what ends a round: the end of ctx or of the agent, or, with reload, a change of its files.
func (d *developer) until(ctx context.Context, watched *sources, agent *child) (again bool, err error) {
	if !d.reload {
		select {
		case <-agent.ended:
			return false, d.ended(agent)
		case <-ctx.Done():
			agent.stop(runPatience)
			return false, nil
		}
	}
	watch, stop := context.WithCancel(ctx)
	defer stop()
	changed := make(chan string, 1)
	go func() { changed <- watched.changed(watch) }()
	var name string
	select {
	case name = <-changed:
	case <-agent.ended:
		if ctx.Err() == nil {
			d.say("dev", "%s; it is started again when a file changes", cmp.Or(d.ended(agent), errors.New("the agent has ended")))
		}
		name = <-changed
	}
	agent.stop(devPatience)
	if name == "" {
		return false, nil
	}
	d.say("dev", "%s has changed", name)
	return true, nil
}

func (d *developer) ended(agent *child) error {
	if agent.err == nil {
		return nil
	}
	return fmt.Errorf("%s ended with %w", d.project.entry, agent.err)
}

// chooseAddress picks a port for the agent that stays the same when it is started anew.
func (d *developer) chooseAddress(ctx context.Context) error {
	if d.listen = environment(d.p.environ, "AGENT_LISTEN_ADDR"); d.listen != "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a port for the agent: %w", err)
	}
	d.listen = l.Addr().String()
	return l.Close()
}

func (d *developer) start(ctx context.Context, server string) (*child, error) {
	argv, environ, err := d.project.command(ctx, d.p.environ)
	if err != nil {
		return nil, err
	}
	environ = append(environ, "AGENTFIELD_SERVER="+server, "AGENT_LISTEN_ADDR="+d.listen)
	if d.reload {
		environ = append(environ, "AGENT_STOP_TIMEOUT="+strconv.Itoa(int(devPatience.Seconds())-1))
		if !hasModel(d.p.environ) {
			environ = append(environ, "AGENTFIELD_AI=fake")
		}
	}
	return startChild(ctx, d.project.dir, argv, environ, &prefixed{out: d.out, prefix: d.prefix(d.project.name)})
}

// hasModel reports whether somebody has said which language model is to answer.
func hasModel(environ []string) bool {
	return slices.ContainsFunc([]string{
		"AGENTFIELD_AI", "AGENTFIELD_AI_URL", "AGENTFIELD_AI_KEY", "AGENTFIELD_AI_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL",
	}, func(name string) bool { return environment(environ, name) != "" })
}

func environment(environ []string, name string) string {
	for _, pair := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	return ""
}

// prefix puts a name in front of lines, all at the same width.
func (d *developer) prefix(who string) string {
	width := max(len("server"), min(len(d.project.name), 20))
	return fmt.Sprintf("%-*.*s | ", width, width, who)
}

func (d *developer) say(who, format string, args ...any) {
	out := prefixed{out: d.out, prefix: d.prefix(who)}
	_, _ = fmt.Fprintf(&out, format+"\n", args...)
}
