//! Commands that run while the test goes on.

use crate::process::until_within;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;
use tempfile::NamedTempFile;

/// A command in a process group of its own; killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    limit: Duration,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its output, byte for byte and as text.
    pub printed: Vec<u8>,
    /// The same as text.
    pub stdout: String,
    /// Its messages.
    pub stderr: String,
}

impl Running {
    /// Starts `command`; whatever is waited for has to happen within `limit`.
    #[track_caller]
    pub fn start(command: &mut Command, limit: Duration) -> Self {
        let file = || NamedTempFile::new().expect("a temporary file");
        let (stdout, stderr) = (file(), file());
        let handle = |file: &NamedTempFile| file.reopen().expect("it is there");
        command.stdout(handle(&stdout)).stderr(handle(&stderr)).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, limit, stdout, stderr }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Its messages so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Waits for a message that contains `part`; its line. The command may not end before.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) -> String {
        until_within(self.limit, part, || {
            let has_ended = !self.is_running();
            let said = self.stderr();
            let line = said.lines().find(|line| line.contains(part)).map(str::to_owned);
            assert!(line.is_some() || !has_ended, "no {part:?} in {said}");
            line
        })
    }

    /// True until the command has ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Sends a signal to the command's process.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("our own child");
    }

    /// Acts as a terminal on Ctrl-C: every process of the group gets the signal.
    pub fn interrupt(&self) {
        kill(Pid::from_raw(-self.pid().as_raw()), Signal::SIGINT).expect("our own children");
    }

    /// Waits for the end of the command.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let status = until_within(self.limit, "the end of a command", || {
            self.child.try_wait().expect("our own child")
        });
        let printed = fs::read(&self.stdout).expect("our own file");
        Ended { status, printed, stdout: self.stdout(), stderr: self.stderr() }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).expect("a process id"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(file: &NamedTempFile) -> String {
    crate::text(&fs::read(file).expect("our own file"))
}
