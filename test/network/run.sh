#!/usr/bin/env bash
# Tests calls over a failing network: partitions, peers that vanish, long round trips. Needs `npm run build`.
#
#     test/network/run.sh                      all tests of this folder, then chaos with partitions
#     test/network/run.sh COMMAND [ARG ...]    a command in this network: npm run chaos -- --partition-every 3000
#
# Everything runs in new network and process namespaces. When the first process there ends or is killed, the kernel kills
# the others, and nothing is left. Where namespaces are not allowed, it tests nothing, says so, and succeeds.
set -euo pipefail

if [ "${NETWORK_NAMESPACE-}" != inside ]; then
  new=(unshare --net --pid --fork --kill-child --mount-proc)
  [ "$(id -u)" = 0 ] || new+=(--map-root-user)
  if ! "${new[@]}" sh -c 'ip link set lo up && unshare --net ip link set lo up && command -v nsenter' >/dev/null 2>&1; then
    echo 'network: no network namespaces here (it needs unshare, nsenter, ip, and the permission to use them); nothing was tested'
    exit 0
  fi
  NETWORK_NAMESPACE=inside exec "${new[@]}" "$0" "$@"
fi

ip link set lo up
# Do not exec: as process 1 of the namespace, this shell has to reap orphans.
if [ $# -gt 0 ]; then
  "$@"
  exit
fi
cd "$(dirname "$0")/../.."
node node_modules/vitest/vitest.mjs run test/network
node node_modules/typescript/bin/tsc -p test/chaos
node test/chaos/dist/test/chaos/run.js --seconds 20 --seed 3 --settle 180 --calm --partition-every 3000 --kill-every 700
