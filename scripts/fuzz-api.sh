#!/usr/bin/env bash
# Checks a running server against its own OpenAPI document with generated requests.
#
#   scripts/with-server.sh scripts/fuzz-api.sh
#
# Bounded in examples and fixed in its seed. No answer may be a server error, and every status,
# content type and body must be documented.
set -euo pipefail
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

schemathesis="$RUNTIME/venv-test/bin/schemathesis"
[ -x "$schemathesis" ] || die "schemathesis is not installed" "run: scripts/setup.sh test"
: "${LVMED:?names the address of the server}"

# The first key closes the server to callers without one, so that the requests must carry it. The
# routes for keys themselves are left out: they could take the key away.
secret="$(curl --fail --silent --show-error --header 'Content-Type: application/json' \
    --data '{"name":"fuzz","role":"admin"}' "$LVMED/api/v1/keys" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["secret"])')"

cd "$RUNTIME" # where its caches may lie
"$schemathesis" run "$ROOT/openapi/openapi.json" --url "$LVMED" \
    --header "Authorization: Bearer $secret" --generation-with-security-parameters false \
    --exclude-path-regex '^/api/v1/keys' \
    --phases examples,coverage,fuzzing \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --max-examples "${LVMED_FUZZ_EXAMPLES:-12}" --seed 20261125 --generation-database none \
    --suppress-health-check all --request-timeout 60 --continue-on-failure --no-shrink --no-color \
    --warnings off
