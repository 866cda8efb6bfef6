SUMMARY = "The host's C library and others, as the target's"
LICENSE = "LGPL-2.1-or-later & GPL-2.0-only & BSD-3-Clause & Zlib"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/LGPL-2.1-or-later;md5=2a4f4fd2128ea2f65047ee63fbca9f68"

INHIBIT_DEFAULT_DEPS = "1"
DEPENDS = "virtual/cross-binutils"

# Compilers find headers and libraries where the host has them.
# run-postinsts, which no final image has, requires util-linux-flock.
PROVIDES += "\
    nativesdk-glibc-locale e2fsprogs libgcc libstd-rs libxcrypt \
    virtual/compilerlibs virtual/cross-c++ virtual/cross-cc virtual/crypt \
    virtual/libc virtual/libiconv virtual/libintl virtual/update-alternatives zlib \
"
RPROVIDES:${PN} = "util-linux-flock"

do_fetch[noexec] = "1"
do_unpack[noexec] = "1"
do_patch[noexec] = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${base_libdir} ${D}${base_sbindir}
    for name in ld-linux-x86-64.so.2 libc.so.6 libcrypt.so.1 libm.so.6 libresolv.so.2 libz.so.1 \
        libblkid.so.1 libcom_err.so.2 libe2p.so.2 libext2fs.so.2 libuuid.so.1; do
        install -m 0755 $(readlink -f /lib/x86_64-linux-gnu/$name) ${D}${base_libdir}/$name
    done
    ln -s usr/lib ${D}/lib64
    install -m 0755 /usr/sbin/e2fsck ${D}${base_sbindir}/
}

PACKAGES = "${PN}-e2fs ${PN} e2fsprogs-e2fsck update-alternatives-host"
FILES:e2fsprogs-e2fsck = "${base_sbindir}/e2fsck"
FILES:${PN}-e2fs = "${@' '.join('${base_libdir}/lib%s.so.*' % name for name in ('blkid', 'com_err', 'e2p', 'ext2fs', 'uuid'))}"
FILES:${PN} = "${base_libdir}/* /lib64"
ALLOW_EMPTY:update-alternatives-host = "1"

INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"
# Debian's files: stripped, in Debian's directories, with Debian's build flags.
INSANE_SKIP:${PN} = "already-stripped ldflags libdir usrmerge"
INSANE_SKIP:${PN}-e2fs = "already-stripped ldflags"
INSANE_SKIP:e2fsprogs-e2fsck = "already-stripped ldflags"
