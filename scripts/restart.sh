#!/usr/bin/env bash
# Restarts VMs of a running cluster, one at a time: drained, booted, checked healthy. Their work goes
# to the other workers meanwhile.
# Usage: scripts/restart.sh [--runtime-dir DIR] NAME…
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

exec "$root/scripts/vm.sh" restart "$@"
