"""Fetches the crates of the recipes with bitbake's fetcher, which compares their checksums.

Usage: fetch.py TREE DOWNLOADS
"""

import pathlib
import sys
import tempfile

import bitbake_stubs

RECIPE = "recipes-hashcluster/hashcluster/hashctl_*.bb"


def main(bb, tree, downloads):
    """Prints the first crate that cannot be fetched with its checksum, and exits with 1."""
    layer = pathlib.Path(tree, "meta-hashcluster")
    (recipe,) = layer.glob(RECIPE)
    with tempfile.TemporaryDirectory(prefix="hashcluster-yocto-") as work:
        data = bitbake_stubs.configuration(bb, work, layer, "hashcluster").parseRecipe(
            str(recipe), [], "hashcluster"
        )
        data.setVar("DL_DIR", str(downloads))
        data.setVar("BB_STRICT_CHECKSUM", "1")
        log = f"--append-output={work}/wget.log"
        data.setVar("FETCHCMD_wget", f"/usr/bin/env wget --tries=3 --timeout=60 {log}")
        crates = [url for url in data.getVar("SRC_URI").split() if url.startswith("crate://")]
        if not crates:
            sys.exit("fetch: the recipe lists no crate")
        # Its cache would return the checksums of an earlier run in this process.
        fetcher = bb.fetch2.Fetch(crates, data, cache=False)
        fetcher.download()
    print(f"{len(crates)} crates fetched, with the recipe's checksums")


if __name__ == "__main__":
    bitbake = bitbake_stubs.import_bb()
    downloads_dir = pathlib.Path(sys.argv[2]).resolve()
    downloads_dir.mkdir(parents=True, exist_ok=True)
    try:
        main(bitbake, pathlib.Path(sys.argv[1]).resolve(), downloads_dir)
    except (bitbake.BBHandledException, bitbake.fetch2.BBFetchException) as error:
        sys.exit(f"fetch: {error}")
