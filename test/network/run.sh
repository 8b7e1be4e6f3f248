#!/usr/bin/env bash
# What becomes of calls when the network fails: cables that are pulled, peers that vanish, long ways. Needs `npm run build`.
#
#     test/network/run.sh                      all tests of this folder, then chaos with partitions
#     test/network/run.sh COMMAND [ARG ...]    a command in such a network: npm run chaos -- --partition-every 3000
#
# All of it is in a network namespace of its own, of which nothing is left when its processes have ended. Where none is
# allowed it says so, and that is no error.
set -euo pipefail

if [ "${FARPOOL_NETWORK-}" != inside ]; then
  new=(unshare --net)
  [ "$(id -u)" = 0 ] || new=(unshare --map-root-user --net)
  if ! "${new[@]}" sh -c 'ip link set lo up && unshare --net ip link set lo up && command -v nsenter' >/dev/null 2>&1; then
    echo 'network: no network namespaces here (unshare, nsenter and ip are needed, and allowed); nothing was tested'
    exit 0
  fi
  FARPOOL_NETWORK=inside exec "${new[@]}" "$0" "$@"
fi

ip link set lo up
if [ $# -gt 0 ]; then exec "$@"; fi
cd "$(dirname "$0")/../.."
npx vitest run test/network
npx tsc -p test/chaos
node test/chaos/dist/run.js --seconds 20 --seed 3 --settle 180 --calm --partition-every 3000 --kill-every 700
