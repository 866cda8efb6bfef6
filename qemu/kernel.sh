#!/usr/bin/env bash
# Builds the kernel that the layer asks for from Debian's kernel source: tinyconfig, kernel.cfg, and the
# fragments of meta-hashcluster/. It has no modules. Prints its directory in the cache, which has kernel,
# vmlinux (the same, unpacked), version and config; it is built once, in some minutes.
#
# Usage: qemu/kernel.sh [--dry-run]    --dry-run only prints the directory
#        qemu/kernel.sh --held CONFIG FRAGMENT…
#                                      lists the options of the fragments that CONFIG does not have
#
# The cache is $HASHCLUSTER_CACHE, else hashcluster in $XDG_CACHE_HOME or ~/.cache.
# Exit status: 3 if the host lacks something (stderr says what to do), 1 on other errors.
set -euo pipefail
export LC_ALL=C

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
cache=${HASHCLUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/hashcluster}/kernel
readonly here cache
readonly LAYER=${here%/*}/meta-hashcluster/recipes-kernel/linux/linux-yocto
readonly FRAGMENTS=("$here/kernel.cfg" "$LAYER/hashcluster-guest.cfg" "$LAYER/hashcluster-hardening.cfg")

# Options of the fragments that are newer than Debian's kernel: only a build by kas has them.
readonly NEWER=()

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

die() {
  printf 'kernel.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

# Prints lines `CONFIG_X=VALUE` of a fragment, `CONFIG_X=n` for what is not set.
options() { sed -nE 's/^# (CONFIG_\w+) is not set$/\1=n/p; s/^CONFIG_\w+=.*/&/p' "$@"; }

# Fails if the configuration $1 lacks an option of the fragments, and prints each.
held() {
  local config=$1 option name bad=()
  while read -r option; do
    name=${option%%=*}
    case $option in
      *=n) ! grep -q "^$name=" "$config" || bad+=("$option") ;;
      *) grep -qxF -- "$option" "$config" || bad+=("$option") ;;
    esac
  done < <(options "${@:2}")
  for option in "${NEWER[@]}"; do
    printf 'newer than this kernel: %s\n' "$option"
    mapfile -t bad < <(printf '%s\n' "${bad[@]}" | sed "/^$option=/d")
  done
  ((${#bad[@]} == 0)) || { printf 'does not hold: %s\n' "${bad[@]}" >&2; return 1; }
}

# Sets `deb` to the file name, size and checksum of the package with the newest source.
find_source() {
  local package
  package=$(apt-cache --no-all-versions show linux-source 2>/dev/null |
    sed -n 's/^Depends: \(linux-source-[^ ,]*\).*/\1/p')
  if [[ -z $package ]] || ! deb=$(apt-get -qq download --print-uris "$package"); then
    die 'apt cannot provide linux-source; on Debian: sudo apt-get update' 3
  fi
  deb=${deb#* }
}

# Unpacks the source of the package $1 into $2.
unpack() {
  printf 'kernel.sh: downloading and unpacking %s\n' "$1" >&2
  mkdir -p "$tmp/deb" "$2"
  (cd "$tmp/deb" && apt-get -qq -o APT::Sandbox::User=root download "$1" >&2)
  dpkg-deb --fsys-tarfile "$tmp/deb"/*.deb | tar -xO --wildcards './usr/src/linux-source-*.tar.xz' |
    tar -xJ --strip-components=1 -C "$2"
  rm -r "$tmp/deb"
}

# Configures the source $1 in $2.
configure() {
  (make -s -C "$1" O="$2" tinyconfig && cd "$2" &&
    "$1/scripts/kconfig/merge_config.sh" -m -O . .config "${FRAGMENTS[@]}" &&
    make -s olddefconfig) >"$2/merged" 2>&1 || { cat "$2/merged" >&2; return 1; }
}

build() {
  local package=$1 out=$2 source=$tmp/source objects=$tmp/objects
  unpack "$package" "$source"
  mkdir -p "$objects" "$tmp/done"
  configure "$source" "$objects"
  held "$objects/.config" "${FRAGMENTS[@]}" >&2 ||
    die 'these options have dependencies that the fragments do not set, or have another name'
  printf 'kernel.sh: building the kernel, once, some minutes\n' >&2
  # The same bytes on any machine and day.
  export KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=hashcluster KBUILD_BUILD_HOST=hashcluster
  nice make -s -C "$objects" -j"$(nproc)" bzImage >&2
  cp "$objects/arch/x86/boot/bzImage" "$tmp/done/kernel"
  cp "$objects/arch/x86/boot/compressed/vmlinux.bin" "$tmp/done/vmlinux"
  cp "$objects/.config" "$tmp/done/config"
  make -s -C "$objects" kernelrelease >"$tmp/done/version"
  rm -rf "$out"
  mv "$tmp/done" "$out"
}

main() {
  local dry_run=no deb key
  case ${1:-} in
    '') ;;
    --dry-run) dry_run=yes ;;
    --held)
      (($# > 2)) || { usage >&2; exit 2; }
      held "${@:2}"
      return ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  [[ $(uname -m) == x86_64 ]] || die "the kernel is for x86-64, this host is $(uname -m)" 3
  find_source
  key=$(cat "${BASH_SOURCE[0]}" "${FRAGMENTS[@]}" - <<<"$deb" | sha256sum)
  key=$cache/${key:0:16}
  if [[ $dry_run == no && ! -e $key/kernel ]]; then
    "$here/host-packages.sh" kernel >&2
    mkdir -p "$cache"
    # One builder at a time; the next one finds it built.
    exec 9>"$cache/lock"
    flock 9
    rm -rf "$cache"/.tmp.*
    tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
    trap 'rm -rf -- "$tmp"' EXIT
    [[ -e $key/kernel ]] || build "${deb%%_*}" "$key" 9>&-
  fi
  printf '%s\n' "$key"
}

main "$@"
