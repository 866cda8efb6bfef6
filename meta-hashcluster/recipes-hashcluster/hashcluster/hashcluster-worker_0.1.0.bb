SUMMARY = "Computes digests for the controller"
DESCRIPTION = "The worker of hashcluster: SIMD kernels for SHA-2 and BLAKE3 behind one connection."

require hashcluster.inc
require hashcluster-worker-crates.inc
