#!/usr/bin/env bash
# `make test`: everything that CI checks, in order; stops at the first failure.
#
# LVMED_TEST_DATA may name a folder of test sets. A test that needs what is not here is skipped, and
# the last line says so; one that is skipped though its data and tools are here is a failure.
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

# Whether a machine has what a test needs, by the word that the test gives (src/tests/skipped.rs).
has_need() {
    case "$1" in
        test-data) [ -d "${LVMED_TEST_DATA:-}" ] ;;
        browser) have chromedriver && { have chromium || have google-chrome; } ;;
        mount)
            local folder status=0
            folder="$(mktemp -d)"
            if mount -t tmpfs none "$folder" 2>/dev/null; then umount "$folder"; else status=1; fi
            rmdir "$folder"
            return "$status"
            ;;
        *) return 0 ;; # a need that nobody knows of is no excuse
    esac
}

# Last, so that their count closes the output.
stage "tests"
skipped="$(mktemp)"
trap 'rm -f "$skipped"' EXIT
if have cargo-nextest; then
    LVMED_SKIPPED_TESTS="$skipped" scripts/test-database.sh cargo nextest run --locked
else
    LVMED_SKIPPED_TESTS="$skipped" scripts/test-database.sh cargo test --locked
fi
failed=0
while IFS=$'\t' read -r need name reason; do
    if has_need "$need"; then
        note "$name was skipped though this machine has what it needs: $reason"
        failed=1
    else
        note "skipped $name: $reason"
    fi
done <"$skipped"
[ "$failed" -eq 0 ] || die "tests were skipped that can run here"
count="$(wc -l <"$skipped")"
note "all checks passed in $(((SECONDS - started) / 60)) minutes; skipped tests: $count"
