# The host's gcc, under its own name.
inherit toolchain/gcc

TARGET_PREFIX = ""
TOOLCHAIN_OPTIONS = ""

PREFERRED_PROVIDER_virtual/${MLPREFIX}cross-cc = "host-libraries"
PREFERRED_PROVIDER_virtual/${MLPREFIX}cross-c++ = "host-libraries"
PREFERRED_PROVIDER_virtual/${MLPREFIX}compilerlibs = "host-libraries"

# An option that Debian 12's gcc does not have.
DEBUG_PREFIX_MAP_EXTRA = ""
