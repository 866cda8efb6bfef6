#!/usr/bin/env bash
# Opens a shell in a VM, or runs a command line there. The VM's host key is pinned. `scripts/vm.sh exec`
# runs a command with its arguments as they are, `scripts/vm.sh cp` copies files.
# Usage: scripts/ssh.sh [--runtime-dir DIR] NAME [COMMAND [ARG]…]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

exec "$root/scripts/vm.sh" ssh "$@"
