SUMMARY = "Hands out hash tasks to workers"
DESCRIPTION = "The controller of hashcluster: accepts jobs of clients, leases them to workers, computes no digest."

require hashcluster.inc
require hashcluster-controller-crates.inc
