SUMMARY = "Contents of hashcluster's images"
DESCRIPTION = "Packages common to both roles, and those of each role."

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
