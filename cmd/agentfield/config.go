package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/app/config"
)

func (p program) config() *cobra.Command {
	show := &cobra.Command{
		Use:   "print",
		Short: "Print the settings as the server would use them, secrets hidden",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.settings(c)
			if err != nil {
				return err
			}
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			if _, err := p.stdout.Write(text); err != nil {
				return fmt.Errorf("print the settings: %w", err)
			}
			return nil
		},
	}
	config.AddFlags(show.Flags())
	return group("config", "Look at the settings", show)
}
