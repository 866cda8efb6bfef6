//! Output of `hashctl check`: a line per file, faults of each list, and counts.

use super::causes::Causes;
use super::{SharedResume, near};
use crate::args::{CheckOptions, ReportArgs};
use crate::engine::Printer;
use crate::engine::function::Function;
use crate::engine::reorder::{Item, Mark, Verdict};
use crate::exit::Exit;
use crate::json::{FileCounts, Record};
use crate::lists::hex;
use crate::lists::lines::LINE_LEN_MAX;
use crate::lists::manifest::Remark;
use crate::lists::quote::quote;
use crate::output::{Out, checksum_name, put_name};
use crate::problem::Problem;
use crate::replace::write_error;
use crate::say::say;
use ipc_proto::Algorithm;
use schedule::Cause;
use std::io;

/// Most names for which a similar one is looked for: each is a search in a directory.
const NEAR_MAX: u32 = 16;

/// Counts of one list, or of all.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    matches: u64,
    mismatches: u64,
    unreadable: u64,
    /// Missing, where that is ignored.
    ignored: u64,
    /// By an earlier run.
    verified: u64,
    bad_lines: u64,
    unsupported_lines: u64,
    short_names: u64,
    long_lines: u64,
    first_long_line: u64,
}

impl Counts {
    fn files(&self) -> u64 {
        self.matches + self.mismatches + self.unreadable + self.ignored + self.verified
    }
}

/// Prints verdicts, faults and counts.
pub(super) struct Reports {
    options: CheckOptions,
    counts: Counts,
    totals: Counts,
    nears: u32,
    /// Function for which all digests of the list were taken by their length.
    guess: Option<Function>,
    is_signed: bool,
    is_ok: bool,
    causes: Causes,
    resume: Option<SharedResume>,
    /// Number of the last entry of the list that was printed.
    entry: u64,
    is_complete: bool,
}

impl Reports {
    pub(super) fn new(
        options: &CheckOptions,
        causes: Causes,
        resume: Option<SharedResume>,
    ) -> Self {
        Self {
            options: options.clone(),
            counts: Counts::default(),
            totals: Counts::default(),
            nears: 0,
            guess: None,
            is_signed: false,
            is_ok: true,
            causes,
            resume,
            entry: 0,
            is_complete: false,
        }
    }

    /// Leaves the file of `--resume` as it should be after this run; the exit status.
    pub(super) fn end(self, exit: Exit) -> Exit {
        let Some(resume) = self.resume else { return exit };
        let mut resume = resume.lock().expect("no holder panics");
        let done = if self.is_complete { resume.remove() } else { resume.save() };
        match done {
            Ok(()) if self.is_complete => exit,
            Ok(()) => {
                say(format_args!("the same command goes on from here, by {}", resume.name));
                exit
            }
            Err(error) => {
                say(format_args!("{}: {}", resume.name, write_error(&error)));
                if exit == Exit::Success { Exit::Failure } else { exit }
            }
        }
    }

    /// Takes note of an entry: that it is the next one, and maybe that it matched.
    fn note(&mut self, is_match: bool) {
        self.entry += 1;
        let Some(resume) = &self.resume else { return };
        let mut resume = resume.lock().expect("no holder panics");
        if is_match {
            resume.add(self.entry);
        }
        if let Err(error) = resume.save_if_due() {
            say(format_args!("{}: {}", resume.name, write_error(&error)));
            self.is_ok = false;
        }
    }
}

impl Printer for Reports {
    fn print(&mut self, item: &Item<'_>, out: &mut Out) -> io::Result<()> {
        match item.verdict {
            Verdict::Mark(mark) => {
                out.flush()?;
                self.mark(item.label.name, mark, out);
            }
            Verdict::Digest if item.digest == item.label.want => {
                self.note(true);
                self.counts.matches += 1;
                self.put(item, Status::Ok, out);
            }
            Verdict::Digest => {
                self.note(false);
                self.counts.mismatches += 1;
                let cause = self.causes.of(item);
                self.put(item, Status::Mismatch(cause), out);
                if let (Some(text), false) = (cause.text(), self.options.report.status) {
                    out.flush()?;
                    say(format_args!("{}: {text}", quote(item.label.name)));
                }
            }
            Verdict::Problem(Problem::Io(libc::ENOENT)) if self.options.report.ignore_missing => {
                self.note(false);
                self.counts.ignored += 1;
            }
            Verdict::Problem(problem) => {
                self.note(false);
                self.counts.unreadable += 1;
                out.flush()?;
                let hint = self.hint(item.label.name, problem);
                let text = item.problem_text(problem);
                say(format_args!("{}: {text}{hint}", quote(item.label.name)));
                self.put(item, Status::Unreadable(problem), out);
            }
            Verdict::Waiting | Verdict::Skipped(_) => {}
        }
        out.flush_if_full()
    }

