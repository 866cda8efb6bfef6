#!/usr/bin/env bash
# Shows the logs of VMs, or of all, each line behind its name: consoles, syslogs and the supervisor's log.
# They stay after a stop. -f follows them, also across restarts.
# Usage: scripts/logs.sh [--runtime-dir DIR] [NAME…] [-f] [--since 10m] [--boot -1] [-n LINES]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

exec "$root/scripts/vm.sh" logs "$@"
