#!/usr/bin/env bash
# Writes openapi/openapi.json from the code, or with --check compares the two.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
fresh="$(mktemp)"
trap 'rm -f "$fresh"' EXIT
if [ -n "${LVMED_BINARY:-}" ]; then
    "$LVMED_BINARY" openapi >"$fresh"
else
    cargo run --quiet --locked -- openapi >"$fresh"
fi
if [ "${1:-}" = --check ]; then
    diff -u openapi/openapi.json "$fresh" ||
        die "openapi/openapi.json does not match the code" "run: make openapi"
else
    mkdir -p openapi
    cp "$fresh" openapi/openapi.json
    note "wrote openapi/openapi.json"
fi
