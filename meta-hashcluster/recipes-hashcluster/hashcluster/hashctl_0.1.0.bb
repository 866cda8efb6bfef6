SUMMARY = "Hash, check and watch from the command line"
DESCRIPTION = "The client of hashcluster: manifests as those of sha256sum and b3sum."

require hashcluster.inc
require hashctl-crates.inc
