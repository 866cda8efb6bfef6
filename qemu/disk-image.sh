#!/usr/bin/env bash
# Builds the disk of a device from a development image for x86-64: OUTDIR/disk.img, which boots by UEFI, and the two
# files of an update, OUTDIR/root.erofs and OUTDIR/boot.efi (usr/lib/hashcluster/update installs them).
# Needs no root. Equal inputs give equal bytes. docs/decisions/0031-updates-of-devices.md has the reasons.
#
# Usage: qemu/disk-image.sh VERSION IMAGE BINDIR OUTDIR
#   VERSION  a number; of several bootable versions the firmware's loader takes the highest
#   IMAGE    the directory of a development image; BINDIR has hashcluster-worker and hashctl
# Partitions: EFI system, root-a, root-b (of which one has a root, which is never written), state (ext4).
# Exit status: 3 if the host lacks something (stderr says what to do), 1 on other errors.
set -euo pipefail
export LC_ALL=C
umask 022

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
readonly here
readonly LOADER=/usr/lib/systemd/boot/efi
# In MiB. The EFI system partition has room for three versions.
readonly ESP_MIB=96 ROOT_MIB=48 STATE_MIB=128
# The same on all disks, as firmware and initrd find partitions by their type and name.
readonly UUID=0b2fb3e0-5d9c-4d0e-9f0e-6861736863

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }

