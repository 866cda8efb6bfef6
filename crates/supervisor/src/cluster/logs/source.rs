//! One log: its lines so far, and those that are added, across truncation and rotation.

use super::lines::{Wanted, printable};
use crate::supervise::sys;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Most that is read of a log at once: of a longer one, the end.
const READ_LEN_MAX: u64 = 32 << 20;

/// A longer line is cut into several.
const LINE_LEN_MAX: usize = 16 << 10;

/// A log file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) label: String,
    path: PathBuf,
    file: Option<File>,
    /// Bytes of the file that were read.
    at: u64,
    /// Begin of a line whose end is not there yet.
    partial: Vec<u8>,
    /// Writes the file.
    writer: Option<Child>,
    /// The file, if it has no path of its own.
    _kept: Option<File>,
}

/// Time limit for the syslog of a VM; one without KVM takes half a second.
const GUEST_LIMIT_S: &str = "10";

impl Source {
    pub(super) fn new(path: PathBuf, label: String) -> Self {
        Self { label, path, file: None, at: 0, partial: Vec::new(), writer: None, _kept: None }
    }

    /// The syslog inside the VM `name`, which ends with its life.
    pub(super) fn in_guest(
        run_dir: &Path,
        name: &str,
        label: String,
        follow: bool,
    ) -> io::Result<Self> {
        let file = File::from(memfd_create(c"syslog", MFdFlags::MFD_CLOEXEC)?);
        // Opened again, as descriptors of one opening share their position.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let ssh = crate::vm::ssh_in(run_dir);
        let mut command = Command::new("timeout");
        // Without a limit where it is followed.
        command.arg(if follow { "0" } else { GUEST_LIMIT_S }).arg(ssh.get_program());
        // -F is -f including the lines so far.
        command.args(ssh.get_args()).args(["--", name, "logread"]).args(follow.then_some("-F"));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(Stdio::null());
        let writer = sys::spawn(&mut command, Signal::SIGTERM, None)?;
        let source = Self { writer: Some(writer), ..Self::new(path, label) };
        // Its path is good as long as it is open.
        Ok(Self { _kept: Some(file), ..source })
    }

    /// Waits until the file is written.
    pub(super) fn complete(&mut self) {
        if let Some(writer) = &mut self.writer {
            // Without an answer there are no lines.
            let _ = writer.wait();
        }
    }

    /// The lines so far that are wanted, those that were rotated away included.
    pub(super) fn first(&mut self, selection: &Wanted) -> VecDeque<String> {
        let mut lines = Vec::new();
        let old = self.path.with_extension("log.old");
        if let Ok(mut file) = File::open(old) {
            let mut at = 0;
            lines.extend(split(&mut Vec::new(), &read_from(&mut file, &mut at), true));
        }
        lines.extend(self.more());
        selection.of(lines)
    }

    /// A last line without an end.
    pub(super) fn end(&mut self) -> Vec<String> {
        split(&mut self.partial, b"", true)
    }

    /// Lines that were added since the last call.
    pub(super) fn more(&mut self) -> Vec<String> {
        let mut lines = self.rest();
        let is_other = match (&self.file, fs::metadata(&self.path)) {
            (Some(file), Ok(found)) => file.metadata().is_ok_and(|own| {
                (own.dev(), own.ino()) != (found.dev(), found.ino()) || found.len() < self.at
            }),
            (None, Ok(_)) => true,
            // It will come back, if its program does.
            (_, Err(_)) => false,
        };
        if is_other {
            lines.extend(self.end());
            self.file = File::open(&self.path).ok();
            self.at = 0;
            lines.extend(self.rest());
        }
        lines
    }

    fn rest(&mut self) -> Vec<String> {
        let Some(file) = &mut self.file else { return Vec::new() };
        let bytes = read_from(file, &mut self.at);
        split(&mut self.partial, &bytes, false)
    }
}

/// Reads what is in `file` behind `at`, which is moved to its end.
fn read_from(file: &mut File, at: &mut u64) -> Vec<u8> {
    let mut read = || -> io::Result<Vec<u8>> {
        let len = file.metadata()?.len();
        let start = (*at).max(len.saturating_sub(READ_LEN_MAX));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(READ_LEN_MAX).read_to_end(&mut bytes)?;
        *at = start + bytes.len() as u64;
        Ok(bytes)
    };
    // What cannot be read now may be next time.
    read().unwrap_or_default()
}

/// Whole lines of what was left and `bytes`; the rest stays, unless it is `all`.
fn split(partial: &mut Vec<u8>, bytes: &[u8], all: bool) -> Vec<String> {
    partial.extend_from_slice(bytes);
    let mut lines = Vec::new();
    let mut start = 0;
    while let Some(len) = partial[start..].iter().position(|&byte| byte == b'\n') {
        lines.push(printable(&partial[start..start + len]));
        start += len + 1;
    }
    partial.drain(..start);
    if partial.len() > LINE_LEN_MAX || all && !partial.is_empty() {
        lines.push(printable(partial));
        partial.clear();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_is_followed_across_truncation_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        let mut source = Source::new(path.clone(), "a".into());
        let all = Wanted { since: None, boot: None, last: usize::MAX };
        assert_eq!(source.first(&all), ["one", "two"]);
        let append = |text: &str| {
            let mut file = File::options().append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("ee\nfour\n");
        assert_eq!(source.more(), ["three", "four"]);
        assert_eq!(source.more(), [""; 0]);
        fs::write(&path, "five\n").unwrap();
        assert_eq!(source.more(), ["five"], "emptied");
        append("six\n");
        fs::rename(&path, path.with_extension("log.old")).unwrap();
        fs::write(&path, "seven\n").unwrap();
        assert_eq!(source.more(), ["six", "seven"], "rotated");
        fs::remove_file(&path).unwrap();
        assert_eq!(source.more(), [""; 0]);
        fs::write(&path, "eight\n").unwrap();
        assert_eq!(source.more(), ["eight"], "made again");
        let mut late = Source::new(path, "a".into());
        assert_eq!(late.first(&all), ["five", "six", "eight"], "the rotated part is shown first");
    }
}
