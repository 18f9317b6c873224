#!/usr/bin/env bash
# Installs what building and running the server needs and what is missing; says what it does.
#
#   scripts/setup.sh [server|demo|test]
#
# server: checks the tools, places ONNX Runtime, finds or places Postgres. demo: also the Python
# environment of the demo. test: also the test and lint tools and the browser. Running it again
# does nothing. As root on Debian or Ubuntu it may use apt-get; as an ordinary user it never
# writes outside this folder (but for package caches).
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

check_tools() {
    have cargo || die "cargo was not found" \
        "install Rust 1.95 or newer (rustup), then run this again"
    local compiler
    compiler="$(cargo --version | cut -d' ' -f2)"
    [ "$(printf '1.95.0\n%s\n' "$compiler" | sort -V | head -n 1)" = 1.95.0 ] ||
        die "cargo is $compiler; 1.95 or newer is needed" "run: rustup update stable"
    have cc || install_packages build-essential ||
        die "no C compiler was found" "install one, as root: apt-get install build-essential"
    have python3 || install_packages python3 python3-pip python3-venv ||
        die "python3 was not found" "install it, as root: apt-get install python3 python3-pip"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$(python3 --version) is too old; 3.11 or newer is needed"
    python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip ||
        die "python3 has no pip" "install it, as root: apt-get install python3-pip"
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64 | Linux-aarch64) ;;
        *) note "this is $(uname -sm); set-up is written for Linux on x86_64 and aarch64" ;;
    esac
}

# A virtual environment that matches a requirements file: NAME FILE.
place_environment() {
    local folder="$RUNTIME/$1" wanted="$ROOT/scripts/$2"
    cmp -s "$wanted" "$folder/requirements.txt" && [ -x "$folder/bin/python" ] &&
        "$folder/bin/python" -c '' 2>/dev/null && return
    say "installing the Python packages of scripts/$2 into .runtime/$1"
    # pip is the caller's own: some distributions take ensurepip out of Python. The copy of the
    # requirements comes last: it says that everything before it went well.
    rm -rf "$folder" &&
        python3 -m venv --without-pip "$folder" &&
        python3 -m pip --python "$folder/bin/python" --quiet --disable-pip-version-check \
            install --requirement "$wanted" &&
        cp "$wanted" "$folder/requirements.txt"
}

# The browser test needs Chromium and its driver; it is skipped where they are missing.
place_browser() {
    have chromedriver && return
    if is_root; then
        say "installing chromium and chromium-driver for the browser test"
        install_packages chromium chromium-driver && return
    fi
    note "chromedriver was not found: the browser test will be skipped"
}

what="${1:-server}"
case "$what" in server | demo | test) ;; *) die "unknown set-up: $what" ;; esac
mkdir -p "$RUNTIME"
check_tools
"$ROOT/scripts/setup-onnxruntime.sh"
"$ROOT/scripts/setup-postgres.sh"
if [ "$what" != server ]; then
    place_environment venv requirements-demo.txt
fi
if [ "$what" = test ]; then
    have curl || install_packages curl ca-certificates ||
        die "curl was not found" "install it, as root: apt-get install curl"
    place_environment venv-test requirements-test.txt
    place_environment venv-lint requirements-lint.txt
    # PyPI has no shellcheck for other processors.
    [ -x "$RUNTIME/venv-lint/bin/shellcheck" ] || have shellcheck || install_packages shellcheck ||
        die "shellcheck was not found" "install it, as root: apt-get install shellcheck"
    place_browser
fi
