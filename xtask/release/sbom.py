"""Writes an SBOM beside each program, in CycloneDX 1.6: `PROGRAM.cdx.json`.

Usage: sbom.py TREE DIR TARGET PROGRAM...
It lists the crates that PROGRAM is linked with on TARGET, as cargo resolves them, with the checksums
of Cargo.lock. The same program has the same SBOM: there is no time and no random number in it.
"""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tomllib


def resolved(tree, target):
    """Packages by id, and the ids of those that each is linked with on `target`."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version=1"]
    command += [f"--filter-platform={target}"]
    said = json.loads(subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in said["packages"]}

    def is_linked(dependency):
        kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
        targets = packages[dependency["pkg"]]["targets"]
        return None in kinds and not any("proc-macro" in target["kind"] for target in targets)

    nodes = said["resolve"]["nodes"]
    edges = {node["id"]: [d["pkg"] for d in node["deps"] if is_linked(d)] for node in nodes}
    return packages, edges


def reachable(start, edges):
    """Ids that `start` leads to, itself included."""
    found, waiting = set(), [start]
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.add(package)
            waiting += edges[package]
    return found


def purl(package):
    """The package's URL; the version's `+` has another meaning in one."""
    return f"pkg:cargo/{package['name']}@{package['version']}".replace("+", "%2B")


def component(package, checksums):
    """A crate as CycloneDX describes a library."""
    name, version = package["name"], package["version"]
    described = {"type": "library", "bom-ref": purl(package), "name": name, "version": version}
    described["purl"] = purl(package)
    if package["license"]:
        expression = package["license"].replace("/", " OR ")
        described["licenses"] = [{"expression": expression}]
    if (name, version) in checksums:
        described["hashes"] = [{"alg": "SHA-256", "content": checksums[name, version]}]
    return described


def sbom(program, digest, packages, edges, checksums):
    """The SBOM of a program whose SHA-256 is `digest`."""
    (start,) = (key for key, package in packages.items() if package["name"] == program)
    linked = sorted(reachable(start, edges), key=lambda key: purl(packages[key]))
    subject = component(packages[start], {}) | {"type": "application"}
    subject["hashes"] = [{"alg": "SHA-256", "content": digest}]
    others = [component(packages[key], checksums) for key in linked if key != start]
    graph = [
        {"ref": purl(packages[key]), "dependsOn": sorted(purl(packages[to]) for to in edges[key])}
        for key in linked
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": others,
        "dependencies": graph,
    }


def locked_checksums(tree):
    """Checksums of Cargo.lock, by name and version."""
    lock = tomllib.loads((tree / "Cargo.lock").read_text(encoding="utf-8"))
    return {(p["name"], p["version"]): p["checksum"] for p in lock["package"] if "checksum" in p}


def digest_of(path):
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(tree, directory, target, *programs):
    """Writes the SBOM of each program in `directory`."""
    tree, directory = pathlib.Path(tree), pathlib.Path(directory)
    checksums = locked_checksums(tree)
    packages, edges = resolved(tree, target)
    for program in programs:
        document = sbom(program, digest_of(directory / program), packages, edges, checksums)
        path = directory / f"{program}.cdx.json"
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{path}: {len(document['components'])} crates")


if __name__ == "__main__":
    main(*sys.argv[1:])
