"""Writes the SBOM of a development image, in CycloneDX 1.6: `IMAGE/image.cdx.json`.

Usage: image_sbom.py TREE IMAGE BINDIR TARGET PROGRAM...
It lists the Debian packages of `IMAGE/packages/`, as qemu/dev-image.sh leaves them there, the programs of BINDIR, and
the crates that these are linked with on TARGET. A package or crate without a licence is an error that names it. The
same image has the same SBOM: there is no time and no random number in it.
"""

import hashlib
import json
import pathlib
import re
import sys
import urllib.parse

import sbom

DEP5 = re.compile(r"Format: https?://\S*copyright-format/1\.0/?\s")
COMMON = re.compile(r"/usr/share/common-licenses/([A-Za-z0-9.+-]*[A-Za-z0-9])")

PROSE = re.compile(r"GNU\s+(Lesser\s+)?General\s+Public\s+License,?\s+version\s+(\d(?:\.\d)?)")


def fields(control):
    """Fields of a Debian control file that take one line."""
    lines = (line.partition(": ") for line in control.splitlines() if not line.startswith(" "))
    return {key: value.strip() for key, _, value in lines}


def licences(text):
    """Names of licences in a file `copyright`: the fields of a DEP-5 file, or those that a text names."""
    if DEP5.match(text):
        found = re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE)
    else:
        named = (("LGPL-" if lesser else "GPL-") + version for lesser, version in PROSE.findall(text))
        found = [*COMMON.findall(text), *named]
    return sorted({name.strip() for name in found})


def package(directory):
    """A Debian package as CycloneDX describes a library."""
    control = fields((directory / "control").read_text(encoding="utf-8"))
    text = directory / "copyright"
    names = licences(text.read_text(encoding="utf-8")) if text.exists() else []
    if not names:
        sys.exit(f"image_sbom.py: the package {directory.name} has no licence")
    name, version = control["Package"], control["Version"]
    quoted = urllib.parse.quote(version, safe="")
    purl = f"pkg:deb/debian/{name}@{quoted}?arch={control['Architecture']}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{"license": {"name": name}} for name in names],
        "hashes": [{"alg": "SHA-256", "content": control["Sha256"]}],
    }


def crates(tree, target, bin_dir, programs):
    """Programs and the crates that they are linked with, and what each of them depends on."""
    lock = sbom.locked_checksums(tree)
    packages, edges = sbom.resolved(tree, target)
    found, graph = {}, {}
    for program in programs:
        document = sbom.sbom(program, sbom.digest_of(bin_dir / program), packages, edges, lock)
        for component in [document["metadata"]["component"], *document["components"]]:
            if not component.get("licenses"):
                sys.exit(f"image_sbom.py: the crate {component['name']} has no licence")
            found[component["bom-ref"]] = component
        graph |= {entry["ref"]: entry for entry in document["dependencies"]}
    return [found[ref] for ref in sorted(found)], [graph[ref] for ref in sorted(graph)]


def main(tree, image, bin_dir, target, *programs):
    """Writes the SBOM of `image`."""
    tree, image, bin_dir = map(pathlib.Path, (tree, image, bin_dir))
    about = dict(line.split(" ", 1) for line in (image / "image.txt").read_text(encoding="utf-8").splitlines())
    debs = [package(directory) for directory in sorted((image / "packages").iterdir())]
    if not debs:
        sys.exit(f"image_sbom.py: {image / 'packages'} has no package")
    components, graph = crates(tree, target, bin_dir, programs)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "operating-system",
                "bom-ref": about["digest"],
                "name": f"hashcluster development image for {about['arch']}",
                "version": about["digest"],
            }
        },
        "components": debs + components,
        "dependencies": graph,
    }
    path = image / "image.cdx.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(debs)} packages, {len(components)} programs and crates")


if __name__ == "__main__":
    main(*sys.argv[1:])
