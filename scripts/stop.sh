#!/usr/bin/env bash
# Stops the cluster: the workers, then the controller, then the monitoring. A VM that does not power
# off in time is killed, with a message. With names, stops only these VMs.
# Usage: scripts/stop.sh [--runtime-dir DIR] [NAME…]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

"$root/scripts/vm.sh" stop "$@"
if (($# == 0)) && [[ -x $root/monitoring/stop.sh ]]; then
  "$root/monitoring/stop.sh"
fi
