#!/usr/bin/env bash
# Prints the directory of the release binaries, after building outdated ones.
# Without cargo or a linker it prints the directory of the last build.
# Usage: scripts/bin-dir.sh [--no-build]
set -euo pipefail

self=$(readlink -f -- "${BASH_SOURCE[0]}")
root=${self%/scripts/*}
# shellcheck source=scripts/lib/programs
. "$root/scripts/lib/programs"

usage() { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; }

case ${1:-} in
  '') find_programs ;;
  --no-build) find_built_programs ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
printf '%s\n' "$bin"
