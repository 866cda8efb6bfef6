#!/usr/bin/env bash
# Deploys the newest build to the running VMs: one worker at a time is drained, booted from the new
# image and checked, the controller last. If one does not become healthy, all return to their previous
# image, and the exit status is 1.
# Usage: scripts/deploy.sh [--runtime-dir DIR] [--image dev|yocto|DIR]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")

usage() { sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"; }

main() {
  local image=() run_dir=() bin setup
  while (($# > 0)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --runtime-dir | --run-dir | --image) (($# > 1)) || { usage >&2; exit 2; } ;;&
      --runtime-dir | --run-dir) run_dir=(--runtime-dir "$2"); shift ;;
      --image) image=(--image "$2"); shift ;;
      *) usage >&2; exit 2 ;;
    esac
    shift
  done
  bin=$("$root/scripts/bin-dir.sh")
  # Nothing is built for a cluster that does not run.
  "$bin/hashcluster-vm" ps "${run_dir[@]}" >/dev/null 2>&1 || (($? == 1)) || exec "$bin/hashcluster-vm" ps "${run_dir[@]}"
  setup=$("$root/qemu/setup.sh" "${image[@]}" "$bin")
  setup=${setup%%$'\n'*}
  exec "$bin/hashcluster-vm" deploy "${run_dir[@]}" "${setup#--image=}"
}

main "$@"
