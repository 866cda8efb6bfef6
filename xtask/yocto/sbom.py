"""Compares an image's SBOM with the packages in the image and the crates in its program.

Usage: sbom.py SBOM MANIFEST PROGRAM <CRATES
SBOM is the SPDX 3 document of oe-core. MANIFEST has one line `NAME ARCHITECTURE VERSION-RELEASE` per
package, CRATES one line `NAME VERSION SHA256 LICENCE` per crate that PROGRAM is linked with.
"""

import json
import pathlib
import sys


class Sbom:
    """The elements of an SBOM and their relations."""

    def __init__(self, text):
        graph = json.loads(text)["@graph"]
        self.elements = {element["spdxId"]: element for element in graph if "spdxId" in element}
        self.relations = {}
        for element in graph:
            if "relationshipType" in element:
                key = element["from"], element["relationshipType"]
                self.relations.setdefault(key, []).extend(element["to"])

    def packages(self, purpose):
        """Packages with `purpose`, by name."""
        found = self.elements.values()
        return {
            element["name"]: element
            for element in found
            if element["type"] == "software_Package"
            and element.get("software_primaryPurpose") == purpose
        }

    def related(self, element, kind):
        """Elements to which `element` has a relation of this kind."""
        names = self.relations.get((element["spdxId"], kind), [])
        return [self.elements[name] for name in names if name in self.elements]

    def licences(self, element):
        """Licence expressions declared for `element`."""
        declared = self.related(element, "hasDeclaredLicense")
        return [licence["simplelicensing_licenseExpression"] for licence in declared]


def package_faults(sbom, manifest):
    """Packages of the image that the SBOM lacks, or has without their version or a licence."""
    known = sbom.packages("install")
    for line in manifest:
        name, _, version = line.split()
        if name not in known:
            yield f"the package {name} of the image is missing in the SBOM"
            continue
        if not version.startswith(known[name].get("software_packageVersion", "?") + "-"):
            yield f"{name} has version {version}, but {known[name].get('software_packageVersion')} in the SBOM"
        if len(sbom.licences(known[name])) != 1:
            yield f"{name} has no licence in the SBOM"


def crate_faults(sbom, program, crates):
    """Crates of `program` that the SBOM lacks or describes wrongly."""
    package = sbom.packages("install").get(program)
    linked = sbom.related(package, "hasStaticLink") if package else []
    linked = {crate["name"]: crate for crate in linked}
    for line in crates:
        name, version, sha256, licence = line.strip().split(" ", 3)
        crate = linked.pop(f"{name}-{version}.crate", None)
        if crate is None:
            yield f"{program} is linked with {name} {version}, which is missing in the SBOM"
            continue
        hashes = {entry["hashValue"] for entry in crate.get("verifiedUsing", [])}
        purl = f"pkg:cargo/{name}@{version}".replace("+", "%2B")
        if crate.get("software_packageVersion") != version or hashes != {sha256}:
            yield f"{name} {version} has another version or checksum in the SBOM"
        if crate.get("software_packageUrl") != purl:
            yield f"{name} {version} has not the purl {purl} in the SBOM"
        if sbom.licences(crate) != [licence]:
            yield f"{name} {version} has licence {licence}, but {sbom.licences(crate)} in the SBOM"
    for name in linked:
        yield f"the SBOM links {program} with {name}, but it is not linked"


def main(sbom, manifest, program, crates):
    """Prints the faults; exits with 1 if there are any."""
    sbom = Sbom(pathlib.Path(sbom).read_text(encoding="utf-8"))
    manifest = pathlib.Path(manifest).read_text(encoding="utf-8").splitlines()
    if not manifest or not crates:
        sys.exit("sbom: the list of packages or crates is empty")
    faults = [*package_faults(sbom, manifest), *crate_faults(sbom, program, crates)]
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"{len(manifest)} packages, and {len(crates)} crates in {program}, with their licences")


if __name__ == "__main__":
    main(*sys.argv[1:], sys.stdin.read().splitlines())
