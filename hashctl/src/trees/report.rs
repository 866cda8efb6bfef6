//! Findings of `audit` and `update`: printed as asked for, and counted.

use super::claims::ClaimTable;
use super::finding::{Finding, FindingCounts, FindingFormat, FindingLine, say_rotted};
use super::found::FoundTree;
use crate::output::Out;
use crate::problem::Problem;
use crate::say::say;
use std::io;

/// Findings so far.
#[derive(Debug)]
pub(crate) struct FindingReport {
    pub(crate) format: FindingFormat,
    counts: FindingCounts,
    /// No finding was a failure.
    pub(crate) is_ok: bool,
}

/// FindingSeverity of a finding, which depends on the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FindingSeverity {
    /// As it should be.
    Usual,
    /// Of interest also with `--quiet`, but no failure.
    Notable,
    /// The exit status says so.
    Failure,
}

impl FindingReport {
    pub(crate) fn new(format: FindingFormat) -> Self {
        Self { format, counts: FindingCounts::default(), is_ok: true }
    }

    /// Counts files that matched, which somebody else has seen.
    pub(crate) fn add_matched(&mut self, count: u64) {
        self.counts.add_many(Finding::Matched, count);
    }

    /// Counts a finding, and prints it if that is asked for.
    pub(crate) fn put(
        &mut self,
        line: FindingLine<'_>,
        severity: FindingSeverity,
        out: &mut Out,
    ) -> io::Result<()> {
        self.counts.add(line.finding);
        self.is_ok &= severity != FindingSeverity::Failure;
        if line.finding == Finding::Rotted {
            out.flush()?;
            say_rotted(line.name);
        }
        if self.format.shows(line.finding, severity == FindingSeverity::Usual) {
            self.format.put(&line, out.buffer());
        }
        out.flush_if_full()
    }

    /// Counts a file that cannot be read.
    pub(crate) fn put_problem(
        &mut self,
        name: &[u8],
        problem: Problem,
        out: &mut Out,
    ) -> io::Result<()> {
        let error = problem.to_string();
        let name = if name.is_empty() { b"." } else { name };
        let line = FindingLine::new(Finding::Unreadable, name);
        self.put(FindingLine { error: Some(&error), ..line }, FindingSeverity::Failure, out)
    }

    /// Counts what cannot be read in `tree` and no manifest names.
    pub(crate) fn put_unlisted_problems(
        &mut self,
        tree: &FoundTree,
        claims: &ClaimTable,
        out: &mut Out,
    ) -> io::Result<()> {
        for at in tree.problem_names.indices() {
            let name = tree.problem_names.get(at);
            if claims.find(name).is_empty() {
                self.put_problem(name, tree.problem_at(at), out)?;
            }
        }
        Ok(())
    }

    /// The counts, in JSON with `more`, for people with `text` behind them.
    pub(crate) fn summary(
        &self,
        more: &[(&'static str, u64)],
        text: &str,
        out: &mut Out,
    ) -> io::Result<()> {
        let format = self.format.tree;
        if format.quiet {
            return Ok(());
        }
        if format.json {
            self.counts.put_json(more, out.buffer());
            return Ok(());
        }
        out.flush()?;
        say(format_args!("{}{text}", self.counts));
        Ok(())
    }
}
