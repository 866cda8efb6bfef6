SUMMARY = "Hands out hash tasks to workers"
DESCRIPTION = "The controller of hashcluster: it listens to clients and workers, and computes no digest."

require hashcluster.inc
require hashcluster-controller-crates.inc
