#!/usr/bin/env bash
# Provides what VMs need on this host, and prints it as options of hashcluster-vm, one per line.
# Usage: qemu/setup.sh [--dry-run] [--image dev|yocto|DIR] BINDIR
# --dry-run only prints the options. Without --image, the variable HASHCLUSTER_IMAGE selects the image,
# with the same values; otherwise the Yocto image if one was built, else dev.
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# The same for the scripts called below, which would find it by themselves if called alone.
export HASHCLUSTER_CACHE=${HASHCLUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set, HASHCLUSTER_CACHE neither}/.cache}/hashcluster}
cache=$HASHCLUSTER_CACHE

usage() { sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"; }

# The image that kas built last, if there is one for x86-64.
yocto_image() {
  local text found=''
  for text in "${here%/*}"/build/tmp*/deploy/images/qemux86-64/image.txt; do
    [[ -r $text ]] && found=${text%/*}
  done
  [[ -n $found ]] && printf '%s\n' "$found"
}

main() {
  local dry_run=() image=${HASHCLUSTER_IMAGE:-} dir name value
  while [[ ${1:-} == -* ]]; do
    case $1 in
      --dry-run) dry_run=(--dry-run) ;;
      --image) image=${2:?needs a value}; shift ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
    shift
  done
  (($# == 1)) || { usage >&2; exit 2; }
  ((${#dry_run[@]} > 0)) || "$here/host-packages.sh" >&2
  case $image in
    yocto) dir=$(yocto_image) || { echo 'setup.sh: no Yocto image here; kas build kas/hashcluster.yml makes one' >&2; exit 3; } ;;
    '') dir=$(yocto_image) || image=dev ;;
    dev) ;;
    *) dir=$image ;;
  esac
  if [[ $image == dev ]]; then
    dir=$cache/image
    ((${#dry_run[@]} > 0)) || "$here/dev-image.sh" "$dir" "$1" >&2
  fi
  printf -- '--image=%s\n' "$dir"
  "$here/tools.sh" "${dry_run[@]}" | while read -r name value; do
    case $name in
      vhost-device-vsock) printf -- '--vsock=%s\n' "$value" ;;
      virtiofsd | virtiofsd-kind) printf -- '--%s=%s\n' "$name" "$value" ;;
    esac
  done
}

main "$@"
