#!/usr/bin/env bash
# `make bench-…`: measures against pinned peers, each in an environment of its own.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
name="$1"
shift
# The peer of one is the same code without the boundary, that of the other the truth.
if [ "$name" = intake ] || [ "$name" = coverage ]; then
    # shellcheck source=env.sh
    . scripts/env.sh
    exec cargo bench --locked --bench "$name"
fi
case "$name" in
    matching)
        environment="$RUNTIME/venv-bench-matching"
        requirements=benches/matching/requirements.txt
        ;;
    heads)
        environment="$RUNTIME/venv-bench-heads"
        requirements=benches/heads/requirements.txt
        ;;
    *)
        environment="$RUNTIME/venv-bench"
        requirements=benches/requirements.txt
        ;;
esac
if ! cmp -s "$requirements" "$environment/requirements.txt"; then
    say "installing the peers that are measured against; PyTorch is large"
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --requirement "$requirements"
    cp "$requirements" "$environment/requirements.txt"
fi
# These slow some processors' libraries down on purpose; a peer is measured at its best.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export LVMED_BENCH_PYTHON="$environment/bin/python"
if [ "$name" = heads ] && [ -z "${LVMED_TEST_DATA:-}" ]; then
    note "skipped: it needs LVMED_TEST_DATA, a folder of test sets"
    exit 0
fi
if [ "$name" = heads ] && [ -z "${LVMED_DEMO_WEIGHTS:-}" ]; then
    LVMED_DEMO_WEIGHTS="$(PYTHONPATH=scripts python3 -c '
import sys
from pathlib import Path
from demo import weights
print(weights.real(Path(sys.argv[1])).file)' "$RUNTIME")"
    export LVMED_DEMO_WEIGHTS
fi
wanted="${1:-}"
case "$name/$wanted" in
    */few-shot* | pretraining/* | methods/*) ;;
    *) cargo bench --locked --bench "$name" -- "$@" ;;
esac

# Whole jobs are measured on the server itself.
case "$name" in
    train)
        program=benches/few_shot.py
        jobs="few-shot-probe few-shot-full few-shot-224"
        case "$jobs" in *"$wanted"*) ;; *) exit 0 ;; esac
        ;;
    pretraining | methods) program="benches/$name" ;;
    *) exit 0 ;;
esac
if [ -z "${LVMED_TEST_DATA:-}" ]; then
    note "skipped: $program needs LVMED_TEST_DATA, a folder of test sets"
    exit 0
fi
binary="${LVMED_BINARY:-$TARGET/release/lvmed}"
if [ -z "${LVMED_BINARY:-}" ]; then
    scripts/setup.sh server
    cargo build --release --locked
fi
# shellcheck source=env.sh
. scripts/env.sh
PYTHONPATH="$ROOT/scripts:$ROOT/benches:$ROOT/benches/peers" PYTHONDONTWRITEBYTECODE=1 \
    "$LVMED_BENCH_PYTHON" "$program" "$binary" "$wanted"
