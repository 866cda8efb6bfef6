#!/usr/bin/env bash
# Shows the VMs (state, uptime, memory, image, ports), services, sockets and versions of each, and the
# controller's workers, jobs and limits. Exit status: 0 healthy, 1 degraded or starting, 3 down.
# Usage: scripts/status.sh [--runtime-dir DIR]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
# shellcheck source=scripts/lib/cluster
. "$root/scripts/lib/cluster"

# A VM without KVM takes half a second.
readonly GUEST_LIMIT_S=4

usage() { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; }

# Prints the names of the sockets in the run directory that begin with $1.
sockets() {
  local path names=()
  for path in "$run_dir/$1"*; do
    [[ ! -S $path ]] || names+=("${path##*/}")
  done
  printf '%s' "${names[*]:-none}"
}

# Prints the report of the VM $1 in file $2, one line per subject.
show_guest() {
  printf '\n%s\n' "$1"
  printf '  sockets   %s\n' "$(sockets "$1.")"
  if [[ ! -e $2 ]]; then
    printf '  SSH       %s\n' "$(tail -n 1 "$2.error")"
    return
  fi
  awk '
    $1 == "service" { services = services sprintf("%s%s %s %d s", sep, $2, $3, $4); sep = ", " }
    $1 == "listens" { ports = ports " " $2 }
    $1 == "uptime" { up = $2 }
    $1 == "memory" { memory = sprintf("%d of %d MiB available", $3 / 1024, $2 / 1024) }
    $1 == "space" && $3 > 0 { space = space sprintf("  %s %d %%", $2, 100 * ($3 - $4) / $3) }
    $1 == "version" { version = $2 " " $3 }
    $1 == "image" { image = $2 }
    END {
      print "  listens  " ports
      print "  services  " services
      print "  version   " version ", image " image
      print "  uptime    " up " s"
      print "  memory    " memory
      print "  in use  " space
    }' "$2"
}

main() {
  while (($# > 0)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --runtime-dir=* | --run-dir=*) export HASHCLUSTER_RUNTIME_DIR=${1#*=}; shift ;;
      --runtime-dir | --run-dir) (($# > 1)) || misused "$1 needs a directory"
        export HASHCLUSTER_RUNTIME_DIR=$2
        shift 2 ;;
      *) misused "unknown argument $1" ;;
    esac
  done
  find_cluster
  require_cluster
  asked=$(mktemp -d)
  trap 'rm -rf -- "$asked"' EXIT
  printf '%s\n' "$table"
  if [[ $cluster == local ]]; then
    printf 'sockets: %s %s\n' "$(sockets client.)" "$(sockets worker.)"
  else
    ask_guests "$asked" "$GUEST_LIMIT_S"
    local name
    for name in "${vms[@]}"; do
      show_guest "$name" "$asked/$name"
    done
  fi
  printf '\n'
  "$bin/hashctl" status || true
  exit "$health"
}

main "$@"
