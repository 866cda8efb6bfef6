//! Logout: without lingering, systemd may end a user's processes then, and removes the user's runtime
//! directory. A cluster that is to stay says so at its start.

use std::path::Path;
use std::process::{Command, Stdio};

/// The end that a cluster of this user has at logout, with the remedy; `None` if it stays, or nobody can tell.
/// Processes of root are left alone.
pub(crate) fn warning(run_dir: &Path) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?;
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let is_temporary = runtime.is_some_and(|dir| run_dir.starts_with(dir));
    if user.uid.is_root() {
        return None;
    }
    warning_of(Path::new("loginctl"), &user.name, run_dir, is_temporary)
}

/// True if processes of this user stay after the last logout, as far as systemd answers.
pub(crate) fn lingers(user: &str) -> Option<bool> {
    lingers_by(Path::new("loginctl"), user)
}

fn warning_of(loginctl: &Path, user: &str, run_dir: &Path, is_temporary: bool) -> Option<String> {
    if lingers_by(loginctl, user)? {
        return None;
    }
    // Without a user it shows the manager's.
    let kills = property(loginctl, "KillUserProcesses", None).as_deref() == Some("yes");
    let what = match (kills, is_temporary) {
        (true, _) => "ends the user's processes".to_owned(),
        (false, true) => format!("removes {}", run_dir.display()),
        (false, false) => return None,
    };
    let user = crate::quote::shell(user.as_ref());
    Some(format!(
        "the cluster ends at the last logout, when systemd {what}; `loginctl enable-linger {user}` keeps it"
    ))
}

fn lingers_by(loginctl: &Path, user: &str) -> Option<bool> {
    match property(loginctl, "Linger", Some(user))?.as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

fn property(loginctl: &Path, name: &str, user: Option<&str>) -> Option<String> {
    let mut command = Command::new(loginctl);
    command.args(["show-user", "--value", "--property", name]).args(user);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let value = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_cluster_that_would_end_at_logout_is_told_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let loginctl = dir.path().join("loginctl");
        let with = |linger: &str, kills: &str, is_temporary: bool| {
            let script = format!(
                "#!/bin/sh\n[ \"$1 $2 $3\" = 'show-user --value --property' ] || exit 2\n\
                 case \"$4 ${{5-}}\" in\n'Linger me') {linger} ;;\n'KillUserProcesses ') {kills} ;;\n*) exit 2 ;;\nesac\n"
            );
            fs::write(&loginctl, script).unwrap();
            fs::set_permissions(&loginctl, fs::Permissions::from_mode(0o755)).unwrap();
            warning_of(&loginctl, "me", Path::new("/run/user/7/hashcluster"), is_temporary)
        };
        let killed = with("echo no", "echo yes", false).unwrap();
        assert!(
            killed.contains("systemd ends the user's processes; `loginctl enable-linger me`"),
            "{killed}"
        );
        let removed = with("echo no", "echo no", true).unwrap();
        assert!(removed.contains("systemd removes /run/user/7/hashcluster; "), "{removed}");
        assert_eq!(with("echo no", "echo no", false), None);
        assert_eq!(with("echo yes", "echo yes", true), None);
        assert_eq!(with("exit 1", "echo yes", true), None, "nobody can tell");
        assert_eq!(warning_of(&dir.path().join("none"), "me", dir.path(), true), None);
    }
}
