SUMMARY = "Image of a worker"
DESCRIPTION = "Kernel and root of a VM or device that computes digests."

HASHCLUSTER_ROLE = "worker"

require hashcluster-image.inc
