//! Files against the digests in lists.

use super::errors::quote_name;
use super::list::{LineParser, ListLine};
use super::options::{GnuOptions, Reporting};
use super::tool::Tool;
use super::{Outcome, stream};
use crate::compat::reread::reread;
use crate::engine::Printer;
use crate::engine::lister::{Last, Lister};
use crate::engine::reorder::{Item, Label, Mark, Stopped, Verdict};
use crate::input::is_waiting;
use crate::output::{Out, escape};
use crate::problem::Problem;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// Name of standard input as a list.
const STDIN_NAME: &[u8] = b"standard input";

/// Longest line that is parsed; a longer one counts as improperly formatted. A name that can be opened
/// is shorter.
const LINE_LEN_MAX: u64 = 16 << 20;

/// Lists what the lists name.
pub(super) fn lister(
    tool: &'static Tool,
    lists: Vec<OsString>,
    has_stdin: bool,
) -> impl FnOnce(&mut Lister) -> Result<(), Stopped> + Send + 'static {
    move |lister| {
        let mut reader =
            ListReader { tool, parser: LineParser::new(tool), names_stdin: false, has_stdin };
        lists.iter().try_for_each(|list| reader.list(list, lister))
    }
}

struct ListReader {
    tool: &'static Tool,
    parser: LineParser,
    /// A list named standard input as a file.
    names_stdin: bool,
    has_stdin: bool,
}

impl ListReader {
    fn list(&mut self, path: &OsStr, lister: &mut Lister) -> Result<(), Stopped> {
        let is_stdin = path == "-";
        let name = if is_stdin { STDIN_NAME } else { path.as_bytes() };
        let end = match self.open(is_stdin, path, lister)? {
            Ok(file) => match self.lines(name, is_stdin, &file, lister)? {
                Ok(()) => Mark::End,
                Err(_) => Mark::ReadError,
            },
            Err(_) if is_stdin => Mark::ReadError,
            Err(error) => Mark::Unreadable(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        lister.known(self.label(name), Verdict::Mark(end))
    }

    fn open(
        &self,
        is_stdin: bool,
        path: &OsStr,
        lister: &mut Lister,
    ) -> Result<io::Result<File>, Stopped> {
        if !is_stdin {
            return Ok(File::open(path));
        }
        if !self.has_stdin {
            return Ok(Err(io::Error::from_raw_os_error(libc::EBADF)));
        }
        if self.names_stdin {
            // What it leaves is the list.
            lister.wait()?;
        }
        Ok(io::stdin().as_fd().try_clone_to_owned().map(File::from))
    }

    fn lines(
        &mut self,
        list: &[u8],
        is_stdin: bool,
        file: &File,
        lister: &mut Lister,
    ) -> Result<io::Result<()>, Stopped> {
        let mut input = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1.. {
            if input.buffer().is_empty() && is_waiting(file) {
                lister.flush(Last::OfJob)?;
            }
            match read_line(&mut input, &mut line) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Ok(Err(error)),
            }
            match self.parser.parse(&line) {
                ListLine::Entry(entry) if !is_stdin || &*entry.name != b"-" => {
                    self.names_stdin |= &*entry.name == b"-";
                    let function = self.tool.function(entry.digest.len());
                    lister.path(Label { name: &entry.name, function, want: &entry.digest })?;
                }
                ListLine::Entry(_) | ListLine::Bad => {
                    lister.known(self.label(list), Verdict::Mark(Mark::BadLine(number)))?;
                }
                ListLine::Nothing => {}
            }
        }
        Ok(Ok(()))
    }

    fn label<'a>(&self, list: &'a [u8]) -> Label<'a> {
        Label { name: list, function: self.tool.algorithm.into(), want: b"" }
    }
}

/// Reads a line without its newline; false at the end. Of a line that is too long only the start is kept,
/// which is improperly formatted.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    input.take(LINE_LEN_MAX + 1).read_until(b'\n', line)?;
    match line.last() {
        None => return Ok(false),
        Some(b'\n') => drop(line.pop()),
        Some(_) if line.len() as u64 > LINE_LEN_MAX => {
            line.truncate(1);
            input.skip_until(b'\n')?;
        }
        Some(_) => {}
    }
    Ok(true)
}

/// Counts of one list.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    good_lines: u64,
    bad_lines: u64,
    unreadable: u64,
    matches: u64,
    mismatches: u64,
}

/// Prints what the files are.
pub(super) struct Verdicts {
    tool: &'static Tool,
    options: GnuOptions,
    pub(super) outcome: Outcome,
    counts: Counts,
}

