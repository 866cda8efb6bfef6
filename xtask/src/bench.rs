//! `cargo xtask bench`: the static release binaries, measured by the bench program of
//! `system-tests` against what people use today, or in VMs against themselves outside.

use crate::packages;
use crate::release;
use crate::tools::{Failure, cargo, output, root, run};
use std::process::Command;

/// The group that boots VMs; it runs only when it is named.
const VM_GROUP: &str = "vm";

/// Builds, and passes `groups` on to the bench program.
pub(crate) fn bench(groups: &[&str]) -> Result<(), Failure> {
    let wants_vms = groups.contains(&VM_GROUP);
    if groups != [VM_GROUP] {
        packages::ensure(packages::FOR_BENCHES)?;
    }
    if wants_vms {
        packages::ensure(packages::FOR_VM_BENCH)?;
    }
    let bin_dir = release::build()?;
    let mut bench = cargo(&["run", "--release", "-p", "system-tests", "--bin", "bench", "--"]);
    bench.args(groups).env("HASHCLUSTER_BIN_DIR", &bin_dir);
    if wants_vms {
        let options = output(Command::new(root().join("qemu/setup.sh")).arg(&bin_dir))?;
        bench.env("HASHCLUSTER_VM_OPTIONS", options);
    }
    run(&mut bench)
}
