#!/usr/bin/env bash
# Prints the directory of the release binaries, and builds first what is not up to date.
# Without cargo or a linker it prints the directory of what was built before.
# Usage: scripts/bin-dir.sh [--no-build]
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
binaries=(hashcluster-controller hashcluster-worker hashctl hashcluster-vm)

usage() { sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"; }

fail() {
  printf '%s\n' "$@" >&2
  exit 3
}

# The directory in which all were built before.
built() {
  local dir name found
  for dir in "${CARGO_TARGET_DIR:-$root/target}"/*/release; do
    found=$dir
    for name in "${binaries[@]}"; do
      [[ -x $dir/$name ]] || found=
    done
    # A build for another machine does not run here.
    if [[ -n $found ]] && "$found/hashcluster-vm" --version >/dev/null 2>&1; then
      printf '%s\n' "$found"
      return 0
    fi
  done
  return 1
}

main() {
  local may_build=yes
  case ${1:-} in
    '') ;;
    --no-build) may_build=no ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  if ! command -v cargo >/dev/null && [[ -x ${HOME:-}/.cargo/bin/cargo ]]; then
    PATH=$HOME/.cargo/bin:$PATH
  fi
  if [[ $may_build == yes ]] && command -v cargo >/dev/null && command -v cc >/dev/null; then
    # Cargo takes its configuration from the directory that it is started in.
    (cd -- "$root" && cargo run --quiet --package xtask -- build) | tail -n 1
    return
  fi
  built && return
  [[ $may_build == yes ]] || fail 'nothing is built yet: cargo xtask build'
  command -v cargo >/dev/null || fail 'cargo is missing, Rust 1.94 or newer; install it with' \
    "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
  fail 'the linker cc is missing; install it with' \
    '    sudo apt-get update && sudo apt-get install -y gcc libc6-dev'
}

main "$@"
