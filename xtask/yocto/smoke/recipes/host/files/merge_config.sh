#!/bin/sh
# merge_config.sh -m CONFIG FRAGMENT…: of options that are set twice, Kconfig takes the last.
set -eu
test "$1" = -m
shift
base=$1
shift
cat "$base" "$@" >.config.merged
mv .config.merged .config
