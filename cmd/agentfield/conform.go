package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentfield/agentfield/cmd/agentfield/internal/conform"
)

func (p program) conform() *cobra.Command {
	v := &conformity{p: p}
	c := &cobra.Command{
		Use:   "conform [AGENT-URL] [-- COMMAND…]",
		Short: "Check whether an agent, in whatever language, keeps the contract",
		Long: "Plays a control plane on a loopback address, waits for the agent to register there, calls it as a server would, and says for each rule of the contract " +
			"whether it holds and what to do if not. The agent has to be started with the printed address in AGENTFIELD_SERVER; a COMMAND is started so.\n\n" +
			"Exit code 0: every rule holds or does not concern the agent; 1: one does not hold.",
		Example: `  agentfield conform -- node main.mjs
  agentfield conform http://127.0.0.1:9000 --function greet --input '{"name": "Alice"}'
  agentfield conform --pause evaluate_claim --slow crunch -- python3 main.py`,
		Args: func(c *cobra.Command, args []string) error {
			urls := args
			if dash := c.ArgsLenAtDash(); dash >= 0 {
				urls, v.command = args[:dash], args[dash:]
			}
			if len(urls) > 1 || len(urls) == 0 && len(v.command) == 0 {
				return usageError{errors.New("agentfield conform needs the address of an agent, or -- and the command that starts one")}
			}
			if len(urls) == 1 {
				v.AgentURL = urls[0]
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return v.run(c.Context()) },
	}
	f := c.Flags()
	f.StringVar(&v.Listen, "listen", "", "where to play the control plane (default 127.0.0.1:8080, any free port for a COMMAND)")
	f.StringVar(&v.Function, "function", "", "function to call (default: the first one)")
	f.StringVar(&v.input, "input", "", "its input (default: made up from its schema)")
	f.StringVar(&v.Slow, "slow", "", "function that takes long, to be cancelled")
	f.StringVar(&v.Pause, "pause", "", "function that asks for a decision")
	f.DurationVar(&v.Patience, "patience", 30*time.Second, "how long anything may take")
	f.BoolVar(&v.json, "json", false, "print the rows as JSON")
	return c
}

// conformity is the verb with its flags.
type conformity struct {
	conform.Options
	p       program
	input   string
	json    bool
	command []string
	agent   *exec.Cmd
}

func (v *conformity) run(ctx context.Context) error {
	if err := v.understand(); err != nil {
		return err
	}
	v.Ready = func(plane string) error { return v.ready(ctx, plane) }
	if len(v.command) > 0 {
		v.Stop = func() { _ = syscall.Kill(-v.agent.Process.Pid, syscall.SIGTERM) }
	}
	if !v.json {
		v.Each = v.show
	}
	rows, err := conform.Run(ctx, v.Options)
	v.end()
	if err != nil {
		return err
	}
	return v.sum(rows)
}

func (v *conformity) understand() error {
	if u, err := url.Parse(v.AgentURL); v.AgentURL != "" && (err != nil || u.Host == "" || !strings.HasPrefix(u.Scheme, "http")) {
		return usageError{fmt.Errorf("the agent is %q: write its address with http:// or https://", v.AgentURL)}
	}
	if v.input != "" {
		input, err := object("--input", []byte(v.input))
		if err != nil {
			return err
		}
		v.Input = input
	}
	if v.Listen == "" {
		v.Listen = "127.0.0.1:8080"
		if len(v.command) > 0 {
			v.Listen = "127.0.0.1:0"
		}
	}
	return nil
}

// ready starts the command, or says how the agent has to be started.
func (v *conformity) ready(ctx context.Context, plane string) error {
	if len(v.command) == 0 {
		v.p.tell("Waiting for the agent to register at %s: start it with AGENTFIELD_SERVER=%s.", plane, plane)
		return nil
	}
	v.agent = exec.CommandContext(ctx, v.command[0], v.command[1:]...) //nolint:gosec // the command that whoever types it wants run
	v.agent.Env = append(os.Environ(), "AGENTFIELD_SERVER="+plane)
	v.agent.Stdout, v.agent.Stderr = v.p.stderr, v.p.stderr
	v.agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that whatever a shell has started ends with it
	v.agent.Cancel = func() error { return syscall.Kill(-v.agent.Process.Pid, syscall.SIGKILL) }
	v.agent.WaitDelay = 5 * time.Second
	if err := v.agent.Start(); err != nil {
		return usageError{fmt.Errorf("the agent cannot be started: %w", err)}
	}
	return nil
}

// end waits for the command, and ends it the hard way when it does not listen.
func (v *conformity) end() {
	if v.agent == nil || v.agent.Process == nil {
		return
	}
	_ = syscall.Kill(-v.agent.Process.Pid, syscall.SIGTERM)
	hard := time.AfterFunc(5*time.Second, func() { _ = syscall.Kill(-v.agent.Process.Pid, syscall.SIGKILL) })
	defer hard.Stop()
	_ = v.agent.Wait() // how it ended was judged
}

func (v *conformity) show(r conform.Row) {
	_ = v.p.say("%s  %-9s %s: %s", r.Result, r.ID, r.Title, r.Found)
	if r.Advice != "" {
		_ = v.p.say("                %s", r.Advice)
	}
}

func (v *conformity) sum(rows []conform.Row) error {
	counts := map[string]int{}
	for _, r := range rows {
		counts[r.Result]++
	}
	if v.json {
		encoder := json.NewEncoder(v.p.stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(map[string]any{"conforms": counts[conform.Fail] == 0, "rows": rows}); err != nil {
			return err
		}
	} else if err := v.p.say("\n%d rules hold, %d do not concern it, %d do not hold.", counts[conform.Pass], counts[conform.Skip], counts[conform.Fail]); err != nil {
		return err
	}
	if counts[conform.Fail] > 0 {
		return errors.New("the agent does not keep the contract")
	}
	return nil
}
