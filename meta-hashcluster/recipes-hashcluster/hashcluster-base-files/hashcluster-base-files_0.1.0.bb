SUMMARY = "Root of hashcluster's images: init, services, users"
DESCRIPTION = "The files of qemu/rootfs. They replace base-files, base-passwd and other init scripts."
SECTION = "base"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=13d2ad3fbd58634d158639b9699b1981 \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
"

inherit hashcluster_distro

FILESEXTRAPATHS:prepend := "${HASHCLUSTER_TREE}:"
SRC_URI = "\
    file://LICENSE-APACHE;subdir=${BP} \
    file://LICENSE-MIT;subdir=${BP} \
    file://qemu/rootfs;subdir=${BP} \
"

INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

# git stores only the executable bit of a mode; the other bits depend on the umask of the clone.
do_install() {
    install -d ${D}
    cp -R ${S}/qemu/rootfs/. ${D}/
    for dir in dev proc sys run tmp data var/lib/hashcluster; do
        install -d ${D}/$dir
    done
    ln -s /run/service ${D}${sysconfdir}/service
    ln -s /run/service ${D}${localstatedir}/service
    chown -R root:root ${D}
    chmod -R u=rwX,go=rX ${D}
    chmod 0600 ${D}${sysconfdir}/shadow
}

PACKAGES = "${PN}"
FILES:${PN} += "/"
RDEPENDS:${PN} = "busybox busybox-syslog"
RCONFLICTS:${PN} = "base-files busybox-inittab"
