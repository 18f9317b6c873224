#!/usr/bin/env bash
# `make serve`: sets up, builds in release, and runs the server; more arguments go to it.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
scripts/setup.sh server
# shellcheck source=env.sh
. scripts/env.sh
cargo build --release --locked
exec "$TARGET/release/lvmed" serve "$@"
