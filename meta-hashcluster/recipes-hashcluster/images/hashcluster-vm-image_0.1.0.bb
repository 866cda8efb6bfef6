SUMMARY = "Both images as run.sh boots them"
DESCRIPTION = "Kernel, one initrd per role, and image.txt, which identifies them."
LICENSE = "MIT"

SRC_URI = ""

inherit hashcluster_distro deploy image-artifact-names nopackages

INHIBIT_DEFAULT_DEPS = "1"
PACKAGE_ARCH = "${MACHINE_ARCH}"

do_fetch[noexec] = "1"
do_unpack[noexec] = "1"
do_patch[noexec] = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"
deltask do_populate_sysroot

# The same digest as that of qemu/dev-image.sh: over the bytes that VMs boot.
do_deploy() {
    install -m 0644 "${DEPLOY_DIR_IMAGE}/${KERNEL_IMAGETYPE}" ${DEPLOYDIR}/kernel
    for role in controller worker; do
        install -m 0644 "${DEPLOY_DIR_IMAGE}/hashcluster-image-$role-${MACHINE}${IMAGE_NAME_SUFFIX}.cpio.zst" \
            ${DEPLOYDIR}/initrd.$role
    done
    cd ${DEPLOYDIR}
    digest=$(cat kernel initrd.controller initrd.worker | sha256sum | cut -c 1-40)
    version=$(cat ${PKGDATA_DIR}/kernel-depmod/kernel-abiversion 2>/dev/null || echo unknown)
    printf '%s\n' "digest sha256:$digest" "kernel $version" 'arch ${TARGET_ARCH}' 'kind yocto' >image.txt
}
do_deploy[depends] += "\
    hashcluster-image-controller:do_image_complete \
    hashcluster-image-worker:do_image_complete \
    virtual/kernel:do_deploy \
    virtual/kernel:do_packagedata \
"
addtask deploy after do_install before do_build