die() {
  printf 'disk-image.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

# Makes root.erofs: controller, worker and client on one device.
make_root() {
  local root=$tmp/tree
  mkdir "$root"
  (cd "$root" && lz4 -dcq "$image/initrd.controller" | cpio -id --quiet --no-preserve-owner)
  cp "$bin/hashcluster-worker" "$bin/hashctl" "$root/usr/bin/"
  cp -R "$image/device/." "$root/"
  depmod -b "$root" "$(sed -n 's/^kernel //p' "$image/image.txt")" 2>/dev/null
  find "$root/usr/lib/modules" -name 'modules.*' ! -name modules.dep ! -name modules.builtin -delete
  sed '/^#/d' "$here/device-modules" >"$root/etc/modules.device"
  mkdir -p "$root"/{dev,proc,sys,run,tmp,data,var/lib/hashcluster,etc/hashcluster}
  echo device >"$root/etc/hashcluster/role"
  echo "$version" >"$root/etc/hashcluster/version"
  chmod -R u=rwX,go=rX "$root"
  chmod 0600 "$root/etc/shadow"
  mkfs.erofs --quiet -T 1 -U "${UUID}00" --force-uid=0 --force-gid=0 "$out/root.erofs" "$root" >/dev/null
}

# Makes an initrd that finds the root.
make_initrd() {
  local initrd=$tmp/initrd
  mkdir -p "$initrd"/{bin,dev,proc,sys,sysroot,usr/lib}
  cp "$tmp/tree/usr/bin/busybox" "$initrd/bin/"
  ln -s busybox "$initrd/bin/sh"
  ln -s usr/lib "$initrd/lib"
  [[ ! -d $tmp/tree/usr/lib/modules ]] || cp -R "$tmp/tree/usr/lib/modules" "$initrd/usr/lib/"
  cp "$here/disk-init" "$initrd/init"
  find "$initrd" -exec touch -h -d @1 {} +
  (cd "$initrd" && find . -mindepth 1 -print0 | sort -z |
    cpio -0 -o -H newc --owner=+0:+0 --reproducible --quiet) | lz4 -l -9 -q >"$tmp/initrd.lz4"
}

# Makes boot.efi, a unified kernel image: kernel, initrd, and the digest of the one root that it boots.
make_boot() {
  local sum
  sum=$(sha256sum <"$out/root.erofs")
  printf 'console=ttyS0 quiet panic=1 no_timer_check cryptomgr.notests lsm=landlock,yama ipv6.disable=1 %s %s' \
    "hashcluster.root=${sum%% *}:$(stat -c %s "$out/root.erofs")" "hashcluster.version=$version" >"$tmp/cmdline"
  printf 'ID=hashcluster\nPRETTY_NAME=hashcluster\nVERSION_ID=%s\n' "$version" >"$tmp/os-release"
  # The addresses of sections do not overlap: a kernel has 16 MiB.
  [[ -n $(find "$image/kernel" -size -16384k) ]] || die "$image/kernel is too large"
  objcopy --preserve-dates \
    --add-section .osrel="$tmp/os-release" --change-section-vma .osrel=0x20000 \
    --add-section .cmdline="$tmp/cmdline" --change-section-vma .cmdline=0x30000 \
    --add-section .linux="$image/kernel" --change-section-vma .linux=0x2000000 \
    --add-section .initrd="$tmp/initrd.lz4" --change-section-vma .initrd=0x3000000 \
    "$LOADER/linuxx64.efi.stub" "$out/boot.efi"
}

# Copies the file $1 to the start of the partition at $2 MiB of the disk.
put() { dd if="$1" of="$tmp/disk.img" bs=1M seek="$2" conv=notrunc,sparse status=none; }

make_disk() {
  local esp=$tmp/esp.img
  [[ -n $(find "$out/root.erofs" -size "-$((ROOT_MIB * 1024))k") ]] || die 'the root is too large for its partition'
  truncate -s "$((1 + ESP_MIB + 2 * ROOT_MIB + STATE_MIB + 1))M" "$tmp/disk.img"
  sfdisk --quiet "$tmp/disk.img" <<EOF
label: gpt
label-id: ${UUID}10
start=1MiB, size=${ESP_MIB}MiB, type=uefi, name=esp, uuid=${UUID}11
size=${ROOT_MIB}MiB, type=linux, name=root-a, uuid=${UUID}12
size=${ROOT_MIB}MiB, type=linux, name=root-b, uuid=${UUID}13
size=${STATE_MIB}MiB, type=linux, name=state, uuid=${UUID}14
EOF
  truncate -s "${ESP_MIB}M" "$esp"
  mkfs.vfat -F 32 -n ESP --invariant "$esp" >/dev/null
  printf 'timeout 0\n' >"$tmp/loader.conf"
  touch -d @315532800 "$tmp/loader.conf" "$out/boot.efi"
  mmd -i "$esp" ::EFI ::EFI/BOOT ::EFI/Linux ::loader
  mcopy -m -i "$esp" "$LOADER/systemd-bootx64.efi" ::EFI/BOOT/BOOTX64.EFI
  mcopy -m -i "$esp" "$tmp/loader.conf" ::loader/loader.conf
  mcopy -m -i "$esp" "$out/boot.efi" "::EFI/Linux/hashcluster-$version.efi"
  put "$esp" 1
  put "$out/root.erofs" "$((1 + ESP_MIB))"
  truncate -s "${STATE_MIB}M" "$tmp/state.img"
  mkfs.ext4 -q -L state -U "${UUID}20" -E "hash_seed=${UUID}21,lazy_itable_init=0" "$tmp/state.img"
  put "$tmp/state.img" "$((1 + ESP_MIB + 2 * ROOT_MIB))"
  mv "$tmp/disk.img" "$out/disk.img"
}

main() {
  [[ ${1:-} != -h && ${1:-} != --help ]] || { usage; exit 0; }
  (($# == 4)) || { usage >&2; exit 2; }
  version=$1
  # Absolute, for what runs in another directory.
  image=$(readlink -f -- "$2") bin=$(readlink -f -- "$3") out=$(readlink -m -- "$4")
  [[ $version =~ ^[1-9][0-9]{0,8}$ ]] || die "VERSION is a number, not $version"
  [[ -r $image/initrd.controller ]] || die "$image is not the directory of a development image"
  PATH=$PATH:/usr/sbin:/sbin
  "$here/host-packages.sh" disk >&2
  # The times that file systems have in them.
  export SOURCE_DATE_EPOCH=315532800 E2FSPROGS_FAKE_TIME=315532800
  mkdir -p "$out"
  tmp=$(mktemp -d "$out/.disk.XXXXXX")
  trap 'rm -rf -- "$tmp"' EXIT
  make_root
  make_initrd
  make_boot
  make_disk
}

main "$@"
