//! `cargo xtask yocto`: the layer in `meta-hashcluster/` and the files in `kas/`.
//!
//! `check` needs the package registries only, and is a part of `cargo xtask test`. What needs
//! oe-core and bitbake takes their directories from the environment; without them it says *not
//! run*, with an exit status of its own, and never counts as passed.

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

  check [--tree DIR] [CHECK]…  what the package registries are enough for; DIR instead of this tree
  crates                       writes the recipes' list of crates and licences from Cargo.lock
  parse                        bitbake reads the layer: no error, no warning of ours
  dry-run                      bitbake plans the images for qemux86-64 and qemuarm64
  smoke [--vm]                 builds both images with this host's compilers, twice, and compares;
                               with --vm all tests in VMs are run on one of them
  layer-check                  yocto-check-layer: nobody's builds change who does not ask for it

The last four take oe-core from OE_CORE_DIR and bitbake from BITBAKE_DIR, and work in
YOCTO_WORK_DIR [default: yocto in the target directory]. Exit status: 4 when they are not set.";

/// What was asked for, or what is wrong with it.
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
                return Err(Error::Usage(format!("no check '{unknown}'; there are {names}")));
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
