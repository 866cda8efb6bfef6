//! The record of a job on the host that submitted it: an append-only file of JSON lines.
//!
//! The first line is the head, then come the files of each shard, a line per shard, then attempts and answers
//! as they happen. The plan is written to a file of its own, synced, and renamed, so that a ledger is there as a
//! whole or not at all; each later line is synced before [`ShardLedger::append`] returns. What a crash leaves of
//! an unfinished last line is cut off; anything else that is no line of a ledger is an error.
//!
//! Files and answers are not held in memory, but where their lines are: [`ShardLedger::files`] and
//! [`ShardLedger::answer`] read them again.

use crate::shard::{
    Base64Bytes, DatasetKey, JobKey, ShardAnswer, ShardFile, ShardPacker, WrongMessage, to_json,
};
use crate::submit::{JobPlan, LedgerRecord, LedgerState, ShardSize};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
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
    /// The line of a shard is not the one that was written.
    #[error("{path}, shard {1}: damaged", path = .0.display())]
    Shard(PathBuf, u32, #[source] WrongMessage),
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

/// Place of a line in the file.
#[derive(Clone, Copy, Debug, Default)]
struct LineSpan {
    at: u64,
    len: u32,
}

/// An open ledger, locked for this process.
#[derive(Debug)]
pub struct ShardLedger {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    len: u64,
    /// The files of each shard.
    files: Vec<LineSpan>,
    /// The last answer to each shard; empty where there is none.
    answers: Vec<LineSpan>,
}

/// A ledger with what was in it.
#[derive(Debug)]
pub struct OpenedLedger {
    /// Open for appending.
    pub ledger: ShardLedger,
    /// The job.
    pub plan: JobPlan,
    /// The state of the job.
    pub record: LedgerState,
}

/// A file that is removed with this, unless it was renamed.
#[derive(Debug)]
struct FreshFile {
    path: PathBuf,
    is_ours: bool,
}

impl Drop for FreshFile {
    fn drop(&mut self) {
        if self.is_ours {
            // What is left is overwritten by the next ledger of that name.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A ledger whose files are being listed. It is there under its name when that has ended, or not at all.
#[derive(Debug)]
pub struct NewLedger {
    path: PathBuf,
    fresh: FreshFile,
    out: BufWriter<File>,
    len: u64,
    plan: JobPlan,
    files: Vec<LineSpan>,
    packer: ShardPacker,
}

impl NewLedger {
    /// Begins the ledger of a new job at `path`: `plan`, still without shards.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn begin(path: &Path, plan: JobPlan) -> Result<Self, LedgerError> {
        let io = |error| LedgerError::Io(path.to_owned(), error);
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let mut fresh = FreshFile { path: PathBuf::from(fresh), is_ours: false };
        let mut create = File::options();
        let create = create.read(true).write(true).create(true).truncate(false);
        let file = create.open(&fresh.path).map_err(io)?;
        lock(&file, path)?;
        // One who was faster may have renamed it before it was locked.
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let is_fresh = match (fs::symlink_metadata(&fresh.path), file.metadata()) {
            (Ok(there), Ok(ours)) => inode(there) == inode(ours),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        };
        if !is_fresh || fs::symlink_metadata(path).is_ok() {
            return Err(LedgerError::Busy(path.to_owned()));
        }
        fresh.is_ours = true;
        file.set_len(0).map_err(io)?;
        let mut out = BufWriter::new(file);
        let head = head_line(&plan, usize::MAX);
        out.write_all(&head).map_err(io)?;
        let (path, len) = (path.to_owned(), head.len() as u64);
        let (files, packer) = (Vec::new(), ShardPacker::default());
        Ok(Self { path, fresh, out, len, plan, files, packer })
    }

    /// Takes the next file.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn push(&mut self, file: ShardFile) -> Result<(), LedgerError> {
        self.packer.push(file).map_or(Ok(()), |shard| self.write(&shard))
    }

    fn write(&mut self, shard: &[ShardFile]) -> Result<(), LedgerError> {
        let line = line_of(&shard);
        self.files.push(LineSpan { at: self.len, len: line_len(&line) });
        self.plan.shards.push(ShardSize::of(shard));
        self.len += line.len() as u64;
        self.out.write_all(&line).map_err(|error| LedgerError::Io(self.path.clone(), error))
    }

    /// Gives it its name, and opens it.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn finish(mut self) -> Result<OpenedLedger, LedgerError> {
        if let Some(last) = self.packer.finish() {
            self.write(&last)?;
        }
        let Self { path, mut fresh, out, len, plan, files, .. } = self;
        let io = |error| LedgerError::Io(path.clone(), error);
        let mut file = out.into_inner().map_err(|error| io(error.into_error()))?;
        // As long as the line with which it began.
        let mut head = head_line(&plan, plan.shards.len());
        head.pop();
        head.resize(head_line(&plan, usize::MAX).len() - 1, b' ');
        file.write_all_at(&head, 0).and_then(|()| file.sync_all()).map_err(io)?;
        rename(&fresh.path, &path).map_err(io)?;
        fresh.is_ours = false;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let answers = vec![LineSpan::default(); files.len()];
        let ledger = ShardLedger { path, file, len, files, answers };
        Ok(OpenedLedger { ledger, plan, record: LedgerState::default() })
    }
}

impl ShardLedger {
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
        let (mut line, mut number) = (Vec::new(), 0_usize);
        let mut next = |line: &mut Vec<u8>, number: &mut usize| -> io::Result<bool> {
            line.clear();
            *number += 1;
            (&mut reader).take(LINE_LEN_MAX).read_until(b'\n', line)?;
            if line.len() as u64 == LINE_LEN_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of 4 MiB or more"));
            }
            Ok(line.last() == Some(&b'\n'))
        };
        let damaged = |number, wrong| LedgerError::Line(path.to_owned(), number, wrong);
        let short = || WrongMessage::Limit("length of the plan");
        if !next(&mut line, &mut number).map_err(io)? {
            return Err(damaged(number, short()));
        }
        let (mut plan, shards) = head(&line).map_err(|wrong| damaged(number, wrong))?;
        let (mut len, mut files) = (line.len() as u64, Vec::new());
        let mut span = |line: &[u8]| {
            let at = len;
            len += line.len() as u64;
            LineSpan { at, len: line_len(line) }
        };
        for _ in 0..shards {
            if !next(&mut line, &mut number).map_err(io)? {
                return Err(damaged(number, short()));
            }
            let shard: Vec<ShardFile> = json(&line).map_err(|wrong| damaged(number, wrong))?;
            plan.shards.push(ShardSize::of(&shard));
            files.push(span(&line));
        }
        let (mut state, mut answers) = (LedgerState::default(), vec![LineSpan::default(); shards]);
        while next(&mut line, &mut number).map_err(io)? {
            let record = record(&line).and_then(|record| of_plan(&plan, record));
            let record = record.map_err(|wrong| damaged(number, wrong))?;
            let span = span(&line);
            if let LedgerRecord::Answer(answer) = &record {
                answers[answer.key.shard as usize] = span;
            }
            state.add(&record);
        }
        file.set_len(len).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let ledger = Self { path: path.to_owned(), file, len, files, answers };
        Ok(OpenedLedger { ledger, plan, record: state })
    }

    /// The files of a shard, which the job has.
    ///
    /// # Errors
    /// [`LedgerError::Io`], and [`LedgerError::Shard`] if somebody wrote to the file.
    pub fn files(&self, shard: u32) -> Result<Vec<ShardFile>, LedgerError> {
        let span = self.files.get(shard as usize).copied().unwrap_or_default();
        json(&self.line(span)?).map_err(|wrong| LedgerError::Shard(self.path.clone(), shard, wrong))
    }

    /// The last answer to a shard, which has one.
    ///
    /// # Errors
    /// As [`Self::files`].
    pub fn answer(&self, shard: u32) -> Result<ShardAnswer, LedgerError> {
        let wrong = |wrong| LedgerError::Shard(self.path.clone(), shard, wrong);
        let span = self.answers.get(shard as usize).copied().unwrap_or_default();
        match record(&self.line(span)?).map_err(wrong)? {
            LedgerRecord::Answer(answer) => Ok(answer),
            LedgerRecord::Attempt(_)
            | LedgerRecord::Audited(_)
            | LedgerRecord::Distrust(_)
            | LedgerRecord::Finished => Err(wrong(WrongMessage::Limit("answer"))),
        }
    }

    fn line(&self, span: LineSpan) -> Result<Vec<u8>, LedgerError> {
        let mut line = vec![0; span.len as usize];
        let read = self.file.read_exact_at(&mut line, span.at);
        read.map_err(|error| LedgerError::Io(self.path.clone(), error))?;
        Ok(line)
    }

    /// Appends records, which are durable when this returns.
    ///
    /// # Errors
    /// [`LedgerError::Io`], after which the ledger must be opened again.
    pub fn append(&mut self, records: &[LedgerRecord]) -> Result<(), LedgerError> {
        let mut lines = Vec::new();
        let mut answers = Vec::new();
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
            let line = line_of(&form);
            if let LedgerRecord::Answer(answer) = record {
                let at = self.len + lines.len() as u64;
                answers.push((answer.key.shard, LineSpan { at, len: line_len(&line) }));
            }
            lines.extend(line);
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.map_err(|error| LedgerError::Io(self.path.clone(), error))?;
        self.len += lines.len() as u64;
        for (shard, span) in answers {
            if let Some(place) = self.answers.get_mut(shard as usize) {
                *place = span;
            }
        }
        Ok(())
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

/// A line of the ledger.
fn line_of(form: &impl Serialize) -> Vec<u8> {
    let mut line = to_json(form);
    line.push(b'\n');
    line
}

/// The length of a line: those that are longer than [`LINE_LEN_MAX`] are not read.
fn line_len(line: &[u8]) -> u32 {
    u32::try_from(line.len()).unwrap_or(u32::MAX)
}

/// The first line, of a job with this many shards.
fn head_line(plan: &JobPlan, shards: usize) -> Vec<u8> {
    line_of(&HeadForm {
        format: FORMAT,
        job: plan.job.to_string(),
        dataset: plan.dataset.name().to_owned(),
        identity: plan.dataset.identity().to_owned(),
        starts: plan.starts.clone(),
        algorithm: plan.algorithm.name().to_owned(),
        shards,
    })
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
    let size = plan.shards.get(key.shard as usize).filter(|_| key.job == plan.job);
    let Some(size) = size else { return Err(WrongMessage::Limit("key")) };
    let files_len = size.files_len as usize;
    if answer.is_some_and(|answer| !answer.fits(files_len, plan.algorithm)) {
        return Err(WrongMessage::Limit("digests"));
    }
    Ok(record)
}

#[cfg(test)]
mod tests;
