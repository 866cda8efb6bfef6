#!/usr/bin/env bash
# Shows the workers every SECONDS (default 1), until Ctrl-C or the end of the cluster.
# Usage: scripts/monitor.sh [--runtime-dir DIR] [SECONDS]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
# shellcheck source=scripts/lib/cluster
. "$root/scripts/lib/cluster"

usage() { sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; }

main() {
  local pause_s=1 shown clear=''
  while (($# > 0)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --runtime-dir=* | --run-dir=*) export HASHCLUSTER_RUNTIME_DIR=${1#*=} ;;
      --runtime-dir | --run-dir) (($# > 1)) || misused "$1 needs a directory"
        export HASHCLUSTER_RUNTIME_DIR=$2
        shift ;;
      *) [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] || misused "'$1' is not a number of seconds"
        pause_s=$1 ;;
    esac
    shift
  done
  find_cluster
  [[ $cluster == busy ]] || require_cluster
  [[ ! -t 1 ]] || clear='\033[H\033[2J'
  trap 'exit 0' INT
  while true; do
    # Without a controller, as while it restarts, the members are shown.
    if ! shown=$("$bin/hashctl" status 2>&1); then
      shown=$("$bin/hashcluster-vm" ps 2>&1) || [[ $shown != *'no cluster runs'* ]] || require_running
    fi
    printf "$clear%s\n\n" "$shown"
    sleep "$pause_s"
  done
}

require_running() {
  printf '%s\n' "$shown" >&2
  exit 3
}

main "$@"
