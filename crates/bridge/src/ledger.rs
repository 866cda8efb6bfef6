//! The record of a job on the host that submitted it: an append-only file of JSON lines.
//!
//! The first line is the head, then come the files of each shard, a line per shard, then attempts and answers
//! as they happen. The plan is written to a file of its own, synced, and renamed, so that a ledger is there as a
//! whole or not at all; each later line is synced before [`ShardLedger::append`] returns. What a crash leaves of
//! an unfinished last line is cut off; anything else that is no line of a ledger is an error.

use crate::shard::{Base64Bytes, DatasetKey, JobKey, ShardAnswer, ShardFile, WrongMessage};
use crate::submit::{JobPlan, LedgerRecord};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the format.
const FORMAT: u32 = 1;

/// Most bytes of a line: those of the fullest shard and of its answer are shorter, as they fit a message.
const LINE_LEN_MAX: u64 = 4 << 20;

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
    starts: Vec<Base64Bytes>,
    algorithm: String,
    shards: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecordForm {
    Attempt(String),
    Answer(serde_json::Value),
    Audited(u32),
    Distrust(String),
    Finished,
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
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&fresh);
        let file = file.map_err(io)?;
        lock(&file, path)?;
        // One who was faster may have renamed it before it was locked.
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let is_fresh = match (fs::symlink_metadata(&fresh), file.metadata()) {
            (Ok(there), Ok(ours)) => inode(there) == inode(ours),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        };
        if !is_fresh || fs::symlink_metadata(path).is_ok() {
            return Err(LedgerError::Busy(path.to_owned()));
        }
        write_plan(&file, plan).and_then(|()| rename(&fresh, path)).map_err(io)?;
        Self::read(file, path)
    }

    /// Opens the ledger at `path`, and cuts off an unfinished last line.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn open(path: &Path) -> Result<OpenedLedger, LedgerError> {
        let io = |error| LedgerError::Io(path.to_owned(), error);
        let file = File::options().read(true).write(true).open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        lock(&file, path)?;
        Self::read(file, path)
    }

    /// Reads a ledger that is locked.
    fn read(mut file: File, path: &Path) -> Result<OpenedLedger, LedgerError> {
        let io = |error| LedgerError::Io(path.to_owned(), error);
        file.rewind().map_err(io)?;
        let mut reader = BufReader::new(&file);
        let (mut line, mut number, mut whole_len) = (Vec::new(), 0_usize, 0_u64);
        let mut next = |line: &mut Vec<u8>, number: &mut usize| -> io::Result<bool> {
            line.clear();
            *number += 1;
            (&mut reader).take(LINE_LEN_MAX).read_until(b'\n', line)?;
            if line.len() as u64 == LINE_LEN_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of 4 MiB or more"));
            }
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
            let record = record(&line).and_then(|record| of_plan(&plan, record));
            records.push(record.map_err(|wrong| damaged(number, wrong))?);
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
                LedgerRecord::Audited(shard) => RecordForm::Audited(*shard),
                LedgerRecord::Distrust(host) => RecordForm::Distrust(host.clone()),
                LedgerRecord::Finished => RecordForm::Finished,
            };
            lines.extend(serde_json::to_vec(&form).expect("keys of our own objects are text"));
            lines.push(b'\n');
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| LedgerError::Io(self.path.clone(), error))
    }
}

/// Locks the ledger at `path`, or the file that becomes it, for this process.
fn lock(file: &File, path: &Path) -> Result<(), LedgerError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => Err(LedgerError::Busy(path.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(LedgerError::Io(path.to_owned(), error)),
    }
}

fn write_plan(file: &File, plan: &JobPlan) -> io::Result<()> {
    file.set_len(0)?;
    let mut out = BufWriter::new(file);
    let head = HeadForm {
        format: FORMAT,
        job: plan.job.to_string(),
        dataset: plan.dataset.name().to_owned(),
        identity: plan.dataset.identity().to_owned(),
        starts: plan.starts.clone(),
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
    file.sync_all()
}

fn rename(fresh: &Path, path: &Path) -> io::Result<()> {
    fs::rename(fresh, path)?;
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
    let starts = form.starts;
    Ok((JobPlan { job, dataset, starts, algorithm, shards: Vec::new() }, form.shards))
}

fn record(line: &[u8]) -> Result<LedgerRecord, WrongMessage> {
    Ok(match json(line)? {
        RecordForm::Attempt(key) => LedgerRecord::Attempt(key.parse()?),
        RecordForm::Answer(answer) => {
            let bytes = serde_json::to_vec(&answer).map_err(WrongMessage::Json)?;
            LedgerRecord::Answer(ShardAnswer::decode(&bytes)?)
        }
        RecordForm::Audited(shard) => LedgerRecord::Audited(shard),
        RecordForm::Distrust(host) => LedgerRecord::Distrust(host),
        RecordForm::Finished => LedgerRecord::Finished,
    })
}

/// The record if it is of a shard of this plan, and an answer if it has an outcome for each of its files.
fn of_plan(plan: &JobPlan, record: LedgerRecord) -> Result<LedgerRecord, WrongMessage> {
    let (key, answer) = match &record {
        LedgerRecord::Attempt(key) => (*key, None),
        LedgerRecord::Answer(answer) => (answer.key, Some(answer)),
        LedgerRecord::Audited(shard) if (*shard as usize) < plan.shards.len() => return Ok(record),
        LedgerRecord::Audited(_) => return Err(WrongMessage::Limit("audited")),
        LedgerRecord::Distrust(_) | LedgerRecord::Finished => return Ok(record),
    };
    let files = plan.shards.get(key.shard as usize).filter(|_| key.job == plan.job);
    let Some(files) = files else { return Err(WrongMessage::Limit("key")) };
    if answer.is_some_and(|answer| !answer.fits(files.len(), plan.algorithm)) {
        return Err(WrongMessage::Limit("digests"));
    }
    Ok(record)
}

#[cfg(test)]
mod tests;
