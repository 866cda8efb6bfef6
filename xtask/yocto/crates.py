"""The recipes' lists of crates, each of which bitbake fetches by its checksum.

Usage: crates.py check|write TREE   (a directory with Cargo.lock and meta-hashcluster)

The list is all of Cargo.lock, because cargo resolves the whole workspace to build one package.
Licences, and the crates that a program is linked with, come from `cargo tree`; the SBOM takes them
from here.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

FOLDER = "meta-hashcluster/recipes-hashcluster/hashcluster"
PROGRAMS = ("hashcluster-controller", "hashcluster-worker", "hashctl")

# Of the images; crates of other systems are fetched but not linked.
TARGETS = ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl")

# The fetcher's name for the default registry.
REGISTRY = ".".join(("crates", "io"))

HEADER = "# Written from Cargo.lock and `cargo tree` by `cargo xtask yocto crates`.\n\n"


def crates(tree):
    """Packages of Cargo.lock from outside the workspace, by `NAME-VERSION`."""
    lock = tomllib.loads((tree / "Cargo.lock").read_text(encoding="utf-8"))
    found = {f"{p['name']}-{p['version']}": p for p in lock["package"] if "source" in p}
    for package in found.values():
        if not re.fullmatch("[0-9a-f]{64}", package.get("checksum", "")):
            sys.exit(f"Cargo.lock: {package['name']} has no SHA-256 checksum")
    return found


def licences(tree, *args):
    """The licence of each package `NAME-VERSION` in the output of `cargo tree`."""
    command = [os.environ.get("CARGO", "cargo"), "tree", "--locked", "--quiet", "--prefix=none"]
    command += ["--format={p}|{l}", *args]
    said = subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE, text=True).stdout
    # A package that was listed before ends in `(*)`; older manifests write `/`.
    lines = re.findall(r"^(\S+) v(\S+)[^|\n]*\|(.*?)(?: \(\*\))?$", said, re.MULTILINE)
    return {f"{name}-{version}": licence.replace("/", " OR ") for name, version, licence in lines}


def licences_of_all(tree):
    """The licence of each package of Cargo.lock, also of those that no feature in use needs."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version=1"]
    said = subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE, text=True).stdout
    packages = json.loads(said)["packages"]
    licences_by_key = {f"{p['name']}-{p['version']}": p["license"] or "" for p in packages}
    return {key: licence.replace("/", " OR ") for key, licence in licences_by_key.items()}


def linked(tree, program):
    """Packages linked into `program`, our own included; without macros and build scripts."""
    targets = [f"--target={target}" for target in TARGETS]
    return licences(tree, "--package", program, "--edges=normal,no-proc-macro", *targets)


def choices(expression):
    """The independent choices in an SPDX expression.

    >>> list(choices("(MIT OR Apache-2.0) AND Unicode-3.0"))
    [('Apache-2.0', 'MIT'), ('Unicode-3.0',)]
    >>> list(choices("CC0-1.0 OR Apache-2.0 WITH LLVM-exception"))
    [('CC0-1.0',)]
    >>> for text in ["", "MIT OR Apache-2.0 AND ISC", "((MIT))", "GPL-2.0 WITH x", "MIT, ISC"]:
    ...     try:
    ...         print(list(choices(text)))
    ...     except SystemExit as refused:
    ...         print(refused)
    unsupported licence expression ``
    unsupported licence expression `MIT OR Apache-2.0 AND ISC`
    unsupported licence expression `((MIT))`
    unsupported licence expression `GPL-2.0 WITH x`
    unsupported licence expression `MIT, ISC`
    """
    clauses = expression.split(" AND ")
    for clause in clauses:
        bare = re.fullmatch(r"\((.*)\)", clause)
        # AND binds tighter than OR.
        is_mixed = len(clauses) > 1 and not bare and " OR " in clause
        options = (bare[1] if bare else clause).split(" OR ")
        # bitbake knows no exceptions; where there is something else to choose, that is chosen.
        options = sorted({option for option in options if " WITH " not in option})
        if is_mixed or not options or not all(re.fullmatch(r"[A-Za-z0-9.+-]+", name) for name in options):
            sys.exit(f"unsupported licence expression `{expression}`")
        yield tuple(options)


def recipe_licence(expressions):
    """Terms under which all of these may be distributed together: each choice once, in order.

    >>> recipe_licence(["MIT", "MIT OR Apache-2.0", "Apache-2.0 OR MIT"])
    '(Apache-2.0 | MIT) & MIT'
    """
    found = sorted({choice for expression in expressions for choice in choices(expression)})
    return " & ".join(one[0] if len(one) == 1 else f"({' | '.join(one)})" for one in found)


def lists(tree):
    """File names and correct contents of the lists."""
    lock = crates(tree)
    of_all = licences_of_all(tree)
    text = f'{HEADER}SRC_URI += "\\\n'
    for crate in lock.values():
        text += f"    crate://{REGISTRY}/{crate['name']}/{crate['version']} \\\n"
    text += '"\n\n'
    for key, crate in lock.items():
        text += f'SRC_URI[{key}.sha256sum] = "{crate["checksum"]}"\n'
    text += '\nCRATE_LICENSES = "\\\n'
    for key, crate in lock.items():
        if not of_all.get(key):
            sys.exit(f"{crate['name']} {crate['version']} declares no licence")
        text += f"    {crate['name']} {crate['version']} {of_all[key]}; \\\n"
    yield "hashcluster-crates.inc", text + '"\n'
    for program in PROGRAMS:
        packages = linked(tree, program)
        text = f'{HEADER}LICENSE = "{recipe_licence(packages.values())}"\n\nCRATES_LINKED = "\\\n'
        text += "".join(f"    {key} \\\n" for key in lock if key in packages)
        yield f"{program}-crates.inc", text + '"\n'


def linked_lines(tree, program):
    """One line `NAME VERSION CHECKSUM LICENCE` per crate that `program` is linked with."""
    packages = linked(tree, program)
    return [
        f"{crate['name']} {crate['version']} {crate['checksum']} {packages[key]}"
        for key, crate in crates(tree).items()
        if key in packages
    ]


def check(tree):
    """Compares the lists with Cargo.lock, and the recipes' sources with the workspace's members."""
    for name, want in lists(tree):
        found, want = (tree / FOLDER / name).read_text(encoding="utf-8"), want.splitlines(True)
        for number, line in enumerate(found.splitlines(True)):
            if want[number : number + 1] != [line]:
                what = f"line {number + 1}, `{line.rstrip()}`, disagrees with Cargo.lock and `cargo tree`"
                sys.exit(f"{FOLDER}/{name}: {what}; run `cargo xtask yocto crates`")
        if found != "".join(want):
            sys.exit(f"{FOLDER}/{name}: is truncated; run `cargo xtask yocto crates`")
    files = (tree / FOLDER / "hashcluster.inc").read_text(encoding="utf-8").split()
    manifest = tomllib.loads((tree / "Cargo.toml").read_text(encoding="utf-8"))
    for member in manifest["workspace"]["members"]:
        if member.split("/")[0] not in files:
            what = f"HASHCLUSTER_FILES lacks {member}; without it cargo cannot read the workspace"
            sys.exit(f"{FOLDER}/hashcluster.inc: {what}")
    print(f"{len(crates(tree))} crates of Cargo.lock are in the lists, with their licences")


def write(tree):
    """Writes the lists."""
    for name, text in lists(tree):
        (tree / FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    {"check": check, "write": write}[sys.argv[1]](pathlib.Path(sys.argv[2]).resolve())
