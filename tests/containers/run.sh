#!/usr/bin/env bash
# Builds the images, starts the compose deployment on a real Docker Engine and runs test_compose.py on it.
# Where no engine runs it installs Debian's and starts one of its own; where that cannot be, it says so and
# ends with 0. Registries are not needed: missing base images are made from Debian packages and wheels.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/fedbus-containers-XXXXXX")
engine=""

finish() {
  code=$?
  if [ -n "$engine" ]; then kill "$engine" 2>/dev/null || true; wait "$engine" 2>/dev/null || true; fi
  rm -rf "$work" 2>/dev/null || true
  exit "$code"
}
trap finish EXIT

skip() { echo "containers: skipped, $1"; exit 0; }

start_engine() {
  [ "$(id -u)" = 0 ] || skip "no Docker Engine answers, and only root can start one"
  command -v dockerd >/dev/null && command -v mmdebstrap >/dev/null || {
    command -v apt-get >/dev/null || skip "no Docker Engine, and no apt-get to install one"
    (apt-get update -qq && apt-get install -qq -y --no-install-recommends docker.io containerd runc iptables mmdebstrap) \
      >"$work/apt.log" 2>&1 || skip "Debian's Docker Engine cannot be installed here"
  }
  cat >"$work/daemon.json" <<JSON
{"data-root":"$work/data","exec-root":"$work/exec","pidfile":"$work/dockerd.pid","hosts":["unix://$work/docker.sock"],
 "bip":"172.30.255.1/24","default-address-pools":[{"base":"172.30.0.0/17","size":24}]}
JSON
  nohup dockerd --config-file "$work/daemon.json" >"$work/dockerd.log" 2>&1 &
  engine=$!
  export DOCKER_HOST="unix://$work/docker.sock"
  for _ in $(seq 60); do
    if docker info >/dev/null 2>&1; then return; fi
    kill -0 "$engine" 2>/dev/null || { engine=""; skip "dockerd does not start here: $(tail -1 "$work/dockerd.log")"; }
    sleep 0.5
  done
  skip "dockerd does not answer"
}

base_image() {  # Debian's Python under the official image's name, with this machine's certificates for pip
  sh "$here/base_image.sh" 2>"$work/base.log" \
    | docker import -c 'CMD ["python3"]' -c 'ENV LANG=C.UTF-8' - python:3.11-slim-bookworm >/dev/null \
    || skip "no base image can be made from Debian packages here"
}

have() { docker image inspect "$1" >/dev/null 2>&1 || timeout 20 docker pull -q "$1" >/dev/null 2>&1; }

build() { DOCKER_BUILDKIT=1 timeout 300 "$docker" build --quiet -f "$1" -t "$2" "$3" >/dev/null; echo "containers: built $2"; }

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements/containers.txt"
mkdir -p "$work/config/cli-plugins"
ln -s "$work/venv/bin/docker-compose" "$work/config/cli-plugins/docker-compose"
export DOCKER_CONFIG="$work/config"
"$work/venv/bin/hadolint" "$root"/deploy/images/*.Dockerfile
for files in "-f compose.yaml" "-f compose.yaml -f compose.seaweedfs.yaml"; do
  # shellcheck disable=SC2086  # two words each
  (cd "$root/deploy/compose" && "$work/venv/bin/docker-compose" $files --profile example --profile session config -q)
done
docker info >/dev/null 2>&1 || start_engine
docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker
have python:3.11-slim-bookworm || base_image
while read -r file name; do
  have "$name" || build "$here/standins/$file.Dockerfile" "$name" "$here/standins" \
    || skip "an image cannot be built here, not even one of Debian packages and wheels"
done <<LIST
nats nats:2.15.1-alpine
redis redis:7.4-alpine
seaweedfs chrislusf/seaweedfs:4.48
nginx nginx:1.28-alpine
LIST
for name in controller combiner api gateway toolbox; do
  build "$root/deploy/images/$name.Dockerfile" "fedbus/$name:local" "$root"
done
"$root/.venv/bin/python" -m pytest -q -p no:randomly "$here/test_compose.py"
