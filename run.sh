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
# read-only. A cluster that already runs is used, and left running. Without COMMAND it is changed into
# what ports.conf, cluster.toml and the options say now; those that are not given stay what they were.
#
#   --ports FILE         the VMs, instead of ports.conf; --config FILE: instead of cluster.toml. Both are
#                        here; for an installed copy in ~/.config/hashcluster or /etc/hashcluster, if there
#   --dataset NAME=DIR   show DIR to the VMs, live and read-only; --snapshot: a copy made at the start
#   --image dev|yocto|DIR  what the VMs boot [default: that of HASHCLUSTER_IMAGE, else the
#                        Yocto image if one was built, else dev]
#   --kernel debian|minimal  the kernel of the image dev: Debian's, or a smaller one that starts in less
#                        time and memory, built here once in some minutes [default: debian]
#   --arch x86_64|arm64  the processor of the image dev; another one than this host's is translated
#   --accel auto|kvm|tcg   the accelerator [default: auto, which tests if KVM works here]
#   --runtime-dir DIR    sockets and logs; --state-dir DIR: keys and the controller's disk
#   --dry-run            print the command lines, or what changes in a running cluster; do nothing
#   --forget             forget the options of earlier commands for the running cluster
#   --monitoring         without COMMAND: start scripts/monitoring.sh first; `down` stops it last
#   --foreground         without COMMAND: stay until Ctrl-C, and tell systemd when all are ready
#
# Commands of hashctl: sum, check, audit, update, compare, dups; status, top, release, version
# Commands of a cluster that runs: ps, logs, exec, cp, ssh, start, stop, restart, apply, deploy, doctor;
# up starts one, down stops it
#
# Examples: ./run.sh sum -r /usr/share/doc > manifest
#           ./run.sh --local check manifest
set -euo pipefail

# With 20,000 arguments `.` takes bash 0.4 s, and each function that is given them 10 ms.
self=${BASH_SOURCE[0]} called=./run.sh
# An installed copy is called by another name, which its messages have, too.
[[ ${self##*/} == run.sh ]] || export HASHCLUSTER_CALLED=${self##*/} called=${self##*/}
case ${1:-} in
  -h | --help)
    sed -n "2,/^set /{s|\./run\.sh|$called|g;s/^# \{0,1\}//p}" "$self"
    exit 0 ;;
esac
[[ ! -L $self ]] || self=$(readlink -f -- "$self")
[[ $self == /* ]] || self=$PWD/$self
root=${self%/*}
use_programs() {
  # shellcheck source=scripts/lib/programs
  . "$root/scripts/lib/programs"
}
use_programs
find_settings
find_programs
exec "$bin/hashcluster-vm" front "$root" "$settings" "$@"
