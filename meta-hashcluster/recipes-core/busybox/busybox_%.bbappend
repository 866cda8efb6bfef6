FILESEXTRAPATHS:prepend:hashcluster := "${THISDIR}/${BPN}:"

SRC_URI:append:hashcluster = " file://hashcluster.cfg"

# One program without the setuid bit: nobody on a device becomes somebody else.
BUSYBOX_SPLIT_SUID:hashcluster = "0"

# Init scripts and tables come with hashcluster-base-files.
RDEPENDS:${PN}:remove:hashcluster = "busybox-inittab"
RRECOMMENDS:${PN}:remove:hashcluster = "${PN}-udhcpc"
do_install:append:hashcluster() {
    rm -rf ${D}${sysconfdir}/default ${D}${sysconfdir}/init.d ${D}${sysconfdir}/mdev* \
        ${D}${sysconfdir}/inetd.conf ${D}${sysconfdir}/syslog* ${D}${sysconfdir}/udhcpc.d \
        ${D}${datadir}/udhcpc
}
# Without its scripts it would be empty, but it holds the links to the programs.
ALLOW_EMPTY:${PN}-syslog:hashcluster = "1"
