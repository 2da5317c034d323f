package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNotListening is returned when the program ended or stayed silent instead of saying where it listens.
var ErrNotListening = errors.New("the server did not say that it listens")

// The longest a start or a graceful stop may take before it counts as failed.
const (
	startLimit = 30 * time.Second
	stopLimit  = 35 * time.Second
)

// Settings say how to start the program.
type Settings struct {
	Binary string
	Store  *Store
	Name   string   // data directory inside the store; replicas on one store need different names
	Env    []string // KEY=value, over the defaults of the harness
}

// Server is one running copy of the program under test.
type Server struct {
	URL       string
	StartedIn time.Duration // from exec to the line that says where it listens

	settings Settings
	addr     string
	log      *log
	cmd      *exec.Cmd
	exited   chan struct{}
}

// Start runs the program on a free loopback port and waits until it says that it listens.
func Start(ctx context.Context, settings Settings) (*Server, error) {
	if settings.Name == "" {
		settings.Name = "data"
	}
	s := &Server{settings: settings, addr: "127.0.0.1:0", log: &log{}}
	return s, s.start(ctx)
}

// Restart starts the program again after Stop or Kill: same address, same data.
func (s *Server) Restart(ctx context.Context) error { return s.start(ctx) }

// Kill ends the program as a power cut would: SIGKILL, no goodbye.
func (s *Server) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the server: %w", err)
	}
	<-s.exited
	return nil
}

// Stop asks the program to end and waits; a program that does not is killed and reported.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		return fmt.Errorf("stop the server: %w", err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("the server did not end within %s of SIGTERM", stopLimit), s.Kill())
	}
}

// Discard removes what the server and its store have left behind.
func (s *Server) Discard() error { return s.settings.Store.Close() }

// Running reports whether the process is still there.
func (s *Server) Running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Log is everything that the program has written so far, over all its lives.
func (s *Server) Log() string { return s.log.String() }

// DataDir is where the program may write.
func (s *Server) DataDir() string { return filepath.Join(s.settings.Store.Dir, s.settings.Name) }

// RSS is the resident memory of the process in bytes.
func (s *Server) RSS() (int64, error) { return statusField(s.cmd.Process.Pid, "VmRSS:") }

// PeakRSS is the most resident memory the process has had.
func (s *Server) PeakRSS() (int64, error) { return statusField(s.cmd.Process.Pid, "VmHWM:") }

func (s *Server) start(ctx context.Context) error {
	args := []string{"server", "--listen", s.addr, "--data-dir", s.DataDir()}
	if s.settings.Store.Postgres() {
		args = append(args, "--database-url", s.settings.Store.DatabaseURL)
	}
	cmd := exec.Command(s.settings.Binary, args...) //nolint:noctx // its life is ended by Kill and Stop, which wait for it
	cmd.Env = environment(s.settings.Env)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.settings.Binary, err)
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	listening := make(chan string, 1)
	go s.read(out, listening)
	go func(exited chan struct{}) {
		_ = cmd.Wait()
		_ = in.Close()
		close(exited)
	}(s.exited)
	return s.await(ctx, began, listening)
}

func (s *Server) await(ctx context.Context, began time.Time, listening <-chan string) error {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case url := <-listening:
		s.StartedIn = time.Since(began)
		s.URL = url
		s.addr = strings.TrimPrefix(url, "http://")
		return nil
	case <-s.exited:
		return fmt.Errorf("%w: it ended first:\n%s", ErrNotListening, s.log.tail(2000))
	case <-limit.C:
		return errors.Join(fmt.Errorf("%w within %s:\n%s", ErrNotListening, startLimit, s.log.tail(2000)), s.Kill())
	case <-ctx.Done():
		return errors.Join(ctx.Err(), s.Kill())
	}
}

var listeningLine = regexp.MustCompile(`listening on (http://[^\s"]+)`)

// read keeps the log and announces the first address in it; it ends when the process has.
func (s *Server) read(out io.Reader, listening chan<- string) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		s.log.write(line)
		if found := listeningLine.FindStringSubmatch(line); found != nil {
			select {
			case listening <- found[1]:
			default:
			}
		}
		if err != nil {
			return
		}
	}
}

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

func statusField(pid int, field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of the server: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", field, pid)
}

// log keeps what the program wrote.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) tail(n int) string {
	text := l.String()
	return text[max(0, len(text)-n):]
}
