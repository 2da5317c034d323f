// Package process runs a program that says where it listens. Its one invariant: a program that was started is either waited for or
// still running; nothing is left behind unowned.
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNotListening is returned when the program ended or stayed silent instead of saying where it listens.
var ErrNotListening = errors.New("the program did not say that it listens")

// The longest a start or a graceful stop may take before it counts as failed.
const (
	startLimit = 30 * time.Second
	stopLimit  = 35 * time.Second
)

// Process is one running program.
type Process struct {
	URL       string
	StartedIn time.Duration // from exec to the line that says where it listens

	cmd    *exec.Cmd
	log    *Log
	exited chan struct{}
}

// Start runs a command and waits until it says that it listens. What it writes goes to the log, which may be shared by several lives
// of one program.
func Start(ctx context.Context, cmd *exec.Cmd, log *Log) (*Process, error) {
	p := &Process{cmd: cmd, log: log, exited: make(chan struct{})}
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	listening := make(chan string, 1)
	go p.read(out, listening)
	go func() {
		_ = cmd.Wait()
		_ = in.Close()
		close(p.exited)
	}()
	if err := p.await(ctx, listening); err != nil {
		return nil, err
	}
	p.StartedIn = time.Since(began)
	return p, nil
}

// Kill ends the program as a power cut would: SIGKILL, no goodbye.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
	}
	<-p.exited
	return nil
}

// Stop asks the program to end and waits; a program that does not is killed and reported.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		return fmt.Errorf("stop %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("%s did not end within %s of SIGTERM", p.cmd.Path, stopLimit), p.Kill())
	}
}

// RSS is the resident memory of the process in bytes.
func (p *Process) RSS() (int64, error) { return p.memory("VmRSS:") }

// PeakRSS is the most resident memory the process has had.
func (p *Process) PeakRSS() (int64, error) { return p.memory("VmHWM:") }

// clockTick is the unit of processor time in /proc.
const clockTick = 10 * time.Millisecond

// CPU is the processor time the process has used so far.
func (p *Process) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of a process: %w", err)
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the name before it may contain anything
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("the status of process %d has only %d fields", p.cmd.Process.Pid, len(fields))
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, err
}

func (p *Process) await(ctx context.Context, listening <-chan string) error {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case p.URL = <-listening:
		return nil
	case <-p.exited:
		return fmt.Errorf("%w: it ended first:\n%s", ErrNotListening, p.log.tail(2000))
	case <-limit.C:
		return errors.Join(fmt.Errorf("%w within %s:\n%s", ErrNotListening, startLimit, p.log.tail(2000)), p.Kill())
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.Kill())
	}
}

var listeningLine = regexp.MustCompile(`listening on (http://[^\s"]+)`)

// read keeps the log and announces the first address in it; it ends when the process has.
func (p *Process) read(out io.Reader, listening chan<- string) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		p.log.write(line)
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

func (p *Process) memory(field string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of a process: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", field, p.cmd.Process.Pid)
}

// Log keeps what a program wrote, over all its lives.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *Log) write(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line)
}

func (l *Log) tail(n int) string {
	text := l.String()
	return text[max(0, len(text)-n):]
}
