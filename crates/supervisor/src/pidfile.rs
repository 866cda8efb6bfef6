//! The supervisor of a runtime directory: a pid, and what tells its process from a later one of the same
//! number.
//!
//! Invariant: a process is handed out only as a pidfd that was opened *before* its start time was
//! compared, so that it cannot be another one any more.

use crate::supervise::sys;
use nix::errno::Errno;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A process, for as long as the machine is up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    pid: u32,
    /// Clock ticks from boot to its start: field 22 of proc_pid_stat(5).
    start_ticks: u64,
    /// Name of its executable: field 2.
    comm: String,
}

/// A process that runs, or has ended only just now.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) pid: u32,
    /// Readable once it has ended.
    pub(crate) pidfd: OwnedFd,
}

/// Writes that this process supervises.
pub(crate) fn write(path: &Path) -> io::Result<()> {
    write_of(path, std::process::id())
}

/// Writes the pidfile of another process, which has to be a child that was not waited for.
pub(crate) fn write_of(path: &Path, pid: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, format!("{}\n", Identity::of(pid)?))?;
    fs::rename(&fresh, path)
}

/// The process that the pidfile at `path` names, if there is a file and that process runs.
pub(crate) fn find(path: &Path) -> io::Result<Option<Supervisor>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(recorded) = Identity::parse(&text) else {
        return Ok(None);
    };
    let pidfd = match sys::pidfd_open(recorded.pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => return Ok(None),
        Err(error) => return Err(error),
    };
    match Identity::of(recorded.pid) {
        Ok(found) if found == recorded => Ok(Some(Supervisor { pid: recorded.pid, pidfd })),
        _ => Ok(None),
    }
}

impl Identity {
    fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat"))?;
        let stat = String::from_utf8_lossy(&stat);
        parse_stat(&stat)
            .map(|(comm, start_ticks)| Self { pid, start_ticks, comm: comm.to_owned() })
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown /proc/PID/stat"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (pid, rest) = text.strip_suffix('\n')?.split_once(' ')?;
        let (start_ticks, comm) = rest.split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start_ticks: start_ticks.parse().ok()?,
            comm: comm.to_owned(),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.pid, self.start_ticks, self.comm)
    }
}

/// Name and start time from the text of `/proc/PID/stat`. The name may hold anything, also `) `.
fn parse_stat(stat: &str) -> Option<(&str, u64)> {
    let (head, tail) = stat.rsplit_once(") ")?;
    // Zombies have ended; nobody has taken leave of them yet.
    if tail.starts_with(['Z', 'X']) {
        return None;
    }
    let (_, comm) = head.split_once('(')?;
    // The tail starts with field 3.
    let start_ticks = tail.split(' ').nth(22 - 3)?.parse().ok()?;
    Some((comm, start_ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_process_is_called() {
        let tail = "S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 87654 2838528 201 9";
        for comm in ["sh", "a b", "x) R 1 (y", ""] {
            assert_eq!(parse_stat(&format!("7 ({comm}) {tail}\n")), Some((comm, 87654)), "{comm}");
        }
        assert_eq!(parse_stat(&format!("7 (sh) {}", tail.replace('S', "Z"))), None);
        assert_eq!(parse_stat("7 (sh) S 1 7"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let identity = Identity { pid: 7, start_ticks: 99, comm: "odd name".into() };
        assert_eq!(Identity::parse(&format!("{identity}\n")), Some(identity));
    }

    #[test]
    fn a_cut_pidfile_names_nobody() {
        let whole = "7 99 name\n";
        for len in 0..whole.len() {
            assert_eq!(Identity::parse(&whole[..len]), None, "{:?}", &whole[..len]);
        }
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        write(&path).unwrap();
        assert_eq!(find(&path).unwrap().map(|found| found.pid), Some(std::process::id()));

        let mut other = Identity::of(std::process::id()).unwrap();
        other.start_ticks -= 1;
        fs::write(&path, format!("{other}\n")).unwrap();
        assert!(find(&path).unwrap().is_none());

        fs::remove_file(&path).unwrap();
        assert!(find(&path).unwrap().is_none());
    }
}
