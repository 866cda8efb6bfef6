#!/usr/bin/env bash
# Changes the running cluster into what ports.conf, cluster.toml and the options say now; options of
# earlier commands stay unless they are given again. ./run.sh does the same with the newest build.
# Usage: scripts/apply.sh [--dry-run] [--forget] [OPTION OF hashcluster-vm up]…
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

exec "$root/scripts/vm.sh" apply --default-ports="$root/ports.conf" "$@"
