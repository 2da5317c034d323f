package process_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/agentfield/agentfield/cmd/prove/internal/process"
)

func shell(script string) *exec.Cmd { return exec.Command("/bin/sh", "-c", script) } //nolint:noctx // ended by the tests

func TestStartReadsTheAddressAndKillEnds(t *testing.T) {
	var log process.Log
	p, err := process.Start(t.Context(), shell(`echo '{"msg":"listening on http://127.0.0.1:4711"}'; exec sleep 60`), &log)
	if err != nil {
		t.Fatal(err)
	}
	if p.URL != "http://127.0.0.1:4711" || p.StartedIn <= 0 {
		t.Errorf("got %q after %s", p.URL, p.StartedIn)
	}
	if rss, err := p.RSS(); err != nil || rss <= 0 {
		t.Errorf("memory: %d, %v", rss, err)
	}
	if _, err := p.CPU(); err != nil {
		t.Error(err)
	}
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("a second kill must find nothing to do: %v", err)
	}
}

func TestStopLetsTheProgramSayGoodbye(t *testing.T) {
	var log process.Log
	p, err := process.Start(t.Context(), shell(`trap 'echo goodbye; exit 0' TERM; echo listening on http://h:1; while :; do sleep 0.01; done`), &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "goodbye") {
		t.Errorf("the log has %q", log.String())
	}
}

func TestProgramThatEndsIsReportedWithItsWords(t *testing.T) {
	_, err := process.Start(t.Context(), shell(`echo the port is taken; exit 1`), &process.Log{})
	if !errors.Is(err, process.ErrNotListening) || !strings.Contains(err.Error(), "the port is taken") {
		t.Errorf("got %v", err)
	}
}
