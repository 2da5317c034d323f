package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app"
	"github.com/agentfield/agentfield/app/config"
)

func (p program) server() *cobra.Command {
	c := &cobra.Command{
		Use:   "server",
		Short: "Run the server; this is also what agentfield does without a verb",
		RunE:  p.runServer,
	}
	config.AddFlags(c.Flags())
	return c
}

func (p program) runServer(c *cobra.Command, _ []string) error {
	cfg, err := p.settings(c)
	if err != nil {
		return err
	}
	return serve(c.Context(), cfg, p.log(cfg), func(context.Context, *app.App) error { return nil })
}

// serve runs a server until ctx ends or the server fails, and stops it within the grace period. When it accepts requests, begin is
// called once; an error of it ends the server, too.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger, begin func(context.Context, *app.App) error) error {
	server, err := app.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	if err = begin(ctx, server); err == nil {
		select {
		case <-ctx.Done():
		case err = <-server.Wait():
		}
	}
	// ctx has ended by now, or never will: stopping has a time of its own.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownGrace)
	defer cancel()
	return errors.Join(err, server.Stop(grace))
}
