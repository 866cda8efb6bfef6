//! `cargo xtask yocto`: the layer in `meta-hashcluster/` and the files in `kas/`.
//!
//! `check` needs only the package registries, and is part of `cargo xtask test`. The other commands
//! take the directories of oe-core and bitbake from the environment; without them they report *not
//! run* with an exit status of its own, which never counts as passed.

mod bitbake;
mod check;
mod crates;
mod licenses;
mod promises;
mod smoke;
mod versions;

pub(crate) use check::check;

use crate::tools::{Failure, root};
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Usage: cargo xtask yocto COMMAND

  check [--tree DIR] [CHECK]…  all checks that need only the package registries; DIR: another tree
  crates                       writes the recipes' list of crates and licences from Cargo.lock
  parse                        bitbake parses the layer: no error, no warning from it
  dry-run                      bitbake plans the images for qemux86-64 and qemuarm64
  smoke [--vm]                 builds both images with this host's compilers, twice, and compares;
                               --vm: then runs all tests in VMs on one of them
  layer-check                  yocto-check-layer: the layer changes no build that does not ask for it

The last four take oe-core from OE_CORE_DIR and bitbake from BITBAKE_DIR, and work in
YOCTO_WORK_DIR [default: yocto in the target directory]. Exit status: 4 when they are not set.";

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

pub(crate) fn run(args: &[&str]) -> Result<(), Error> {
    match *args {
        ["check", ref rest @ ..] => {
            let (tree, names) = match *rest {
                ["--tree", dir, ref names @ ..] => (PathBuf::from(dir), names),
                ref names => (root(), names),
            };
            if let Some(unknown) = names.iter().find(|name| !check::NAMES.contains(name)) {
                let names = check::NAMES.join(", ");
                return Err(Error::Usage(format!("unknown check '{unknown}'; there are {names}")));
            }
            Ok(check(&tree, names)?)
        }
        ["crates"] => Ok(crates::write(&root())?),
        ["parse"] => Ok(bitbake::parse()?),
        ["dry-run"] => Ok(bitbake::dry_run()?),
        ["smoke"] => Ok(smoke::smoke().map(drop)?),
        ["smoke", "--vm"] => Ok(smoke::smoke_and_boot()?),
        ["layer-check"] => Ok(smoke::layer_check()?),
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => Err(Error::Usage("no command given".into())),
        [unknown, ..] => Err(Error::Usage(format!("unknown command or arguments: {unknown}"))),
    }
}
