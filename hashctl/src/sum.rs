//! `hashctl sum`: digests of files, trees and standard input.

use crate::config::Config;
use crate::datasets::{Folder, Name};
use crate::exit::Exit;
use crate::feed::{FeedError, Feeder, Label};
use crate::open::Opened;
use crate::order::{Item, Verdict};
use crate::output::{Format, Out};
use crate::problem::{Problem, Special};
use crate::quote::quote;
use crate::run::{Printer, run};
use crate::say::say;
use crate::start::{Found, Start};
use crate::walk::{Visitor, walk};
use ipc_proto::Algorithm;
use ipc_proto::message::Stamp;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// What to print about which files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) algorithm: Algorithm,
    pub(crate) recursive: bool,
    pub(crate) format: Format,
}

/// Prints the digests of `paths`; of standard input if there are none.
pub(crate) fn sum(config: &Config, options: Options, paths: Vec<OsString>) -> Exit {
    let mut printer = Sums { format: options.format, verbose: config.verbose, is_ok: true };
    run(config, &mut printer, move |feeder| {
        feeder.expect(options.algorithm)?;
        if paths.is_empty() {
            return feeder.stdin(label(b"-", options.algorithm));
        }
        let mut start = Start::default();
        paths.into_iter().try_for_each(|path| feed(feeder, &mut start, options, path.into_vec()))
    })
}

fn label(name: &[u8], algorithm: Algorithm) -> Label<'_> {
    Label { name, algorithm, want: b"" }
}

fn feed(
    feeder: &mut Feeder,
    start: &mut Start,
    options: Options,
    path: Vec<u8>,
) -> Result<(), FeedError> {
    if path == b"-" {
        return feeder.stdin(label(b"-", options.algorithm));
    }
    let path = CString::new(path).expect("an argument holds no zero byte");
    let label = label(path.to_bytes(), options.algorithm);
    let problem = match start.find(feeder, &path) {
        Ok(Found::Named(name, stamp)) => return feeder.named(label, name, stamp),
        Ok(Found::Opened(Opened::File(file, stamp))) => return feeder.file(label, file, stamp),
        Ok(Found::Opened(Opened::Directory(dir))) if options.recursive => {
            let mut tree = Tree { feeder, algorithm: options.algorithm };
            return walk(dir, label.name, &mut tree);
        }
        Ok(Found::Opened(Opened::Directory(_))) => Problem::Directory,
        Ok(Found::Opened(Opened::Special(special))) => Problem::Special(special),
        Err(errno) => Problem::Io(errno as i32),
    };
    feeder.known(label, Verdict::Problem(problem))
}

/// Feeds what a walk finds.
struct Tree<'a> {
    feeder: &'a mut Feeder,
    algorithm: Algorithm,
}

impl Visitor for Tree<'_> {
    type Stop = FeedError;

    fn enter(&mut self, dir: BorrowedFd<'_>) -> Option<Folder> {
        self.feeder.folder(dir)
    }

    fn named(&mut self, path: &[u8], name: Name, stamp: Stamp) -> Result<(), FeedError> {
        self.feeder.named(label(path, self.algorithm), name, stamp)
    }

    fn file(&mut self, path: &[u8], file: OwnedFd, stamp: Stamp) -> Result<(), FeedError> {
        self.feeder.file(label(path, self.algorithm), file, stamp)
    }

    fn problem(&mut self, path: &[u8], problem: Problem) -> Result<(), FeedError> {
        self.feeder.known(label(path, self.algorithm), Verdict::Problem(problem))
    }

    fn skipped(&mut self, path: &[u8], special: Special) -> Result<(), FeedError> {
        self.feeder.known(label(path, self.algorithm), Verdict::Skipped(special))
    }
}

struct Sums {
    format: Format,
    verbose: bool,
    is_ok: bool,
}

impl Printer for Sums {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Digest => self.format.digest(item, out.buffer()),
            Verdict::Problem(problem) => {
                self.is_ok = false;
                self.format.problem(item, problem, out.buffer());
                // What goes to one terminal or file stays in order.
                out.flush()?;
                say(format_args!("{}: {problem}", quote(item.name)));
            }
            Verdict::Skipped(Special::Symlink) if !self.verbose => {}
            Verdict::Skipped(special) => {
                out.flush()?;
                say(format_args!("{}: skipped: {special}", quote(item.name)));
            }
            Verdict::Waiting | Verdict::Mark(_) => {}
        }
        out.flush_if_full()
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }
}
