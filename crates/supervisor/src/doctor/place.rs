//! Checks of the run directory and the state directory: owner, mode, and what is left there.

use super::diagnosis::{CheckResult, Diagnosis};
use super::remedy::{Commands, Remedy};
use crate::quote;
use crate::run_dir::{self, RunDirError};
use crate::vm::Layout;
use ipc_proto::endpoint::{self, CLIENT_SOCKET, WORKER_SOCKET};
use ipc_socket::{Trust, TrustError};
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Secrets in the run directory: tokens, and what is handed into VMs.
const RUN_SECRETS: [&str; 2] = ["client.token", "worker.tokens"];
const SETTING_SECRETS: [&str; 4] = ["host_key", "client_token", "worker_token", "worker_tokens"];

/// The run directory can be one, whether a cluster runs there or not.
pub(super) fn run_dir(path: &Path) -> CheckResult {
    let subject = "run directory";
    let short = [CLIENT_SOCKET, WORKER_SOCKET].map(|name| endpoint::check(&path.join(name)));
    let other = || Remedy::say("name another one with --runtime-dir");
    if let Some(error) = short.into_iter().find_map(Result::err) {
        let text = format!("{}: {error}", path.display());
        return Diagnosis::RunDirUnusable.of(subject, text, other());
    }
    match run_dir::check(path) {
        Ok(()) => CheckResult::ok(subject, path.display().to_string()),
        Err(RunDirError::Io { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            CheckResult::ok(subject, format!("{} will be made", path.display()))
        }
        Err(error @ RunDirError::Exposed { .. }) => {
            let (text, _) = split(&error.to_string());
            let command = format!("chmod 700 {}", quote::path(path));
            Diagnosis::RunDirExposed.of(
                subject,
                text,
                Remedy::run(command).note("after a look inside"),
            )
        }
        Err(error) => Diagnosis::RunDirUnusable.of(subject, split(&error.to_string()).0, other()),
    }
}

/// The text and the advice of an error of ours.
fn split(text: &str) -> (String, String) {
    let (text, how) = text.split_once("; ").unwrap_or((text, ""));
    (text.to_owned(), how.to_owned())
}

/// Files that a cluster left in the run directory, where none runs.
pub(super) fn leftovers(path: &Path, commands: &Commands) -> Option<CheckResult> {
    let layout = Layout::new(path, None);
    let mut left = layout.left().ok()?;
    let was_killed = run_dir::pidfile_of(path).exists();
    if was_killed {
        let sockets = [CLIENT_SOCKET, WORKER_SOCKET].map(|name| path.join(name));
        left.extend(sockets.into_iter().filter(|path| fs::symlink_metadata(path).is_ok()));
    }
    let names = |paths: &[PathBuf]| {
        let names = paths.iter().filter_map(|path| path.file_name());
        names.map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ")
    };
    if was_killed {
        let what = if left.is_empty() { "a pidfile".to_owned() } else { names(&left) };
        let text = format!("{} holds {what} of a cluster that was killed", path.display());
        let remedy = Remedy::run(commands.script("stop", &[])).note("the next start does it, too");
        return Some(Diagnosis::Leftovers.of("run directory", text, remedy));
    }
    if left.is_empty() {
        return None;
    }
    let words: Vec<String> = left.iter().map(|path| quote::path(path)).collect();
    let text = format!(
        "{} holds {}, which would be taken for a cluster's files: a start refuses it",
        path.display(),
        names(&left)
    );
    let remedy = Remedy::run(format!("rm -r {}", words.join(" "))).note("after a look inside");
    Some(Diagnosis::ForeignFiles.of("run directory", text, remedy))
}

/// Owner and mode of everything that is secret, and of the directories with it.
pub(super) fn secrets(layout: &Layout) -> Vec<CheckResult> {
    let state = layout.state();
    let mut paths = vec![(state.to_owned(), Trust::Unwritten), (state.join("ssh"), Trust::Private)];
    for dir in [state.to_owned(), state.join("ssh")] {
        let files = entries(&dir).into_iter().filter(|path| path.is_file() || path.is_symlink());
        paths.extend(files.map(|path| {
            let is_public = path.extension().is_some_and(|end| end == "pub" || end == "lock");
            (path, if is_public { Trust::Unwritten } else { Trust::Private })
        }));
    }
    paths.extend(RUN_SECRETS.map(|name| (layout.file(name), Trust::Private)));
    for vm in entries(&layout.file("settings")) {
        paths.extend(SETTING_SECRETS.map(|name| (vm.join(name), Trust::Private)));
    }
    let faults: Vec<CheckResult> =
        paths.iter().filter_map(|(path, trust)| untrusted(path, *trust)).collect();
    match faults.is_empty() {
        true => vec![CheckResult::ok(
            "secrets",
            format!(
                "keys and tokens in {} and {} are only ours",
                state.display(),
                layout.run().display()
            ),
        )],
        false => faults,
    }
}

fn untrusted(path: &Path, trust: Trust) -> Option<CheckResult> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let (subject, shown) = ("secrets", path.display());
    if metadata.is_symlink() {
        let remedy =
            Remedy::run(format!("rm {}", quote::path(path))).note("after a look where it leads");
        let text = format!("{shown} is a symbolic link, which a start refuses");
        return Some(Diagnosis::StateForeign.of(subject, text, remedy));
    }
    match trust.check(path, &metadata).err()? {
        TrustError::Foreign { owner, us, .. } => {
            let remedy = Remedy::run(format!("sudo chown {us} {}", quote::path(path)));
            let text = format!("{shown} belongs to uid {owner}");
            Some(Diagnosis::StateForeign.of(subject, text, remedy.note("after a look inside")))
        }
        TrustError::Exposed { mode, what, fix, .. } => {
            let remedy = Remedy::run(format!("chmod {fix} {}", quote::path(path)));
            let text = format!("{shown} has mode {mode:04o}: others may {what} it");
            Some(Diagnosis::StateExposed.of(subject, text, remedy))
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Another cluster holds the state directory, where none runs here.
pub(super) fn state_lock(layout: &Layout) -> Option<CheckResult> {
    let path = layout.state_lock();
    let lock = File::open(&path).ok()?;
    match lock.try_lock() {
        // Nobody waits for it meanwhile.
        Ok(()) | Err(TryLockError::Error(_)) => return None,
        Err(TryLockError::WouldBlock) => {}
    }
    let state = layout.state().display();
    let (text, remedy) = match holder(&lock) {
        Some(pid) => (
            format!("a cluster that does not run here (pid {pid}) uses {state}"),
            Remedy::run(format!("kill {pid}"))
                .note("stops it in order; or name another --state-dir"),
        ),
        None => (format!("another cluster uses {state}"), Remedy::say("name another --state-dir")),
    };
    Some(Diagnosis::StateLocked.of("state directory", text, remedy))
}

/// The process that has a flock(2) on this file, by proc_locks(5).
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words[..] else { return None };
        let (_, found) = place.rsplit_once(':')?;
        // In a container the number of a process outside is 0.
        (found.parse() == Ok(inode)).then(|| pid.parse().ok()).flatten().filter(|&pid| pid > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.lock");
        let lock = File::create(&path).unwrap();
        let layout = Layout::new(&dir.path().join("run"), Some(dir.path()));
        assert_eq!(state_lock(&layout), None);
        lock.lock().unwrap();
        let found = state_lock(&layout).expect("it is locked");
        assert_eq!(found.diagnosis, Some(Diagnosis::StateLocked));
        let command = found.remedy.and_then(|remedy| remedy.command);
        assert_eq!(command, Some(format!("kill {}", std::process::id())));
    }
}
