# The server only. Keys, addresses and limits are in its service, qemu/rootfs/etc/sv/dropbear.
SBINCOMMANDS:hashcluster = "dropbear"
BINCOMMANDS:hashcluster = ""

do_install:append:hashcluster() {
    rm -rf ${D}${sysconfdir}/default ${D}${sysconfdir}/init.d ${D}${sysconfdir}/dropbear
    # Without clients this directory is empty, and no package would own it.
    rmdir --ignore-fail-on-non-empty ${D}${bindir}
}
