#!/usr/bin/env bash
# Builds the container image and tests a container: its health, a call, its user, its size, and SIGTERM with a call in
# flight (the call finishes, and the exit code is 0). Without a running Docker engine it starts one with the script that
# CONTAINER_ENGINE names. If that fails too, it tests nothing, says so, and succeeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=farpool-test name=farpool-test-$$ port=$((20000 + $$ % 20000))
engine=${CONTAINER_ENGINE:-../shared/tools/container-engine.sh}
started=''

# A Docker client from version 23 on builds with the buildx plugin. Without it, use an older client in /usr/bin.
docker() { command "$client" "$@"; }
client=$(type -P docker || true)
if [ -n "$client" ] && ! docker buildx version >/dev/null 2>&1 && [ -x /usr/bin/docker ]; then client=/usr/bin/docker; fi

cleanup() {
  docker rm -f "$name" >/dev/null 2>&1 || true
  [ -z "$started" ] || kill "$(cat "$started")" 2>/dev/null || true
}
trap cleanup EXIT

if ! docker info >/dev/null 2>&1; then
  if [ ! -f "$engine" ] || ! output=$(bash "$engine" 2>&1); then
    printf 'no Docker engine can start here: the container was not tested\n%s\n' "${output:-}" | tail -n 5
    exit 0
  fi
  eval "export $(printf '%s\n' "$output" | grep '^DOCKER_HOST=' | tail -n 1)"
  started=$(dirname "${DOCKER_HOST#unix://}")/pid
  [ ! -x /usr/bin/docker ] || client=/usr/bin/docker
fi

DOCKER_BUILDKIT=1 docker build --network=host -q -t "$image" . >/dev/null
docker run -d --name "$name" --network=host -e "FARPOOL_LISTEN=127.0.0.1:$port" \
  --health-cmd "node /app/dist/cli/main.js health --address 127.0.0.1:$port" --health-interval 1s "$image" >/dev/null

farpool() { node dist/cli/main.js "$@" --address "127.0.0.1:$port"; }
say() { printf 'container: %s\n' "$*"; }
expect() { # expect WHAT WANTED ACTUAL
  if [ "$2" = "$3" ]; then say "$1: $3"; else
    say "$1: expected $2, got $3"
    docker logs "$name"
    exit 1
  fi
}

for _ in $(seq 100); do
  health=$(docker inspect -f '{{.State.Health.Status}}' "$name")
  [ "$health" != healthy ] || break
  sleep 0.2
done
expect 'health' healthy "$health"
expect 'fib 20' 6765 "$(farpool call fib 20)"
expect 'user' node "$(docker exec "$name" id -un)"
expect 'process 1' tini "$(docker exec "$name" cat /proc/1/comm)"
expect 'development dependencies' 0 "$(docker exec "$name" sh -c 'ls /app/node_modules | grep -cE "^(typescript|vitest|sharp|@biomejs)$"' || true)"

farpool call wait 2000 >"/tmp/$name.out" &
call=$!
until [ "$(farpool info --json | node -pe 'JSON.parse(require("fs").readFileSync(0)).running')" = 1 ]; do :; done
docker stop -t 20 "$name" >/dev/null
wait "$call" && code=0 || code=$?
expect 'the call in flight at SIGTERM' 0 "$code"
rm -f "/tmp/$name.out"
expect 'exit code after SIGTERM' 0 "$(docker inspect -f '{{.State.ExitCode}}' "$name")"
say "size: $(docker image inspect -f '{{.Size}}' "$image" | awk '{ printf "%.0f MB", $1 / 1e6 }')"
