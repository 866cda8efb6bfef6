#!/usr/bin/env bash
# Writes the program that gives a VM's sign of life (see rootfs/init) to stdout: 155 bytes of static
# ELF for x86-64, so that no image needs an assembler. BusyBox could reach the port only through
# /dev/port, which Debian's kernel lacks.
# Usage: qemu/debug-exit.sh > FILE
set -euo pipefail

usage() { sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"; }

# Prints hexadecimal bytes; an argument may have several.
bytes() {
  local byte
  # shellcheck disable=SC2068 # split on purpose
  for byte in $@; do
    printf '%b' "\\x$byte"
  done
}

elf_header() {
  bytes '7f 45 4c 46  02 01 01 00  00 00 00 00  00 00 00 00' # magic, 64 bits, little-endian
  bytes '02 00  3e 00  01 00 00 00'                          # executable, x86-64, version
  bytes '78 00 40 00 00 00 00 00'                            # entry: after both headers
  bytes '40 00 00 00 00 00 00 00'                            # the program header's offset
  bytes '00 00 00 00 00 00 00 00  00 00 00 00'               # no sections, no flags
  bytes '40 00  38 00  01 00  00 00  00 00  00 00'           # sizes and counts of headers
}

# One segment: all 155 bytes (9b) at 0x400000, readable and executable.
program_header() {
  bytes '01 00 00 00  05 00 00 00  00 00 00 00 00 00 00 00'
  bytes '00 00 40 00 00 00 00 00  00 00 40 00 00 00 00 00'
  bytes '9b 00 00 00 00 00 00 00  9b 00 00 00 00 00 00 00  00 10 00 00 00 00 00 00'
}

code() {
  bytes 'b8 ad 00 00 00' # mov eax, 173   ioperm
  bytes 'bf f4 00 00 00' # mov edi, 0xf4
  bytes 'be 01 00 00 00' # mov esi, 1
  bytes 'ba 01 00 00 00' # mov edx, 1
  bytes '0f 05'          # syscall
  bytes 'b0 10'          # mov al, 16
  bytes 'e6 f4'          # out 0xf4, al   QEMU ends with status 33
  bytes 'b8 3c 00 00 00' # mov eax, 60    exit
  bytes '31 ff'          # xor edi, edi
  bytes '0f 05'          # syscall
}

main() {
  case ${1:-} in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  elf_header
  program_header
  code
}

main "$@"
