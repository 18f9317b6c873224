#!/usr/bin/env bash
# `make demo`: sets up, builds in release, and runs the demo (scripts/demo/) on the result.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A path of the caller's is meant from where the caller stands.
if [ -n "${DATA:-}" ]; then
    DATA="$(realpath -- "$DATA" 2>/dev/null || printf '%s' "$DATA")"
    export DATA
fi
cd "$ROOT"
scripts/setup.sh demo
# shellcheck source=env.sh
. scripts/env.sh
say "building lvmed in release; the first time takes a while"
cargo build --release --locked
PYTHONPATH="$ROOT/scripts" PYTHONDONTWRITEBYTECODE=1 exec "$RUNTIME/venv/bin/python" -m demo \
    --root "$ROOT" --binary "$TARGET/release/lvmed"
