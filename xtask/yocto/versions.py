"""Compares versions that are written in more than one place: of recipes and distro, and of Rust.

Usage: versions.py TREE   (a directory with Cargo.toml and meta-hashcluster)
"""

import pathlib
import re
import sys
import tomllib

# The Rust version of each supported release of oe-core.
RUST_OF = {"wrynose": "1.94.1"}

DISTRO = "meta-hashcluster/conf/distro/hashcluster.conf"
LAYER = "meta-hashcluster/conf/layer.conf"


def numbers(version):
    """A version in comparable form; what is no version is never old enough.

    >>> numbers("1.9") < numbers("1.10") and numbers("1.94") <= numbers("1.94.1") < numbers("1.95")
    True
    >>> numbers("1.x") > numbers("1.94.1")
    True
    """
    return [int(part) if part.isdigit() else sys.maxsize for part in version.split(".")]


def value(path, key):
    """The value of the first line `key = "…"` of a configuration file."""
    found = re.search(rf'^{key} = "([^"]*)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else sys.exit(f"{path}: no line `{key} = \"…\"`")


def main(tree):
    """Prints the first version that disagrees, and exits with 1."""
    package = tomllib.loads((tree / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]
    version, needs = package["version"], package["rust-version"]
    recipes = sorted((tree / "meta-hashcluster/recipes-hashcluster").glob("*/*.bb"))
    if not any(recipe.name.startswith("hashcluster-worker_") for recipe in recipes):
        sys.exit("versions: the worker has no recipe")
    for recipe in recipes:
        _, separator, own = recipe.stem.rpartition("_")
        if separator and own != version:
            sys.exit(f"{recipe.name} has version {own}, the workspace {version}")
    distro = value(tree / DISTRO, "DISTRO_VERSION")
    if distro != version:
        sys.exit(f"{DISTRO}: DISTRO_VERSION is {distro}, the workspace is {version}")
    for series in value(tree / LAYER, "LAYERSERIES_COMPAT_hashcluster").split():
        if series not in RUST_OF:
            sys.exit(f"{LAYER}: the Rust version of {series} is unknown")
        if numbers(needs) > numbers(RUST_OF[series]):
            sys.exit(f"Cargo.toml: rust-version is {needs}, but {series} has Rust {RUST_OF[series]}")
    print(f"{len(recipes)} recipes and the distro have version {version}, which needs Rust {needs}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
