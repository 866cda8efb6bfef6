SUMMARY = "Debian's kernel, as the development image has it"
LICENSE = "GPL-2.0-only"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/GPL-2.0-only;md5=801f80980d171dd6425610833a22dbe6"

inherit deploy

# Kernel, its version and the root with its modules.
HOST_KERNEL ?= "${TOPDIR}/kernel"

INHIBIT_DEFAULT_DEPS = "1"
PROVIDES += "virtual/kernel"
PACKAGE_ARCH = "${MACHINE_ARCH}"

do_fetch[noexec] = "1"
do_unpack[noexec] = "1"
do_patch[noexec] = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${nonarch_base_libdir}
    cd ${HOST_KERNEL}/root
    cp -R --no-preserve=ownership usr/lib/modules ${D}${nonarch_base_libdir}/
    # Debian's kernel has no /dev/port.
    install -D -m 0755 ${HOST_KERNEL}/debug-exit ${D}${nonarch_libdir}/hashcluster/debug-exit
}

do_deploy() {
    install -m 0644 ${HOST_KERNEL}/kernel ${DEPLOYDIR}/${KERNEL_IMAGETYPE}
}
addtask deploy after do_install before do_build

PACKAGES = "${PN}"
FILES:${PN} = "${nonarch_base_libdir}/modules ${nonarch_libdir}/hashcluster"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
# The program of 155 bytes has no sections.
INSANE_SKIP:${PN} = "arch already-stripped ldflags"
