#!/usr/bin/env bash
# Shows the log of a VM: its syslog while it runs, its console otherwise. -f goes on as it grows.
# Usage: scripts/logs.sh [--run-dir DIR] NAME [-f]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

usage() { sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; }

main() {
  local name='' follow=()
  while (($# > 0)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --run-dir) export HASHCLUSTER_RUNTIME_DIR=${2:?needs a directory}; shift ;;
      -f) follow=(-f) ;;
      -*) usage >&2; exit 2 ;;
      *) name=$1 ;;
    esac
    shift
  done
  [[ -n $name ]] || { usage >&2; exit 2; }
  if "$root/scripts/vm.sh" ssh "$name" true 2>/dev/null; then
    exec "$root/scripts/vm.sh" ssh "$name" logread "${follow[@]}"
  fi
  local console
  console=$("$root/scripts/vm.sh" console "$name")
  [[ -r $console ]] || { printf 'logs.sh: there is no log of %s\n' "$name" >&2; exit 3; }
  exec tail -n 200 "${follow[@]}" -- "$console"
}

main "$@"
