#!/usr/bin/env bash
# Runs a command against a server of its own: fresh data folder, free port on loopback.
#
#   LVMED_BINARY=target/debug/lvmed scripts/with-server.sh COMMAND [ARGUMENT...]
#
# The command finds the server's address in $LVMED. The server is stopped and its data removed
# afterwards; when the command fails, the end of the server's log is shown.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=env.sh
. "$ROOT/scripts/env.sh"

[ "$#" -gt 0 ] || die "usage: scripts/with-server.sh COMMAND [ARGUMENT...]"
binary="${LVMED_BINARY:-$TARGET/release/lvmed}"
[ -x "$binary" ] || die "$binary does not exist" "run: cargo build --release"

folder="$(mktemp -d /var/tmp/lvmed-server.XXXXXX)"
chmod 755 "$folder" # the built-in Postgres runs as another user when this is root
server=
stop() {
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null || true
        # Longer than the server itself gives its requests and workers.
        (sleep 45 && kill -KILL "$server") >/dev/null 2>&1 &
        local patience=$!
        wait "$server" 2>/dev/null || true
        kill "$patience" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

: >"$folder/server.log" # there before the first look at it
# A database of the caller's would be written to.
env -u DATABASE_URL "$binary" serve --listen 127.0.0.1:0 --data "$folder/data" \
    </dev/null >"$folder/server.log" 2>&1 &
server=$!
LVMED=
for _ in $(seq 600); do
    LVMED="$(sed -n 's/.*listening on \(http:\/\/[0-9.]*:[0-9]*\).*/\1/p' "$folder/server.log" | head -n 1)"
    if [ -n "$LVMED" ]; then break; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$LVMED" ]; then
    cat "$folder/server.log" >&2
    die "the server did not start"
fi
export LVMED LVMED_BINARY="$binary"

status=0
"$@" || status=$?
if [ "$status" -ne 0 ]; then
    note "the end of the server's log:"
    tail -n 40 "$folder/server.log" >&2
fi
exit "$status"
