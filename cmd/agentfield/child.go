package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// child is an agent that runs as a process of its own, in a group of its own, so that what it starts ends with it.
type child struct {
	cmd   *exec.Cmd
	log   *prefixed
	ended chan struct{} // closed when it has ended; err says how
	err   error
}

// startChild runs a program. ctx ending does not end it: stop does, because a process wants to be asked first.
func startChild(ctx context.Context, dir string, argv, environ []string, out *prefixed) (*child, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), argv[0], argv[1:]...) //nolint:gosec // the program of the developer who asks for it
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environ, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	c := &child{cmd: cmd, log: out, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = cmd.Wait()
		out.flush()
	}()
	return c, nil
}

// stop asks the process to end, and ends it when patience has run out.
func (c *child) stop(patience time.Duration) {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGTERM) // it may have ended already
	select {
	case <-c.ended:
	case <-time.After(patience):
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.ended
	}
}

// prefixed writes whole lines, each with a word in front that says whose they are.
type prefixed struct {
	out    io.Writer
	prefix string

	mu   sync.Mutex
	rest []byte
}

func (p *prefixed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, text...)
	end := bytes.LastIndexByte(p.rest, '\n') + 1
	if end == 0 {
		return len(text), nil
	}
	var lines bytes.Buffer
	for line := range bytes.Lines(p.rest[:end]) {
		lines.WriteString(p.prefix)
		lines.Write(line)
	}
	p.rest = append([]byte(nil), p.rest[end:]...)
	if _, err := p.out.Write(lines.Bytes()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// flush writes a last line that has no end.
func (p *prefixed) flush() {
	p.mu.Lock()
	unfinished := len(p.rest) > 0
	p.mu.Unlock()
	if unfinished {
		_, _ = p.Write([]byte("\n"))
	}
}
