//! The controller's disk as seen from the host: an ext4 file system in a file, which is only read.
//!
//! While it is in use, or not cleanly unmounted, only its superblock is judged: the rest is consistent
//! after its journal is replayed, which a mount does.

use super::ask::{ask, find};
use super::diagnosis::{CheckResult, Diagnosis};
use super::remedy::Remedy;
use crate::quote;
use crate::vm::Superblock;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Time limit for e2fsck, of which an empty disk takes 0.02 s.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// First exit status of e2fsck that means errors.
const ERRORS_LEFT: i32 = 4;

/// The disk at `path`; `in_use` while a VM has it. None if there is no disk yet.
pub(super) fn check(path: &Path, in_use: bool, stop: &str) -> Option<CheckResult> {
    let subject = "controller's disk";
    let superblock = match File::open(path).and_then(|file| Superblock::read(&file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let remedy = Remedy::run(format!("ls -l {}", quote::path(path)));
            let text = format!("{} cannot be read: {error}", path.display());
            return Some(Diagnosis::DiskDamaged.of(subject, text, remedy));
        }
        Ok(superblock) => superblock,
    };
    let why = match superblock {
        None => "holds no ext4 file system".to_owned(),
        Some(superblock) if superblock.has_errors() => {
            "has errors that the VM's kernel found".to_owned()
        }
        Some(superblock) if !in_use && superblock.is_clean() => match errors(path) {
            None => return Some(ok(path)),
            Some(words) => format!("fails its check: {words}"),
        },
        Some(_) => return Some(ok(path)),
    };
    let text = format!("{} {why}", path.display());
    Some(Diagnosis::DiskDamaged.of(subject, text, remedy(path, in_use, stop)))
}

fn ok(path: &Path) -> CheckResult {
    CheckResult::ok("controller's disk", path.display().to_string())
}

/// Complaint of e2fsck, if it can be asked.
fn errors(path: &Path) -> Option<String> {
    let args = [std::ffi::OsStr::new("-f"), "-n".as_ref(), path.as_os_str()];
    let answer = ask(find("e2fsck")?, args, b"", CHECK_LIMIT).ok()?;
    let failed = answer.status.is_some_and(|status| (ERRORS_LEFT..8).contains(&status));
    failed.then(|| answer.last_words())
}

/// Repairs the disk; one that cannot be repaired is put aside, and the next start makes an empty one.
fn remedy(path: &Path, in_use: bool, stop: &str) -> Remedy {
    let shown = quote::path(path);
    let aside = quote::path(&path.with_extension("damaged"));
    let e2fsck = find("e2fsck").map_or_else(|| "e2fsck".to_owned(), |path| quote::path(&path));
    let repair = format!("{e2fsck} -fy {shown}; [ $? -lt {ERRORS_LEFT} ] || mv {shown} {aside}");
    let command = if in_use { format!("{stop} && {{ {repair}; }}") } else { repair };
    Remedy::run(command)
        .note("puts it aside if it cannot be repaired; the next start makes an empty one")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::process::{Command, Stdio};

    /// A fresh disk of 4 MiB.
    fn disk(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("controller.ext4");
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        let mut command = Command::new(find("mkfs.ext4").expect("e2fsprogs is installed"));
        assert!(command.args(["-q", "-F"]).arg(&path).status().unwrap().success());
        path
    }

    fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    fn set_state(path: &Path, state: u16) {
        let mut command = Command::new(find("debugfs").expect("e2fsprogs is installed"));
        command.args(["-w", "-R", &format!("ssv state {state}")]).arg(path);
        assert!(command.stderr(Stdio::null()).status().unwrap().success());
    }

    fn fault(path: &Path, in_use: bool) -> Option<Diagnosis> {
        check(path, in_use, "true").expect("there is a disk").diagnosis
    }

    fn run_remedy(path: &Path) {
        let command = check(path, false, "true").unwrap().remedy.unwrap().command.unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(shell.status().unwrap().success(), "{command}");
    }

    #[test]
    fn a_damaged_disk_is_told_from_one_that_was_not_unmounted_and_its_remedy_works() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(&dir.path().join("controller.ext4"), false, ""), None);
        let path = disk(dir.path());
        assert_eq!((fault(&path, false), fault(&path, true)), (None, None));
        // As a kill of its VM leaves it.
        set_state(&path, 0);
        assert_eq!((fault(&path, false), fault(&path, true)), (None, None));
        // As the kernel marks it when it finds errors.
        set_state(&path, 3);
        assert_eq!(fault(&path, true), Some(Diagnosis::DiskDamaged));
        assert_eq!(fault(&path, false), Some(Diagnosis::DiskDamaged));
        run_remedy(&path);
        assert_eq!(fault(&path, false), None);
    }

    #[test]
    fn what_is_no_file_system_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = disk(dir.path());
        overwrite(&path, 0, &vec![0; 4 << 20]);
        assert_eq!(fault(&path, false), Some(Diagnosis::DiskDamaged));
        run_remedy(&path);
        assert_eq!(check(&path, false, ""), None);
        assert!(path.with_extension("damaged").exists());
    }
}
