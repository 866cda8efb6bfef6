"""Parses every recipe of the layer with bitbake's parser, and prints the faults found.

Usage: layer.py TREE   (a directory with meta-hashcluster and the sources that it builds)
"""

import hashlib
import pathlib
import re
import sys
import tempfile

import bitbake_stubs

DISTRO = "hashcluster"
NEEDS_DISTRO = f'it needs DISTRO = "{DISTRO}"'
REQUIRED = ("SUMMARY", "DESCRIPTION", "LICENSE")

# Variables that an append may set unconditionally, as they only name places to look for files.
MAY_CHANGE = {"FILESEXTRAPATHS", "FILESPATH"}


def recipe_faults(bb, recipe, data, tree):
    """Faults of a recipe that was parsed for our distro."""
    if data.getVar("__SKIPPED"):
        return [f"{recipe.name}: is skipped: {data.getVar('__SKIPPED')}"]
    faults = [f"{recipe.name}: has no {name}" for name in REQUIRED if not data.getVar(name)]
    urls = (data.getVar("SRC_URI") or "").split()
    local = bb.fetch2.Fetch([url for url in urls if url.startswith("file://")], data, cache=False)
    for url in local.urls:
        if not pathlib.Path(local.localpath(url)).exists():
            faults.append(f"{recipe.name}: {url.split(';')[0]} does not exist")
    for url in (data.getVar("LIC_FILES_CHKSUM") or "").split():
        name, md5 = re.fullmatch(r"file://([^;]+);md5=([0-9a-f]{32})", url).groups()
        licence = pathlib.Path(tree, name)
        if licence.exists() and hashlib.md5(licence.read_bytes()).hexdigest() != md5:
            faults.append(f"{recipe.name}: LIC_FILES_CHKSUM of {name} differs from the file")
    return faults


def values(data):
    """The value of every variable, unexpanded: anonymous functions and operators have been applied."""
    return {name: data.getVar(name, False) for name in data.keys() if not name.startswith("__")}


def append_faults(builder, append, stub):
    """Variables that an append changes without our distro."""
    parse = lambda appends: values(builder.parseRecipe(str(stub), appends, "core"))
    without, with_it = parse([]), parse([str(append)])
    names = without.keys() | with_it.keys()
    changed = {name for name in names if without.get(name) != with_it.get(name)} - MAY_CHANGE
    changed = {name for name in changed if ":" not in name and not name.startswith("BB")}
    return [f"{append.name}: changes {name} without DISTRO = \"{DISTRO}\"" for name in sorted(changed)]


def main(bb, tree):
    """Prints the faults; exits with 1 if there are any."""
    layer = pathlib.Path(tree, "meta-hashcluster").resolve()
    recipes = sorted(layer.glob("recipes-*/*/*.bb"))
    appends = sorted(layer.glob("recipes-*/*/*.bbappend"))
    if not recipes or not appends:
        sys.exit(f"layer: no recipes in {layer}")
    faults = []
    with tempfile.TemporaryDirectory(prefix="hashcluster-yocto-") as work:
        builder = bitbake_stubs.configuration(bb, work, layer, DISTRO)
        stubs = {}
        for append in appends:
            stub = pathlib.Path(work, "core/recipes", append.name.replace("%.bbappend", "1.bb"))
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text('SUMMARY = "stub"\n', encoding="utf-8")
            stubs[append] = stub
            # It must parse without an error for our distro, too.
            builder.parseRecipe(str(stub), [str(append)], "core")
        for recipe in recipes:
            data = builder.parseRecipe(str(recipe), [], "hashcluster")
            faults += recipe_faults(bb, recipe, data, tree)
        builder = bitbake_stubs.configuration(bb, work, layer, "nodistro")
        for append, stub in stubs.items():
            faults += append_faults(builder, append, stub)
        for recipe in recipes:
            skipped = builder.parseRecipe(str(recipe), [], "hashcluster").getVar("__SKIPPED")
            if skipped and skipped != NEEDS_DISTRO:
                faults.append(f"{recipe.name}: is skipped: {skipped}")
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"{len(recipes)} recipes and {len(appends)} appends parsed")


if __name__ == "__main__":
    bitbake = bitbake_stubs.import_bb()
    try:
        main(bitbake, pathlib.Path(sys.argv[1]).resolve())
    except bitbake.BBHandledException:
        sys.exit(1)
