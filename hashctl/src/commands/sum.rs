//! `hashctl sum`: digests of files, trees and standard input.

mod destination;
mod left_out;
mod when;

use crate::args::{CheckOptions, Sum, SumOptions};
use crate::commands::check::check;
use crate::config::Config;
use crate::engine::function::Function;
use crate::engine::lister::{Last, Lister};
use crate::engine::reorder::{Item, Label, Stopped, Verdict};
use crate::engine::{Printer, run};
use crate::exit::Exit;
use crate::input::is_waiting;
use crate::input::selection::Selection;
use crate::lists::lines::{Line, Lines};
use crate::lists::quote::quote;
use crate::output::{Format, Out};
use crate::problem::{Problem, Special};
use crate::say::{io_text, say};
pub(crate) use destination::Destination;
use ipc_proto::{Algorithm, Algorithms};
use left_out::LeftOut;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Prints the digests of paths; of standard input if there are none. With `--check` it is that command.
pub(crate) fn sum(config: &Config, args: Sum) -> Exit {
    let Sum { options, mut paths, .. } = args;
    let chosen =
        if options.algorithm.is_empty() { &[Algorithm::Sha256] } else { &options.algorithm[..] };
    let algorithms = match Algorithms::new(chosen) {
        Ok(algorithms) => algorithms,
        Err(error) => {
            say(format_args!("--algorithm: {error}"));
            return Exit::Usage;
        }
    };
    let are_several = algorithms.len() > 1;
    let conflict = [(options.check, "--check"), (options.format.binary, "--binary")];
    if let Some((_, option)) = conflict.iter().find(|(is_given, _)| *is_given && are_several) {
        say(format_args!("{option} is for one algorithm"));
        return Exit::Usage;
    }
    if options.check {
        return check(config, &as_check(&options), paths);
    }
    if let Some(option) = options.report.first() {
        say(format_args!("{option} is for --check"));
        return Exit::Usage;
    }
    let files_from = match options.files_from.as_deref().map(|path| open(path, config)) {
        Some(Ok(file)) => Some(file),
        Some(Err((path, error))) => {
            say(format_args!("{}: {}", quote(path.as_bytes()), io_text(&error)));
            return Exit::Failure;
        }
        None => None,
    };
    let newer_than_ns = match options.newer_than.as_deref().map(when::parse) {
        Some(Ok(time)) => Some(time),
        Some(Err(text)) => {
            say(format_args!("--newer-than {text}"));
            return Exit::Usage;
        }
        None => None,
    };
    let destination = match Destination::open(options.output.as_deref()) {
        Ok(destination) => destination,
        Err((path, error)) => {
            say(format_args!("{}: {}", quote(path.as_os_str().as_bytes()), io_text(&error)));
            return Exit::Failure;
        }
    };
    if paths.is_empty() && files_from.is_none() {
        paths.push("-".into());
    }
    let listing = SumListing {
        function: algorithms.into(),
        is_recursive: options.recursive,
        selection: Selection {
            follows_links: options.follow_links,
            one_file_system: options.one_file_system,
            exclude: options.exclude,
            include: options.include,
            newer_than_ns,
            written: destination.written(),
        },
        name_end: if options.null { 0 } else { b'\n' },
    };
    let mut printer = Sums {
        // Lines without their algorithm could not be verified.
        format: Format { tag: options.format.tag || are_several, ..options.format },
        verbose: config.verbose,
        left_out: LeftOut::default(),
        is_ok: true,
        is_complete: false,
    };
    let config = Config { is_unordered: options.unordered, ..destination.configure(config) };
    let exit = run(&config, &mut printer, Some(algorithms), move |lister| {
        paths.into_iter().try_for_each(|path| listing.path(lister, &path.into_vec()))?;
        files_from.map_or(Ok(()), |file| listing.paths_in(lister, &file))
    });
    // A failure of no file means that digests are in doubt.
    let is_sure = exit == Exit::Success || (exit == Exit::Failure && !printer.is_ok);
    destination.finish(exit, printer.is_complete && is_sure)
}

/// The options of `check` in those of `sum`.
fn as_check(options: &SumOptions) -> CheckOptions {
    CheckOptions {
        algorithm: options.algorithm.first().copied(),
        report: options.report,
        json: options.format.json,
        zero: options.format.zero,
        directory: None,
        resume: None,
        strip_components: 0,
    }
}

fn open<'a>(path: &'a OsStr, config: &Config) -> Result<File, (&'a OsStr, io::Error)> {
    let file = match path.as_bytes() {
        b"-" if config.stdio.has_stdin => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        b"-" => Err(io::Error::from_raw_os_error(libc::EBADF)),
        _ => File::open(path),
    };
    file.map_err(|error| (path, error))
}

/// Work of the lister thread.
struct SumListing {
    function: Function,
    is_recursive: bool,
    selection: Selection,
    /// Last byte of a name in a file of names.
    name_end: u8,
}

impl SumListing {
    fn path(&self, lister: &mut Lister, name: &[u8]) -> Result<(), Stopped> {
        let label = Label { name, function: self.function, want: b"" };
        match self.is_recursive {
            true => lister.tree(label, &self.selection),
            false => lister.long_path(label),
        }
    }

    /// The paths in a file, one per line.
    fn paths_in(&self, lister: &mut Lister, input: &File) -> Result<(), Stopped> {
        let mut lines = Lines::with_end(input, self.name_end);
        let problem = |lister: &mut Lister, name: &[u8], errno| {
            let label = Label { name, function: self.function, want: b"" };
            lister.known(label, Verdict::Problem(Problem::Io(errno)))
        };
        loop {
            if lines.is_drained() && is_waiting(input) {
                lister.flush(Last::OfJob)?;
            }
            match lines.next_line() {
                Ok(Some(Line::Whole(b""))) => {}
                // Only on the command line it is standard input.
                Ok(Some(Line::Whole(b"-"))) => self.path(lister, b"./-")?,
                Ok(Some(Line::Whole(name))) => match name.iter().position(|&byte| byte == 0) {
                    None => self.path(lister, name)?,
                    Some(len) => problem(lister, &name[..len], libc::EINVAL)?,
                },
                Ok(Some(Line::TooLong)) => problem(lister, b"(a name)", libc::ENAMETOOLONG)?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    return problem(lister, b"(list of files)", errno);
                }
            }
        }
    }
}

struct Sums {
    format: Format,
    verbose: bool,
    left_out: LeftOut,
    is_ok: bool,
    /// Every line is written.
    is_complete: bool,
}

impl Printer for Sums {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Digest => {
                item.each().for_each(|item| self.format.digest(&item, out.buffer()));
            }
            Verdict::Problem(problem) => {
                self.is_ok = false;
                item.each().for_each(|item| self.format.problem(&item, problem, out.buffer()));
                // What goes to one terminal or file stays in order.
                out.flush()?;
                say(format_args!("{}: {}", quote(item.label.name), item.problem_text(problem)));
            }
            Verdict::Skipped(special) => {
                self.left_out.count(special);
                let is_usual = matches!(special, Special::Symlink | Special::OtherFileSystem);
                if self.verbose || !is_usual {
                    out.flush()?;
                    say(format_args!("{}: skipped: {special}", quote(item.label.name)));
                }
            }
            Verdict::Waiting | Verdict::Mark(_) => {}
        }
        out.flush_if_full()
    }

    fn finish(&mut self, out: &mut Out) -> io::Result<()> {
        out.flush()?;
        self.is_complete = true;
        if !self.left_out.is_empty() {
            say(format_args!("left out: {}", self.left_out));
        }
        Ok(())
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }
}
