SUMMARY = "Computes digests for the controller"
DESCRIPTION = "The worker of hashcluster: SIMD kernels for SHA-2 and BLAKE3 behind one connection."

require hashcluster.inc

# blake3 and constant_time_eq
LICENSE:append = " & (CC0-1.0 | Apache-2.0)"
