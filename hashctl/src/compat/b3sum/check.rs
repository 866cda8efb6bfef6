//! `b3sum -c`: reads lists and compares.

use super::line::{self, CheckLine};
use super::options::B3sumOptions;
use super::print::{B3sumVerdicts, STDIN_IS_THE_LIST};
use super::{finish, function};
use crate::engine::embedded;
use crate::engine::function::Function;
use crate::engine::lister::{Last, Lister};
use crate::engine::reorder::{Label, Mark, Stopped, Verdict};
use crate::exit::Exit;
use crate::input::is_waiting;
use crate::lists::lines::{LINE_LEN_MAX, Line, Lines};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Checks the files that `lists` name.
pub(super) fn check(
    engine: embedded::EmbeddedOptions,
    options: &B3sumOptions,
    lists: Vec<PathBuf>,
) -> Exit {
    let mut printer = B3sumVerdicts::new(options);
    let mut entries =
        CheckEntries { function: function(options), is_stdin_taken: false, want: Vec::new() };
    let result = embedded::run(engine, &mut printer, move |lister| {
        for list in &lists {
            if let Err(error) = entries.list(lister, list)? {
                return entries.mark(lister, &error, Mark::Unreadable(libc::EIO));
            }
        }
        Ok(())
    });
    printer.summary();
    finish(result, &printer)
}

/// Puts the lines of lists among the files of a run.
struct CheckEntries {
    function: Function,
    /// A file of a list is standard input: nothing is left of it for another list.
    is_stdin_taken: bool,
    /// Digest and written name of the line at hand.
    want: Vec<u8>,
}

impl CheckEntries {
    fn list(&mut self, lister: &mut Lister, path: &Path) -> Result<io::Result<()>, Stopped> {
        let is_stdin = path == Path::new("-");
        if is_stdin && self.is_stdin_taken {
            return Ok(Ok(()));
        }
        let opened = match is_stdin {
            true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            false => File::open(path),
        };
        match opened {
            Ok(file) => self.lines(lister, &file, is_stdin),
            Err(error) => Ok(Err(error)),
        }
    }

    fn lines(
        &mut self,
        lister: &mut Lister,
        input: &File,
        is_stdin: bool,
    ) -> Result<io::Result<()>, Stopped> {
        let mut lines = Lines::new(input);
        loop {
            if lines.is_drained() && is_waiting(input) {
                lister.flush(Last::OfJob)?;
            }
            let line = match lines.next_line() {
                Ok(Some(Line::Whole(line))) => line,
                Ok(Some(Line::TooLong)) => {
                    let text = format_args!("line longer than {LINE_LEN_MAX} bytes");
                    self.mark(lister, &text, Mark::BadLine(0))?;
                    continue;
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            let Ok(line) = str::from_utf8(line) else {
                return Ok(Err(io::Error::other("stream did not contain valid UTF-8")));
            };
            match line::parse(line) {
                Ok(line) => self.entry(lister, &line, is_stdin)?,
                Err(why) => self.mark(lister, &why, Mark::BadLine(0))?,
            }
        }
    }

    fn entry(
        &mut self,
        lister: &mut Lister,
        line: &CheckLine<'_>,
        is_stdin: bool,
    ) -> Result<(), Stopped> {
        self.want.clear();
        self.want.extend_from_slice(&line.digest);
        if line.is_escaped {
            self.want.push(b'\\');
            self.want.extend_from_slice(line.written.as_bytes());
        }
        let label = Label { name: line.path.as_bytes(), function: self.function, want: &self.want };
        let is_for_stdin = line.path == "-";
        self.is_stdin_taken |= is_for_stdin;
        match is_stdin && is_for_stdin {
            true => lister.known(label, Verdict::Problem(STDIN_IS_THE_LIST)),
            false => lister.path(label),
        }
    }

    fn mark(
        &self,
        lister: &mut Lister,
        text: &dyn fmt::Display,
        mark: Mark,
    ) -> Result<(), Stopped> {
        let text = text.to_string();
        let label = Label { name: text.as_bytes(), function: self.function, want: b"" };
        lister.known(label, Verdict::Mark(mark))
    }
}
