package python

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSuite runs the tests of the SDK, which are Python themselves.
func TestSuite(t *testing.T) {
	suite := exec.CommandContext(t.Context(), "python3", "-W", "error::DeprecationWarning:agentfield", "-m", "unittest", "discover", "-s", "tests", "-t", ".")
	suite.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := suite.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func TestTheVersionIsTheSameEverywhere(t *testing.T) {
	for name, line := range map[string]string{"pyproject.toml": "version = \"" + Version + "\"", "agentfield/__init__.py": "__version__ = \"" + Version + "\""} {
		content, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content), line+"\n") {
			t.Errorf("%s lacks %s", name, line)
		}
	}
}

func TestTheArchiveBuildsAPackage(t *testing.T) {
	home := t.TempDir()
	extract(t, home)
	build := exec.CommandContext(t.Context(), "python3", "-c",
		"import agentfield_build, sys; name = agentfield_build.build_wheel('.'); sys.path.insert(0, name); import agentfield; "+
			"print(name, agentfield.__version__, agentfield.__file__)")
	build.Dir = filepath.Join(home, "agentfield-"+Version)
	build.Env = append(os.Environ(), "PYTHONSAFEPATH=", "PYTHONDONTWRITEBYTECODE=1")
	out, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wheel := "agentfield-" + Version + "-py3-none-any.whl"
	if want := wheel + " " + Version + " " + filepath.Join(wheel, "agentfield", "__init__.py"); strings.TrimSpace(string(out)) != want {
		t.Errorf("got %s, want %s", out, want)
	}
}

func TestTheArchiveIsTheSameEveryTime(t *testing.T) {
	first, err := Archive()
	if err != nil {
		t.Fatal(err)
	}
	second, err := Archive()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two archives differ (%v)", err)
	}
}

func TestUnpackedOnceAndUsedAgain(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	home, err := Unpack(cache)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(home, "agentfield", "__init__.py")); err != nil {
		t.Error(err)
	}
	again, err := Unpack(cache)
	if err != nil || again != home {
		t.Errorf("the second time: %s, %v", again, err)
	}
	entries, err := os.ReadDir(cache)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d things are left in the cache (%v)", len(entries), err)
	}
}

func extract(t *testing.T, home string) {
	t.Helper()
	packed, err := Archive()
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(zip)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(home, filepath.FromSlash(header.Name)) //nolint:gosec // our own archive
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
