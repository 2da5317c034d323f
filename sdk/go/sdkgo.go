// Package sdkgo carries the sources of the SDK for Go inside the binary, so that an agent in Go can be begun where there is no network.
package sdkgo

import "embed"

// Module is the path of the module that the SDK is part of, and GoVersion the least version of Go that it needs.
const (
	Module    = "github.com/agentfield/agentfield"
	GoVersion = "1.26"
)

// Files are the sources in agent/, their tests included.
//
//go:embed agent/*.go
var Files embed.FS
