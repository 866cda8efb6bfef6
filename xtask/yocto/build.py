"""Commands of oe-core and bitbake, in directories that the caller cloned: nothing is fetched here.

Usage: build.py parse|dry-run|smoke|layer-check OE_CORE BITBAKE WORK

bitbake refuses to run as root, so root runs it as a user created for it. `smoke` builds both images
with this host's compilers, C library and kernel, which would take oe-core a night: the layer
`xtask/yocto/smoke` substitutes them; BusyBox, dropbear and all of our recipes are real.
"""

import filecmp
import os
import pathlib
import pwd
import shutil
import subprocess
import sys

import crates
import promises
import sbom
import versions

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYER = ROOT / "meta-hashcluster"
USER = "hashcluster-build"
MACHINES = ("qemux86-64", "qemuarm64")
TARGETS = ("hashcluster-image-controller", "hashcluster-image-worker", "hashcluster-vm-image")

# Build directories with names of unequal length, so that a path in an image makes a difference.
SMOKE_BUILDS = ("smoke", "smoke-once-more")

# Source tarballs: Debian's package, the start of its version, Debian's name of the tarball, and the
# name in oe-core, which has the checksum.
SOURCES = (
    ("busybox", "1:1.37.0-", "busybox_1.37.0.orig.tar.bz2", "busybox-1.37.0.tar.bz2"),
    ("dropbear", "2025.89-", "dropbear_2025.89.orig.tar.bz2", "dropbear-2025.89.tar.bz2"),
)


def run(*words, **options):
    """The output of a command, which has to succeed."""
    options = {"check": True, "stdout": subprocess.PIPE, "text": True, **options}
    return subprocess.run([str(word) for word in words], **options).stdout


