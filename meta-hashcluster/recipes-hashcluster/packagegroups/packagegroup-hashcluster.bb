SUMMARY = "What hashcluster's images hold"
DESCRIPTION = "What VMs and devices of either role have in common, and what each has beside it."

LICENSE = "MIT"

inherit hashcluster_distro packagegroup

PACKAGES = "${PN}-base ${PN}-controller ${PN}-worker"

RDEPENDS:${PN}-base = "\
    busybox \
    busybox-syslog \
    dropbear \
    hashcluster-base-files \
    hashcluster-conf \
"

RDEPENDS:${PN}-controller = "${PN}-base e2fsprogs-e2fsck hashcluster-controller"
RDEPENDS:${PN}-worker = "${PN}-base hashcluster-worker"
