SUMMARY = "What hashcluster's images hold"

inherit hashcluster-distro packagegroup

PACKAGES = "${PN}-base ${PN}-controller ${PN}-worker"

SUMMARY:${PN}-base = "Init, settings, SSH and log"
RDEPENDS:${PN}-base = "\
    busybox \
    busybox-syslog \
    dropbear \
    hashcluster-base-files \
    hashcluster-conf \
"

SUMMARY:${PN}-controller = "A controller VM or device"
RDEPENDS:${PN}-controller = "${PN}-base e2fsprogs-e2fsck hashcluster-controller"

SUMMARY:${PN}-worker = "A worker VM or device"
RDEPENDS:${PN}-worker = "${PN}-base hashcluster-worker"
