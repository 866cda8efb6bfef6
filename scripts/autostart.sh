#!/usr/bin/env bash
# Lets systemd start the cluster, with options of run.sh: at login or, with --system, at boot.
# Usage: scripts/autostart.sh enable|show [--system [--user NAME]] [OPTION OF run.sh]…
#        scripts/autostart.sh disable|status [--system]
# `--local [N]` as the first of those options is a cluster without VMs; `show` only prints the unit.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

usage() { sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"; }

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  enable | disable | status | show) ;;
  *) usage >&2; exit 2 ;;
esac
exec "$root/scripts/vm.sh" autostart --start "$root/run.sh" "$@"
