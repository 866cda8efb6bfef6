#!/usr/bin/env bash
# Lets hosts join, drain, leave and renew many-host work, over SSH: docs/hosts.md. The programs and their configuration are
# on each host; this host has a configuration as well, by which it asks the broker how the others are.
#
# Usage: scripts/hosts.sh list
#        scripts/hosts.sh join HOST…            start the bridge there, at each boot as well
#        scripts/hosts.sh drain HOST…           let it finish its shards and stop; the other services go on
#        scripts/hosts.sh leave HOST…           the same, and start it at no boot any more
#        scripts/hosts.sh roll PACKAGE.deb HOST…  one after the other: drain, install, start; the first that does not come
#                                               back ends it, so that no other is touched
#
# HOST is a name for SSH, by which the host reports, too; NAME=HOST if these differ. HASHCLUSTER_SSH is the command that runs
# another there [default: ssh -o BatchMode=yes]; HASHCLUSTER_HOSTS_WAIT are the seconds for a host to change [default: 120].
# Exit status: 0 done, 1 a host did not do it, 2 wrong arguments, 3 the broker cannot be asked.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
wait_s=${HASHCLUSTER_HOSTS_WAIT:-120}
read -ra ssh <<<"${HASHCLUSTER_SSH:-ssh -o BatchMode=yes}"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

say() { printf '%s\n' "$*" >&2; }

bridge() {
  local bin
  if [[ -x $root/programs/hashcluster-bridge ]]; then
    bin=$root/programs/hashcluster-bridge
  elif [[ -n ${HASHCLUSTER_BIN_DIR:-} ]]; then
    bin=$HASHCLUSTER_BIN_DIR/hashcluster-bridge
  else
    bin=hashcluster-bridge
  fi
  command -v "$bin" >/dev/null || { say "hashcluster-bridge is not here: cargo xtask build bridge, and set HASHCLUSTER_BIN_DIR to its directory"; exit 3; }
  "$bin" "$@"
}

# The state in which the host $1 is for the broker; empty if it never reported.
state_of() {
  local listed status=0
  listed=$(bridge hosts --json) || status=$?
  ((status <= 1)) || exit 3
  jq -r --arg host "$1" 'select(.host == $host) | .state' <<<"$listed" | head -n 1
}

# Waits until the host $1 is in the state $2.
await() {
  local state=
  for _ in $(seq -- "$wait_s"); do
    state=$(state_of "$1") || exit $?
    [[ $state != "$2" ]] || { say "$1: $2"; return; }
    sleep 1
  done
  say "$1: still ${state:-unknown} after $wait_s s, not $2"
  return 1
}

# Runs a command on the host $1.
on() {
  local host=$1
  shift
  "${ssh[@]}" "$host" "$(printf '%q ' "$@")"
}

join() {
  local name=${1%%=*} host=${1#*=}
  on "$host" hashcluster-bridge --version >/dev/null || { say "$name: hashcluster-bridge does not run there"; return 1; }
  on "$host" test -r /etc/hashcluster/bridge.toml || { say "$name: there is no /etc/hashcluster/bridge.toml"; return 1; }
  on "$host" systemctl enable --now hashcluster-bridge.service || return 1
  await "$name" serving
}

drain() {
  local name=${1%%=*} host=${1#*=}
  on "$host" systemctl stop hashcluster-bridge.service || return 1
  await "$name" left
}

leave() {
  local host=${1#*=}
  drain "$1" || return 1
  on "$host" systemctl disable hashcluster-bridge.service
}

roll() {
  local name=${1%%=*} host=${1#*=} there
  drain "$1" || return 1
  there=$(on "$host" mktemp --suffix=.deb) || return 1
  "${ssh[@]}" "$host" "$(printf 'cat >%q' "$there")" <"$package" || return 1
  on "$host" dpkg -i "$there" || { say "$name: the package is not installed; its bridge stays stopped"; return 1; }
  on "$host" rm -f "$there" || return 1
  on "$host" systemctl try-restart hashcluster-controller.service hashcluster-worker.service || return 1
  on "$host" systemctl start hashcluster-bridge.service || return 1
  await "$name" serving
}

main() {
  local command=${1:-} failed=0
  case $command in
    -h | --help) usage; exit 0 ;;
    list) (($# == 1)) || { usage >&2; exit 2; }; bridge hosts; exit ;;
    join | drain | leave | roll) shift ;;
    *) usage >&2; exit 2 ;;
  esac
  if [[ $command == roll ]]; then
    package=${1:-}
    [[ $package == *.deb && -r $package ]] || { say "roll: first a package that can be read, PACKAGE.deb"; exit 2; }
    shift
  fi
  (($# > 0)) || { usage >&2; exit 2; }
  command -v jq >/dev/null || { say "jq is not here: apt-get install jq"; exit 3; }
  for host in "$@"; do
    [[ $host != -* && ${host%%=*} && ${host#*=} && ${host#*=} != -* ]] || { say "not a host: $host"; exit 2; }
  done
  for host in "$@"; do
    case $command in
      join) join "$host" || failed=1 ;;
      drain) drain "$host" || failed=1 ;;
      leave) leave "$host" || failed=1 ;;
      roll) roll "$host" || { say "${host%%=*} did not come back: the others stay as they are"; exit 1; } ;;
    esac
  done
  exit "$failed"
}

main "$@"
