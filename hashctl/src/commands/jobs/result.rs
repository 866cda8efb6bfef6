//! `hashctl result`: the manifest of a durable job, as `hashctl sum` prints it; of a check a line per file, as
//! `hashctl check` prints it, and of an audit its findings, as `hashctl audit` does.

use super::session::{JobName, JobSession, nonsense};
use super::{WAIT_MS, findings, text};
use crate::commands::sum::Destination;
use crate::config::Config;
use crate::engine::function::Function;
use crate::engine::reorder::{Item, Label, Verdict};
use crate::examples;
use crate::exit::Exit;
use crate::json::{JsonName, LossObject, Record};
use crate::lists::quote::quote;
use crate::output::{Format, Out, put_name};
use crate::problem::{Problem, losses_text};
use crate::say::{io_text, say};
use clap::Args;
use ipc_proto::limits::FRAME_NAMES_MAX;
use ipc_proto::message::{
    Failure, ItemOutcome, JobId, JobKind, JobRow, JobSource, JobState, ResultRow, ServiceReply,
    ServiceRequest, WorkerLoss,
};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = examples::RESULT)]
pub(crate) struct ResultArgs {
    /// The job: its id, or the key that it was submitted with
    #[arg(value_name = "JOB")]
    job: JobName,
    /// Print results as they come, until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Write to FILE instead of standard output, and replace it only once all digests are there
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// Prints the manifest of a job.
pub(crate) fn result(config: &Config, args: &ResultArgs) -> Exit {
    let mut session = JobSession::new(config);
    let row = match session.find(&args.job) {
        Ok(row) => row,
        Err(exit) => return exit,
    };
    let destination = match Destination::open(args.output.as_deref()) {
        Ok(destination) => destination,
        Err((path, error)) => {
            say(format_args!("{}: {}", quote(path.as_os_str().as_bytes()), io_text(&error)));
            return Exit::Failure;
        }
    };
    let config = destination.configure(config);
    if row.spec.kind == JobKind::Audit {
        let row = if args.follow { session.wait_for(row) } else { Ok(row) };
        let printed = row.and_then(|row| {
            let is_ok = findings::print(&config, &mut session, &row, args.format)?;
            Ok((is_ok, row.state == JobState::Done))
        });
        return match printed {
            Ok((is_ok, is_complete)) => destination.finish(Exit::from_ok(is_ok), is_complete),
            Err(exit) => destination.finish(exit, false),
        };
    }
    let mut manifest = Manifest::new(&config, &row, args.format);
    let is_complete = match manifest.print(&mut session, &row, args.follow) {
        Ok(is_complete) => is_complete,
        Err(exit) => return destination.finish(exit, false),
    };
    let exit = Exit::from_ok(manifest.is_ok && is_complete);
    destination.finish(exit, is_complete)
}

struct Manifest {
    function: Function,
    format: Format,
    out: Out,
    output: String,
    is_check: bool,
    /// Each line of its list has an algorithm of its own.
    is_of_manifest: bool,
    is_ok: bool,
}

impl Manifest {
    fn new(config: &Config, row: &JobRow, format: Format) -> Self {
        let algorithms = row.spec.algorithms;
        // Lines without their algorithm could not be verified.
        let format = Format { tag: format.tag || algorithms.len() > 1, ..format };
        Self {
            function: algorithms.into(),
            format,
            out: Out::new(config.stdio.has_stdout),
            output: config.output.clone(),
            is_check: row.spec.kind == JobKind::Check,
            is_of_manifest: matches!(row.spec.source, JobSource::Manifest { .. }),
            is_ok: true,
        }
    }

    /// Prints what there is, or all of it; true if the job is done.
    fn print(
        &mut self,
        session: &mut JobSession<'_>,
        row: &JobRow,
        follows: bool,
    ) -> Result<bool, Exit> {
        let job = row.id;
        let limit = u16::try_from(FRAME_NAMES_MAX).unwrap_or(u16::MAX);
        let wait_ms = if follows { WAIT_MS } else { 0 };
        let mut from = 0;
        loop {
            let request = ServiceRequest::Results { job, from, limit, wait_ms };
            let ServiceReply::Results { rows, state, is_last, .. } = session.ask(&request)? else {
                return Err(nonsense());
            };
            let is_empty = rows.is_empty();
            let dead = self.dead_of(session, job, from, &rows)?;
            for row in rows {
                let losses = dead.get(&from).map_or(&[][..], |losses| losses);
                self.row(&row, losses)?;
                from += 1;
            }
            if follows {
                self.flush()?;
            }
            if is_last || (is_empty && !follows) {
                self.flush()?;
                if state != JobState::Done {
                    let row = session.job(&ServiceRequest::Job { job })?;
                    say(format_args!("job {job}: {}", text::outcome(&row)));
                }
                return Ok(state == JobState::Done);
            }
        }
    }

