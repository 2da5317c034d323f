// Package static holds what the browser loads: one script, one style sheet and the icons, built from src into dist and embedded. Its
// one invariant: the address of a file changes with its content, so what carries a version may be kept for ever.
package static

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"path"
	"sync"
)

//go:embed dist
var dist embed.FS

// asset is one embedded file.
type asset struct {
	body        []byte
	contentType string
	version     string
}

// assets reads all of dist once. The files are part of the program, so one that cannot be read is a mistake of the build.
var assets = sync.OnceValue(func() map[string]asset {
	entries, err := dist.ReadDir("dist")
	if err != nil {
		panic(err)
	}
	all := make(map[string]asset, len(entries))
	for _, entry := range entries {
		body, err := dist.ReadFile("dist/" + entry.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		all[entry.Name()] = asset{body: body, contentType: contentType(entry.Name()), version: hex.EncodeToString(sum[:3])}
	}
	return all
})

// contentType does not ask the machine's own table of types, which differs from one system to the next.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}

// URL is the address of a file below /static/, with the hash of its content as ?v=. A file that does not exist has none.
func URL(name string) string {
	a, ok := assets()[name]
	if !ok {
		return "/static/" + name
	}
	return "/static/" + name + "?v=" + a.version
}

// Open returns a file by its name in dist; ok is false when there is none. The body must not be changed.
func Open(name string) (body []byte, contentType string, ok bool) {
	a, ok := assets()[name]
	return a.body, a.contentType, ok
}

// Version is the hash that URL appends: an answer may be cached for ever only if the request asked for this version.
func Version(name string) string { return assets()[name].version }
