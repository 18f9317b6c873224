#!/usr/bin/env bash
# Places ONNX Runtime's shared library at .runtime/onnxruntime/libonnxruntime.so, checked by hash.
#
#   scripts/setup-onnxruntime.sh [FOLDER]
#
# The library is the one inside the onnxruntime wheel (MIT). ORT_DYLIB_PATH, when set, is used
# instead and nothing is downloaded.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

VERSION=1.31.1
case "$(uname -m)" in
    x86_64) DIGEST=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3 ;;
    aarch64) DIGEST=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467 ;;
    *) DIGEST= ;;
esac

folder="${1:-$RUNTIME/onnxruntime}"
library="$folder/libonnxruntime.so"

if [ -n "${ORT_DYLIB_PATH:-}" ] && [ "$ORT_DYLIB_PATH" != "$library" ]; then
    [ -f "$ORT_DYLIB_PATH" ] || die "ORT_DYLIB_PATH names $ORT_DYLIB_PATH, which does not exist"
    exit
fi
[ -n "$DIGEST" ] || die "no ONNX Runtime is known for $(uname -m)" \
    "set ORT_DYLIB_PATH to a libonnxruntime.so of version 1.22 or newer"
has_digest "$library" "$DIGEST" && exit

say "fetching ONNX Runtime $VERSION"
mkdir -p "$folder"
scratch="$(mktemp -d "$folder/.fetch.XXXXXX")"
trap 'rm -rf "$scratch"' EXIT
download_wheel "onnxruntime==$VERSION" "$scratch"
unpack_wheel "$scratch"/onnxruntime-*.whl "$scratch/wheel"
fetched="$scratch/wheel/onnxruntime/capi/libonnxruntime.so.$VERSION"
has_digest "$fetched" "$DIGEST" || die "the ONNX Runtime that was fetched has a wrong SHA-256" \
    "expected $DIGEST" "found    $(sha256sum "$fetched" | cut -d' ' -f1)"
chmod 755 "$fetched"
# The licences travel with the library; the library is renamed last, in one step.
for licence in LICENSE ThirdPartyNotices.txt; do
    cp "$scratch/wheel/onnxruntime/$licence" "$folder/" 2>/dev/null || true
done
mv -f "$fetched" "$library"
note "placed ${library#"$ROOT/"}"
