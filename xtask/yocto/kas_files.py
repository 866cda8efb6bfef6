"""Validates every kas file against kas' own schema, and lets kas merge each with the base file.

Usage: kas_files.py TREE   (a directory with kas/)
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import jsonschema
import kas
import kconfiglib
import yaml

BASE = "hashcluster.yml"
LOCK = "hashcluster.lock.yml"


def load(path):
    """Parses a kas file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def schema_faults(files):
    """Violations of the schema: misspelt keys, wrong types."""
    text = pathlib.Path(kas.__file__).with_name("schema-kas.json").read_text(encoding="utf-8")
    validator = jsonschema.Draft7Validator(json.loads(text))
    for path in files:
        for error in validator.iter_errors(load(path)):
            place = "/".join(map(str, error.absolute_path)) or "the file"
            yield f"{path.name}: {place}: {error.message}"


def block_faults(files):
    """Blocks of the same name in two files: one would silently replace the other."""
    seen = {}
    for path in files:
        for block in load(path).get("local_conf_header", {}):
            if block in seen:
                yield f"{path.name}: local_conf_header/{block} is also in {seen[block]}"
            seen[block] = path.name


def lock_faults(base, lock):
    """Repositories without a commit, and commits without a repository."""
    wanted = {name for name, repo in load(base)["repos"].items() if (repo or {}).get("url")}
    locked = load(lock)["overrides"]["repos"]
    for name in wanted ^ locked.keys():
        yield f"{lock.name}: {name}: is missing in {base.name} or {lock.name}"
    for name, repo in locked.items():
        if not re.fullmatch(r"[0-9a-f]{40}", str(repo.get("commit"))):
            yield f"{lock.name}: {name}: has no commit of 40 hexadecimal digits"


def included(menu):
    """The kas files selected in the menu, as `kas menu` collects them."""
    found = (menu.syms[name].str_value for name in menu.syms if name.startswith("KAS_INCLUDE_"))
    return [name for name in found if name]


def menu_faults(tree):
    """Menu choices that lead to a wrong or missing file, or an invalid menu."""
    try:
        menu = kconfiglib.Kconfig(str(tree / "kas/Kconfig"))
    except kconfiglib.KconfigError as error:
        yield f"Kconfig: {error}"
        return
    base = included(menu)
    if base != [f"kas/{BASE}"]:
        yield f"Kconfig: the default selection is {base}"
    for symbol in menu.unique_defined_syms:
        if symbol.orig_type != kconfiglib.BOOL or symbol.str_value == "y":
            continue
        symbol.set_value("y")
        want = f"kas/{symbol.name.lower().replace('_', '-')}.yml"
        if included(menu) != [*base, want]:
            yield f"Kconfig: {symbol.name} leads to {included(menu)[1:]} instead of {want}"
        elif not (tree / want).is_file():
            yield f"Kconfig: {symbol.name}: {want} does not exist"
        menu.unset_values()


def merge_faults(tree, files):
    """Errors of kas for each file after the base file, with directories in place of repositories."""
    with tempfile.TemporaryDirectory(prefix="hashcluster-kas-") as work:
        work = pathlib.Path(work)
        shutil.copytree(tree / "kas", work / "kas")
        (work / "kas" / LOCK).unlink()
        base = load(work / "kas" / BASE)
        for name, repo in base["repos"].items():
            if repo.get("url"):
                base["repos"][name] = {"path": repo["path"], "layers": repo["layers"]}
                (work / repo["path"]).mkdir(parents=True)
        (work / "kas" / BASE).write_text(yaml.safe_dump(base), encoding="utf-8")
        (work / "meta-hashcluster").mkdir()
        for path in files:
            chain = f"kas/{BASE}" if path.name == BASE else f"kas/{BASE}:kas/{path.name}"
            dump = subprocess.run(
                [sys.executable, "-m", "kas", "--log-level", "error", "dump", chain],
                cwd=work, capture_output=True, text=True, timeout=60, check=False,
            )
            if dump.returncode != 0:
                yield f"{path.name}: kas dump {chain}: {dump.stderr.strip()}"
                continue
            merged = yaml.safe_load(dump.stdout)
            for block in load(path).get("local_conf_header", {}):
                if block not in merged["local_conf_header"]:
                    yield f"{path.name}: local_conf_header/{block} is lost in {chain}"


def main(tree):
    """Prints the faults; exits with 1 if there are any."""
    files = sorted((tree / "kas").glob("*.yml"))
    if BASE not in [path.name for path in files]:
        sys.exit(f"kas: kas/{BASE} does not exist")
    faults = [*schema_faults(files)]
    if not faults:
        faults += block_faults(files)
        faults += lock_faults(tree / "kas" / BASE, tree / "kas" / LOCK)
        faults += menu_faults(tree)
    if not faults:
        faults += merge_faults(tree, [path for path in files if path.name != LOCK])
    for fault in faults:
        print(f"kas/{fault}", file=sys.stderr)
    if faults:
        sys.exit(1)
    print(f"{len(files)} kas files fit the schema and merge with kas/{BASE}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
