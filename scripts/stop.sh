#!/usr/bin/env bash
# Stops the cluster that ./run.sh --local started: workers first, then the controller.
# Usage: scripts/stop.sh [--run-dir DIR]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

bin=$("$root/scripts/bin-dir.sh" --no-build)
exec "$bin/hashcluster-vm" local stop "$@"
