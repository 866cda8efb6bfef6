//! Output of b3sum for each file: a digest of any length, or the verdict on a line of a list.

use super::line::DIGEST_LEN;
use super::options::B3sumOptions;
use crate::engine::Printer;
use crate::engine::reorder::{Item, Mark, Verdict};
use crate::lists::hex;
use crate::output::Out;
use crate::problem::Problem;
use ipc_proto::message::Failure;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};

/// Output bytes that are computed at once, so that digests of any length take little memory.
const CHUNK_LEN: usize = 4 << 10;

/// Stands for standard input where the key came by it. No file has this problem.
pub(super) const STDIN_IS_THE_KEY: Problem = Problem::NoDataset;

/// Stands for standard input in a list that comes by it.
pub(super) const STDIN_IS_THE_LIST: Problem = Problem::NoDataset;

/// Prints the digest of each file.
#[derive(Debug)]
pub(super) struct B3sumDigests {
    options: B3sumOptions,
    is_ok: bool,
}

impl B3sumDigests {
    pub(super) fn new(options: B3sumOptions) -> Self {
        Self { options, is_ok: true }
    }

    fn digest(&self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        let B3sumOptions { raw, no_names, tag, .. } = self.options;
        if raw {
            return self.put(item, out, |bytes, out| out.extend_from_slice(bytes));
        }
        if no_names {
            self.put(item, out, hex::encode)?;
            out.buffer().push(b'\n');
            return Ok(());
        }
        let name = String::from_utf8_lossy(item.label.name);
        let name = escaped(&name);
        if matches!(name, Cow::Owned(_)) {
            out.buffer().push(b'\\');
        }
        if tag {
            out.buffer().extend_from_slice(format!("BLAKE3 ({name}) = ").as_bytes());
        }
        self.put(item, out, hex::encode)?;
        if !tag {
            out.buffer().extend_from_slice(format!("  {name}").as_bytes());
        }
        out.buffer().push(b'\n');
        Ok(())
    }

    /// Appends as many bytes of an item's output as were asked for, each piece as `encode` does.
    fn put(
        &self,
        item: &Item<'_>,
        out: &mut Out,
        encode: impl Fn(&[u8], &mut Vec<u8>),
    ) -> io::Result<()> {
        let Some(output) = item.output else {
            let len = usize::try_from(self.options.length).unwrap_or(usize::MAX);
            encode(&item.digest[..len.min(item.digest.len())], out.buffer());
            return Ok(());
        };
        let mut output = output.clone();
        output.set_position(self.options.seek);
        let mut output = output.take(self.options.length);
        let mut chunk = [0; CHUNK_LEN];
        loop {
            match output.read(&mut chunk)? {
                0 => return Ok(()),
                len => encode(&chunk[..len], out.buffer()),
            }
            out.flush_if_full()?;
        }
    }
}

impl Printer for B3sumDigests {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Digest => self.digest(item, out)?,
            Verdict::Problem(problem) => {
                self.is_ok = false;
                // What goes to one terminal or file stays in order.
                out.flush()?;
                let name = String::from_utf8_lossy(item.label.name);
                if problem == STDIN_IS_THE_KEY {
                    complain(format_args!("-: Cannot open `-` in keyed mode"));
                } else {
                    complain(format_args!("{name}: {}", text(problem)));
                }
            }
            Verdict::Waiting | Verdict::Skipped(_) | Verdict::Mark(_) => {}
        }
        out.flush_if_full()
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }
}

/// Prints whether each file of a list has its digest. What `label.want` has behind the digest is the
/// name as it is printed, if that is not the file's; a mark's name is the message.
#[derive(Debug)]
pub(super) struct B3sumVerdicts {
    is_quiet: bool,
    seek: u64,
    failed: u64,
    /// A list could not be read: nothing follows.
    is_broken: bool,
}

impl B3sumVerdicts {
    pub(super) fn new(options: &B3sumOptions) -> Self {
        Self { is_quiet: options.quiet, seek: options.seek, failed: 0, is_broken: false }
    }

    /// Reports the number of failures, once everything is printed.
    pub(super) fn summary(&self) {
        if self.failed > 0 && !self.is_broken {
            let (count, s) = (self.failed, if self.failed == 1 { "" } else { "s" });
            complain(format_args!("WARNING: {count} computed checksum{s} did NOT match"));
        }
    }

    fn verdict(&mut self, item: &Item<'_>, verdict: fmt::Arguments<'_>, out: &mut Out) {
        let name = match item.label.want.get(DIGEST_LEN..) {
            Some(written) if !written.is_empty() => written,
            _ => item.label.name,
        };
        out.buffer().extend_from_slice(name);
        writeln!(out.buffer(), ": {verdict}").expect("a vector takes everything");
    }
}

impl Printer for B3sumVerdicts {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Digest => {
                let mut found = [0; DIGEST_LEN];
                match item.output {
                    Some(output) => {
                        let mut output = output.clone();
                        output.set_position(self.seek);
                        output.fill(&mut found);
                    }
                    None => found.copy_from_slice(item.digest),
                }
                if item.label.want.starts_with(&found) {
                    if !self.is_quiet {
                        self.verdict(item, format_args!("OK"), out);
                    }
                } else {
                    self.failed += 1;
                    self.verdict(item, format_args!("FAILED"), out);
                }
            }
            Verdict::Problem(problem) => {
                self.failed += 1;
                let text = match problem == STDIN_IS_THE_LIST {
                    true => "standard input is the list itself".into(),
                    false => text(problem),
                };
                self.verdict(item, format_args!("FAILED ({text})"), out);
            }
            Verdict::Mark(mark) => {
                out.flush()?;
                let message = String::from_utf8_lossy(item.label.name);
                match mark {
                    Mark::Unreadable(_) | Mark::ReadError => {
                        self.is_broken = true;
                        fail(format_args!("{message}"));
                    }
                    Mark::BadLine(_) | Mark::LongLine(_) | Mark::End | Mark::Remark(_) => {
                        self.failed += 1;
                        complain(format_args!("{message}"));
                    }
                }
            }
            Verdict::Waiting | Verdict::Skipped(_) => {}
        }
        out.flush_if_full()
    }

    fn is_ok(&self) -> bool {
        self.failed == 0 && !self.is_broken
    }
}

/// `name` as a line shows it that starts with a backslash; borrowed if none is needed.
fn escaped(name: &str) -> Cow<'_, str> {
    if !name.contains(['\\', '\n', '\r']) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r"))
}

/// The original's words for a problem: the system's, with the number.
fn text(problem: Problem) -> String {
    let errno = match problem {
        Problem::Io(errno) | Problem::Failure(Failure::Io { errno }) => errno,
        Problem::Directory => libc::EISDIR,
        Problem::Special(_)
        | Problem::TooDeep
        | Problem::Changed
        | Problem::NoDataset
        | Problem::Unseen(_)
        | Problem::Failure(_) => return problem.to_string(),
    };
    io::Error::from_raw_os_error(errno).to_string()
}

/// Says `b3sum: TEXT`, as the original does of a file or a line.
pub(super) fn complain(text: fmt::Arguments<'_>) {
    // Nobody is left to tell when standard error is gone.
    let _ = writeln!(io::stderr(), "b3sum: {text}");
}

/// Says `Error: TEXT`, as the original does when it ends at once.
pub(super) fn fail(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "Error: {text}");
}
