#!/usr/bin/env bash
# Opens a shell in a VM, or runs a command there. The VM's host key is pinned.
# Usage: scripts/ssh.sh [--runtime-dir DIR] NAME [COMMAND [ARG]…]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
# shellcheck source=scripts/lib/cluster
. "$root/scripts/lib/cluster"

usage() { sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; }

main() {
  while [[ ${1:-} == -* ]]; do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --runtime-dir | --run-dir) (($# > 1)) || misused "$1 needs a directory"
        export HASHCLUSTER_RUNTIME_DIR=$2
        shift 2 ;;
      *) misused "unknown option $1" ;;
    esac
  done
  (($# > 0)) || misused 'NAME is missing'
  find_cluster
  [[ $cluster == busy ]] || require_cluster
  if [[ $cluster == local ]]; then
    printf 'ssh.sh: the cluster in %s has no VMs\n' "$run_dir" >&2
    exit 3
  elif [[ $cluster == vms && " ${vms[*]} " != *" $1 "* ]]; then
    printf 'ssh.sh: there is no VM %s; the VMs are %s\n' "$1" "${vms[*]}" >&2
    exit 2
  fi
  exec "$bin/hashcluster-vm" ssh "$@"
}

main "$@"
