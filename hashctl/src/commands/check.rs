//! `hashctl check`: files against the digests in manifests, reported as coreutils 9.1 does.
//!
//! Invariant: OK stands for a file that was read to its end and has the manifest's digest.

use crate::args::CheckOptions;
use crate::config::Config;
use crate::engine::lister::{Last, Lister};
use crate::engine::reorder::{Item, Label, Mark, Stopped, Verdict};
use crate::engine::{Printer, run};
use crate::exit::Exit;
use crate::input::is_waiting;
use crate::lists::manifest::{Claim, LINE_LEN_MAX, Line, Lines, Parsed, Parser};
use crate::lists::quote::quote;
use crate::output::{Out, checksum_name, escape};
use crate::problem::Problem;
use crate::say::say;
use ipc_proto::Algorithm;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Name of standard input as a manifest.
const STDIN_NAME: &[u8] = b"standard input";

/// Checks the files that `manifests` name.
pub(crate) fn check(config: &Config, options: CheckOptions, manifests: Vec<OsString>) -> Exit {
    let mut printer = Verdicts { options, counts: Counts::default(), is_ok: true };
    let has_stdin = config.stdio.has_stdin;
    run(config, &mut printer, None, move |lister| {
        manifests.into_iter().try_for_each(|manifest| {
            list(lister, options.algorithm, &manifest.into_vec(), has_stdin)
        })
    })
}

fn list(
    lister: &mut Lister,
    asked: Option<Algorithm>,
    manifest: &[u8],
    has_stdin: bool,
) -> Result<(), Stopped> {
    let (name, opened) = match manifest {
        b"-" if has_stdin => (STDIN_NAME, io::stdin().as_fd().try_clone_to_owned().map(File::from)),
        b"-" => (STDIN_NAME, Err(io::Error::from_raw_os_error(libc::EBADF))),
        _ => (manifest, File::open(OsStr::from_bytes(manifest))),
    };
    let read = match opened {
        Ok(file) => list_lines(lister, asked, name, &file)?,
        Err(error) => Err(error),
    };
    lister.known(
        mark_label(name),
        Verdict::Mark(match read {
            Ok(()) => Mark::End,
            Err(error) => Mark::Unreadable(error.raw_os_error().unwrap_or(libc::EIO)),
        }),
    )
}

fn mark_label(manifest: &[u8]) -> Label<'_> {
    Label { name: manifest, function: Algorithm::Sha256.into(), want: b"" }
}

fn list_lines(
    lister: &mut Lister,
    asked: Option<Algorithm>,
    manifest: &[u8],
    input: &File,
) -> Result<io::Result<()>, Stopped> {
    let mut parser = Parser::new(asked);
    let mut lines = Lines::new(input);
    for number in 1.. {
        if lines.is_drained() && is_waiting(input) {
            lister.flush(Last::OfJob)?;
        }
        let mark = match lines.next_line() {
            Ok(Some(Line::Whole(line))) => match parser.parse(line) {
                Parsed::Claim(claim) if manifest != STDIN_NAME || &*claim.name != b"-" => {
                    let Claim { algorithm, digest, name } = &claim;
                    let function = (*algorithm).into();
                    lister.path(Label { name, function, want: digest })?;
                    continue;
                }
                Parsed::Claim(_) | Parsed::Bad => Mark::BadLine(number),
                Parsed::Nothing => continue,
            },
            Ok(Some(Line::TooLong)) => Mark::LongLine(number),
            Ok(None) => break,
            Err(error) => return Ok(Err(error)),
        };
        lister.known(mark_label(manifest), Verdict::Mark(mark))?;
    }
    Ok(Ok(()))
}

/// Counts of one manifest.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    good_lines: u64,
    bad_lines: u64,
    unreadable: u64,
    matches: u64,
    mismatches: u64,
}

struct Verdicts {
    options: CheckOptions,
    counts: Counts,
    is_ok: bool,
}

impl Printer for Verdicts {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Mark(mark) => {
                out.flush()?;
                self.mark(item.label.name, mark);
            }
            Verdict::Digest => {
                self.counts.good_lines += 1;
                let is_match = item.digest == item.label.want;
                let count =
                    if is_match { &mut self.counts.matches } else { &mut self.counts.mismatches };
                *count += 1;
                match is_match {
                    true if self.options.quiet => {}
                    true => self.put(item.label.name, b"OK", out),
                    false => self.put(item.label.name, b"FAILED", out),
                }
            }
            Verdict::Problem(Problem::Io(libc::ENOENT)) if self.options.ignore_missing => {
                self.counts.good_lines += 1;
            }
            Verdict::Problem(problem) => {
                self.counts.good_lines += 1;
                self.counts.unreadable += 1;
                out.flush()?;
                say(format_args!("{}: {problem}", quote(item.label.name)));
                self.put(item.label.name, b"FAILED open or read", out);
            }
            Verdict::Waiting | Verdict::Skipped(_) => {}
        }
        out.flush_if_full()
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }

    fn is_quiet(&self) -> bool {
        self.options.quiet || self.options.status
    }
}

impl Verdicts {
    /// One line about a file. Only a newline has its name escaped, as in coreutils.
    fn put(&self, name: &[u8], verdict: &[u8], out: &mut Out) {
        if self.options.status {
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

    fn mark(&mut self, manifest: &[u8], mark: Mark) {
        let name = quote(manifest);
        match mark {
            Mark::BadLine(number) => {
                self.counts.bad_lines += 1;
                if self.options.warn {
                    let checksum = checksum_name(self.options.algorithm);
                    say(format_args!(
                        "{name}: {number}: improperly formatted {checksum} checksum line"
                    ));
                }
            }
            Mark::LongLine(number) => {
                self.counts.bad_lines += 1;
                say(format_args!("{name}: {number}: line longer than {LINE_LEN_MAX} bytes"));
                // It may name a file, which is not verified.
                self.is_ok = false;
            }
            Mark::Unreadable(errno) => {
                say(format_args!("{name}: {}", Problem::Io(errno)));
                self.is_ok = false;
                self.counts = Counts::default();
            }
            Mark::ReadError => unreachable!("here every error has a number"),
            Mark::End => {
                let counts = std::mem::take(&mut self.counts);
                self.is_ok &= self.summary(&name, counts);
            }
        }
    }

    /// Says what was wrong with a manifest; whether nothing was.
    fn summary(&self, name: &str, counts: Counts) -> bool {
        let CheckOptions { status, strict, ignore_missing, .. } = self.options;
        if counts.good_lines == 0 {
            say(format_args!("{name}: no properly formatted checksum lines found"));
            return false;
        }
        if !status {
            for (count, one, many) in [
                (
                    counts.bad_lines,
                    "line is improperly formatted",
                    "lines are improperly formatted",
                ),
                (
                    counts.unreadable,
                    "listed file could not be read",
                    "listed files could not be read",
                ),
                (
                    counts.mismatches,
                    "computed checksum did NOT match",
                    "computed checksums did NOT match",
                ),
            ] {
                match count {
                    0 => {}
                    1 => say(format_args!("WARNING: 1 {one}")),
                    _ => say(format_args!("WARNING: {count} {many}")),
                }
            }
            if ignore_missing && counts.matches == 0 {
                say(format_args!("{name}: no file was verified"));
            }
        }
        counts.matches > 0
            && counts.mismatches == 0
            && counts.unreadable == 0
            && (!strict || counts.bad_lines == 0)
    }
}
