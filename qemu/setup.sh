#!/usr/bin/env bash
# Provides what VMs need on this host, and prints it as options of hashcluster-vm, one per line.
# Usage: qemu/setup.sh [--dry-run] [--image dev|yocto|DIR] [--kernel debian|minimal] [--arch x86_64|arm64]
#                      [--libc musl] BINDIR
# --dry-run only prints the options. --kernel is that of the development image: Debian's, or the one that
# kernel.sh builds. --arch is the processor that it is for, where that is not this host's. --libc musl builds its
# programs with musl, instead of taking those of BINDIR. Without --image, the variable HASHCLUSTER_IMAGE selects
# the image, with the same values; otherwise the Yocto image if one was built, else dev.
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# The same for the scripts called below, which would find it by themselves if called alone.
export HASHCLUSTER_CACHE=${HASHCLUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set, HASHCLUSTER_CACHE neither}/.cache}/hashcluster}
cache=$HASHCLUSTER_CACHE

usage() { sed -n '2,8s/^# //p' "${BASH_SOURCE[0]}"; }

# The image that kas built last, if there is one for x86-64.
yocto_image() {
  local text found=''
  for text in "${here%/*}"/build/tmp*/deploy/images/qemux86-64/image.txt; do
    [[ -r $text ]] && found=${text%/*}
  done
  [[ -n $found ]] && printf '%s\n' "$found"
}

# Builds the programs of an image for processors of the kind $1, and prints their directory.
with_musl() {
  (cd -- "${here%/*}" && cargo run --quiet --package xtask -- build --arch "$1") | tail -n 1
}

main() {
  local dry_run=() image=${HASHCLUSTER_IMAGE:-} kernel='' arch='' libc='' dir name value
  while [[ ${1:-} == -* ]]; do
    case $1 in
      --dry-run) dry_run=(--dry-run) ;;
      --image) image=${2:?needs a value}; shift ;;
      --kernel) kernel=${2:?needs a value}; image=${image:-dev}; shift ;;
      --libc) libc=${2:?needs a value}; image=${image:-dev}; shift ;;
      --arch) arch=${2:?needs a value}; image=${image:-dev}; shift ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
    shift
  done
  (($# == 1)) || { usage >&2; exit 2; }
  case $kernel in
    '' | debian | minimal) ;;
    *) echo "setup.sh: --kernel is debian or minimal, not $kernel" >&2; exit 2 ;;
  esac
  case $arch in
    '' | x86_64 | arm64) ;;
    *) echo "setup.sh: --arch is x86_64 or arm64, not $arch" >&2; exit 2 ;;
  esac
  [[ -z $libc || $libc == musl ]] || { echo "setup.sh: --libc is musl, not $libc" >&2; exit 2; }
  [[ -z $kernel$arch$libc || $image == dev ]] ||
    { echo 'setup.sh: --kernel, --arch and --libc are for the development image, and --image names another' >&2; exit 2; }
  [[ $kernel != minimal || $arch != arm64 ]] ||
    { echo 'setup.sh: --kernel minimal is for x86_64 only' >&2; exit 2; }
  ((${#dry_run[@]} > 0)) || "$here/host-packages.sh" >&2
  case $image in
    yocto) dir=$(yocto_image) || { echo 'setup.sh: no Yocto image here; kas build kas/hashcluster.yml makes one' >&2; exit 3; } ;;
    '') dir=$(yocto_image) || image=dev ;;
    dev) ;;
    *) dir=$image ;;
  esac
  if [[ $image == dev ]]; then
    dir=$cache/image
    local options=()
    if [[ $kernel == minimal ]]; then
      dir+=-minimal
      ((${#dry_run[@]} > 0)) || options=(--kernel "$("$here/kernel.sh")")
    fi
    local bin=$1
    if [[ $arch == arm64 ]]; then
      dir+=-arm64 options=(--arch aarch64)
      ((${#dry_run[@]} > 0)) || { "$here/host-packages.sh" arm64 >&2; bin=$(with_musl aarch64); }
    elif [[ $libc == musl ]]; then
      dir+=-musl
      ((${#dry_run[@]} > 0)) || bin=$(with_musl x86_64)
    fi
    ((${#dry_run[@]} > 0)) || "$here/dev-image.sh" "${options[@]}" "$dir" "$bin" >&2
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
