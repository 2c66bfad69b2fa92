#!/bin/sh
# Makes sure that a Docker engine answers: uses a running one, or starts dockerd by hand, which takes root.
# For machines without systemd: continuous integration in a container or a small virtual machine.
#
#   sh deploy/containers/start_engine.sh          start, unless one answers
#   sh deploy/containers/start_engine.sh --stop   end the one that this script started, and no other
#
# ENGINE_STATE (default /var/lib/restoration-distillation-engine) holds images, log and process number.
set -eu
state="${ENGINE_STATE:-/var/lib/restoration-distillation-engine}"
pid_file="$state/dockerd.pid"

if [ "${1:-}" = --stop ]; then
  [ -f "$pid_file" ] || { echo "no engine was started from here ($pid_file is missing)"; exit 0; }
  pid="$(cat "$pid_file")"
  # A stale number may by now belong to another process.
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  fi
  rm -f "$pid_file"
  exit 0
fi

if docker version >/dev/null 2>&1; then
  exit 0
fi
socket=/var/run/docker.sock
if [ "${DOCKER_HOST:-unix://$socket}" != "unix://$socket" ]; then
  echo "error: no Docker engine answers at DOCKER_HOST=$DOCKER_HOST; unset it to have one started at $socket" >&2
  exit 2
fi
if [ "$(id -u)" != 0 ]; then
  echo "error: no Docker engine answers at $socket, and only root can start one" >&2
  exit 2
fi
if ! command -v dockerd >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "error: no dockerd on this machine and no apt-get to install it: install Docker first" >&2
    exit 2
  fi
  # iptables: the bridge between containers and the network; docker.io only recommends it.
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null
fi
mkdir -p "$state"
setsid nohup dockerd --host "unix://$socket" --data-root "$state/data" --exec-root "$state/exec" --pidfile "$pid_file" \
  </dev/null >"$state/dockerd.log" 2>&1 &
launched=$!
for _ in $(seq 150); do
  if docker version >/dev/null 2>&1; then
    echo "started a Docker engine at $socket, log in $state/dockerd.log"
    exit 0
  fi
  kill -0 "$launched" 2>/dev/null || break
  sleep 0.2
done
tail -20 "$state/dockerd.log" >&2
echo "error: dockerd did not come up; its last words stand above, all of them in $state/dockerd.log" >&2
exit 2