    fn finish(&mut self, out: &mut Out) -> io::Result<()> {
        self.is_complete = true;
        out.flush()
    }

    fn is_ok(&self) -> bool {
        self.is_ok
    }

    fn is_quiet(&self) -> bool {
        self.options.report.quiet || self.options.report.status
    }
}

/// Outcome of a file.
#[derive(Clone, Copy, Debug)]
enum Status {
    Ok,
    Mismatch(Cause),
    Unreadable(Problem),
}

impl Reports {
    /// One line about a file.
    fn put(&self, item: &Item<'_>, status: Status, out: &mut Out) {
        if self.options.report.status || (self.options.report.quiet && matches!(status, Status::Ok))
        {
            return;
        }
        let out = out.buffer();
        if self.options.json {
            return record(item, status, out);
        }
        // As in coreutils only a newline has a name escaped; here also a backslash at its start, with
        // which an escaped name begins.
        let name = item.label.name;
        let is_escaped = name.contains(&b'\n') || name.starts_with(b"\\");
        put_name(name, !is_escaped, out);
        out.extend_from_slice(match status {
            Status::Ok => b": OK\n",
            Status::Mismatch(_) => b": FAILED\n",
            Status::Unreadable(_) => b": FAILED open or read\n",
        });
    }

    /// The name of a file that is there, where `name` is not.
    fn hint(&mut self, name: &[u8], problem: Problem) -> String {
        if !matches!(problem, Problem::Io(libc::ENOENT)) || self.nears == NEAR_MAX {
            return String::new();
        }
        self.nears += 1;
        near::find(name).map_or(String::new(), |(near, difference)| {
            format!("; there is {} ({difference})", quote(&near))
        })
    }

    fn mark(&mut self, list: &[u8], mark: Mark, out: &mut Out) {
        let name = quote(list);
        let options = &self.options;
        let mut bad_line = |number: u64, what: &str| {
            if options.report.warn {
                say(format_args!("{name}: {number}: {what}"));
            }
            if options.json && !options.report.status {
                let line = Some(number);
                Record { list: Some(&name), line, error: Some(what), ..Record::default() }
                    .put(out.buffer());
            }
        };
        match mark {
            Mark::BadLine(number) => {
                let checksum = checksum_name(options.algorithm);
                bad_line(number, &format!("improperly formatted {checksum} checksum line"));
                self.counts.bad_lines += 1;
            }
            Mark::Remark(Remark::LoneDigest(number)) => {
                bad_line(number, "a digest without the name of its file");
                self.counts.bad_lines += 1;
            }
            Mark::Remark(Remark::UnsupportedLine(number)) => {
                bad_line(number, "a digest of an algorithm that is not supported");
                self.counts.unsupported_lines += 1;
            }
            Mark::Remark(Remark::ShortName(number)) => {
                bad_line(number, "a name with no more components than are stripped");
                self.counts.short_names += 1;
                // It names a file, which is not verified.
                self.is_ok = false;
            }
            Mark::LongLine(number) => {
                bad_line(number, &format!("line longer than {LINE_LEN_MAX} bytes"));
                if self.counts.long_lines == 0 {
                    self.counts.first_long_line = number;
                }
                self.counts.long_lines += 1;
                // It may name a file.
                self.is_ok = false;
            }
            Mark::Remark(Remark::Signed)
                if self.is_signed || options.report.quiet || options.report.status => {}
            Mark::Remark(Remark::Signed) => {
                self.is_signed = true;
                say(format_args!("{name}: the signature is not verified"));
            }
            Mark::ReadError => self.unusable(&name, "read error"),
            Mark::Unreadable(errno) => self.unusable(&name, &Problem::Io(errno).to_string()),
            Mark::Remark(Remark::Refused(refusal)) => self.unusable(&name, &refusal.to_string()),
            Mark::Remark(Remark::Guess(guess)) => self.guess = Some(guess),
            Mark::End => {
                let guess = self.guess.take();
                let counts = std::mem::take(&mut self.counts);
                self.is_ok &= self.summary(&name, counts, guess);
                self.total(counts);
            }
            Mark::Remark(Remark::Start) => {
                self.entry = 0;
                self.causes.select(list);
                if let Some(resume) = &self.resume {
                    resume.lock().expect("no holder panics").select(list);
                }
            }
            Mark::Remark(Remark::Verified) => {
                self.entry += 1;
                self.counts.verified += 1;
            }
            Mark::Remark(Remark::EndOfAll) => self.last_line(out),
        }
    }

    /// A list that cannot be read to its end.
    fn unusable(&mut self, name: &str, why: &str) {
        say(format_args!("{name}: {why}"));
        self.is_ok = false;
        let counts = std::mem::take(&mut self.counts);
        self.total(counts);
    }

