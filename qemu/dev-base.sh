#!/usr/bin/env bash
# Unpacks Debian packages and keeps what the development image needs: OUTDIR/root (programs,
# libraries, modules), OUTDIR/kernel, OUTDIR/version, OUTDIR/debug-exit. dev-image.sh caches it.
# Usage: qemu/dev-base.sh OUTDIR DEB…
set -euo pipefail
export LC_ALL=C
umask 022

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
readonly here
readonly PROGRAMS=(busybox runsv runsvdir sv chpst dropbear)
readonly LIBRARIES=(libc.so.6 libcrypt.so.1 libgmp.so.10 libtomcrypt.so.1 libtommath.so.1 libz.so.1)
readonly LIB_DIR=usr/lib/x86_64-linux-gnu

usage() { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; }

# Makes directory $1 from the other arguments.
make_base() {
  local deb all=$tmp/all root=$1/root name version
  for deb in "${@:2}"; do
    dpkg-deb -x "$deb" "$all"
  done
  mkdir -p "$root/usr/bin" "$root/usr/lib64" "$root/$LIB_DIR"
  ln -s bin "$root/usr/sbin"
  for name in bin sbin lib lib64; do
    ln -s "usr/$name" "$root/$name"
  done
  for name in "${PROGRAMS[@]}"; do
    cp "$(find "$all" -path "*bin/$name" -type f)" "$root/usr/bin/"
  done
  for name in "${LIBRARIES[@]}"; do
    cp -L "$(find "$all" -path "*lib/x86_64-linux-gnu/$name")" "$root/$LIB_DIR/"
  done
  cp -L "$all/lib64/ld-linux-x86-64.so.2" "$root/usr/lib64/"
  for name in $("$root/usr/bin/busybox" --list); do
    [[ -e $root/usr/bin/$name ]] || ln -s busybox "$root/usr/bin/$name"
  done
  version=$(basename -- "$all"/lib/modules/*)
  copy_modules "$all" "$root" "$version"
  "$here/debug-exit.sh" >"$1/debug-exit"
  cp "$all/boot/vmlinuz-$version" "$1/kernel"
  printf '%s\n' "$version" >"$1/version"
}

# The modules of etc/modules with their dependencies, unstripped: stripping breaks signatures.
copy_modules() {
  local all=$1 root=$2 version=$3 name
  depmod -b "$all" "$version"
  sed '/^#/d' "$here/rootfs/etc/modules" | while read -r name; do
    modprobe -S "$version" -d "$all" --show-depends "$name" || exit
  done | sed -n "s|^insmod $all/lib/||p" | sort -u | while read -r name; do
    mkdir -p "$root/usr/lib/${name%/*}"
    cp "$all/lib/$name" "$root/usr/lib/$name"
  done
  cp "$all/lib/modules/$version/modules.builtin" "$root/usr/lib/modules/$version/"
  depmod -b "$root" "$version" 2>/dev/null
  find "$root/usr/lib/modules" -name 'modules.*' ! -name modules.dep ! -name modules.builtin -delete
}

main() {
  case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
  esac
  (($# > 1)) || { usage >&2; exit 2; }
  PATH=$PATH:/usr/sbin:/sbin
  tmp=$(mktemp -d)
  trap 'rm -rf -- "$tmp"' EXIT
  make_base "$@"
}

main "$@"
