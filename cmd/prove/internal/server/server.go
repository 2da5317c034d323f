package server

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/agentfield/agentfield/cmd/prove/internal/process"
)

// Settings say how to start the program.
type Settings struct {
	Binary string
	Store  *Store
	Name   string   // data directory inside the store; replicas on one store need different names
	Env    []string // KEY=value, over the defaults of the harness
}

// Server is the program under test, over all its lives.
type Server struct {
	*process.Process

	settings Settings
	addr     string
	log      *process.Log
}

// Start runs the program on a free loopback port and waits until it says that it listens.
func Start(ctx context.Context, settings Settings) (*Server, error) {
	if settings.Name == "" {
		settings.Name = "data"
	}
	s := &Server{settings: settings, addr: "127.0.0.1:0", log: &process.Log{}}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	s.addr = strings.TrimPrefix(s.URL, "http://")
	return s, nil
}

// Restart starts the program again after Stop or Kill: same address, same data.
func (s *Server) Restart(ctx context.Context) error {
	args := []string{"server", "--listen", s.addr, "--data-dir", s.DataDir()}
	if s.settings.Store.Postgres() {
		args = append(args, "--database-url", s.settings.Store.DatabaseURL)
	}
	cmd := exec.Command(s.settings.Binary, args...) //nolint:noctx // its life is ended by Kill and Stop, which wait for it
	cmd.Env = environment(s.settings.Env)
	p, err := process.Start(ctx, cmd, s.log)
	if err != nil {
		return err
	}
	s.Process = p
	return nil
}

// Discard removes what the server and its store have left behind.
func (s *Server) Discard() error { return s.settings.Store.Close() }

// Log is everything that the program has written so far.
func (s *Server) Log() string { return s.log.String() }

// DataDir is where the program may write.
func (s *Server) DataDir() string { return filepath.Join(s.settings.Store.Dir, s.settings.Name) }

// environment is our own without anything that would configure the program, plus what the harness needs: fake agents and receivers
// live on loopback, so webhooks may go there.
func environment(extra []string) []string {
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "AGENTFIELD_") || name == "PORT" || name == "DATABASE_URL" {
			continue
		}
		env = append(env, pair)
	}
	env = append(env, "AGENTFIELD_WEBHOOK_ALLOWED_HOSTS=127.0.0.1,localhost")
	return append(env, extra...)
}
