package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app"
	"github.com/agentfield/agentfield/app/config"
	"github.com/agentfield/agentfield/examples/demo"
)

const (
	demoPort  = 8080 // that of the documentation, so that its commands work as they are printed there
	demoPorts = 100  // how many further ones are tried
)

// demonstration is the verb demo: a server, agents and a receiver of webhooks in one process, and what to do with them.
type demonstration struct {
	out     io.Writer
	port    int
	dataDir string
	verbose bool

	agents   *demo.Agents
	receiver *demo.Receiver
}

func (p program) demo() *cobra.Command {
	d := &demonstration{out: &wholeLines{out: p.stdout}}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a server with demo agents and a few executions, and say what to look at",
		Long: "Runs a server on a loopback address with built-in agents and a receiver of webhooks. Settings of files and of the environment " +
			"are left aside, so that nothing of yours is touched; the data is gone afterwards unless --data-dir keeps it.",
		RunE: func(c *cobra.Command, _ []string) error { return d.run(c.Context(), p) },
	}
	c.Flags().IntVar(&d.port, "port", 0, fmt.Sprintf("port to use (default %d, or the next free one)", demoPort))
	c.Flags().StringVar(&d.dataDir, "data-dir", "", "directory to keep the data in (default: a temporary one)")
	c.Flags().BoolVar(&d.verbose, "verbose", false, "log everything that the server does")
	return c
}

func (d *demonstration) run(ctx context.Context, p program) error {
	cfg, cleanUp, err := d.settings(ctx)
	if err != nil {
		return err
	}
	defer cleanUp()
	return serve(ctx, cfg, p.log(cfg), d.begin)
}

// settings are the defaults with what a demo needs: webhooks may reach this machine, and the log leaves the terminal to the demo.
func (d *demonstration) settings(ctx context.Context) (cfg config.Config, cleanUp func(), err error) {
	cfg = config.Default()
	cfg.WebhookAllowedHosts = []string{"localhost", "127.0.0.0/8", "::1"}
	cfg.LogLevel = "error"
	if d.verbose {
		cfg.LogLevel = "debug"
	}
	port := d.port
	if port == 0 {
		if port, err = freePort(ctx, demoPort, demoPorts); err != nil {
			return cfg, nil, err
		}
	}
	cfg.Listen = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	cfg.DataDir, cleanUp = d.dataDir, func() {}
	if d.dataDir == "" {
		if cfg.DataDir, err = os.MkdirTemp("", "agentfield-demo-"); err != nil {
			return cfg, nil, fmt.Errorf("make a directory for the data: %w", err)
		}
		cleanUp = func() { _ = os.RemoveAll(cfg.DataDir) }
	}
	if err := cfg.Validate(); err != nil {
		cleanUp()
		return cfg, nil, usageError{err}
	}
	return cfg, cleanUp, nil
}