impl Verdicts {
    pub(super) fn new(tool: &'static Tool, options: GnuOptions, outcome: Outcome) -> Self {
        Self { tool, options, outcome, counts: Counts::default() }
    }
}

impl Printer for Verdicts {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        let name = item.label.name;
        match item.verdict {
            Verdict::Mark(mark) => {
                out.flush()?;
                self.mark(name, mark);
                return Ok(());
            }
            Verdict::Digest => self.compare(item, item.digest, out),
            Verdict::Problem(Problem::Io(libc::ENOENT)) if self.options.ignores_missing => {}
            Verdict::Problem(problem) => match reread(item, problem, || stream(item)) {
                Ok(digest) => self.compare(item, &digest, out),
                Err(problem) => {
                    self.counts.unreadable += 1;
                    out.flush()?;
                    self.outcome.report(item, problem);
                    self.put(name, b"FAILED open or read", out);
                }
            },
            Verdict::Waiting | Verdict::Skipped(_) => {}
        }
        self.outcome.reads_stdin |= name == b"-";
        self.counts.good_lines += 1;
        out.flush_if_full()
    }

    fn is_ok(&self) -> bool {
        self.outcome.is_ok
    }

    fn is_quiet(&self) -> bool {
        matches!(self.options.report, Reporting::Quiet | Reporting::Status)
    }
}

impl Verdicts {
    fn compare(&mut self, item: &Item<'_>, digest: &[u8], out: &mut Out) {
        if digest != item.label.want {
            self.counts.mismatches += 1;
            self.put(item.label.name, b"FAILED", out);
        } else {
            self.counts.matches += 1;
            if self.options.report != Reporting::Quiet {
                self.put(item.label.name, b"OK", out);
            }
        }
    }

    /// One line about a file. Only a newline has its name escaped.
    fn put(&self, name: &[u8], verdict: &[u8], out: &mut Out) {
        if self.options.report == Reporting::Status {
            return;
        }
        let out = out.buffer();
        if name.contains(&b'\n') {
            out.push(b'\\');
            escape(name, out);
        } else {
            out.extend_from_slice(name);
        }
        out.extend_from_slice(b": ");
        out.extend_from_slice(verdict);
        out.push(b'\n');
    }

    fn mark(&mut self, list: &[u8], mark: Mark) {
        let quoted = quote_name(list);
        self.outcome.reads_stdin |= list == STDIN_NAME;
        match mark {
            Mark::BadLine(number) | Mark::LongLine(number) => {
                self.counts.bad_lines += 1;
                if self.options.report == Reporting::Warn {
                    let tag = self.tool.tag;
                    let text =
                        format!("{quoted}: {number}: improperly formatted {tag} checksum line");
                    self.outcome.errors.say(text.as_bytes());
                }
                return;
            }
            Mark::Unreadable(errno) => {
                self.outcome.is_ok = false;
                self.outcome.errors.say(format!("{quoted}: {}", Problem::Io(errno)).as_bytes());
            }
            Mark::ReadError => {
                self.outcome.is_ok = false;
                self.outcome.errors.say(format!("{quoted}: read error").as_bytes());
            }
            Mark::End => self.outcome.is_ok &= self.end_of_list(&quoted),
            // They come from other lists than these.
            Mark::Remark(_) => {}
        }
        self.counts = Counts::default();
    }

    /// Reports what was wrong with a list; true if nothing was.
    fn end_of_list(&mut self, quoted: &str) -> bool {
        let Self { options, counts, outcome, .. } = self;
        let errors = &mut outcome.errors;
        if counts.good_lines == 0 {
            let text = format!("{quoted}: no properly formatted checksum lines found");
            errors.say(text.as_bytes());
            return false;
        }
        let kinds = [
            (counts.bad_lines, "line is improperly formatted", "lines are improperly formatted"),
            (counts.unreadable, "listed file could not be read", "listed files could not be read"),
            (
                counts.mismatches,
                "computed checksum did NOT match",
                "computed checksums did NOT match",
            ),
        ];
        if options.report != Reporting::Status {
            for (count, one, many) in kinds {
                match count {
                    0 => {}
                    1 => errors.say(format!("WARNING: 1 {one}").as_bytes()),
                    _ => errors.say(format!("WARNING: {count} {many}").as_bytes()),
                }
            }
            if options.ignores_missing && counts.matches == 0 {
                errors.say(format!("{quoted}: no file was verified").as_bytes());
            }
        }
        counts.matches > 0
            && counts.mismatches == 0
            && counts.unreadable == 0
            && (!options.is_strict || counts.bad_lines == 0)
    }
}
