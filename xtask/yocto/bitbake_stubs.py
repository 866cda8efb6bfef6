"""Stubs with which bitbake's parser and fetcher read one layer without oe-core.

The package bitbake-setup has `bb` but not the two services that it imports. Of oe-core only what our
recipes use is here: variables and empty classes. So the real parser reads the layer's own text;
`cargo xtask yocto parse` reads it with oe-core.
"""

import logging
import os
import pathlib
import sys
import types

SERIES = "wrynose"

CLASSES = """
    base cargo core-image deploy image-artifact-names nopackages packagegroup ptest-cargo
""".split()

BITBAKE_CONF = """
MACHINE ?= "qemux86-64"
DISTRO ?= "nodistro"
TCLIBC ?= "musl"
include conf/distro/${DISTRO}.conf

DISTROOVERRIDES ?= "${DISTRO}"
OVERRIDES = "pn-${PN}:${DISTROOVERRIDES}:libc-${TCLIBC}"
FILE_DIRNAME = "${@os.path.dirname(d.getVar('FILE', False))}"
PN = "${@bb.parse.vars_from_file(d.getVar('FILE', False), d)[0] or 'none'}"
PV = "${@bb.parse.vars_from_file(d.getVar('FILE', False), d)[1] or '1.0'}"
BPN = "${PN}"
BP = "${BPN}-${PV}"
TMPDIR = "${TOPDIR}/tmp"
DL_DIR ?= "${TOPDIR}/downloads"
WORKDIR = "${TMPDIR}/recipes/${PN}"
UNPACKDIR = "${WORKDIR}/sources"
S = "${UNPACKDIR}/${BP}"
B = "${S}"
D = "${WORKDIR}/image"
COREBASE = "${TOPDIR}/core"
FILESEXTRAPATHS ?= "__default:"
FILESPATH = "${FILESEXTRAPATHS}:${FILE_DIRNAME}/${BP}:${FILE_DIRNAME}/${BPN}:${FILE_DIRNAME}/files"
PACKAGES = "${PN}"
SRC_URI = ""
"""


def import_bb():
    """Imports `bb`, with empty modules in place of the services."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in ("hashserv", "hashserv.client", "prserv", "prserv.serv"):
        sys.modules.setdefault(name, types.ModuleType(name))
    import bb  # pylint: disable=import-outside-toplevel
    import bb.cookerdata  # pylint: disable=import-outside-toplevel
    import bb.fetch2  # pylint: disable=import-outside-toplevel
    import bb.parse  # pylint: disable=import-outside-toplevel

    return bb


def configuration(bb, work, layer, distro):
    """Configures bitbake for `layer` on a stub of oe-core, in the directory `work`."""
    core = pathlib.Path(work, "core")
    for path, text in {
        core / "conf/layer.conf": (
            'BBPATH .= ":${LAYERDIR}"\nBBFILE_COLLECTIONS += "core"\n'
            f'LAYERSERIES_CORENAMES = "{SERIES}"\nLAYERSERIES_COMPAT_core = "{SERIES}"\n'
        ),
        core / "conf/bitbake.conf": f'DISTRO = "{distro}"\n{BITBAKE_CONF}',
        core.parent / "conf/bblayers.conf": f'BBPATH = "${{TOPDIR}}"\nBBLAYERS = "{core} {layer}"\n',
        **{core / f"classes/{name}.bbclass": "" for name in CLASSES},
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    os.environ["BBPATH"] = str(work)
    os.chdir(work)
    builder = bb.cookerdata.CookerDataBuilder(bb.cookerdata.CookerConfiguration())
    builder.parseBaseConfiguration()
    return builder
