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
	return serve(c.Context(), cfg, p.log(cfg), alone)
}

// guest begins something beside a server that accepts requests, and returns what ends it.
type guest func(context.Context, *app.App) (end func(context.Context) error, err error)

func alone(context.Context, *app.App) (func(context.Context) error, error) {
	return func(context.Context) error { return nil }, nil
}

// serve runs a server and its guest until ctx ends or the server fails, and stops both, the guest first, within the grace period.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger, begin guest) error {
	server, err := app.New(ctx, cfg, log)
	if err != nil {
		return err
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	restAfterStart()
	end, err := begin(ctx, server)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-server.Wait():
		}
	}
	if ctx.Err() != nil {
		err = nil // whoever ended ctx wanted the end; what was interrupted by it is no failure
	}
	// ctx has ended by now, or never will: stopping has a time of its own.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.ShutdownGrace)
	defer cancel()
	return errors.Join(err, end(grace), server.Stop(grace))
}
