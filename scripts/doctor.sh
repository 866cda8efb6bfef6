#!/usr/bin/env bash
# Checks this host and, if one runs, the cluster. Prints one line per check that begins with ok, warn
# or FAIL; after a warning or failure follows a line that says what to do.
#
# Usage: scripts/doctor.sh [OPTION]…
#   --runtime-dir DIR      of the cluster; --state-dir DIR: that of a cluster to be started
#   --ports FILE           the VMs, instead of ports.conf; --config FILE: instead of cluster.toml
#   --image dev|yocto|DIR  what the VMs boot, as for ./run.sh
#
# Exit status: 0 if no check failed, despite warnings; 1 if one did; 2 wrong usage.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
# shellcheck source=scripts/lib/cluster
. "$root/scripts/lib/cluster"
# shellcheck source=scripts/lib/doctor-host
. "$root/scripts/lib/doctor-host"
# shellcheck source=scripts/lib/doctor-room
. "$root/scripts/lib/doctor-room"
# shellcheck source=scripts/lib/doctor-files
. "$root/scripts/lib/doctor-files"
# shellcheck source=scripts/lib/doctor-cluster
. "$root/scripts/lib/doctor-cluster"
# shellcheck source=scripts/lib/doctor-guest
. "$root/scripts/lib/doctor-guest"

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

failures=0 warnings=0

ok() { printf 'ok    %s\n' "$1"; }

# warn WHAT REMEDY
warn() {
  printf 'warn  %s\n      -> %s\n' "$1" "$2"
  ((++warnings))
}

# fail WHAT REMEDY
fail() {
  printf 'FAIL  %s\n      -> %s\n' "$1" "$2"
  ((++failures))
}

has() { command -v "$1" >/dev/null; }

check_programs_of_ours() {
  if bin=$("$root/scripts/bin-dir.sh" --no-build 2>/dev/null); then
    ok "programs: $("$bin/hashctl" --version) in $bin"
  else
    fail 'programs: none is built for this host' 'cargo xtask build'
  fi
}

main() {
  bin='' asked_run_dir='' asked_state='' ports='' config='' image=''
  while (($# > 0)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --runtime-dir | --run-dir | --state-dir | --ports | --config | --image) (($# > 1)) || misused "$1 needs a value" ;;&
      --runtime-dir | --run-dir) export HASHCLUSTER_RUNTIME_DIR=$2 asked_run_dir=$2 ;;
      --state-dir) asked_state=$2 ;;
      --ports) ports=$2 ;;
      --config) config=$2 ;;
      --image) image=$2 ;;
      *) misused "unknown argument $1" ;;
    esac
    shift 2
  done
  PATH=$PATH:/usr/sbin:/sbin
  check_programs_of_ours
  named_run_dir=${HASHCLUSTER_RUNTIME_DIR:-}
  cluster=unknown
  [[ -z $bin ]] || find_cluster
  check_host
  check_room
  case $cluster in
    vms) check_vms ;;
    local) check_local ;;
    none) check_nothing_left ;;
    busy) warn "the cluster in $run_dir is starting, stopping or at a command" \
      "wait, then $(ours doctor.sh)" ;;
    unknown) warn 'cluster: not looked at, as our programs are missing' 'cargo xtask build' ;;
  esac
  printf '\n%s failed, %s to look at\n' "$failures" "$warnings"
  ((failures == 0))
}

main "$@"
