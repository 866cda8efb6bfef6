//! Services in a systemd of their own: it is booted in namespaces, with nothing of the host's units and
//! everything of the host's files read-only, and starts, restarts and stops what an installation has.

use crate::images::ImageChoice;
use crate::install::{Installation, copy, failed, remove};
use crate::packages::{self, Need};
use crate::release;
use crate::tools::{Failure, root, run, target_dir};
use std::path::Path;
use std::process::{Command, Stdio};

const NEEDS: &[Need] =
    &[("systemctl", &["systemd"]), ("unshare", &["util-linux"]), ("sha256sum", &["coreutils"])];

/// Fails where namespaces and cgroups cannot be had.
pub(crate) fn prepare() -> Result<(), Failure> {
    let how = "`cargo xtask deb --services` as root outside a container";
    let mount = "mkdir $0 && mount -t cgroup2 cgroup2 $0 && mkdir $0/$$ && rmdir $0/$$";
    let dir = std::env::temp_dir().join(format!("hashcluster-cgroups-{}", std::process::id()));
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--cgroup", "--fork", "sh", "-c", mount]).arg(&dir);
    let allowed = unshare.stdin(Stdio::null()).stderr(Stdio::null()).status();
    // Only the mount point is left.
    let _ = std::fs::remove_dir(&dir);
    if packages::is_root() && allowed.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let what = "systemd is booted in namespaces and a cgroup of its own";
    Err(Failure::Unavailable { what: what.into(), how: how.into() })
}

/// Boots a systemd that starts the services from an installed copy.
pub(crate) fn check() -> Result<(), Failure> {
    prepare()?;
    boot("check", None)
}

/// Boots a systemd that has a cluster of VMs as a unit, from an installed copy and in the tests' image.
pub(crate) fn check_vms() -> Result<(), Failure> {
    prepare()?;
    packages::ensure(packages::FOR_TESTS)?;
    let image = ImageChoice::default().set_up(&release::build()?)?;
    boot("check-vms", image.parent())
}

/// Runs a check beside `xtask/services/boot` there, with what VMs find in `cache`.
fn boot(check: &str, cache: Option<&Path>) -> Result<(), Failure> {
    packages::ensure(NEEDS)?;
    let installation = Installation::build()?;
    let prefix = target_dir()?.join("services");
    remove(&prefix)?;
    installation.put(&prefix)?;
    for unit in crate::deb::UNITS {
        copy(&root().join("xtask/deb").join(unit), &prefix.join("units").join(unit), 0o644)?;
    }
    let prefix = std::fs::canonicalize(&prefix).map_err(|error| failed(&prefix, &error))?;
    run(Command::new(root().join("xtask/services/boot")).arg(check).arg(&prefix).args(cache))?;
    remove(&prefix)
}
