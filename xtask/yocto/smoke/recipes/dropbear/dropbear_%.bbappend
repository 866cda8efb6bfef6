# The tarball has a configure script; the host's autoconf would need patches of oe-core to make one.
do_configure() {
    oe_runconf
}
