FILESEXTRAPATHS:prepend:hashcluster := "${THISDIR}/${BPN}:"

SRC_URI:append:hashcluster = " file://hashcluster.cfg"

# One program without the setuid bit: no user of a device can become another.
BUSYBOX_SPLIT_SUID:hashcluster = "0"

# Init scripts and tables are in hashcluster-base-files.
RDEPENDS:${PN}:remove:hashcluster = "busybox-inittab"
RRECOMMENDS:${PN}:remove:hashcluster = "${PN}-udhcpc"
do_install:append:hashcluster() {
    rm -rf ${D}${sysconfdir}/default ${D}${sysconfdir}/init.d ${D}${sysconfdir}/mdev* \
        ${D}${sysconfdir}/inetd.conf ${D}${sysconfdir}/syslog* ${D}${sysconfdir}/udhcpc.d \
        ${D}${datadir}/udhcpc
}
# Without its scripts this package has no files, but it owns the links to the programs.
ALLOW_EMPTY:${PN}-syslog:hashcluster = "1"
