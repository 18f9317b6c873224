#!/usr/bin/env bash
# Runs a command with DATABASE_URL naming a throw-away Postgres, which is removed afterwards.
#
#   scripts/test-database.sh COMMAND [ARGUMENT...]
#
# The cluster lives in a temporary folder, listens on a Unix socket only and does not sync to disk.
# A DATABASE_URL that is already set is used as it is.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=env.sh
. "$ROOT/scripts/env.sh"

[ "$#" -gt 0 ] || die "usage: scripts/test-database.sh COMMAND [ARGUMENT...]"
[ -z "${DATABASE_URL:-}" ] || exec "$@"

binaries="$(postgres_binaries)"
[ -n "$binaries" ] || die "no PostgreSQL server was found" "run: scripts/setup.sh"

# A short path: a socket's may have 107 characters at most.
folder="$(mktemp -d /tmp/lvmed-test.XXXXXX)"
as_owner=()
if is_root; then
    # Postgres refuses to run as root.
    if id postgres >/dev/null 2>&1; then owner=postgres; else owner=nobody; fi
    chown "$owner" "$folder"
    as_owner=(setpriv --reuid="$owner" --regid="$(id -g "$owner")" --clear-groups)
fi

server=
stop() {
    if [ -n "$server" ]; then
        # SIGINT asks for a fast shutdown.
        kill -INT "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

cd "$folder"
"${as_owner[@]}" "$binaries/initdb" --auth=trust --username=lvmed --encoding=UTF8 --locale=C \
    --no-sync --pgdata="$folder/data" >"$folder/initdb.log" 2>&1 || {
    cat "$folder/initdb.log" >&2
    die "initdb failed"
}
"${as_owner[@]}" "$binaries/postgres" -D "$folder/data" -k "$folder" \
    -c listen_addresses='' -c max_connections=300 -c fsync=off -c full_page_writes=off \
    -c synchronous_commit=off -c shared_buffers=64MB >"$folder/postgres.log" 2>&1 &
server=$!
for _ in $(seq 100); do
    # The last line of the lock file says how far the server is.
    if tail -n 1 "$folder/data/postmaster.pid" 2>/dev/null | grep -q '^ready'; then break; fi
    kill -0 "$server" 2>/dev/null || {
        cat "$folder/postgres.log" >&2
        die "postgres did not start"
    }
    sleep 0.1
done
cd "$OLDPWD"

export DATABASE_URL="postgres://lvmed@localhost/postgres?host=$folder"
status=0
"$@" || status=$?
exit "$status"
