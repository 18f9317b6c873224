#!/usr/bin/env bash
# `make test`: everything that CI checks, in order; stops at the first failure.
#
# LVMED_TEST_DATA may name a folder of test sets; tests that need it are skipped where it is unset.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
started=$SECONDS
stage() { say "[$(((SECONDS - started) / 60)) min] $*"; }

stage "set-up"
scripts/setup.sh test
# shellcheck source=env.sh
. scripts/env.sh
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"

stage "format"
cargo fmt --check

scripts/lint.sh

stage "clippy"
cargo clippy --locked --all-targets -- -D warnings

stage "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

stage "release build"
cargo build --release --locked
export LVMED_BINARY="$TARGET/release/lvmed"

stage "OpenAPI document"
scripts/openapi.sh --check

stage "smoke run: the README's walk-through against the release binary"
"$LVMED_BINARY" --version
scripts/with-server.sh scripts/walkthrough.sh

stage "generated requests against the OpenAPI document"
scripts/with-server.sh scripts/fuzz-api.sh

# Last, so that their count closes the output.
stage "tests"
if have cargo-nextest; then
    scripts/test-database.sh cargo nextest run --locked
else
    scripts/test-database.sh cargo test --locked
fi
note "all checks passed in $(((SECONDS - started) / 60)) minutes"
