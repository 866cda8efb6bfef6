//! An installed copy in use, where neither the tree that it was made from nor cargo can be found.

use super::{Installation, failed, remove};
use crate::tools::{Failure, output, root, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Hides the tree $1 from the rest of the arguments, a command.
const WITHOUT: &str = r#"mount -t tmpfs hidden "$1" && shift && exec "$@""#;

/// Installs into a prefix of its own, and uses it there as root.
pub(crate) fn check(installation: &Installation) -> Result<(), Failure> {
    let dir = std::env::temp_dir().join(format!("hashcluster-installed-{}", std::process::id()));
    let result = use_in(&dir, installation);
    remove(&dir)?;
    result
}

fn use_in(dir: &Path, installation: &Installation) -> Result<(), Failure> {
    // As a prefix may be called.
    let prefix = dir.join("a prefix, it's odd");
    installation.put(&prefix)?;
    fs::set_permissions(dir, PermissionsExt::from_mode(0o700)).map_err(|e| failed(dir, &e))?;
    let hashcluster = prefix.join("bin/hashcluster");
    let ran = |args: &[&str]| output(without_tree(dir).arg(&hashcluster).args(args));
    let file = prefix.join("share/hashcluster/ports.conf");
    let want = output(Command::new("sha256sum").arg(&file))?;
    let got = ran(&["--local", "1", "sum", &file.to_string_lossy()])?;
    if got != want {
        return Err(Failure::Wrong(format!("an installed copy says {got}, not {want}")));
    }
    let planned = ran(&["--dry-run"])?;
    for part in ["qemu-system-x86_64", "libexec/hashcluster/vhost-device-vsock"] {
        if !planned.contains(part) {
            return Err(Failure::Wrong(format!("no {part} in what VMs would be: {planned}")));
        }
    }
    let script = prefix.join("share/hashcluster/scripts/bin-dir.sh");
    run(without_tree(dir).arg(&script).arg("--no-build"))
}

/// A command that finds neither the tree nor cargo, with a home of its own in `dir`.
fn without_tree(dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITHOUT, "sh"]).arg(root());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", dir);
    command.current_dir("/");
    command
}
