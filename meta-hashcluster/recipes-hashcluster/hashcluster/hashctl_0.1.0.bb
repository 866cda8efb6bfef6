SUMMARY = "Hash, check and watch from the command line"
DESCRIPTION = "The command line of hashcluster: manifests in the formats of sha256sum and b3sum."

require hashcluster.inc
require hashctl-crates.inc
