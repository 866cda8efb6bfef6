#!/usr/bin/env bash
# Builds the development image of the VMs from Debian packages: kernel, initrd, image.txt.
# Needs no root. What it downloads stays in the cache; equal inputs give equal bytes.
#
# Usage: qemu/dev-image.sh OUTDIR BINDIR
#   OUTDIR  gets the three files; image.txt is there only beside the files it speaks of
#   BINDIR  holds the static hashcluster-controller and hashcluster-worker
#
# The cache is $HASHCLUSTER_CACHE, else hashcluster in $XDG_CACHE_HOME or ~/.cache.
# Exit status: 3 when something of this host is missing (stderr says what to do), else 1.
set -euo pipefail
export LC_ALL=C
umask 022

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
cache=${HASHCLUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/hashcluster}/dev-image
readonly here cache
readonly PACKAGES=(busybox-static runit dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1
  zlib1g libc6)
readonly PROGRAMS=(busybox runsv runsvdir sv chpst dropbear)
readonly LIBRARIES=(libc.so.6 libcrypt.so.1 libgmp.so.10 libtomcrypt.so.1 libtommath.so.1 libz.so.1)
readonly LIB_DIR=usr/lib/x86_64-linux-gnu

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

die() {
  printf 'dev-image.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

require_host() {
  local program
  [[ $(uname -m) == x86_64 ]] || die "the image is for x86-64, this host is $(uname -m)" 3
  command -v apt-get dpkg-deb >/dev/null ||
    die 'this host has no apt-get: the development image is made of Debian packages' 3
  for program in cpio zstd depmod modprobe flock; do
    command -v "$program" >/dev/null || die "$program is missing; run $here/host-packages.sh" 3
  done
}

# Sets `debs` to the file names of the packages' newest versions; without apt's lists to those of
# the last build.
list_packages() {
  local kernel uris
  kernel=$(apt-cache --no-all-versions show linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p') || true
  if [[ -n $kernel ]] && uris=$(apt_get download --print-uris "$kernel" "${PACKAGES[@]}"); then
    mapfile -t debs < <(cut -d ' ' -f 2 <<<"$uris")
    wanted=("$kernel" "${PACKAGES[@]}")
  elif [[ -r $cache/last ]]; then
    mapfile -t debs <"$cache/last"
    wanted=()
  else
    die "apt knows no package linux-image-cloud-amd64; on Debian: sudo apt-get update" 3
  fi
}

# As root, apt would hand its download to a user who cannot write here.
apt_get() { apt-get -qq -o APT::Sandbox::User=root "$@"; }

download() {
  local deb
  mkdir -p "$cache/packages"
  for deb in "${debs[@]}"; do
    [[ -s $cache/packages/$deb ]] && continue
    ((${#wanted[@]} > 0)) || die "$cache lacks $deb, and apt has no lists; sudo apt-get update" 3
    echo "dev-image.sh: downloading ${#wanted[@]} packages into $cache" >&2
    mkdir "$tmp/packages"
    (cd "$tmp/packages" && apt_get download "${wanted[@]}") >&2 ||
      die 'the download failed; sudo apt-get update' 3
    mv "$tmp/packages"/*.deb "$cache/packages/"
  done
}

# Makes $1 from the packages: root/ (programs, libraries, modules) and the kernel.
make_base() {
  local deb all=$tmp/all root=$1/root name version
  download
  for deb in "${debs[@]}"; do
    dpkg-deb -x "$cache/packages/$deb" "$all"
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

# The modules of etc/modules with what they need. No stripping: that would break signatures.
copy_modules() {
  local all=$1 root=$2 version=$3 name
  depmod -b "$all" "$version"
  sed '/^#/d' "$here/rootfs/etc/modules" | while read -r name; do
    modprobe -S "$version" -d "$all" --show-depends "$name" ||
      die "the kernel has no module $name"
  done | sed -n "s|^insmod $all/lib/||p" | sort -u | while read -r name; do
    mkdir -p "$root/usr/lib/${name%/*}"
    cp "$all/lib/$name" "$root/usr/lib/$name"
  done
  cp "$all/lib/modules/$version/modules.builtin" "$root/usr/lib/modules/$version/"
  depmod -b "$root" "$version" 2>/dev/null
  find "$root/usr/lib/modules" -name 'modules.*' ! -name modules.dep ! -name modules.builtin -delete
}

# The base of these packages, made once.
find_base() {
  local key
  key=$(cat "$here/dev-image.sh" "$here/debug-exit.sh" "$here/rootfs/etc/modules" - \
    <<<"${debs[*]}" | sha256sum)
  base=$cache/base-${key:0:16}
  if [[ ! -d $base ]]; then
    make_base "$tmp/base"
    rm -rf "$cache"/base-*
    mv "$tmp/base" "$base"
    printf '%s\n' "${debs[@]}" >"$cache/last"
    find "$cache/packages" -name '*.deb' | grep -vFf "$cache/last" | xargs -r -d '\n' rm -f
  fi
}

pack() {
  local root=$tmp/root bin=$1 digest
  cp -a "$base/root" "$root"
  cp -R "$here/rootfs/." "$root/"
  cp "$bin/hashcluster-controller" "$bin/hashcluster-worker" "$root/usr/bin/"
  cp "$base/debug-exit" "$root/usr/lib/hashcluster/"
  # What git keeps of a mode is one bit; the builder's umask is in the rest.
  chmod -R u=rwX,go=rX "$root"
  chmod 0755 "$root"/usr/bin/hashcluster-* "$root/usr/lib/hashcluster/debug-exit"
  chmod 0600 "$root/etc/shadow"
  find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-1}" {} +
  (cd -- "$root" && find . -mindepth 1 -print0 | sort -z |
    cpio -0 -o -H newc --owner=+0:+0 --reproducible --quiet) |
    zstd -q -9 --single-thread >"$tmp/initrd"
  digest=$(cat "$base/kernel" "$tmp/initrd" | sha256sum)
  printf '%s\n' "digest sha256:${digest:0:40}" "kernel $(<"$base/version")" 'kind dev' \
    >"$tmp/image.txt"
}

main() {
  [[ ${1:-} != -h && ${1:-} != --help ]] || { usage; exit 0; }
  (($# == 2)) || { usage >&2; exit 2; }
  local out=$1 bin=$2 name debs wanted base
  for name in hashcluster-controller hashcluster-worker; do
    [[ -x $bin/$name ]] || die "$bin/$name is missing; $here/../scripts/bin-dir.sh builds it"
  done
  PATH=$PATH:/usr/sbin:/sbin
  require_host
  mkdir -p "$cache" "$out"
  # One builder at a time; the lock ends with this process.
  exec 9>"$cache/lock"
  flock 9
  tmp=$(mktemp -d "$out/.dev-image.XXXXXX")
  trap 'rm -rf -- "$tmp"' EXIT
  list_packages
  find_base
  pack "$bin"
  rm -f "$out/image.txt"
  cp "$base/kernel" "$tmp/kernel"
  mv "$tmp/kernel" "$tmp/initrd" "$out/"
  mv "$tmp/image.txt" "$out/"
}

main "$@"