    /// The losses of those results from item `from` on whose workers were lost, by their numbers.
    fn dead_of(
        &self,
        session: &mut JobSession<'_>,
        job: JobId,
        from: u64,
        rows: &[ResultRow],
    ) -> Result<BTreeMap<u64, Vec<WorkerLoss>>, Exit> {
        let is_dead = |row: &ResultRow| {
            matches!(row.outcome, ItemOutcome::Failed(Failure::WorkersLost { .. }))
        };
        let mut dead = BTreeMap::new();
        let Some(first) = rows.iter().position(is_dead).filter(|_| self.format.json) else {
            return Ok(dead);
        };
        let limit = u16::try_from(rows.len()).unwrap_or(u16::MAX);
        let (mut next, end) = (from + first as u64, from + rows.len() as u64);
        loop {
            let request = ServiceRequest::Deaths { job, from: next, limit };
            let ServiceReply::Deaths { rows, more } = session.ask(&request)? else {
                return Err(nonsense());
            };
            let last = rows.last().map(|row| row.index);
            dead.extend(rows.into_iter().map(|row| (row.index, row.losses)));
            match last {
                Some(last) if more && last < end => next = last + 1,
                _ => return Ok(dead),
            }
        }
    }

    fn row(&mut self, row: &ResultRow, losses: &[WorkerLoss]) -> Result<(), Exit> {
        if self.is_of_manifest || (self.is_check && !self.format.json) {
            return self.verdict(row, losses);
        }
        let label = Label { name: &row.name, function: self.function, want: b"" };
        let size = row.stamp.size;
        let item =
            |digest, verdict| Item { label, size, verdict, digest, output: None, detail: None };
        match &row.outcome {
            ItemOutcome::Digests(digests) | ItemOutcome::Mismatch(digests) => {
                if matches!(row.outcome, ItemOutcome::Mismatch(_)) {
                    self.is_ok = false;
                    self.flush()?;
                    say(format_args!("{}: not the expected digest", quote(&row.name)));
                }
                let item = item(&digests[..], Verdict::Digest);
                item.each().for_each(|item| self.format.digest(&item, self.out.buffer()));
            }
            ItemOutcome::Failed(failure) => {
                self.is_ok = false;
                let problem = Problem::Failure(*failure);
                let detail = (!losses.is_empty()).then(|| losses_text(losses));
                let detail = detail.as_deref();
                let item = Item { detail, ..item(&[], Verdict::Problem(problem)) };
                for item in item.each().filter(|_| self.format.json) {
                    let error = item.problem_text(problem);
                    let losses = LossObject::all(losses);
                    let line = Record { error: Some(&error), losses, ..Record::of(item.label) };
                    line.put(self.out.buffer());
                }
                self.flush()?;
                say(format_args!("{}: {problem}", quote(&row.name)));
            }
        }
        let flushed = self.out.flush_if_full();
        flushed.map_err(|error| self.write_failed(&error))
    }

    /// A line of a check.
    fn verdict(&mut self, row: &ResultRow, losses: &[WorkerLoss]) -> Result<(), Exit> {
        self.is_ok &= matches!(row.outcome, ItemOutcome::Digests(_));
        let (text, status): (&[u8], &str) = match &row.outcome {
            ItemOutcome::Digests(_) => (b": OK\n", "ok"),
            ItemOutcome::Mismatch(_) => (b": FAILED\n", "mismatch"),
            ItemOutcome::Failed(failure) => {
                self.flush()?;
                say(format_args!("{}: {}", quote(&row.name), Problem::Failure(*failure)));
                // Of the list itself, not of a file.
                if matches!(failure, Failure::BadLines { .. }) && !self.format.json {
                    return Ok(());
                }
                (b": FAILED open or read\n", "unreadable")
            }
        };
        if self.format.json {
            let error = match row.outcome {
                ItemOutcome::Failed(failure) => Some(Problem::Failure(failure).to_string()),
                ItemOutcome::Digests(_) | ItemOutcome::Mismatch(_) => None,
            };
            let line = Record {
                name: Some(JsonName::new(&row.name)),
                size: error.is_none().then_some(row.stamp.size),
                status: Some(status),
                error: error.as_deref(),
                losses: LossObject::all(losses),
                ..Record::default()
            };
            line.put(self.out.buffer());
            let flushed = self.out.flush_if_full();
            return flushed.map_err(|error| self.write_failed(&error));
        }
        let is_escaped = row.name.contains(&b'\n') || row.name.starts_with(b"\\");
        put_name(&row.name, !is_escaped, self.out.buffer());
        self.out.buffer().extend_from_slice(text);
        let flushed = self.out.flush_if_full();
        flushed.map_err(|error| self.write_failed(&error))
    }

    fn flush(&mut self) -> Result<(), Exit> {
        let flushed = self.out.flush();
        flushed.map_err(|error| self.write_failed(&error))
    }

    fn write_failed(&self, error: &std::io::Error) -> Exit {
        say(format_args!("{}: {}", self.output, io_text(error)));
        Exit::Failure
    }
}
