# Sourced: points the server at what set-up placed, unless the caller has pointed elsewhere.
# shellcheck shell=bash
#
#   . scripts/env.sh

lvmed_runtime="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.runtime"

# Folder of the newest Postgres server binaries, in the order in which the server looks; nothing
# when there are none.
postgres_binaries() {
    local folder
    for folder in "${LVMED_PG_BIN:-}" \
        "$(pg_config --bindir 2>/dev/null || true)" \
        "$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV | head -n 1)" \
        "$lvmed_runtime/postgres/bin"; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then
            printf '%s\n' "$folder"
            return
        fi
    done
}

if [ -z "${ORT_DYLIB_PATH:-}" ] && [ -f "$lvmed_runtime/onnxruntime/libonnxruntime.so" ]; then
    export ORT_DYLIB_PATH="$lvmed_runtime/onnxruntime/libonnxruntime.so"
fi
if [ -z "${LVMED_PG_BIN:-}" ] && [ -x "$lvmed_runtime/postgres/bin/postgres" ]; then
    LVMED_PG_BIN="$(postgres_binaries)"
    export LVMED_PG_BIN
fi
