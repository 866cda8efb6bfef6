//! `hashctl check`: files against the digests in lists.
//!
//! The lister thread reads the lists and puts claims and marks into the reorder buffer; `verdicts`
//! prints what became of them, in the words of coreutils 9.1 where those have words for it.
//!
//! Invariant: OK stands for a file that was read to its end and has the list's digest.

mod causes;
mod near;
mod resume;
mod verdicts;

use crate::args::CheckOptions;
use crate::config::Config;
use crate::engine::function::Function;
use crate::engine::lister::{Last, Lister};
use crate::engine::reorder::{Label, Mark, Stopped, Verdict};
use crate::engine::run;
use crate::exit::Exit;
use crate::input::is_waiting;
use crate::lists::lines::{Line, Lines};
use crate::lists::manifest::{Claim, NotAList, Parsed, Parser, Remark};
use crate::lists::names::{base, file_of_list, strip_components};
use crate::lists::quote::quote;
use crate::say::{io_text, say};
use causes::Causes;
use ipc_proto::Algorithm;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use resume::{Resume, ResumeError, Verified};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{File, symlink_metadata};
use std::io;
use std::iter::Peekable;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::vec;
use verdicts::Reports;

/// Name of standard input as a list.
const STDIN_NAME: &[u8] = b"standard input";

/// Checks the files that `lists` name; standard input is one, if there are none.
pub(crate) fn check(config: &Config, options: &CheckOptions, mut lists: Vec<OsString>) -> Exit {
    if lists.is_empty() {
        lists.push("-".into());
    }
    let start_path = env::current_dir();
    let start = match enter(options.directory.as_deref()) {
        Ok(start) => start,
        Err((dir, error)) => {
            say(format_args!("{}: {}", quote(dir.as_os_str().as_bytes()), io_text(&error)));
            return Exit::Usage;
        }
    };
    let causes = Causes::new(start_path.as_ref().cloned().unwrap_or_default());
    let resume = match open_resume(options, start_path, &lists) {
        Ok(resume) => resume,
        Err((path, error)) => {
            say(format_args!("{}: {error}", quote(path.as_os_str().as_bytes())));
            return Exit::Usage;
        }
    };
    let listing = Listing {
        asked: options.algorithm.map(Function::from),
        line_end: if options.zero { 0 } else { b'\n' },
        strip: options.strip_components,
        start,
        has_stdin: config.stdio.has_stdin,
        resume: resume.clone(),
        operands: lists.into_iter().peekable(),
    };
    let mut reports = Reports::new(options, causes, resume);
    let exit = run(config, &mut reports, None, move |lister| listing.all(lister));
    reports.end(exit)
}

/// The progress that the lister asks for and the printer writes.
type SharedResume = Arc<Mutex<Resume>>;

/// Reads the file of `--resume`, which is named from `start`.
fn open_resume(
    options: &CheckOptions,
    start: io::Result<PathBuf>,
    lists: &[OsString],
) -> Result<Option<SharedResume>, (PathBuf, ResumeError)> {
    let Some(path) = &options.resume else { return Ok(None) };
    let load = || {
        if lists.iter().any(|list| list == "-") {
            return Err(ResumeError::Stdin);
        }
        Resume::load(&start?, path, options)
    };
    let resume = load().map_err(|error| (path.clone(), error))?;
    Ok(Some(Arc::new(Mutex::new(resume))))
}

/// Makes `dir` the directory from which files are named; the one that lists are named from.
fn enter(dir: Option<&Path>) -> Result<Option<File>, (&Path, io::Error)> {
    let Some(dir) = dir else { return Ok(None) };
    let start = File::open(".").map_err(|error| (Path::new("."), error))?;
    env::set_current_dir(dir).map_err(|error| (dir, error))?;
    Ok(Some(start))
}

/// Work of the lister thread.
struct Listing {
    asked: Option<Function>,
    /// Last byte of a line.
    line_end: u8,
    /// Leading components that are removed from names.
    strip: usize,
    /// The directory that lists are named from, if files are named from another one.
    start: Option<File>,
    has_stdin: bool,
    resume: Option<SharedResume>,
    /// Lists, and files that a list with nothing but a digest is for.
    operands: Peekable<vec::IntoIter<OsString>>,
}

impl Listing {
    fn all(mut self, lister: &mut Lister) -> Result<(), Stopped> {
        while let Some(list) = self.operands.next() {
            let list = list.into_vec();
            let name = if list == b"-" { STDIN_NAME } else { &list };
            let mark = match self.open(&list) {
                Ok(input) => self.list(lister, name, &input)?,
                Err(error) => unreadable(&error),
            };
            lister.known(mark_label(name), Verdict::Mark(mark))?;
        }
        lister.known(mark_label(b""), Verdict::Mark(Mark::Remark(Remark::EndOfAll)))
    }

