#!/usr/bin/env bash
# Checks this host, the files that describe the cluster, and the cluster if one runs. Prints one line per
# check that begins with ok, warn or FAIL; after a warning or failure follows a line that says what to do.
#
# Usage: scripts/doctor.sh [OPTION]…
#   --runtime-dir DIR      of the cluster; --state-dir DIR: that of a cluster to be started
#   --ports FILE           the VMs, instead of ports.conf; --config FILE: instead of cluster.toml
#   --dataset NAME=DIR, --image dev|yocto|DIR  as for ./run.sh
#   --quiet                print warnings and failures only; --json: one JSON object per line
#
# docs/doctor.md lists what it finds. Exit status: 0 if no check failed, despite warnings; 1 if one did;
# 2 wrong usage.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

# Reports that there is no program to check with.
report_unbuilt() {
  local build='cargo xtask build'
  [[ $PWD == "$root" ]] || build="$(printf '(cd %q && %s)' "$root" "$build")"
  if [[ " $* " == *' --json '* ]]; then
    printf '{"version":1,"level":"fail","fault":"own-program-missing","subject":"programs",'
    printf '"text":"none is built for this host","command":"cargo xtask build","remedy":null}\n'
  else
    printf 'FAIL  programs: none is built for this host\n      -> %s\n' "$build"
  fi
  exit 1
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
esac

# shellcheck source=scripts/lib/programs
. "$root/scripts/lib/programs"
find_settings
bin=$("$root/scripts/bin-dir.sh" --no-build 2>/dev/null) || report_unbuilt "$@"
exec "$bin/hashcluster-vm" doctor --root "$root" --settings "$settings" "$@"