def write(path, text, mode=0o644):
    """Writes a file, and makes its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


class Site:
    """Directories of one build, and whether bitbake needs another user."""

    def __init__(self, oe_core, bitbake, work):
        self.oe_core, self.bitbake = pathlib.Path(oe_core).resolve(), pathlib.Path(bitbake).resolve()
        rust = f"meta/recipes-devtools/rust/rust_{versions.RUST_OF['wrynose']}.bb"
        for path in (
            self.bitbake / "bin/bitbake",
            self.oe_core / "meta/conf/bitbake.conf",
            self.oe_core / rust,
        ):
            if not path.is_file():
                sys.exit(f"{path} is missing; is it the right branch?")
        self.work = pathlib.Path(work).resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.is_root = os.geteuid() == 0
        if self.is_root:
            self.make_user()
        if "en_US.utf8" not in run("locale", "-a"):
            make = ("localedef", "-i", "en_US", "-f", "UTF-8", "en_US.UTF-8")
            if not self.is_root:
                sys.exit(f"the locale en_US.UTF-8 is missing; run `sudo {' '.join(make)}`")
            run(*make)

    def make_user(self):
        """Makes the user, who has to be able to read what bitbake reads."""
        if USER not in [entry.pw_name for entry in pwd.getpwall()]:
            run("useradd", "--system", "--user-group", USER)
        for path in (self.oe_core, self.bitbake, ROOT):
            if subprocess.run(["runuser", "-u", USER, "--", "test", "-r", path], check=False).returncode:
                sys.exit(f"the user {USER}, who runs bitbake for root, cannot read {path}")

    def give(self, path):
        """Makes the user who runs bitbake the owner of `path` and everything below it."""
        if self.is_root:
            run("chown", "-R", USER, path)

    def build_dir(self, name, machine, layers=(), more=""):
        """A build directory as kas makes it, with `layers` in addition to oe-core."""
        build = self.work / name
        layers = " ".join(map(str, (self.oe_core / "meta", *layers)))
        write(
            build / "conf/bblayers.conf",
            'LCONF_VERSION = "7"\nBBPATH = "${TOPDIR}"\nBBFILES ?= ""\n' f'BBLAYERS = "{layers}"\n',
        )
        write(
            build / "conf/local.conf",
            f'CONF_VERSION = "2"\nMACHINE = "{machine}"\nCONNECTIVITY_CHECK_URIS = ""\n'
            f'INHERIT_DISTRO:remove = "uninative"\nBB_SERVER_TIMEOUT = "0"\n{more}',
        )
        self.give(build)
        return build

    def bitbake_in(self, build, *args):
        """Runs bitbake to its end and returns its output."""
        return self.run_in(build, self.bitbake / "bin/bitbake", *args)

    def run_in(self, build, program, *args):
        """Runs a program of bitbake or oe-core, with those in `tools` of the build directory first in
        its path; exits unless it succeeds without a warning or error about our layer."""
        dirs = (build / "tools", self.oe_core / "scripts", self.bitbake / "bin")
        environment = {
            "HOME": str(build),
            "LANG": "en_US.UTF-8",
            "BUILDDIR": str(build),
            "PATH": ":".join(map(str, dirs)) + ":/usr/sbin:/usr/bin:/sbin:/bin",
            # The checkouts belong to the user who started us.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        words = ["runuser", "-u", USER, "--"] if self.is_root else []
        words += [program, *args]
        print(program.name, *args, "in", build, flush=True)
        log = build / "bitbake.log"
        with log.open("wb") as out:
            ended = subprocess.run(
                words, cwd=build, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, check=False,
            )
        said = log.read_text(encoding="utf-8", errors="replace")
        if faults := layer_faults(said):
            sys.exit("bitbake reports about this layer:\n  " + "\n  ".join(faults))
        if ended.returncode:
            print(*said.splitlines()[-20:], sep="\n", file=sys.stderr)
            sys.exit(f"{program.name} failed: exit status {ended.returncode}")
        return said


def layer_faults(said):
    """Warnings and errors about this layer.

    >>> layer_faults("NOTE: hashcluster\\nWARNING: glibc: x\\nWARNING: hashctl: hashcluster x\\n")
    ['WARNING: hashctl: hashcluster x']
    """
    faults = [line for line in said.splitlines() if "WARNING: " in line or "ERROR: " in line]
    return [line for line in faults if "hashcluster" in line]


def line_with(said, what):
    """The first line of an output that contains `what`."""
    return next((line for line in said.splitlines() if what in line), "done")


def parse(site):
    """Parses everything for both machines."""
    for machine in MACHINES:
        build = site.build_dir(machine, machine, [LAYER], 'DISTRO = "hashcluster"\n')
        print(f"{machine}: {line_with(site.bitbake_in(build, '-p'), 'Parsing of ')}")


def dry_run(site):
    """Plans the images for both machines."""
    # As kas/no-runqemu.yml: thousands of tasks of a native QEMU say nothing about this layer.
    conf = 'DISTRO = "hashcluster"\nIMAGE_CLASSES:remove = "qemuboot"\n'
    for machine in MACHINES:
        build = site.build_dir(machine, machine, [LAYER], conf)
        print(f"{machine}: {line_with(site.bitbake_in(build, '-n', *TARGETS), 'Tasks Summary')}")


def layer_check(site):
    """Checks that adding the layer without its distro changes no build."""
    build = site.build_dir("layer-check", MACHINES[0])
    said = site.run_in(build, site.oe_core / "scripts/yocto-check-layer", "-n", str(LAYER))
    passed = [line for line in said.splitlines() if line.endswith("meta-hashcluster ... PASS")]
    print(passed[0] if passed else sys.exit("yocto-check-layer ended without PASS"))


def smoke(site):
    """Builds both images twice, checks them, and compares them."""
    downloads = site.work / "downloads"
    find_sources(downloads)
    site.give(downloads)
    sysroot = readable_rust(site)
    conf = (
        f'DISTRO = "hashcluster"\nDL_DIR = "{downloads}"\n'
        'CORE_IMAGE_EXTRA_INSTALL = "host-kernel"\nrequire conf/smoke.conf\n'
    )
    images = []
    for name in SMOKE_BUILDS:
        build = site.build_dir(name, MACHINES[0], [LAYER, ROOT / "xtask/yocto/smoke"], conf)
        fill(build, sysroot)
        site.give(build)
        print(f"{name}: {line_with(site.bitbake_in(build, *TARGETS), 'Tasks Summary')}")
        images.append(build / "tmp/deploy/images" / MACHINES[0])
        check_promises(images[-1])
    for name in ("kernel", "initrd.controller", "initrd.worker"):
        if not filecmp.cmp(images[0] / name, images[1] / name, shallow=False):
            sys.exit(f"{name} differs between {images[0]} and {images[1]}")
    print(f"two builds are identical; boot one with\n    ./run.sh --image {images[0]}")


def find_sources(downloads):
    """Downloads the tarballs with a private apt configuration for newer releases."""
    if all((downloads / name).is_file() for *_, name in SOURCES):
        return
    apt = downloads / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    # The mirror that this host's apt uses.
    mirrors = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian").split()
    mirror = next((uri for uri in mirrors if uri.rstrip("/").endswith("/debian")), None)
    if not mirror:
        sys.exit("apt has no Debian mirror configured")
    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    suites = ("trixie", "forky", "sid")
    write(apt / "sources.list", "".join(f"deb-src {key} {mirror} {s} main\n" for s in suites))
    write(
        apt / "apt.conf",
        f'Dir::State::lists "{apt}/lists";\nDir::Cache "{apt}/cache";\n'
        f'Dir::Etc::sourcelist "{apt}/sources.list";\nDir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User "root";\n',
    )
    ours = {"cwd": apt, "env": {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}}
    run("apt-get", "-q", "update", **ours)
    for package, version, name, name_here in SOURCES:
        known = run("apt-cache", "-q", "showsrc", "--only-source", package, **ours).splitlines()
        fitting = [line[9:] for line in known if line.startswith(f"Version: {version}")]
        if not fitting:
            sys.exit(f"Debian no longer has the source of {package} {version}")
        source = f"{package}={fitting[-1]}"
        run("apt-get", "-q", "source", "--tar-only", "--download-only", source, **ours)
        (apt / name).rename(downloads / name_here)


def readable_rust(site):
    """The sysroot of this host's Rust, copied to where the user who runs bitbake can read it."""
    sysroot = pathlib.Path(run("rustc", "--print", "sysroot").strip())
    if not site.is_root:
        return sysroot
    copy = site.work / "rust"
    copy.mkdir(exist_ok=True)
    libraries = [path.relative_to(sysroot) for path in sysroot.glob("lib/*.so*")]
    parts = ("bin/cargo", "bin/rustc", *libraries, "lib/rustlib/x86_64-unknown-linux-gnu")
    run("cp", "-a", "--parents", "-t", copy, *parts, cwd=sysroot)
    return copy


