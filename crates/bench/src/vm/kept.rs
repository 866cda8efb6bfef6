//! Processes and files that do not outlive the bench, however it ends: a Ctrl-C and a failed
//! assertion, which aborts a release build, run no `drop`.
//!
//! A [`Kept`] process ends with its standard input, whose other end the bench holds. The files go
//! with a shell that waits for the end of a pipe: the bench and all that it has started hold that
//! pipe's other end, so they are removed when the last of them has ended.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::io::{BufRead, BufReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const KEEPER: &str = r#"trap '' INT TERM HUP; cat >/dev/null; rm -rf -- "$0""#;

/// Runs its arguments as long as its standard input.
const TIED: &str = r#"trap '' INT TERM HUP; "$@" & cat >/dev/null; kill -KILL $!; wait"#;

/// A directory, removed in the end.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    keeper: Child,
    hold: Option<PipeWriter>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("hc").tempdir().expect("a temporary directory");
        let path = dir.keep();
        let (end, hold) = std::io::pipe().expect("a pipe");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER])
            .arg(&path)
            .stdin(end)
            .spawn()
            .expect("there is a shell");
        // From here on, not before: the keeper is not to wait for itself.
        fcntl(&hold, FcntlArg::F_SETFD(FdFlag::empty())).expect("an open descriptor");
        Self { path, keeper, hold: Some(hold) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A new directory in it.
    pub(super) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.hold = None;
        // Nobody is left to be told of a failure.
        let _ = self.keeper.wait();
    }
}

/// A process that ends with the bench, and at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct Kept(Child);

impl Kept {
    /// Starts what ends by itself when its input does.
    pub(super) fn start(command: &mut Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).spawn();
        Self(spawned.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The same, and waits until it has written a line; `None` if it ended instead.
    pub(super) fn ready(command: &mut Command) -> Option<Self> {
        let mut kept = Self::start(command.stdout(Stdio::piped()));
        let stdout = kept.0.stdout.take().expect("it was just made");
        let read = BufReader::new(stdout).read_line(&mut String::new());
        matches!(read, Ok(1..)).then_some(kept)
    }

    /// A command that runs `words`, whatever they do with their input, until its own input ends.
    pub(super) fn tied(words: &[String]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", TIED, "sh"]).args(words);
        command
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It is gone in either case.
        let _ = self.0.wait();
    }
}
