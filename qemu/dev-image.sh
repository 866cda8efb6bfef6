#!/usr/bin/env bash
# Builds the development image of the VMs from Debian packages: kernel, vmlinux (the same, unpacked),
# initrd.controller, initrd.worker, image.txt, packages/ (each package's control fields and licences), device/ (modules that
# only a disk has, see disk-image.sh).
# Needs no root. Downloads stay in the cache; equal inputs give equal bytes.
#
# Usage: qemu/dev-image.sh [--kernel DIR] [--arch x86_64|aarch64] OUTDIR BINDIR
#   OUTDIR  gets these files; image.txt exists only with the files that it describes. One that was
#           made of the same inputs stays as it is
#   BINDIR  has the static hashcluster-controller and hashcluster-worker
#   --kernel DIR  the kernel in DIR, as kernel.sh makes it, instead of Debian's with its modules
#
# The cache is $HASHCLUSTER_CACHE, else hashcluster in $XDG_CACHE_HOME or ~/.cache.
# Exit status: 3 if the host lacks something (stderr says what to do), 1 on other errors.
set -euo pipefail
export LC_ALL=C
umask 022

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
cache=${HASHCLUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/hashcluster}/dev-image
readonly here
# Debian's words for architectures.
declare -rA DEBIAN=([x86_64]=amd64 [aarch64]=arm64)
# Debian's kernels: that for clouds has no driver for the power button of ARM's virtual machine.
declare -rA KERNEL=([x86_64]=linux-image-cloud-amd64 [aarch64]=linux-image-arm64)
readonly PACKAGES=(busybox-static runit dropbear-bin libtomcrypt1 libtommath1 libgmp10 libcrypt1
  zlib1g libc6)

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

die() {
  printf 'dev-image.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

require_host() {
  local program
  [[ $(uname -m) == x86_64 ]] || die "images are built on x86-64, this host is $(uname -m)" 3
  for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null ||
      die "the development image is made of Debian packages, and $program is missing" 3
  done
  for program in cpio lz4 depmod modprobe flock; do
    command -v "$program" >/dev/null || die "$program is missing; run $here/host-packages.sh" 3
  done
}

# Sets `apt`: options that all of apt's programs take. As root, apt would download as a user who cannot
# write here. For another architecture it has lists of its own, so that those of the host stay as they are.
set_apt() {
  apt=(-qq -o APT::Sandbox::User=root)
  [[ $arch != "$(uname -m)" ]] || return 0
  mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial"
  : >>"$cache/apt/status"
  apt+=(-o "APT::Architecture=${DEBIAN[$arch]}" -o "APT::Architectures=${DEBIAN[$arch]}"
    -o "Dir::State::Lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt"
    -o "Dir::State::Status=$cache/apt/status")
}

apt_get() { apt-get "${apt[@]}" "$@"; }

# True if this user may read the newest lists.
can_update() { [[ $arch != "$(uname -m)" ]] || ((EUID == 0)); }

# Prints the kernel's package, or nothing if apt has no lists.
kernel_package() {
  apt-cache "${apt[@]}" --no-all-versions show "${KERNEL[$arch]}" 2>/dev/null |
    sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p' || true
}

# Sets `debs` to the file names of the newest packages, and downloads them into the cache. Fails if
# apt cannot provide them.
newest() {
  local kernel uris deb
  kernel=$(kernel_package)
  [[ -n $kernel ]] || return 1
  uris=$(apt_get download --print-uris "$kernel" "${PACKAGES[@]}") || return 1
  mapfile -t debs < <(cut -d ' ' -f 2 <<<"$uris")
  for deb in "${debs[@]}"; do
    [[ ! -s $cache/packages/$deb ]] || continue
    printf 'dev-image.sh: downloading packages into %s\n' "$cache" >&2
    mkdir -p "$tmp/packages" "$cache/packages"
    (cd "$tmp/packages" && apt_get download "$kernel" "${PACKAGES[@]}" >&2) || return 1
    mv "$tmp/packages"/*.deb "$cache/packages/"
    return
  done
}

# Prints what apt's answers depend on: its lists and sources.
apt_state() {
  stat -c '%n %Y' /var/lib/apt/lists /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null || true
}

# Sets `base` to the unpacked packages: the newest ones or, offline, the last ones.
find_base() {
  local debs
  # apt takes half a second to say the same again.
  if [[ -r $cache/last && -r $cache/apt-state && $(<"$cache/apt-state") == "$(apt_state)" ]]; then
    mapfile -t debs <"$cache/last"
    name_base
    [[ ! -d $base ]] || return 0
  fi
  # root can update missing or old lists.
  if ! newest && ! { can_update && apt_get update >&2 && newest; }; then
    [[ -r $cache/last ]] ||
      die "apt cannot provide ${KERNEL[$arch]} and others; on Debian: sudo apt-get update" 3
    mapfile -t debs <"$cache/last"
    printf 'dev-image.sh: apt cannot provide newer packages; using the last ones\n' >&2
  fi
  name_base
  [[ -d $base ]] || unpack
  apt_state >"$cache/apt-state"
}

# Sets `base` to the directory for the unpacked `debs`.
name_base() {
  local key
  key=$(cat "$here/dev-base.sh" "$here/debug-exit.sh" "$here/rootfs/etc/modules" \
    "$here/device-modules" - \
    <<<"${debs[*]}" | sha256sum)
  base=$cache/base-${key:0:16}
}

unpack() {
  "$here/dev-base.sh" "$arch" "$tmp/base" "${debs[@]/#/$cache/packages/}"
  rm -rf "$cache"/base-*
  mv "$tmp/base" "$base"
  printf '%s\n' "${debs[@]}" >"$cache/last"
  drop_old_packages
}

drop_old_packages() {
  local path
  for path in "$cache/packages"/*.deb; do
    grep -qxF "${path##*/}" "$cache/last" || rm -f "$path"
  done
}

