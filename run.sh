#!/usr/bin/env bash
# Starts a cluster, or hashes with one that lives as long as the command.
#
# Usage: ./run.sh --local [N]                   start it, stay until Ctrl-C or scripts/stop.sh
#        ./run.sh --local [N] COMMAND [ARG]…    start it, run hashctl COMMAND ARG…, stop it
#        ./run.sh --help
#
# --local runs a controller and N workers (default: one per core) as processes of this host.
# What is missing is built first. What hashctl prints is all of stdout, its exit status is ours.
#
# Examples: ./run.sh --local sum -r /usr/share/doc > manifest
#           ./run.sh --local check manifest
set -euo pipefail

root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

refuse() {
  printf 'run.sh: %s\n' "$1" >&2
  exit 2
}

main() {
  case ${1:-} in
    --local) shift ;;
    -h | --help) usage; exit 0 ;;
    '') refuse 'VMs are not there yet; start a cluster of processes with ./run.sh --local' ;;
    -*) refuse "unknown option $1; see ./run.sh --help" ;;
    *) refuse "VMs are not there yet; use ./run.sh --local $1 …" ;;
  esac
  local workers=()
  if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    workers=(--workers "$1")
    shift
  fi
  case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) refuse "unknown option $1; options of hashctl follow its command, as in --local sum $1" ;;
  esac
  local bin
  bin=$("$root/scripts/bin-dir.sh")
  if (($# == 0)); then
    exec "$bin/hashcluster-vm" local up "${workers[@]}"
  fi
  exec "$bin/hashcluster-vm" local run "${workers[@]}" -- "$bin/hashctl" "$@"
}

main "$@"
