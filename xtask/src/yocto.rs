//! `cargo xtask yocto`: the layer in `meta-hashcluster/` and the files in `kas/`.
//!
//! The checks are Python scripts in `xtask/yocto/`, as bitbake, kas and the linter are Python, too.
//! `check` needs only the package registries, and is part of `cargo xtask test`. The other commands
//! take the directories of oe-core and bitbake from the environment; without them they report *not
//! run* with an exit status of its own, which never counts as passed.

use crate::python::FOR_YOCTO;
use crate::tools::{Failure, cargo, output, root, run};
use crate::{images, packages, release};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask yocto COMMAND

  check [--tree DIR] [CHECK]…  all checks that need only the package registries; DIR: another tree
  crates                       writes the recipes' list of crates and licences from Cargo.lock
  kernel                       builds the kernel of the layer's fragments from Debian's source, compares it with
                               Debian's in VMs, and hashes with it
  parse                        bitbake parses the layer: no error, no warning from it
  dry-run                      bitbake plans the images for qemux86-64 and qemuarm64
  smoke [--vm]                 builds both images with this host's compilers, twice, and compares;
                               --vm: then runs all tests in VMs on one of them
  layer-check                  yocto-check-layer: the layer changes no build that does not ask for it

The last four take oe-core from OE_CORE_DIR and bitbake from BITBAKE_DIR, and work in
YOCTO_WORK_DIR [default: yocto in the target directory]. Exit status: 4 when they are not set.";

/// The checks in their order, quick ones first. Each reads one tree; tests copy and break it.
const CHECKS: [&str; 6] = ["crates", "versions", "layer", "lint", "kas", "fetch"];

/// Wrong usage, or a command that failed.
#[derive(Debug)]
pub(crate) enum Error {
    Usage(String),
    Failed(Failure),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

pub(crate) fn command(args: &[&str]) -> Result<(), Error> {
    match *args {
        ["check", ref rest @ ..] => {
            let (tree, names) = match *rest {
                ["--tree", dir, ref names @ ..] => (PathBuf::from(dir), names),
                ref names => (root(), names),
            };
            if let Some(unknown) = names.iter().find(|name| !CHECKS.contains(name)) {
                let names = CHECKS.join(", ");
                return Err(Error::Usage(format!("unknown check '{unknown}'; there are {names}")));
            }
            Ok(check(&tree, names)?)
        }
        ["crates"] => {
            let mut crates = FOR_YOCTO.ensure()?.script("xtask/yocto/crates.py");
            Ok(run(crates.arg("write").arg(root()))?)
        }
        ["kernel"] => Ok(images::kernel()?),
        [command @ ("parse" | "dry-run" | "smoke" | "layer-check")] => {
            Ok(build(command).map(drop)?)
        }
        ["smoke", "--vm"] => {
            let image = build("smoke")?.join("smoke/tmp/deploy/images/qemux86-64");
            let bin_dir = release::build()?;
            let mut tests = cargo(&["test", "-p", "system-tests", "--test", "vm"]);
            tests.env("HASHCLUSTER_BIN_DIR", bin_dir).env("HASHCLUSTER_IMAGE", image);
            Ok(run(&mut tests)?)
        }
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => Err(Error::Usage("no command given".into())),
        [unknown, ..] => Err(Error::Usage(format!("unknown command or arguments: {unknown}"))),
    }
}

/// Runs the named checks on `tree`, or all if `names` is empty.
pub(crate) fn check(tree: &Path, names: &[&str]) -> Result<(), Failure> {
    let tree = fs::canonicalize(tree)
        .map_err(|error| Failure::Wrong(format!("{}: {error}", tree.display())))?;
    for name in CHECKS.into_iter().filter(|name| names.is_empty() || names.contains(name)) {
        let start = Instant::now();
        let python = FOR_YOCTO.ensure()?;
        let script = |name: &str| python.script(&format!("xtask/yocto/{name}.py"));
        let found = match name {
            "crates" => output(script("crates").arg("check").arg(&tree))?,
            "lint" => lint(&tree)?,
            "kas" => output(script("kas_files").arg(&tree))?,
            "fetch" => {
                let downloads = FOR_YOCTO.work_dir()?.join("downloads");
                output(script("fetch").arg(&tree).arg(downloads))?
            }
            other => output(script(other).arg(&tree))?,
        };
        println!("{:>6.1} s  {name}: {}", start.elapsed().as_secs_f64(), found.trim_end());
    }
    Ok(())
}

/// oelint-adv on recipes, appends, classes and configuration.
fn lint(tree: &Path) -> Result<String, Failure> {
    let mut find = Command::new("find");
    find.arg(tree.join("meta-hashcluster")).args([
        "-type",
        "f",
        "-regex",
        r".*\.\(bb\|bbappend\|bbclass\|conf\)",
    ]);
    let files = output(&mut find)?;
    let mut lint = FOR_YOCTO.ensure()?.program("oelint-adv");
    lint.env("OELINT_CONFIG", root().join("xtask/yocto/oelint.cfg")).args(files.lines());
    let findings = |_| Failure::Wrong("oelint-adv reports faults in meta-hashcluster".into());
    output(lint.current_dir(root())).map_err(findings)?;
    Ok(format!("oelint-adv finds no fault in {} files", files.lines().count()))
}

/// Runs a command of `xtask/yocto/build.py`; returns the directory that it works in.
fn build(command: &str) -> Result<PathBuf, Failure> {
    let dir = |name| env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let (Some(oe_core), Some(bitbake)) = (dir("OE_CORE_DIR"), dir("BITBAKE_DIR")) else {
        return Err(Failure::Unavailable {
            what: format!("yocto {command}"),
            how: format!(
                "clone openembedded-core (branch wrynose) and bitbake (branch 2.18), then\n    \
                 OE_CORE_DIR=… BITBAKE_DIR=… cargo xtask yocto {command}"
            ),
        });
    };
    packages::ensure(packages::FOR_BITBAKE)?;
    if command == "smoke" {
        packages::ensure(packages::FOR_SMOKE)?;
    }
    let work = match dir("YOCTO_WORK_DIR") {
        Some(dir) => dir,
        None => FOR_YOCTO.work_dir()?.join("build"),
    };
    let mut python = Command::new("python3");
    python.arg(root().join("xtask/yocto/build.py")).arg(command).args([&oe_core, &bitbake, &work]);
    run(python.env("PYTHONDONTWRITEBYTECODE", "1"))?;
    Ok(work)
}
