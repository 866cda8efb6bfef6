FILESEXTRAPATHS:prepend:hashcluster := "${THISDIR}/${BPN}:"

SRC_URI:append:hashcluster = " file://hashcluster-guest.cfg file://hashcluster-hardening.cfg"

# Without sound, displays, netfilter, an NFS server and sample modules.
KERNEL_EXTRA_FEATURES:hashcluster = ""
KERNEL_FEATURES:remove:hashcluster = "\
    cfg/net/mdio.scc \
    cfg/sound.scc \
    features/drm-bochs/drm-bochs.scc \
    features/kernel-sample/kernel-sample.scc \
    features/nfsd/nfsd-enable.scc \
"
