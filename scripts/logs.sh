#!/usr/bin/env bash
# Shows the log of a VM: its syslog while it runs, else its console. -f follows it. NAME may also be
# `supervisor`, and in a cluster without VMs `controller` or a worker such as w1.
# Usage: scripts/logs.sh [--runtime-dir DIR] NAME [-f]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
# shellcheck source=scripts/lib/cluster
. "$root/scripts/lib/cluster"

usage() { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; }

# Prints the path of NAME's log in the run directory, the console first.
find_file() {
  local path
  for path in "$run_dir/log/$1.console.log" "$run_dir/log/$1.log"; do
    [[ ! -r $path ]] || { printf '%s\n' "$path"; return; }
  done
  return 1
}

main() {
  local name='' follow=() file
  while (($# > 0)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --runtime-dir | --run-dir) (($# > 1)) || misused "$1 needs a directory"
        export HASHCLUSTER_RUNTIME_DIR=$2
        shift ;;
      -f) follow=(-f) ;;
      -* | */* | '') misused "unknown argument '$1'" ;;
      *) [[ -z $name ]] || misused "more than one NAME"
        name=$1 ;;
    esac
    shift
  done
  [[ -n $name ]] || misused 'NAME is missing'
  find_cluster
  if [[ " ${vms[*]} " == *" $name "* ]]; then
    if "$bin/hashcluster-vm" ssh "$name" true 2>/dev/null; then
      # -F is -f including the lines so far.
      exec "$bin/hashcluster-vm" ssh "$name" logread "${follow[@]/#-f/-F}"
    fi
    printf 'logs.sh: %s does not answer over SSH; this is its console\n' "$name" >&2
  fi
  if ! file=$(find_file "$name"); then
    [[ $cluster != vms ]] || printf 'logs.sh: the VMs are %s\n' "${vms[*]}" >&2
    printf 'logs.sh: there is no log of %s in %s%s\n' "$name" "$run_dir/log" \
      "$([[ $cluster != none ]] || printf ', and no cluster runs there')" >&2
    exit 3
  fi
  exec tail -n 200 "${follow[@]}" -- "$file"
}

main "$@"
