#!/usr/bin/env bash
# From a clone to a finished, audited session in containers. Needs Docker with Compose 2.24 or newer.
#   deploy/compose/demo.sh                     MinIO
#   STORE=seaweedfs deploy/compose/demo.sh     SeaweedFS
# Afterwards the api listens on http://localhost:8080; stop all with: deploy/compose/demo.sh down
set -euo pipefail
cd "$(dirname "$0")"
files=(-f compose.yaml)
if [ "${STORE:-minio}" = seaweedfs ]; then files+=(-f compose.seaweedfs.yaml); fi
compose() { docker compose "${files[@]}" --profile example --profile session "$@"; }
if [ "${1:-}" = down ]; then compose down -v; exit; fi
make -C ../.. images
docker compose "${files[@]}" --profile example up -d --wait --no-build
compose run --rm session
