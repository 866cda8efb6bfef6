#!/usr/bin/env bash
# Starts the cluster: with --monitoring what watches it, the controller, then the workers; accepts the
# options of ./run.sh. With names, starts these VMs of a running cluster. VMs that already run are not
# changed.
# Usage: scripts/start.sh [OPTION OF run.sh]…
#        scripts/start.sh [--runtime-dir DIR] NAME…
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

exec "$root/run.sh" start "$@"