// freePort returns first or the next port that nobody listens on. Someone may take it before the server does: then the server says so.
func freePort(ctx context.Context, first, further int) (int, error) {
	for port := first; port <= first+further; port++ {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("the ports from %d to %d are all taken: name a free one with --port", first, first+further)
}

// begin starts the agents, makes them work and says what to look at. What it returns ends them, before the server does.
func (d *demonstration) begin(ctx context.Context, server *app.App) (func(context.Context) error, error) {
	err := d.start(ctx, server.URL())
	if err == nil {
		err = d.show(ctx, server.URL())
	}
	return d.end, err
}

func (d *demonstration) start(ctx context.Context, server string) (err error) {
	options := demo.Options{}
	if d.verbose {
		options.Logger = slog.Default()
	}
	if d.agents, err = demo.Start(ctx, server, options); err != nil {
		return fmt.Errorf("start the demo agents: %w", err)
	}
	if d.receiver, err = demo.StartReceiver(ctx, d.arrived); err != nil {
		return fmt.Errorf("start the receiver of webhooks: %w", err)
	}
	return nil
}

func (d *demonstration) end(ctx context.Context) error {
	_, err := fmt.Fprintln(d.out, "\nStopping.")
	if d.agents != nil {
		err = errors.Join(err, d.agents.Stop(ctx))
	}
	if d.receiver != nil {
		err = errors.Join(err, d.receiver.Stop(ctx))
	}
	return err
}

// show is what appears on the terminal.
func (d *demonstration) show(ctx context.Context, server string) error {
	_, port, err := net.SplitHostPort(strings.TrimPrefix(server, "http://"))
	if err != nil {
		return fmt.Errorf("read the address of the server: %w", err)
	}
	base := "http://localhost:" + port
	head := fmt.Sprintf("\nAgentfield runs at %s with the agents %s.\n", base, strings.Join(d.agents.Nodes(), ", "))
	if d.port == 0 && port != strconv.Itoa(demoPort) {
		head += fmt.Sprintf("Port %d is taken, so this is port %s: put it into commands that you copy from the documentation.\n", demoPort, port)
	}
	if d.dataDir == "" {
		head += "Its data is temporary; --data-dir keeps it.\n"
	}
	if _, err := fmt.Fprintln(d.out, head); err != nil {
		return err
	}
	waiting, err := demo.Play(ctx, server, d.receiver, d.out)
	if err != nil {
		return fmt.Errorf("run the first executions: %w", err)
	}
	_, err = fmt.Fprintf(d.out, toTry, base, d.receiver.URL(), d.receiver.Secret(), waiting, demo.Workflow)
	return err
}

// toTry takes the address of the server, that of the receiver and its secret, a request that waits for a decision, and the name of a run. The commands are
// those of the documentation.
const toTry = `
Look at it:

  %[1]s/

See a dozen executions of seven agents as one run, with a failure, a retry and a person:

  %[1]s/runs/%[5]s

Decide about the claims that wait for you:

  %[1]s/approvals

Or decide from here, as any program may:

curl -X POST %[1]s/api/v1/webhooks/approval \
  -H "Content-Type: application/json" \
  -d '{
    "approval_request_id": "%[4]s",
    "decision": "approved",
    "feedback": "Claim verified against policy"
  }'

Call an agent and wait for the answer:

curl -X POST %[1]s/api/v1/execute/hello-world.greet \
  -H "Content-Type: application/json" \
  -d '{
    "input": {
      "name": "Alice"
    }
  }'

Start something longer, and have the end told to a webhook (it arrives here):

curl -X POST %[1]s/api/v1/execute/async/research-agent.deep_analysis \
  -H "Content-Type: application/json" \
  -d '{
    "input": {
      "topic": "quantum computing applications"
    },
    "webhook": {
      "url": "%[2]s",
      "secret": "%[3]s",
      "headers": {
        "X-Custom-ID": "request-123"
      }
    }
  }'

Or start it and ask for the end; put in the execution_id of the answer:

curl -X POST %[1]s/api/v1/execute/async/doc-processor.analyze \
  -H "Content-Type: application/json" \
  -d '{
    "input": {
      "document_url": "https://example.com/report.pdf"
    }
  }'

curl "%[1]s/api/v1/executions/EXECUTION_ID?wait=30s"

Ctrl-C stops it. Webhooks that arrive:
`

// arrived reports one webhook; the receiver calls it from goroutines of its own.
func (d *demonstration) arrived(delivery demo.Delivery) {
	signature := "signature good"
	if !delivery.Verified {
		signature = "SIGNATURE WRONG"
	}
	_, _ = fmt.Fprintf(d.out, "  %s  %-20s %-10s %s  %s\n",
		delivery.At.Format("15:04:05"), delivery.Event, delivery.Status, delivery.ExecutionID, signature)
}

// wholeLines lets several goroutines write without mixing their lines.
type wholeLines struct {
	mu  sync.Mutex
	out io.Writer
}

func (w *wholeLines) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(text)
}
