#!/usr/bin/env bash
# Builds the one program: server, dashboard and command line. Needs Go only; what the browser gets is committed.
set -euo pipefail
cd "$(dirname "$0")"
CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags='-s -w' -o bin/agentfield ./cmd/agentfield
ln -sf agentfield bin/af
echo "built bin/agentfield; try: bin/agentfield demo"
