package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentfield/agentfield/app/config"
)

// maxHealthAnswer is how much of an answer is read, in bytes; it is only shown.
const maxHealthAnswer = 4 << 10

func (p program) health() *cobra.Command {
	var server string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it is ready; exit code 0 if it is, 1 if not",
		Long: "Asks /readyz of the server named by --server or AGENTFIELD_SERVER, else of the one that the settings describe on this " +
			"machine, which makes it a health check for containers.",
		RunE: func(c *cobra.Command, _ []string) error {
			base, err := p.serverURL(c, server)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			if err := askReady(ctx, base); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "%s is ready\n", base)
			return err
		},
	}
	config.AddFlags(c.Flags())
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true }) // they only say where the server listens
	c.Flags().StringVarP(&server, "server", "s", "", "address of the server, as in http://127.0.0.1:8080")
	c.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "longest wait for the answer")
	return c
}

// serverURL decides whom to ask.
func (p program) serverURL(c *cobra.Command, named string) (string, error) {
	if named == "" {
		named = p.variable("AGENTFIELD_SERVER", "AGENTFIELD_SERVER_URL")
	}
	if named != "" {
		return serverAddress(named)
	}
	cfg, err := p.settings(c)
	if err != nil {
		return "", err
	}
	return "http://" + reachable(cfg.Listen), nil
}

// reachable turns an address to listen on into one to call: "all addresses" is called by the loopback one.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func askReady(ctx context.Context, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return usageError{fmt.Errorf("the address %q cannot be asked: %w", base, err)}
	}
	client := &http.Client{}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxHealthAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: HTTP %d %s", base, res.StatusCode, strings.TrimSpace(string(answer)))
	}
	return nil
}
