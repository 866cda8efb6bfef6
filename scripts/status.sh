#!/usr/bin/env bash
# Shows the VMs (state, uptime, memory, image, ports) and what the controller says of its workers,
# jobs and limits. Exit status 3 if no cluster runs.
# Usage: scripts/status.sh [--run-dir DIR]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
  --run-dir) export HASHCLUSTER_RUNTIME_DIR=${2:?needs a directory} ;;
  '') ;;
  *) sed -n '4s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

bin=$("$root/scripts/bin-dir.sh" --no-build)
"$bin/hashcluster-vm" status
printf '\n'
exec "$bin/hashctl" status