def fill(build, sysroot):
    """Puts Rust's programs and Debian's kernel to where the smoke layer expects them."""
    for name in ("cargo", "rustc"):
        write(build / "tools" / name, f'#!/bin/sh\nexec {sysroot}/bin/{name} "$@"\n', 0o755)
    bin_dir = run(ROOT / "scripts/bin-dir.sh").strip()
    cache = build.with_name("cache")
    environment = {**os.environ, "HASHCLUSTER_CACHE": str(cache)}
    image = (ROOT / "qemu/dev-image.sh", build / "dev-image", bin_dir)
    run(*image, stdin=subprocess.DEVNULL, env=environment)
    shutil.rmtree(build / "kernel", ignore_errors=True)
    (base,) = (cache / "dev-image").glob("base-*")
    run("cp", "-a", base, build / "kernel")


def check_promises(image):
    """Checks the promises and the SBOM on both initrds."""
    for role in ("controller", "worker"):
        initrd = image / f"initrd.{role}"
        size = initrd.stat().st_size
        if role == "worker" and size > promises.WORKER_BYTES_MAX:
            sys.exit(f"the worker's initrd has {size} bytes, over {promises.WORKER_BYTES_MAX}")
        files = promises.check_files(cpio(initrd, "--list --verbose"))
        promises.check_shadow(cpio(initrd, "--extract --to-stdout etc/shadow ./etc/shadow"))
        print(f"{role}: {size} bytes, {files} files: all promises kept")
        program = f"hashcluster-{role}"
        rootfs = image / f"hashcluster-image-{role}-{MACHINES[0]}.rootfs.spdx.json"
        linked = crates.linked_lines(ROOT, program)
        sbom.main(rootfs, str(rootfs).replace("spdx.json", "manifest"), program, linked)


def cpio(initrd, args):
    """The output of cpio about an initrd."""
    line = f'zstd -dc -- "$0" | LC_ALL=C cpio --quiet {args}'
    return run("bash", "-euo", "pipefail", "-c", line, initrd)


if __name__ == "__main__":
    commands = {"parse": parse, "dry-run": dry_run, "smoke": smoke, "layer-check": layer_check}
    try:
        commands[sys.argv[1]](Site(*sys.argv[2:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"yocto: `{' '.join(map(str, error.cmd))}` failed: exit status {error.returncode}")
