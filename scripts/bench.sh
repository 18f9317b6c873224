#!/usr/bin/env bash
# `make bench-train`: measures against a pinned PyTorch in an environment of its own.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
name="$1"
shift
environment="$RUNTIME/venv-bench"
if ! cmp -s benches/requirements.txt "$environment/requirements.txt"; then
    say "installing the peers that are measured against; PyTorch is large"
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --requirement benches/requirements.txt
    cp benches/requirements.txt "$environment/requirements.txt"
fi
# These slow some processors' libraries down on purpose; a peer is measured at its best.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
LVMED_BENCH_PYTHON="$environment/bin/python" cargo bench --locked --bench "$name" -- "$@"
