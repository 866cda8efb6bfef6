SUMMARY = "Settings of hashcluster's images"
DESCRIPTION = "Files of /etc/hashcluster, one per key; a key from the host by fw_cfg has precedence."
SECTION = "base"
LICENSE = "MIT"
# nooelint: oelint.var.licenseremotefile
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/files/common-licenses/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

inherit hashcluster_distro

# Installs the files that an append adds.
SRC_URI = "file://hostname"

S = "${UNPACKDIR}"

INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${sysconfdir}/hashcluster
    for key in ${@' '.join(url[len('file://'):].split(';')[0] for url in d.getVar('SRC_URI').split() if url.startswith('file://'))}; do
        install -m 0600 ${S}/$key ${D}${sysconfdir}/hashcluster/
    done
}

PACKAGES = "${PN}"
