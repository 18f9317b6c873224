#!/usr/bin/env bash
# `make check-cuda`: type-checks the build for NVIDIA GPUs; needs neither a GPU nor its driver.
#
# The CUDA compiler and headers come from PyPI into an environment of their own, and the build has
# a target folder of its own: candle's kernels are compiled once, which takes some minutes.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cd "$ROOT"
environment="$RUNTIME/venv-cuda"
wanted="scripts/requirements-cuda.txt"
if ! cmp -s "$wanted" "$environment/requirements.txt"; then
    say "fetching the CUDA compiler"
    rm -rf "$environment"
    python3 -m venv --without-pip "$environment"
    python3 -m pip --python "$environment/bin/python" --quiet --disable-pip-version-check \
        install --requirement "$wanted"
    cp "$wanted" "$environment/requirements.txt"
fi
CUDA_HOME="$(echo "$environment"/lib/python3.*/site-packages/nvidia/cu13)"
[ -x "$CUDA_HOME/bin/nvcc" ] || die "no nvcc at $CUDA_HOME/bin" "remove $environment and try again"
# The wheels keep libraries in `lib`; nvcc and build scripts look in `lib64`.
[ -e "$CUDA_HOME/lib64" ] || ln -s lib "$CUDA_HOME/lib64"

export CUDA_HOME CUDA_PATH="$CUDA_HOME" CUDA_TOOLKIT_ROOT_DIR="$CUDA_HOME"
export NVCC="$CUDA_HOME/bin/nvcc" PATH="$CUDA_HOME/bin:$PATH"
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-80}"
say "checking with nvcc $(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')," \
    "compute capability $CUDA_COMPUTE_CAP"
CARGO_TARGET_DIR="$TARGET/cuda" cargo check --locked --features cuda "$@"
