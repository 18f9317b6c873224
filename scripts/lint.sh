#!/usr/bin/env bash
# Checks the scripts, the Dockerfile and the dependencies; --fix formats the Python files first.
#
# A tool that is not here is a failure: `scripts/setup.sh test` installs them all.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
PATH="$RUNTIME/venv-lint/bin:$PATH"
failed=0
benches=(benches/few_shot.py benches/methods benches/peers/{auroc,few_shot,heads,matching}.py benches/pretraining)

# Runs a check: TOOL ARGUMENT...
check() {
    if ! have "$1"; then
        note "$1 is not installed; run: scripts/setup.sh test"
        failed=1
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
# The packages that the scripts import are in the demo's environment.
check mypy --strict --ignore-missing-imports --no-error-summary \
    --cache-dir "$RUNTIME/mypy" --python-executable "$RUNTIME/venv/bin/python" \
    scripts/demo scripts/make_pictures.py scripts/check_dependencies.py
MYPYPATH=scripts:benches/peers check mypy --strict --ignore-missing-imports --no-error-summary \
    --cache-dir "$RUNTIME/mypy" --python-executable "$RUNTIME/venv/bin/python" \
    benches/few_shot.py benches/peers/auroc.py
MYPYPATH=scripts:benches check mypy --strict --ignore-missing-imports --no-error-summary \
    --explicit-package-bases --cache-dir "$RUNTIME/mypy" \
    --python-executable "$RUNTIME/venv/bin/python" benches/pretraining benches/methods
# DL3008: a fixed version of a Debian package disappears from its archive.
check hadolint --ignore DL3008 Dockerfile

say "checking the dependencies"
cargo metadata --format-version 1 --locked --all-features |
    python3 scripts/check_dependencies.py || failed=1
exit "$failed"
