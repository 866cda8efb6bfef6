#!/usr/bin/env bash
# Ensures that this host has the programs that VMs need. Silent if nothing is missing.
#
# Usage: qemu/host-packages.sh [kernel|arm64|disk]
#   kernel: instead the programs that build a kernel (qemu/kernel.sh); arm64: those for VMs of that kind;
#   disk: those that make and boot a disk (qemu/disk-image.sh)
#   As root on Debian it installs missing packages; otherwise it prints the command to do so.
# Exit status: 3 if something is missing and was not installed.
set -euo pipefail

# PROGRAM PACKAGE
readonly NEEDS='
qemu-system-x86_64 qemu-system-x86
mkfs.erofs erofs-utils
mkfs.ext4 e2fsprogs
cpio cpio
lz4 lz4
depmod kmod
modprobe kmod
dropbearkey dropbear-bin
ssh openssh-client
ssh-keygen openssh-client
flock util-linux
'

readonly NEEDS_KERNEL='
make make
cc gcc
flex flex
bison bison
bc bc
xz xz-utils
/usr/include/gelf.h libelf-dev
flock util-linux
'

readonly NEEDS_ARM64='
qemu-system-aarch64 qemu-system-arm
qemu-aarch64 qemu-user
aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
/usr/aarch64-linux-gnu/include/assert.h libc6-dev-arm64-cross
'

readonly NEEDS_DISK='
/usr/lib/systemd/boot/efi/linuxx64.efi.stub systemd-boot-efi
/usr/share/OVMF/OVMF_CODE_4M.fd ovmf
sfdisk fdisk
mkfs.vfat dosfstools
mcopy mtools
mkfs.erofs erofs-utils
mkfs.ext4 e2fsprogs
objcopy binutils
depmod kmod
cpio cpio
lz4 lz4
'

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

say() { printf 'host-packages.sh: %s\n' "$@" >&2; }

has_virtiofsd() {
  local path
  for path in /usr/libexec/virtiofsd /usr/lib/virtiofsd /usr/lib/qemu/virtiofsd; do
    [[ ! -x $path ]] || return 0
  done
  # If the release has no package, tools.sh builds it from these.
  [[ -e /usr/include/cap-ng.h && -e /usr/include/seccomp.h ]]
}

# Debian 12 has QEMU's own in qemu-system-common, newer releases a package of that name.
virtiofsd_packages() {
  if apt-cache show virtiofsd >/dev/null 2>&1; then
    echo virtiofsd
  elif [[ $(apt-cache policy qemu-system-common 2>/dev/null) == *'Candidate: 1:7.'* ]]; then
    echo qemu-system-common
  else
    printf '%s\n' libcap-ng-dev libseccomp-dev
  fi
}

# Sets `missing` (programs) and `packages`.
find_missing() {
  local program package
  missing=() packages=()
  while read -r program package; do
    [[ $program != /* || ! -e $program ]] || continue
    if [[ -n $program ]] && ! command -v "$program" >/dev/null; then
      missing+=("$program")
      packages+=("$package")
    fi
  done <<<"$needs"
  if [[ $needs == "$NEEDS" ]] && ! has_virtiofsd; then
    missing+=(virtiofsd)
    mapfile -t -O "${#packages[@]}" packages < <(virtiofsd_packages)
  fi
  mapfile -t packages < <(((${#packages[@]} == 0)) || printf '%s\n' "${packages[@]}" | sort -u)
}

main() {
  local needs=$NEEDS
  case ${1:-} in
    '') ;;
    kernel) needs=$NEEDS_KERNEL ;;
    arm64) needs=$NEEDS_ARM64 ;;
    disk) needs=$NEEDS_DISK ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  PATH=$PATH:/usr/sbin:/sbin
  find_missing
  ((${#missing[@]} > 0)) || exit 0
  if ! command -v apt-get >/dev/null; then
    say "missing: ${missing[*]}" "Debian's packages of them are ${packages[*]}"
    exit 3
  fi
  if ((EUID != 0)); then
    say "missing: ${missing[*]}; install them with" \
      "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}"
    exit 3
  fi
  say "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update >&2
  # Now that its lists are read, apt knows which package contains virtiofsd.
  find_missing
  apt-get -q install -y --no-install-recommends "${packages[@]}" >&2
  find_missing
  if ((${#missing[@]} > 0)); then
    say "still missing: ${missing[*]}"
    exit 3
  fi
}

main "$@"
