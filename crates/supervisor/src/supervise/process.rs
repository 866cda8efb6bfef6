//! One running process, and the description from which it is started.

use super::{log, sys};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A program to start.
#[derive(Debug)]
pub(crate) struct Program {
    /// Its name for a person.
    pub(crate) name: String,
    /// Absolute for a program in the background, whose working directory is `/`.
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(&'static str, OsString)>,
    pub(crate) console: Console,
    /// True if it takes `--ready-fd N` and writes a line there when it is ready.
    pub(crate) announces_ready: bool,
}

/// Where a program's input and output are.
#[derive(Debug)]
pub(crate) enum Console {
    /// No input, output to this log; in a process group of its own, so that a terminal's Ctrl-C
    /// is not for it.
    Background { log: PathBuf },
    /// Ours.
    Foreground,
}

impl Console {
    /// Signal for its process when we die. One in the background gets no time to hold on to its
    /// sockets; one in the foreground is not ours to kill.
    const fn death_signal(&self) -> Signal {
        match self {
            Self::Background { .. } => Signal::SIGKILL,
            Self::Foreground => Signal::SIGTERM,
        }
    }
}

/// A process that was started and not yet waited for.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pidfd: OwnedFd,
    ready: Option<PipeReader>,
    /// Length of the log when it started.
    pub(super) log_start: u64,
}

impl Process {
    pub(super) fn start(program: &Program) -> io::Result<Self> {
        let mut command = Command::new(&program.path);
        command.args(&program.args).envs(program.env.iter().map(|(key, value)| (key, value)));
        // Reports to it are ours to make.
        for name in ipc_socket::MANAGER_VARIABLES {
            command.env_remove(name);
        }
        let mut log_start = 0;
        if let Console::Background { log } = &program.console {
            let (file, len) = log::open(log)?;
            log_start = len;
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
            command.current_dir("/").process_group(0);
        }
        let (ready, announcer) = match program.announces_ready {
            true => io::pipe().map(|(reader, writer)| (Some(reader), Some(writer)))?,
            false => (None, None),
        };
        if let Some(announcer) = &announcer {
            command.arg("--ready-fd").arg(announcer.as_raw_fd().to_string());
        }
        let kept = announcer.as_ref().map(AsFd::as_fd);
        let mut child = sys::spawn(&mut command, program.console.death_signal(), kept)?;
        let pidfd = sys::pidfd_open(child.id()).inspect_err(|_| {
            // Without a pidfd nobody would watch it. It is our child still, so the number is its.
            let _ = child.kill().and_then(|()| child.wait());
        })?;
        Ok(Self { child, pidfd, ready, log_start })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Readable once the process has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Readable when there is something for [`Self::read_ready`].
    pub(super) fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        self.ready.as_ref().map(AsFd::as_fd)
    }

    /// True if the process says that it is ready. Closing without a word says nothing: its end
    /// will.
    pub(super) fn read_ready(&mut self) -> bool {
        let mut bytes = [0; 64];
        let read_len = match &mut self.ready {
            Some(pipe) => pipe.read(&mut bytes).unwrap_or(0),
            None => 0,
        };
        let is_ready = bytes[..read_len].contains(&b'\n');
        if is_ready || read_len == 0 {
            self.ready = None;
        }
        is_ready
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        sys::pidfd_signal(self.pidfd(), signal)
    }

    /// Takes leave of the process; call it when the pidfd is readable.
    pub(super) fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// True for a file that we may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

/// Describes the end of a process for a person.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(Ok(signal))) => format!("was killed by {signal}"),
        (None, _) => format!("ended with {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "exited with status 3");
        assert_eq!(describe(ExitStatus::from_raw(9)), "was killed by SIGKILL");
    }
}
