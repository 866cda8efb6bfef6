#!/usr/bin/env bash
# Opens a shell in a VM, or runs a command there. The VM's key is pinned; SSH is for management.
# Usage: scripts/ssh.sh [--run-dir DIR] NAME [COMMAND [ARG]…]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
  '') sed -n '3s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

exec "$root/scripts/vm.sh" ssh "$@"
