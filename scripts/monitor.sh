#!/usr/bin/env bash
# Shows the workers as they are now, again and again, until Ctrl-C.
# Usage: scripts/monitor.sh [--run-dir DIR] [SECONDS]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

usage() { sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; }

main() {
  local pause=1 bin shown
  while (($# > 0)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --run-dir) export HASHCLUSTER_RUNTIME_DIR=${2:?needs a directory}; shift ;;
      *) [[ $1 =~ ^[0-9]+$ && $1 -gt 0 ]] || { usage >&2; exit 2; }; pause=$1 ;;
    esac
    shift
  done
  bin=$("$root/scripts/bin-dir.sh" --no-build)
  trap 'exit 0' INT
  while true; do
    shown=$("$bin/hashctl" status) || exit
    printf '\033[H\033[2J%s\n' "$shown"
    sleep "$pause"
  done
}

main "$@"
