SUMMARY = "Build tools, provided by the host's programs"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

inherit native

SRC_URI = "\
    file://apt.conf.sample \
    file://dpkg \
    file://merge_config \
    file://update-alternatives \
"
S = "${UNPACKDIR}"

INHIBIT_DEFAULT_DEPS = "1"
PATCHDEPENDENCY = ""

# Not ASSUME_PROVIDED: tasks that are restored from elsewhere depend on some of them.
PROVIDES += "\
    apt-native autoconf-archive-native autoconf-native automake-native cross-localedef-native ncurses-native cargo-native cpio-native \
    depmodwrapper-cross dpkg-native dwarfsrcfiles-native file-replacement-native gettext-native \
    gnu-config-native kern-tools-native libtool-cross libtool-native m4-native opkg-utils-native \
    patch-replacement-native pigz-native pkgconfig-native pseudo-native python3-native quilt-native \
    rpm-native rust-native unzip-native update-rc.d-native \
    virtual/cross-binutils virtual/fakeroot-native \
    virtual/update-alternatives-native xz-native zstd-native \
"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir} ${D}${sysconfdir}/apt
    install -m 0755 dpkg update-alternatives ${D}${bindir}/
    install -m 0755 merge_config ${D}${bindir}/merge_config.sh
    for name in dwarfsrcfiles update-rc.d depmodwrapper; do
        printf '#!/bin/sh\n' >${D}${bindir}/$name
        chmod 0755 ${D}${bindir}/$name
    done
    install -d ${D}${bindir}/python3-native
    ln -s /usr/bin/python3 ${D}${bindir}/python3-native/python3
    sed 's|@BIN@|${STAGING_BINDIR_NATIVE}|' apt.conf.sample >${D}${sysconfdir}/apt/apt.conf.sample
}
