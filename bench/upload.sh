#!/usr/bin/env bash
# Measures the speed of uploads over a distance, with Node's default HTTP/2 windows and with farpool's. Needs `npm run build`.
#
#     bench/upload.sh [FIGURES.json]
#
# Server and client run in a new network namespace. Packets are delayed there by netem, or by mirror.py if the kernel has
# no netem. Nothing is left behind. If neither is possible, it measures nothing, says so, and succeeds.
set -euo pipefail

if [ "${1-}" != --inside ]; then
  figures=${1:+$(realpath -m "$1")}
  cd "$(dirname "$0")"
  new=(unshare --net)
  [ "$(id -u)" = 0 ] || new=(unshare --map-root-user --net)
  if ! "${new[@]}" ip link set lo up 2>/dev/null; then
    echo 'upload: no network namespaces here (it needs unshare, ip, and the permission to use them); nothing was measured'
    exit 0
  fi
  exec "${new[@]}" ./upload.sh --inside "$figures"
fi

results=$(mktemp)
mirror=
end() {
  [ -z "$mirror" ] || kill "$mirror"
  rm -f "$results"
}
trap end EXIT

# Large TCP buffers, so that they do not limit the speed.
echo '4096 131072 134217728' >/proc/sys/net/ipv4/tcp_rmem
echo '4096 131072 134217728' >/proc/sys/net/ipv4/tcp_wmem
ip link set lo up

connect=127.0.0.1 listen=127.0.0.1
if tc qdisc add dev lo root netem 2>/dev/null; then
  export DELAY_BY=netem
  tc qdisc del dev lo root
elif command -v python3 >/dev/null && ip tuntap add dev far0 mode tun 2>/dev/null; then
  export DELAY_BY=mirror.py
  ip address add 10.9.0.1/24 dev far0
  ip link set far0 mtu 65000 txqueuelen 100000 up
  connect=10.9.0.2 listen=10.9.0.1
else
  echo 'upload: neither netem nor tun devices (with python3) here; nothing was measured'
  exit 0
fi

node upload.mjs measure 127.0.0.1 127.0.0.1 0 "$results"
for ms in 20 50; do
  if [ "$DELAY_BY" = netem ]; then
    tc qdisc replace dev lo root netem delay $((ms / 2))ms limit 100000
  else
    coproc python3 mirror.py far0 $((ms / 2))
    mirror=$COPROC_PID
    read -r _ <&"${COPROC[0]}"
  fi
  node upload.mjs measure "$connect" "$listen" "$ms" "$results"
  [ -z "$mirror" ] || { kill "$mirror" && { wait "$mirror" || true; } && mirror=; }
done
node upload.mjs report "$results" ${2:+"$2"}