# Prints a digest of all that the image is made of; $1 has the programs.
inputs() {
  local bin=$1
  {
    printf '%s\n' "$base" "${SOURCE_DATE_EPOCH:-1}"
    find "$here/rootfs" -printf '%P %y %m %l\n' | sort
    find "$here/rootfs" -type f -print0 | sort -z | xargs -0 cat
    cat "$here/dev-image.sh" "$bin/hashcluster-controller" "$bin/hashcluster-worker"
    [[ -z $kernel ]] || cat "$kernel/kernel"
  } | sha256sum | cut -c 1-40
}

# Prints the names of the files that VMs boot, in the order of their digest; $1 has the kernels.
files() {
  printf '%s\n' kernel initrd.controller initrd.worker
  [[ ! -e $1/vmlinux ]] || echo vmlinux
}

# True if the image in $1 was made of the inputs $2, and is what it was then.
is_current() {
  [[ -r $1/image.txt ]] && grep -qxF "inputs $2" "$1/image.txt" &&
    grep -qxF "$(digest "$1")" "$1/image.txt"
}

# Prints the line of image.txt about the files in $1.
digest() {
  local sum
  sum=$(cd -- "$1" && files . | xargs cat 2>/dev/null | sha256sum)
  printf 'digest sha256:%s\n' "${sum:0:40}"
}

# Makes the image in $staged, of the inputs $2.
pack() {
  local root=$tmp/root bin=$1 role
  for role in controller worker; do
    rm -rf -- "$root"
    cp -a "$base/root" "$root"
    cp -R "$here/rootfs/." "$root/"
    cp "$bin/hashcluster-$role" "$root/usr/bin/"
    [[ ! -e $base/debug-exit ]] || cp "$base/debug-exit" "$root/usr/lib/hashcluster/"
    [[ -z $kernel ]] || rm -r "$root/usr/lib/modules"
    # Only workers are shown datasets.
    [[ $role == worker ]] || rm -rf "$root"/usr/lib/modules/*/kernel/fs/fuse
    # git stores only the executable bit of a mode; the other bits depend on the builder's umask.
    chmod -R u=rwX,go=rX "$root"
    chmod 0755 "$root"/usr/bin/hashcluster-*
    [[ ! -e $base/debug-exit ]] || chmod 0755 "$root/usr/lib/hashcluster/debug-exit"
    chmod 0600 "$root/etc/shadow"
    find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-1}" {} +
    # The format of lz4 that the kernel knows.
    (cd -- "$root" && find . -mindepth 1 -print0 | sort -z |
      cpio -0 -o -H newc --owner=+0:+0 --reproducible --quiet) |
      lz4 -l -12 -q >"$staged/initrd.$role"
  done
  cp -R "$base/packages" "$base/device" "$staged/"
  # Another kernel is of no package.
  [[ -z $kernel ]] || rm -r "$staged/packages"/linux-image-*
  kernel=${kernel:-$base}
  files "$kernel" | sed -n '/^initrd/!p' | while read -r name; do cp "$kernel/$name" "$staged/"; done
  printf '%s\n' "$(digest "$staged")" "kernel $(<"$kernel/version")" "arch $arch" 'kind dev' \
    "inputs $2" >"$staged/image.txt"
}

main() {
  [[ ${1:-} != -h && ${1:-} != --help ]] || { usage; exit 0; }
  local kernel=''
  arch=$(uname -m)
  while [[ ${1:-} == -* ]]; do
    case $1 in
      --kernel) kernel=${2:?needs a directory} ;;
      --arch) arch=${2:?needs a name} ;;
      *) usage >&2; exit 2 ;;
    esac
    shift 2
  done
  [[ -n ${DEBIAN[$arch]:-} ]] || { usage >&2; exit 2; }
  # x86-64 has that of before there was another.
  [[ $arch == x86_64 ]] || cache+=-$arch
  readonly arch cache
  (($# == 2)) || { usage >&2; exit 2; }
  local out=$1 bin=$2 name base inputs
  for name in hashcluster-controller hashcluster-worker; do
    [[ -x $bin/$name ]] || die "$bin/$name is missing; $here/../scripts/bin-dir.sh builds it"
  done
  PATH=$PATH:/usr/sbin:/sbin
  require_host
  local apt
  set_apt
  mkdir -p "$cache" "$out"
  # One builder at a time; the lock ends with this process.
  exec 9>"$cache/lock"
  flock 9
  rm -rf "$cache"/.tmp.* "$out"/.dev-image.*
  tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
  staged=$(mktemp -d "$out/.dev-image.XXXXXX")
  trap 'rm -rf -- "$tmp" "$staged"' EXIT
  find_base
  inputs=$(inputs "$bin")
  ! is_current "$out" "$inputs" || exit 0
  pack "$bin" "$inputs"
  # `initrd` and `vmlinux` may be those of an image that was made another way.
  rm -rf "$out/image.txt" "$out/initrd" "$out/vmlinux" "$out"/{packages,device,image.cdx.json}
  mv "$staged"/{kernel,packages,device,initrd*} "$out/"
  [[ ! -e $staged/vmlinux ]] || mv "$staged/vmlinux" "$out/"
  mv "$staged/image.txt" "$out/"
}

main "$@"
