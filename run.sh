#!/usr/bin/env bash
# Boots a cluster of VMs, or runs one hashctl command with a temporary cluster.
#
# Usage: ./run.sh [OPTION]…                      boot one VM per line of ports.conf, leave them running
#        ./run.sh [OPTION]… COMMAND [ARG]…       boot them, run hashctl COMMAND ARG…, stop them
#        ./run.sh [--config FILE] --local [N] [COMMAND [ARG]…]
#                                               the same with N processes of this host as workers
#
# Missing host packages (as root; otherwise it lists them), programs and images are made first. With
# COMMAND, stdout is that of hashctl, its exit status is ours, and the VMs see the paths that it names,
# read-only. A cluster that already runs is used, and left running.
#
#   --ports FILE         the VMs, instead of ports.conf; --config FILE: instead of cluster.toml. Both are
#                        here; for an installed copy in ~/.config/hashcluster or /etc/hashcluster, if there
#   --dataset NAME=DIR   show DIR to the VMs, live and read-only; --snapshot: a copy made at the start
#   --image dev|yocto|DIR  what the VMs boot [default: that of HASHCLUSTER_IMAGE, else the
#                        Yocto image if one was built, else dev]
#   --accel auto|kvm|tcg   the accelerator [default: auto, which tests if KVM works here]
#   --runtime-dir DIR    sockets and logs; --state-dir DIR: keys and the controller's disk
#   --dry-run            print the command lines, start nothing
#   --foreground         without COMMAND: stay until Ctrl-C, and tell systemd when all are ready
#
# Examples: ./run.sh sum -r /usr/share/doc > manifest
#           ./run.sh --local check manifest
set -euo pipefail

# With 20,000 arguments `.` takes bash 0.4 s, and each function that is given them 10 ms.
self=${BASH_SOURCE[0]} called=./run.sh
[[ ${self##*/} == run.sh ]] || called=${self##*/}
[[ ! -L $self ]] || self=$(readlink -f -- "$self")
[[ $self == /* ]] || self=$PWD/$self
root=${self%/*}
use_programs() {
  # shellcheck source=scripts/lib/programs
  . "$root/scripts/lib/programs"
}
use_programs

# An installed copy is called by another name.
usage() { sed -n "2,/^set /{s|\./run\.sh|$called|g;s/^# \{0,1\}//p}" "${BASH_SOURCE[0]}"; }

refuse() {
  printf 'run.sh: %s\n' "$1" >&2
  exit 2
}

find_settings
ports=$settings/ports.conf config='' image='' local='' foreground=() options=() dry_run=()
while (($# > 0)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --local) local=1; shift; break ;;
    --ports | --image) (($# > 1)) || refuse "$1 needs a value"
      if [[ $1 == --ports ]]; then ports=$2; else image=$2; fi
      shift 2 ;;
    --config | --dataset | --accel | --runtime-dir | --run-dir | --state-dir) (($# > 1)) || refuse "$1 needs a value"
      options+=("$1=$2")
      [[ $1 != --config ]] || config=$2
      shift 2 ;;
    --snapshot) options+=("$1"); shift ;;
    --dry-run) dry_run=(--dry-run); shift ;;
    --foreground) foreground=(--foreground); shift ;;
    -*) refuse "unknown option $1; see ./run.sh --help" ;;
    *) break ;;
  esac
done
if [[ -n $local ]]; then
  [[ -n $config || ! -e $settings/cluster.toml ]] || config=$settings/cluster.toml
  options=(${config:+"--config=$config"})
  if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    options+=("--workers=$1")
    shift
  fi
  case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) refuse "unknown option $1; options of hashctl follow its command, as in --local sum $1" ;;
  esac
  find_programs
  (($# > 0)) || exec "$bin/hashcluster-vm" local up "${options[@]}"
  # Their items wait for workers.
  [[ $1 != sum && $1 != check ]] || options+=(--early)
  exec "$bin/hashcluster-vm" local run "${options[@]}" -- "$bin/hashctl" "$@"
fi
find_programs
setup=$("$root/qemu/setup.sh" "${dry_run[@]}" ${image:+--image "$image"} "$bin")
mapfile -t -O "${#options[@]}" options <<<"$setup"
options+=("--ports=$ports" "${dry_run[@]}")
(($# > 0)) || exec "$bin/hashcluster-vm" up "${foreground[@]}" "${options[@]}"
exec "$bin/hashcluster-vm" run "${options[@]}" -- "$bin/hashctl" "$@"
