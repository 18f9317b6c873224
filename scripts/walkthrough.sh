#!/usr/bin/env bash
# Runs the README's REST walk-through from top to bottom against a running server.
#
#   scripts/with-server.sh scripts/walkthrough.sh [--print]
#
# The commands are the ```bash blocks that follow a <!-- walkthrough --> line; they share one shell
# and a temporary folder with a small labelled set (ten patients, two classes) as `images.zip` and
# `image.png`. --print shows the commands and runs nothing.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

commands() {
    awk '
        /^<!-- walkthrough -->$/ { marked = 1; next }
        marked && /^```bash$/    { inside = 1; next }
        inside && /^```$/        { inside = 0; marked = 0; next }
        inside                   { print; next }
        marked && NF             { marked = 0 }
    ' "$ROOT/README.md"
}

if [ "${1:-}" = --print ]; then
    commands
    exit
fi
: "${LVMED:?names the address of the server}"
commands | grep -q . || die "README.md has no walk-through"

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 "$ROOT/scripts/make_pictures.py" "$folder"
"${LVMED_BINARY:-$TARGET/release/lvmed}" backbone random --architecture resnet18 --seed 1 \
    --out "$folder/backbone.safetensors"
cd "$folder"
commands >walkthrough.sh
say "the README's walk-through against $LVMED"
bash -euo pipefail -x walkthrough.sh
