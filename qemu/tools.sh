#!/usr/bin/env bash
# Prints the paths of the daemons of VMs, and builds missing ones once.
#
# Usage: qemu/tools.sh [--dry-run] [vhost-device-vsock]
#   stdout: `vhost-device-vsock PATH`, `virtiofsd PATH`, `virtiofsd-kind c|rust`; with a name only the first
#   --dry-run builds nothing, and prints what it would build to stderr
#
# virtiofsd-kind: c is QEMU's own up to 7.2 (`-o source=…`), rust its successor (`--shared-dir …`).
# Builds are in $HASHCLUSTER_CACHE, else in hashcluster in $XDG_CACHE_HOME or ~/.cache.
# Exit status: 3 if the host lacks something (stderr says what to do), 1 on other errors.
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
cache=${HASHCLUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/hashcluster}/tools
readonly here cache
readonly VSOCK_VERSION=0.3.0 VIRTIOFSD_VERSION=1.14.0

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

note() { printf 'tools.sh: %s\n' "$1" >&2; }

die() {
  note "$1"
  exit "${2:-1}"
}

require_cargo() {
  if ! command -v cargo >/dev/null && [[ -x ${HOME:-}/.cargo/bin/cargo ]]; then
    PATH=$HOME/.cargo/bin:$PATH
  fi
  command -v cargo >/dev/null || die "building $1 needs cargo, Rust 1.94 or newer" 3
  command -v cc >/dev/null ||
    die "building $1 needs a linker; sudo apt-get update && sudo apt-get install -y gcc libc6-dev" 3
}

# Prints the path of $1 at version $2, built on the first call.
built() {
  local name=$1 version=$2 dir=$cache/$1-$2
  if [[ ! -x $dir/bin/$name ]]; then
    if [[ $dry_run == yes ]]; then
      note "would build $name $version into $dir"
      return 0
    fi
    require_cargo "$name"
    mkdir -p "$cache"
    # One builder at a time; the next one finds it built.
    exec 9>"$cache/lock"
    flock 9
    [[ -x $dir/bin/$name ]] || build "$name" "$version" "$dir"
    exec 9>&-
  fi
  printf '%s %s\n' "$name" "$dir/bin/$name"
}

build() {
  local name=$1 version=$2 dir=$3 tmp
  note "building $name $version, once, some minutes"
  tmp=$(mktemp -d "$cache/.build.XXXXXX")
  # shellcheck disable=SC2064 # this directory
  trap "rm -rf -- '$tmp'" EXIT
  # The caller's cargo configuration and target directory are not meant for this.
  (cd "$tmp" && env -u RUSTFLAGS -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$tmp/target" \
    cargo install --quiet --locked --root "$tmp/root" --version "$version" "$name") >&2 9>&- ||
    die "$name $version cannot be built, see above"
  rm -rf "$dir"
  mv "$tmp/root" "$dir"
  rm -rf "$tmp"
  trap - EXIT
}

vhost_device_vsock() {
  local path
  # As `cargo xtask install` puts it.
  local installed=${here%/share/hashcluster/qemu}/libexec/hashcluster/vhost-device-vsock
  if path=$(command -v vhost-device-vsock || command -v "$installed"); then
    printf 'vhost-device-vsock %s\n' "$path"
  else
    built vhost-device-vsock "$VSOCK_VERSION"
  fi
}

virtiofsd() {
  local path
  for path in /usr/libexec/virtiofsd /usr/lib/virtiofsd; do
    [[ -x $path ]] || continue
    printf 'virtiofsd %s\nvirtiofsd-kind rust\n' "$path"
    return
  done
  if [[ -x /usr/lib/qemu/virtiofsd ]]; then
    printf 'virtiofsd /usr/lib/qemu/virtiofsd\nvirtiofsd-kind c\n'
    return
  fi
  if [[ $dry_run == no && ! -x $cache/virtiofsd-$VIRTIOFSD_VERSION/bin/virtiofsd ]]; then
    [[ -e /usr/include/cap-ng.h && -e /usr/include/seccomp.h ]] ||
      die "there is no virtiofsd, and building it needs libcap-ng and libseccomp; $here/host-packages.sh" 3
  fi
  path=$(built virtiofsd "$VIRTIOFSD_VERSION")
  [[ -z $path ]] || printf '%s\nvirtiofsd-kind rust\n' "$path"
}

main() {
  dry_run=no
  if [[ ${1:-} == --dry-run ]]; then dry_run=yes; shift; fi
  case ${1:-} in
    '') vhost_device_vsock; virtiofsd ;;
    vhost-device-vsock) vhost_device_vsock ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
}

main "$@"
