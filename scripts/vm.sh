#!/usr/bin/env bash
# Runs a command of hashcluster-vm, as built last; the other scripts call it.
# Usage: scripts/vm.sh COMMAND [ARG]…
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

bin=$("$root/scripts/bin-dir.sh" --no-build)
exec "$bin/hashcluster-vm" "$@"