    fn open(&self, list: &[u8]) -> io::Result<File> {
        if list == b"-" {
            return match self.has_stdin {
                true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
                false => Err(io::Error::from_raw_os_error(libc::EBADF)),
            };
        }
        let path = OsStr::from_bytes(list);
        match &self.start {
            None => File::open(path),
            Some(start) => {
                Ok(openat(start, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.into())
            }
        }
    }

    /// Lists what a list says; the mark of its end.
    fn list(&mut self, lister: &mut Lister, list: &[u8], input: &File) -> Result<Mark, Stopped> {
        let mut parser = Parser::new(self.asked, list);
        let mut lines = Lines::with_end(input, self.line_end);
        let verified = match self.verified(list, input) {
            Ok(verified) => verified,
            Err(error) => return Ok(unreadable(&error)),
        };
        lister.known(mark_label(list), Verdict::Mark(Mark::Remark(Remark::Start)))?;
        let mut claims = 0;
        for number in 1.. {
            if lines.is_drained() && is_waiting(input) {
                lister.flush(Last::OfJob)?;
            }
            let line = match lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => return Ok(unreadable(&error)),
            };
            let parsed = match line {
                Line::Whole(line) => parser.parse(line),
                Line::TooLong => {
                    if claims == 0 && lines.is_binary() {
                        return Ok(Mark::Remark(Remark::Refused(NotAList::Binary)));
                    }
                    lister.known(mark_label(list), Verdict::Mark(Mark::LongLine(number)))?;
                    continue;
                }
            };
            let mark = match parsed {
                Parsed::Nothing => continue,
                Parsed::Claim(claim) if list != STDIN_NAME || &*claim.name != b"-" => {
                    claims += 1;
                    let is_verified = verified.as_ref().is_some_and(|known| known.has(claims));
                    let Claim { function, digest, name, .. } = &claim;
                    match strip_components(name, self.strip) {
                        Some(_) if is_verified => Mark::Remark(Remark::Verified),
                        Some(name) => {
                            lister.long_path(Label { name, function: *function, want: digest })?;
                            continue;
                        }
                        None => Mark::Remark(Remark::ShortName(number)),
                    }
                }
                Parsed::Digest(function, digest) => match self.file_of(list) {
                    Some(name) => {
                        claims += 1;
                        lister.long_path(Label { name: &name, function, want: &digest })?;
                        continue;
                    }
                    None => Mark::Remark(Remark::LoneDigest(number)),
                },
                Parsed::Signed => Mark::Remark(Remark::Signed),
                Parsed::Unsupported => Mark::Remark(Remark::UnsupportedLine(number)),
                Parsed::Claim(_) | Parsed::Bad => Mark::BadLine(number),
                Parsed::Refused(refusal) => return Ok(Mark::Remark(Remark::Refused(refusal))),
            };
            lister.known(mark_label(list), Verdict::Mark(mark))?;
        }
        if let Some(guess) = parser.guess() {
            lister.known(mark_label(list), Verdict::Mark(Mark::Remark(Remark::Guess(guess))))?;
        }
        Ok(Mark::End)
    }

    /// Entries of a list that an earlier run verified, if this one can be resumed.
    fn verified(&self, list: &[u8], input: &File) -> io::Result<Option<Verified>> {
        let open =
            |resume: &SharedResume| resume.lock().expect("no holder panics").open_list(list, input);
        self.resume.as_ref().map(open).transpose()
    }

    /// The file that a list with nothing but a digest is for: the one that it is named after, else
    /// the next operand.
    fn file_of(&mut self, list: &[u8]) -> Option<Vec<u8>> {
        let named = file_of_list(list).map(|file| match self.start {
            // Its directory is named from elsewhere.
            Some(_) => base(file),
            None => file,
        });
        let exists = |name: &&[u8]| symlink_metadata(OsStr::from_bytes(name)).is_ok();
        let is_file =
            |operand: &OsString| operand != "-" && file_of_list(operand.as_bytes()).is_none();
        match named.filter(exists) {
            Some(name) => Some(name.to_vec()),
            None => match self.operands.next_if(is_file) {
                Some(operand) => Some(operand.into_vec()),
                None => named.map(<[u8]>::to_vec),
            },
        }
    }
}

fn mark_label(list: &[u8]) -> Label<'_> {
    Label { name: list, function: Algorithm::Sha256.into(), want: b"" }
}

fn unreadable(error: &io::Error) -> Mark {
    Mark::Unreadable(error.raw_os_error().unwrap_or(libc::EIO))
}
