//! Where the digests go: standard output, or a file that is replaced once all of them are in it.
//!
//! A file is written in the place of standard output (descriptor 1), so that nothing else has to
//! know of it.

use crate::config::{Config, Stdio};
use crate::exit::Exit;
use crate::input::selection::{Identity, Written};
use crate::lists::quote::quote;
use crate::replace::{Replacement, write_error};
use crate::say::say;
use nix::sys::stat::{FileStat, SFlag, fstat, stat};
use nix::unistd::dup2_stdout;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(crate) enum Destination {
    Stdout,
    /// A file, and what was there before.
    File {
        path: PathBuf,
        replacement: Replacement,
        before: Option<Identity>,
    },
    /// A device or FIFO, which is written to as it is.
    Special(PathBuf),
}

impl Destination {
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, (&Path, io::Error)> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let before = stat(path).ok();
        let is_special = |stat: &FileStat| !is_regular(stat) && !is_directory(stat);
        let opened = || {
            if before.as_ref().is_some_and(is_special) {
                dup2_stdout(OpenOptions::new().write(true).open(path)?)?;
                return Ok(Self::Special(path.to_owned()));
            }
            let replacement = Replacement::new(path)?;
            dup2_stdout(replacement.file())?;
            let before = before.as_ref().map(Identity::from);
            Ok(Self::File { path: path.to_owned(), replacement, before })
        };
        opened().map_err(|error| (path, error))
    }

    /// Files that a walk leaves out.
    pub(crate) fn written(&self) -> Vec<Written> {
        let stdout = fstat(io::stdout()).ok().filter(is_regular);
        let stdout = stdout.as_ref().map(Identity::from);
        let (before, is_hidden) = match self {
            Self::Stdout | Self::Special(_) => (None, false),
            Self::File { before, .. } => (*before, true),
        };
        let written = |identity, is_hidden| Written { identity, is_hidden };
        let stdout = stdout.map(|identity| written(identity, is_hidden));
        stdout.into_iter().chain(before.map(|identity| written(identity, false))).collect()
    }

    /// `config`, with a standard output that is open, and its name.
    pub(crate) fn configure(&self, config: &Config) -> Config {
        let path = match self {
            Self::Stdout => return config.clone(),
            Self::File { path, .. } | Self::Special(path) => path,
        };
        let stdio = Stdio { has_stdout: true, ..config.stdio };
        let output = quote(path.as_os_str().as_bytes());
        Config { stdio, output, ..config.clone() }
    }

    /// Puts a file in its place if it is complete; the exit status.
    pub(crate) fn finish(self, exit: Exit, is_complete: bool) -> Exit {
        let Self::File { path, replacement, .. } = self else { return exit };
        let name = quote(path.as_os_str().as_bytes());
        if !is_complete {
            say(format_args!("{name}: not written"));
            return exit;
        }
        match replacement.commit() {
            Ok(()) => exit,
            Err(error) => {
                say(format_args!("{name}: {}", write_error(&error)));
                Exit::Failure
            }
        }
    }
}

fn is_regular(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
}

fn is_directory(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}
