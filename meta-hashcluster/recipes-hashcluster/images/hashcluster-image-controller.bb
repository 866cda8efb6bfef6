SUMMARY = "Image of a controller"
DESCRIPTION = "Kernel and root of a VM or device that hands out hash tasks."

HASHCLUSTER_ROLE = "controller"

require hashcluster-image.inc
