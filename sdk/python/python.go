// Package python carries the SDK for Python inside the binary, so that an agent can be written and run where there is nothing but Python.
//
// The SDK in agentfield/ is the source; what is unpacked or downloaded are its bytes, nothing is made at run time but the archive
// around them.
package python

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Version is that of the SDK, as pyproject.toml has it.
const Version = "0.1.0"

//go:embed agentfield/*.py agentfield/py.typed pyproject.toml agentfield_build.py
var files embed.FS

// Archive is the source distribution, agentfield-VERSION.tar.gz, which pip can install without a network: the same bytes every time.
func Archive() ([]byte, error) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zip)
	err := each(func(name string, content []byte) error {
		header := &tar.Header{
			Name: "agentfield-" + Version + "/" + name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := archive.Write(content)
		return err
	})
	if err := errors.Join(err, archive.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("pack the SDK for Python: %w", err)
	}
	return packed.Bytes(), nil
}

// Unpack writes the SDK below dir, in a directory of its own for each content, and returns that: it belongs on PYTHONPATH. What is there
// already is used again.
func Unpack(dir string) (string, error) {
	sum, err := sum()
	if err != nil {
		return "", err
	}
	home := filepath.Join(dir, "python-"+sum)
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("make a place for the SDK for Python: %w", err)
	}
	fresh, err := os.MkdirTemp(dir, "unpacking-")
	if err != nil {
		return "", fmt.Errorf("make a place for the SDK for Python: %w", err)
	}
	defer func() { _ = os.RemoveAll(fresh) }() // moved away by then, if all went well
	err = each(func(name string, content []byte) error {
		if !strings.HasPrefix(name, "agentfield/") {
			return nil
		}
		path := filepath.Join(fresh, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		return os.WriteFile(path, content, 0o600)
	})
	if err == nil {
		err = os.Rename(fresh, home)
	}
	if _, there := os.Stat(home); err != nil && there != nil { // somebody else may have been quicker
		return "", fmt.Errorf("unpack the SDK for Python: %w", err)
	}
	return home, nil
}

func sum() (string, error) {
	hash := sha256.New()
	err := each(func(name string, content []byte) error {
		_, err := fmt.Fprintf(hash, "%s %d\n%s", name, len(content), content)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil)[:8]), err
}

func each(f func(name string, content []byte) error) error {
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		return f(name, content)
	})
}
