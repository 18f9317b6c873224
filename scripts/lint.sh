#!/usr/bin/env bash
# Checks the scripts, the Dockerfile and the dependencies; --fix formats the Python files first.
#
# A tool that is not here is skipped with a message.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
PATH="$RUNTIME/venv-lint/bin:$PATH"
failed=0
benches=(benches/few_shot.py benches/peers/{auroc,few_shot,matching}.py)

# Runs a check if its tool is here: TOOL ARGUMENT...
check() {
    if ! have "$1"; then
        note "skipped: $1 is not installed"
        return
    fi
    note "$1"
    "$@" || failed=1
}

if [ "${1:-}" = --fix ] && have ruff; then
    ruff format --no-cache --quiet --config scripts/ruff.toml scripts "${benches[@]}"
fi

say "linting the scripts and the Dockerfile"
# SC2329: functions that a trap calls look unused.
check shellcheck --external-sources --source-path=SCRIPTDIR --exclude=SC2329 scripts/*.sh .ci/run
check ruff format --no-cache --quiet --check --config scripts/ruff.toml scripts "${benches[@]}"
check ruff check --no-cache --quiet --config scripts/ruff.toml scripts "${benches[@]}"
if [ -x "$RUNTIME/venv/bin/python" ]; then
    check mypy --strict --ignore-missing-imports --no-error-summary \
        --cache-dir "$RUNTIME/mypy" --python-executable "$RUNTIME/venv/bin/python" \
        scripts/demo scripts/make_pictures.py scripts/check_dependencies.py
    MYPYPATH=scripts:benches/peers check mypy --strict --ignore-missing-imports --no-error-summary \
        --cache-dir "$RUNTIME/mypy" --python-executable "$RUNTIME/venv/bin/python" \
        benches/few_shot.py benches/peers/auroc.py
fi
# DL3008: a fixed version of a Debian package disappears from its archive.
check hadolint --ignore DL3008 Dockerfile

say "checking the dependencies"
cargo metadata --format-version 1 --locked --all-features |
    python3 scripts/check_dependencies.py || failed=1
if have cargo-deny; then
    cargo deny --all-features check licenses bans sources || failed=1
    # Needs the advisory database, which it fetches.
    cargo deny --all-features check advisories ||
        note "cargo-deny reported advisories, or could not fetch their database"
else
    note "skipped: cargo-deny is not installed, so advisories are not checked"
fi
exit "$failed"
