#!/usr/bin/env bash
# Builds the container image and tests containers with a read-only file system and without capabilities: health on TCP and
# on a Unix socket, a call, a full heap, the user, what is in the image, and SIGTERM with a call in flight (the call
# finishes, and the exit code is 0). Without a running Docker engine it starts one with the script that CONTAINER_ENGINE
# names, which also has a stand-in for the base image. If that fails too, it tests nothing, says so, and succeeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=farpool-test name=farpool-test-$$ port=$((20000 + $$ % 20000)) folder=$(mktemp -d)
engine=${CONTAINER_ENGINE:-../shared/tools/container-engine.sh}
started='' base=()

# A Docker client from version 23 on builds with the buildx plugin. Without it, use an older client in /usr/bin.
docker() { command "$client" "$@"; }
client=$(type -P docker || true)
if [ -n "$client" ] && ! docker buildx version >/dev/null 2>&1 && [ -x /usr/bin/docker ]; then client=/usr/bin/docker; fi

cleanup() {
  docker rm -f "$name" "$name-unix" >/dev/null 2>&1 || true
  [ -z "$started" ] || kill "$(cat "$started")" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT

if ! docker info >/dev/null 2>&1; then
  if [ ! -f "$engine" ] || ! output=$(bash "$engine" 2>&1); then
    printf 'no Docker engine can start here: the container was not tested\n%s\n' "${output:-}" | tail -n 5
    exit 0
  fi
  eval "export $(printf '%s\n' "$output" | grep '^DOCKER_HOST=' | tail -n 1)"
  started=$(dirname "${DOCKER_HOST#unix://}")/pid
  base=(--build-arg NODE_IMAGE=node:24-bookworm-slim)
  [ ! -x /usr/bin/docker ] || client=/usr/bin/docker
fi

DOCKER_BUILDKIT=1 docker build --network=host -q "${base[@]}" -t "$image" . >/dev/null
echo 'export const hoard = () => { for (const all = []; ; ) all.push({ number: Math.random() }) }' >"$folder/hoard.mjs"
chmod 777 "$folder"
run() { # run NAME LISTEN: a server that can write nowhere but to its mounts and /dev/shm
  docker run -d --name "$1" --network=host -e "FARPOOL_LISTEN=$2" -e FARPOOL_INSECURE=true -v "$folder:/run/farpool" --health-interval 1s \
    --read-only --cap-drop ALL --security-opt no-new-privileges "$image" \
    serve /app/dist/examples/math.js /run/farpool/hoard.mjs --max-heap-mb 64 >/dev/null
}

farpool() { node dist/cli/main.js "$@" --address "127.0.0.1:$port"; }
say() { printf 'container: %s\n' "$*"; }
expect() { # expect WHAT WANTED ACTUAL
  if [ "$2" = "$3" ]; then say "$1: $3"; else
    say "$1: expected $2, got $3"
    docker logs "$name"
    exit 1
  fi
}
health() { # health NAME: when it is known
  local status=starting
  for _ in $(seq 100); do
    status=$(docker inspect -f '{{.State.Health.Status}}' "$1")
    [ "$status" = starting ] || break
    sleep 0.2
  done
  echo "$status"
}

run "$name" "0.0.0.0:$port"
run "$name-unix" unix:/run/farpool/farpool.sock
expect 'health' healthy "$(health "$name")"
expect 'health on a Unix socket' healthy "$(health "$name-unix")"
docker rm -f "$name-unix" >/dev/null
expect 'fib 20' 6765 "$(farpool call fib 20)"
expect 'a full heap' WORKER_OOM "$(farpool call hoard --json | node -pe 'JSON.parse(require("fs").readFileSync(0)).error.reason')"
expect 'warnings of temporary files' 1 "$(docker logs "$name" 2>&1 | grep -c 'temporary files')"
expect 'user' '1000 node' "$(docker exec "$name" sh -c 'echo "$(id -u) $(id -un)"')"
expect 'capabilities' 0000000000000000 "$(docker exec "$name" sh -c "grep CapEff /proc/1/status | cut -f 2")"
expect 'process 1' tini "$(docker exec "$name" cat /proc/1/comm)"
expect 'programs that install packages' '' "$(docker exec "$name" sh -c 'ls /usr/local/lib/node_modules 2>/dev/null; command -v npm npx corepack yarn' || true)"
expect 'development dependencies' 0 "$(docker exec "$name" sh -c 'ls /app/node_modules | grep -cE "^(typescript|vitest|sharp|@biomejs)$"' || true)"

farpool call wait 2000 >"$folder/out" &
call=$!
until [ "$(farpool info --json | node -pe 'JSON.parse(require("fs").readFileSync(0)).running')" = 1 ]; do :; done
docker stop -t 20 "$name" >/dev/null
wait "$call" && code=0 || code=$?
expect 'the call in flight at SIGTERM' 0 "$code"
expect 'exit code after SIGTERM' 0 "$(docker inspect -f '{{.State.ExitCode}}' "$name")"
say "size: $(docker image inspect -f '{{.Size}}' "$image" | awk '{ printf "%.0f MB", $1 / 1e6 }')"
