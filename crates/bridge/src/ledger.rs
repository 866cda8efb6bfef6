//! The record of a job on the host that submitted it: an append-only file of JSON lines.
//!
//! The first line is the head, then come the files of each shard, a line per shard, then attempts and answers
//! as they happen. The plan is written to a file of its own, synced, and renamed, so that a ledger is there as a
//! whole or not at all; each later line is synced before [`ShardLedger::append`] returns. What a crash leaves of
//! an unfinished last line is cut off; anything else that is no line of a ledger is an error.

use crate::shard::{DatasetKey, JobKey, ShardAnswer, ShardFile, WrongMessage};
use crate::submit::{JobPlan, LedgerRecord};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the format.
const FORMAT: u32 = 1;

/// Why there is no ledger.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The file cannot be read or written.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// A line is none of a ledger.
    #[error("{path}, line {1}: damaged", path = .0.display())]
    Line(PathBuf, usize, #[source] WrongMessage),
    /// Another process has it.
    #[error("{}: in use by another process", .0.display())]
    Busy(PathBuf),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadForm {
    format: u32,
    job: String,
    dataset: String,
    identity: String,
    algorithm: String,
    shards: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordForm {
    Attempt(String),
    Answer(serde_json::Value),
}

/// An open ledger, locked for this process.
#[derive(Debug)]
pub struct ShardLedger {
    path: PathBuf,
    file: File,
}

/// A ledger with what was in it.
#[derive(Debug)]
pub struct OpenedLedger {
    /// Open for appending.
    pub ledger: ShardLedger,
    /// The job.
    pub plan: JobPlan,
    /// Attempts and answers so far.
    pub records: Vec<LedgerRecord>,
}

impl ShardLedger {
    /// Writes the plan of a new job to `path`, and opens it.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn create(path: &Path, plan: &JobPlan) -> Result<OpenedLedger, LedgerError> {
        let io = |error| LedgerError::Io(path.to_owned(), error);
        write_plan(path, plan).map_err(io)?;
        Self::open(path)
    }

    /// Opens the ledger at `path`, and cuts off an unfinished last line.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn open(path: &Path) -> Result<OpenedLedger, LedgerError> {
        let io = |error| LedgerError::Io(path.to_owned(), error);
        let mut file = File::options().read(true).write(true).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(LedgerError::Busy(path.to_owned())),
            Err(fs::TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut reader = BufReader::new(&file);
        let (mut line, mut number, mut whole_len) = (Vec::new(), 0_usize, 0_u64);
        let mut next = |line: &mut Vec<u8>, number: &mut usize| -> io::Result<bool> {
            line.clear();
            *number += 1;
            reader.read_until(b'\n', line)?;
            if line.last() != Some(&b'\n') {
                return Ok(false);
            }
            whole_len += line.len() as u64;
            Ok(true)
        };
        let damaged = |number, wrong| LedgerError::Line(path.to_owned(), number, wrong);
        let short = || WrongMessage::Limit("length of the plan");
        if !next(&mut line, &mut number).map_err(io)? {
            return Err(damaged(number, short()));
        }
        let (mut plan, shards) = head(&line).map_err(|wrong| damaged(number, wrong))?;
        for _ in 0..shards {
            if !next(&mut line, &mut number).map_err(io)? {
                return Err(damaged(number, short()));
            }
            let files: Vec<ShardFile> = json(&line).map_err(|wrong| damaged(number, wrong))?;
            plan.shards.push(files);
        }
        let mut records = Vec::new();
        while next(&mut line, &mut number).map_err(io)? {
            records.push(record(&line).map_err(|wrong| damaged(number, wrong))?);
        }
        file.set_len(whole_len).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(OpenedLedger { ledger: Self { path: path.to_owned(), file }, plan, records })
    }

    /// Appends records, which are durable when this returns.
    ///
    /// # Errors
    /// [`LedgerError::Io`], after which the ledger must be opened again.
    pub fn append(&mut self, records: &[LedgerRecord]) -> Result<(), LedgerError> {
        let mut lines = Vec::new();
        for record in records {
            let form = match record {
                LedgerRecord::Attempt(key) => RecordForm::Attempt(key.to_string()),
                LedgerRecord::Answer(answer) => {
                    let value = serde_json::from_slice(&answer.encode());
                    RecordForm::Answer(value.expect("what was encoded is JSON"))
                }
            };
            lines.extend(serde_json::to_vec(&form).expect("keys of our own objects are text"));
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| LedgerError::Io(self.path.clone(), error))
    }
}

fn write_plan(path: &Path, plan: &JobPlan) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let file = File::create(&fresh)?;
    let mut out = BufWriter::new(&file);
    let head = HeadForm {
        format: FORMAT,
        job: plan.job.to_string(),
        dataset: plan.dataset.name().to_owned(),
        identity: plan.dataset.identity().to_owned(),
        algorithm: plan.algorithm.name().to_owned(),
        shards: plan.shards.len(),
    };
    serde_json::to_writer(&mut out, &head)?;
    for files in &plan.shards {
        out.write_all(b"\n")?;
        serde_json::to_writer(&mut out, files)?;
    }
    out.write_all(b"\n")?;
    out.flush()?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

fn json<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, WrongMessage> {
    serde_json::from_slice(line).map_err(WrongMessage::Json)
}

/// The job without its shards, and their number.
fn head(line: &[u8]) -> Result<(JobPlan, usize), WrongMessage> {
    let form: HeadForm = json(line)?;
    if form.format != FORMAT {
        return Err(WrongMessage::Limit("format"));
    }
    let job: JobKey = form.job.parse()?;
    let dataset = DatasetKey::new(&form.dataset, &form.identity)?;
    let algorithm = form.algorithm.parse().map_err(|_| WrongMessage::Limit("algorithm"))?;
    Ok((JobPlan { job, dataset, algorithm, shards: Vec::new() }, form.shards))
}

fn record(line: &[u8]) -> Result<LedgerRecord, WrongMessage> {
    Ok(match json(line)? {
        RecordForm::Attempt(key) => LedgerRecord::Attempt(key.parse()?),
        RecordForm::Answer(answer) => {
            let bytes = serde_json::to_vec(&answer).map_err(WrongMessage::Json)?;
            LedgerRecord::Answer(ShardAnswer::decode(&bytes)?)
        }
    })
}

#[cfg(test)]
mod tests;
