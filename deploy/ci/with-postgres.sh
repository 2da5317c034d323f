#!/usr/bin/env bash
# Runs a command with a throw-away PostgreSQL, whose address is in TEST_PG_DSN. A server that TEST_PG_DSN names already is used as it is.
#
#   deploy/ci/with-postgres.sh go test ./...
#
# PG_FSYNC=on makes commits durable: measurements and crash tests want that, unit tests do not need it.
set -euo pipefail

if [[ -n "${TEST_PG_DSN:-}" ]]; then
    exec "$@"
fi

bin=$(command -v pg_ctl >/dev/null && dirname "$(readlink -f "$(command -v pg_ctl)")" ||
    find /usr/lib/postgresql /usr/pgsql-* /opt/homebrew/opt/postgresql* -name pg_ctl -path '*/bin/*' 2>/dev/null | sort -V | tail -n 1 | xargs -r dirname)
if [[ -z "$bin" ]]; then
    echo "PostgreSQL is not installed: run \`make setup\`, or name a server in TEST_PG_DSN" >&2
    exit 1
fi

# PostgreSQL refuses to run as root, so root lends it another user.
as=()
user=$(id -un)
if [[ $(id -u) -eq 0 ]]; then
    user=nobody
    ! id -u postgres >/dev/null 2>&1 || user=postgres
    as=(setpriv --reuid="$user" --regid="$(id -gn "$user")" --clear-groups)
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/agentfield-pg.XXXXXX")
chown "$user" "$dir"
chmod 700 "$dir"

stop() {
    code=$?
    trap - EXIT
    if [[ -f "$dir/data/postmaster.pid" ]]; then
        (cd / && "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate -w -t 20 stop >/dev/null 2>&1) || true
    fi
    rm -rf "$dir"
    exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_port() {
    node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'
}

# The working directory may be closed to the other user, hence cd /.
if ! (cd / && "${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1); then
    cat "$dir/initdb.log" >&2
    exit 1
fi
for attempt in 1 2 3 4 5; do
    port=$(free_port) # another process may take it before PostgreSQL does, hence the loop
    options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300 -c shared_buffers=128MB"
    options+=" -c fsync=${PG_FSYNC:-off} -c synchronous_commit=${PG_FSYNC:-off} -c full_page_writes=${PG_FSYNC:-off}"
    if (cd / && "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/data/server.log" -o "$options" start >/dev/null); then
        break
    fi
    if [[ $attempt -eq 5 ]]; then
        cat "$dir/data/server.log" >&2
        exit 1
    fi
done

export TEST_PG_DSN="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
"$@"