    fn total(&mut self, counts: Counts) {
        self.totals.matches += counts.matches;
        self.totals.mismatches += counts.mismatches;
        self.totals.unreadable += counts.unreadable;
        self.totals.ignored += counts.ignored;
        self.totals.verified += counts.verified;
        self.is_signed = false;
    }

    /// Says what was wrong with a list; false if anything was.
    fn summary(&self, name: &str, counts: Counts, guess: Option<Function>) -> bool {
        let ReportArgs { status, strict, ignore_missing, .. } = self.options.report;
        let is_long_only = counts.files() == 0 && counts.long_lines > 0 && counts.bad_lines == 0;
        if !status && counts.long_lines > 0 {
            say(format_args!(
                "{name}: {} longer than {LINE_LEN_MAX} bytes, first line {}",
                count(counts.long_lines, "line is", "lines are"),
                counts.first_long_line
            ));
        }
        if counts.files() == 0 {
            if !is_long_only {
                say(format_args!("{name}: no properly formatted checksum lines found"));
            }
            return false;
        }
        if !status {
            for (number, one, many) in [
                (
                    counts.bad_lines,
                    "line is improperly formatted",
                    "lines are improperly formatted",
                ),
                (
                    counts.unsupported_lines,
                    "line has an algorithm that is not supported",
                    "lines have an algorithm that is not supported",
                ),
                (
                    counts.short_names,
                    "name has no more components than are stripped",
                    "names have no more components than are stripped",
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
                if number > 0 {
                    say(format_args!("WARNING: {}", count(number, one, many)));
                }
            }
            if ignore_missing && counts.matches + counts.verified == 0 {
                say(format_args!("{name}: no file was verified"));
            }
            if let (0, 1.., Some(guess)) =
                (counts.matches + counts.verified, counts.mismatches, guess)
            {
                hint_at_algorithms(name, guess);
            }
        }
        let is_unread = counts.bad_lines + counts.unsupported_lines > 0;
        counts.matches + counts.verified > 0
            && counts.mismatches == 0
            && counts.unreadable == 0
            && !(strict && is_unread)
    }

    /// The counts of all lists.
    fn last_line(&self, out: &mut Out) {
        let Counts { matches, mismatches, unreadable, ignored, verified, .. } = self.totals;
        let files = self.totals.files();
        if self.options.report.quiet || self.options.report.status || files == 0 {
            return;
        }
        if self.options.json {
            let (ok, mismatch, missing_ignored) = (matches, mismatches, ignored);
            let verified_earlier = verified;
            let counts =
                FileCounts { files, ok, mismatch, unreadable, missing_ignored, verified_earlier };
            return Record { counts: Some(counts), ..Record::default() }.put(out.buffer());
        }
        let mut text = format!("{}: {matches} OK", count(files, "file", "files"));
        for (number, what) in [
            (mismatches, "FAILED"),
            (unreadable, "could not be read"),
            (ignored, "missing"),
            (verified, "verified earlier"),
        ] {
            if number > 0 {
                text.push_str(&format!(", {number} {what}"));
            }
        }
        say(format_args!("{text}"));
    }
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Nothing matched, and the algorithm was only a guess by the number of digits.
fn hint_at_algorithms(name: &str, guess: Function) {
    let len = guess.digest_len();
    let is_other =
        |other: &Algorithm| other.digest_len() == len && Some(*other) != guess.standard();
    // The last to be added are the likely ones.
    let others: Vec<String> = Algorithm::ALL
        .into_iter()
        .rev()
        .filter(is_other)
        .map(|other| format!("-a {}", other.name()))
        .collect();
    if !others.is_empty() {
        say(format_args!(
            "{name}: nothing matched; digests of {} digits were taken for {}, see {}",
            2 * len,
            guess.algorithm().tag(),
            others.join(", ")
        ));
    }
}

/// The JSON of a file.
fn record(item: &Item<'_>, status: Status, out: &mut Vec<u8>) {
    let problem = match status {
        Status::Ok | Status::Mismatch(_) => None,
        Status::Unreadable(problem) => Some(problem.to_string()),
    };
    let has_digest = problem.is_none();
    Record {
        status: Some(match status {
            Status::Ok => "ok",
            Status::Mismatch(_) => "mismatch",
            Status::Unreadable(Problem::Io(libc::ENOENT)) => "missing",
            Status::Unreadable(_) => "unreadable",
        }),
        size: has_digest.then_some(item.size),
        digest: has_digest.then(|| hex::text(item.digest)),
        expected: Some(hex::text(item.label.want)),
        cause: match status {
            Status::Mismatch(cause) => cause.name(),
            Status::Ok | Status::Unreadable(_) => None,
        },
        error: problem.as_deref(),
        ..Record::of(item.label)
    }
    .put(out);
}
