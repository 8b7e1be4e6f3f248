#!/usr/bin/env bash
# What becomes of calls when the network fails: cables that are pulled, peers that vanish, long ways. Needs `npm run build`.
#
#     test/network/run.sh                      all tests of this folder, then chaos with partitions
#     test/network/run.sh COMMAND [ARG ...]    a command in such a network: npm run chaos -- --partition-every 3000
#
# All of it is in namespaces of its own, of networks and of processes: when the first of its processes ends, or is killed,
# the kernel ends the others, and nothing is left. Where that is not allowed it says so, and that is no error.
set -euo pipefail

if [ "${FARPOOL_NETWORK-}" != inside ]; then
  new=(unshare --net --pid --fork --kill-child --mount-proc)
  [ "$(id -u)" = 0 ] || new+=(--map-root-user)
  if ! "${new[@]}" sh -c 'ip link set lo up && unshare --net ip link set lo up && command -v nsenter' >/dev/null 2>&1; then
    echo 'network: no network namespaces here (unshare, nsenter and ip are needed, and allowed); nothing was tested'
    exit 0
  fi
  FARPOOL_NETWORK=inside exec "${new[@]}" "$0" "$@"
fi

ip link set lo up
# This shell stays: it is the one that buries whoever has lost its parent.
if [ $# -gt 0 ]; then
  "$@"
  exit
fi
cd "$(dirname "$0")/../.."
node node_modules/vitest/vitest.mjs run test/network
node node_modules/typescript/bin/tsc -p test/chaos
node test/chaos/dist/run.js --seconds 20 --seed 3 --settle 180 --calm --partition-every 3000 --kill-every 700
