#!/usr/bin/env bash
# Unpacks Debian packages and keeps what the development image needs: OUTDIR/root (programs,
# libraries, modules), OUTDIR/kernel, OUTDIR/vmlinux if the kernel can boot so, OUTDIR/version,
# OUTDIR/debug-exit, OUTDIR/packages (about the packages, for an SBOM), OUTDIR/device (modules of a disk). dev-image.sh
# caches it.
# Usage: qemu/dev-base.sh x86_64|aarch64 OUTDIR DEB…
set -euo pipefail
export LC_ALL=C
umask 022

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
readonly here
readonly PROGRAMS=(busybox runsv runsvdir sv chpst dropbear)
readonly LIBRARIES=(libc.so.6 libcrypt.so.1 libgmp.so.10 libtomcrypt.so.1 libtommath.so.1 libz.so.1)

# Names in etc/modules that kernels for an architecture do not have.
declare -rA WITHOUT=([x86_64]='gpio-keys crc32c_generic' [aarch64]='crc32c-intel button')
declare -rA LOADER=([x86_64]=lib64/ld-linux-x86-64.so.2 [aarch64]=lib/ld-linux-aarch64.so.1)

usage() { sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}"; }

# Makes directory $1 from the other arguments.
make_base() {
  local deb all=$tmp/all root=$1/root name version
  for deb in "${@:2}"; do
    dpkg-deb -x "$deb" "$all"
  done
  for deb in "${@:2}"; do
    about_package "$deb" "$1/packages"
  done
  local lib_dir=usr/lib/$arch-linux-gnu loader=${LOADER[$arch]}
  mkdir -p "$root/usr/bin" "$root/usr/lib64" "$root/$lib_dir"
  ln -s bin "$root/usr/sbin"
  for name in bin sbin lib lib64; do
    ln -s "usr/$name" "$root/$name"
  done
  # For `sv NAME`.
  mkdir -p "$root/etc" "$root/var"
  ln -s /run/service "$root/etc/service"
  ln -s /run/service "$root/var/service"
  for name in "${PROGRAMS[@]}"; do
    cp "$(find "$all" -path "*bin/$name" -type f)" "$root/usr/bin/"
  done
  for name in "${LIBRARIES[@]}"; do
    cp -L "$(find "$all" -path "*lib/$arch-linux-gnu/$name")" "$root/$lib_dir/"
  done
  cp -L "$all/$loader" "$root/usr/$loader"
  for name in $(run "$root/usr/bin/busybox" --list); do
    [[ -e $root/usr/bin/$name ]] || ln -s busybox "$root/usr/bin/$name"
  done
  version=$(basename -- "$all"/lib/modules/*)
  copy_modules "$all" "$root" "$version"
  cp "$all/boot/vmlinuz-$version" "$1/kernel"
  if [[ $arch == x86_64 ]]; then
    "$here/debug-exit.sh" >"$1/debug-exit"
    unpack_kernel "$1/kernel" "$1/vmlinux"
  fi
  printf '%s\n' "$version" >"$1/version"
}

# Writes fields of the package $1, its checksum, and the file with its licences to $2/NAME/. What has no such file
# is found by who makes the SBOM.
about_package() {
  local name sum
  name=$(dpkg-deb -f "$1" Package)
  mkdir -p "$2/$name"
  dpkg-deb -f "$1" Package Version Architecture Source >"$2/$name/control"
  sum=$(sha256sum "$1")
  printf 'Sha256: %s\n' "${sum%% *}" >>"$2/$name/control"
  cp -L "$tmp/all/usr/share/doc/$name/copyright" "$2/$name/" || true
}

# Runs a program of the image.
run() { if [[ $arch == "$(uname -m)" ]]; then "$@"; else "qemu-$arch" "$@"; fi; }

# Prints the little-endian number of $3 bytes at offset $2 of the file $1.
number_at() { od -An -v -tu"$3" -j"$2" -N"$3" --endian=little "$1" | tr -d ' '; }

# Unpacks the kernel of the bzImage $1 to $2, so that no guest has to, which takes half a second without
# KVM. Makes no file if this host cannot unpack it, or if it has no entry point for this (the note of
# PVH, type 18 of "Xen"). The header is described in the kernel's Documentation/arch/x86/boot.rst.
unpack_kernel() {
  local sectors offset length magic unpack
  sectors=$(number_at "$1" 497 1)
  offset=$(number_at "$1" 584 4)
  offset=$(((sectors + 1) * 512 + offset))
  # The length of the result follows the compressed data.
  length=$(number_at "$1" 588 4)
  length=$((length - 4))
  magic=$(od -An -v -tx1 -j"$offset" -N4 "$1" | tr -d ' ')
  case $magic in
    02214c18) unpack=lz4 ;;
    28b52ffd) unpack=zstd ;;
    *) return 0 ;;
  esac
  command -v "$unpack" >/dev/null || return 0
  head -c "$((offset + length))" "$1" | tail -c "$length" | "$unpack" -dc >"$2"
  grep -qaP '\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0' "$2" || rm "$2"
}

# The modules of etc/modules with their dependencies, without signatures: the host verifies the image
# as a whole before it boots, and a guest without KVM takes a tenth of a second to verify them again.
copy_modules() {
  local all=$1 root=$2 version=$3
  depmod -b "$all" "$version"
  copy_named "$all" "$root" "$version" "$here/rootfs/etc/modules"
  cp "$all/lib/modules/$version/modules.builtin" "$root/usr/lib/modules/$version/"
  # What a disk adds (disk-image.sh).
  copy_named "$all" "${root%/root}/device" "$version" "$here/device-modules"
  depmod -b "$root" "$version" 2>/dev/null
  find "$root/usr/lib/modules" -name 'modules.*' ! -name modules.dep ! -name modules.builtin -delete
}

# Copies those that the file $4 names, and what they need.
copy_named() {
  local all=$1 root=$2 version=$3 name
  sed '/^#/d' "$4" | while read -r name; do
    [[ " ${WITHOUT[$arch]} " != *" $name "* ]] || continue
    modprobe -S "$version" -d "$all" --show-depends "$name" || exit
  done | sed -n "s|^insmod $all/lib/||p" | sort -u | while read -r name; do
    mkdir -p "$root/usr/lib/${name%/*}"
    unsigned "$all/lib/$name" >"$root/usr/lib/$name"
  done
}

# Prints the module $1 without its signature, which ends with its length, three bytes of zero (struct
# module_signature of the kernel) and 28 bytes of text.
unsigned() {
  local length=0
  if tail -c 28 "$1" | grep -qaF '~Module signature appended~'; then
    length=$(tail -c 32 "$1" | od -An -v -tu4 -N4 --endian=big | tr -d ' ')
    length=$((length + 40))
  fi
  head -c "-$length" "$1"
}

main() {
  case ${1:-} in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
  esac
  if (($# < 3)) || [[ -z ${LOADER[$1]:-} ]]; then
    usage >&2
    exit 2
  fi
  readonly arch=$1
  shift
  PATH=$PATH:/usr/sbin:/sbin
  tmp=$(mktemp -d)
  trap 'rm -rf -- "$tmp"' EXIT
  make_base "$@"
}

main "$@"
