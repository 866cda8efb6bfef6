#!/usr/bin/env bash
# Stops the cluster: the workers, then the controller, then the monitoring if it was started with the
# cluster. A VM that does not power off in time is killed, with a message. With names, stops only these VMs.
# Usage: scripts/stop.sh [--runtime-dir DIR] [NAME…]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

exec "$root/scripts/vm.sh" stop "$@"
