# Directories that apt's recipe would make and the host's apt needs.
DEB_PREPROCESS_COMMANDS += "make_apt_dirs"
make_apt_dirs() {
    mkdir -p ${APTCONF_TARGET}/apt/log ${APTCONF_TARGET}/apt/state \
        ${APTCONF_TARGET}/apt/cache/archives/partial
}
