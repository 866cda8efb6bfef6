//! Rows of the journal: keys and values of durable jobs. The only place that knows their encoding.
//!
//! Keys are big-endian, so that the rows of a job are a range in the order of its items. A value is one
//! byte, the version of its form, and the encoding of `ipc_proto::codec`.

mod audits;

pub(super) use audits::*;

use super::limits::CHUNK_ITEMS;
use super::packed::{pack, unpack};
use crate::core::{Principal, PrincipalName};
use crate::journal::{Rows, TableId, Write};
use ipc_proto::codec;
use ipc_proto::frame::PREFIX_LEN;
use ipc_proto::message::{
    Failure, FileItem, ItemOutcome, JobId, JobKind, JobSource, JobSpec, JobState, LimitExceeded,
    Message, NameShare, Stamp, WorkerLoss,
};
use ipc_proto::{Algorithms, Blob};
use serde::{Deserialize, Serialize};
use std::iter;

/// Version of the values, but for packed results.
pub(super) const FORM: u8 = 1;

/// Version of the value of an origin; that of version 1 has neither rate nor share.
const ORIGIN_FORM: u8 = 2;

/// Length of a job's key in bytes.
const JOB_KEY_LEN: usize = 12;

/// Key of the last id given out, in the table of single values.
const LAST_ID_KEY: &[u8] = b"jobs/last-id";

/// The part of a job that never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobOrigin {
    pub(super) key: String,
    pub(super) spec: JobSpec,
    pub(super) principal: StoredPrincipal,
    pub(super) created_s: u64,
}

/// An origin of version 1.
#[derive(Debug, Serialize, Deserialize)]
struct OldOrigin {
    key: String,
    spec: OldSpec,
    principal: StoredPrincipal,
    created_s: u64,
}

/// The [`JobSpec`] of that.
#[derive(Debug, Serialize, Deserialize)]
struct OldSpec {
    kind: JobKind,
    algorithms: Algorithms,
    source: JobSource,
    cross_check: u32,
    strict_reads: bool,
    labels: Vec<String>,
    priority: u8,
    keep_s: u32,
}

impl From<OldOrigin> for JobOrigin {
    fn from(old: OldOrigin) -> Self {
        let OldOrigin { key, spec, principal, created_s } = old;
        let OldSpec { kind, algorithms, source, cross_check, strict_reads, .. } = spec;
        let OldSpec { labels, priority, keep_s, .. } = spec;
        let (rate, share) = (0, NameShare::ALL);
        let spec = JobSpec {
            kind,
            algorithms,
            source,
            cross_check,
            strict_reads,
            labels,
            priority,
            keep_s,
            rate,
            share,
        };
        Self { key, spec, principal, created_s }
    }
}

/// A [`Principal`] in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum StoredPrincipal {
    Uid(u32),
    Token(u16),
    Named(#[serde(with = "named")] PrincipalName),
}

/// Names of principals as text.
mod named {
    use super::PrincipalName;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &PrincipalName, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(name)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<PrincipalName, D::Error> {
        let text = String::deserialize(from)?;
        PrincipalName::new(&text).ok_or_else(|| D::Error::custom("not the name of a principal"))
    }
}

impl From<Principal> for StoredPrincipal {
    fn from(principal: Principal) -> Self {
        match principal {
            Principal::Uid(uid) => Self::Uid(uid),
            Principal::Token(number) => Self::Token(number),
            Principal::Named(name) => Self::Named(name),
        }
    }
}

impl From<StoredPrincipal> for Principal {
    fn from(stored: StoredPrincipal) -> Self {
        match stored {
            StoredPrincipal::Uid(uid) => Self::Uid(uid),
            StoredPrincipal::Token(number) => Self::Token(number),
            StoredPrincipal::Named(name) => Self::Named(name),
        }
    }
}

/// The part of a job that changes: written together with the results that it counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobProgress {
    pub(super) state: JobState,
    pub(super) reason: String,
    /// Items stored or found.
    pub(super) items: u64,
    pub(super) is_complete: bool,
    pub(super) resolved: u64,
    pub(super) failed: u64,
    pub(super) mismatched: u64,
    pub(super) bytes: u64,
    pub(super) started_s: u64,
    pub(super) ended_s: u64,
    /// Bytes of its stored items in the journal.
    pub(super) stored_len: u64,
    /// Where the walk through its dataset goes on, until it has ended.
    pub(super) walked: Option<WalkPlace>,
    /// Index of the next item to look at, while failed items are hashed again.
    pub(super) again: Option<u64>,
}

/// A place in the walk through the roots of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WalkPlace {
    /// Number of the root.
    pub(super) root: u16,
    /// The last entry that was taken, by its path below the root; with a slash at the end if that is a directory of
    /// which nothing was taken yet, and empty if it is the root itself.
    pub(super) path: Blob,
}

/// A place in a manifest, as the path of a [`WalkPlace`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestPlace {
    /// The first byte that was not read yet.
    pub(super) offset: u64,
    /// The manifest when its start was read.
    pub(super) seen: Option<Stamp>,
    /// State of the parser there, of a worker.
    pub(super) state: Blob,
    /// Lines that are no claim, so far.
    pub(super) bad_lines: u32,
}

impl WalkPlace {
    /// The place as one in a manifest, if it is one.
    pub(super) fn in_manifest(&self) -> Option<ManifestPlace> {
        if self.path.is_empty() {
            return Some(ManifestPlace::default());
        }
        record(&self.path).ok()
    }
}

impl From<&ManifestPlace> for WalkPlace {
    fn from(place: &ManifestPlace) -> Self {
        Self { root: 0, path: Blob(value(place)) }
    }
}

/// Items as a client stored them, or as a walk found them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredItems {
    /// The dataset in which they are; empty for bytes.
    pub(super) dataset: String,
    pub(super) items: Vec<StoredItem>,
}

/// An item as it was stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredItem {
    /// Number of the root that it is below; 0 if a client stored it.
    pub(super) root: u16,
    /// Its name in the manifest, or its path below the root.
    pub(super) name: Blob,
    /// Expected digests; empty for none. Of a manifest's line one, behind the number of its algorithm.
    pub(super) expected: Blob,
    pub(super) file: FileItem,
    /// Its path, or its bytes.
    pub(super) content: Blob,
    /// Why it is known to have no digest.
    pub(super) failure: Option<Failure>,
}

impl StoredItem {
    /// Bytes that it is charged with.
    pub(super) fn stored_len(&self) -> u64 {
        (self.name.len() + self.expected.len() + self.content.len() + 16) as u64
    }
}

/// Results of neighbouring items, packed by `packed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredResults(pub(super) Vec<StoredResult>);

/// The result of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredResult {
    /// Number of the root that it is below; 0 for a stored item.
    pub(super) root: u16,
    /// Path below the root, or the name of a stored item.
    pub(super) path: Blob,
    pub(super) stamp: Stamp,
    pub(super) outcome: ItemOutcome,
}

impl StoredResult {
    /// The failure that hashing the item again could mend.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.outcome {
            ItemOutcome::Failed(failure) => Some(failure),
            ItemOutcome::Digests(_) | ItemOutcome::Mismatch(_) => None,
        }
    }
}

/// A failure in packed results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFailure(pub(super) Failure);

/// An item whose workers were lost, under the key of its index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredDeath {
    /// Number of the root that it is below; 0 for a stored item.
    pub(super) root: u16,
    /// Path below the root, or the name of a stored item.
    pub(super) path: Blob,
    pub(super) losses: Vec<WorkerLoss>,
}

/// Bodies are checked where they come in: as requests and results.
macro_rules! records {
    ($($type:ty),+) => {
        $(impl Message for $type {
            fn check(&self) -> Result<(), LimitExceeded> {
                Ok(())
            }
        })+
    };
}

records!(
    JobOrigin,
    OldOrigin,
    JobProgress,
    ManifestPlace,
    StoredItems,
    StoredResults,
    StoredFailure,
    StoredDeath,
    StoredAudit,
    StoredFindings,
    StoredClaims,
    StoredClaim
);

/// A row of the journal that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow(pub String);

/// The value of a record.
pub(crate) fn value<M: Message>(record: &M) -> Vec<u8> {
    value_of(FORM, record)
}

fn value_of<M: Message>(form: u8, record: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_frame(record, &mut bytes)
        .expect("records are bounded by the frames they come from");
    // The prefix of the frame makes room for the version.
    bytes[PREFIX_LEN - 1] = form;
    bytes.drain(..PREFIX_LEN - 1);
    bytes
}

/// The record of a value.
pub(crate) fn record<M: Message>(value: &[u8]) -> Result<M, BadRow> {
    match value.split_first() {
        Some((&FORM, body)) => codec::decode(body).map_err(|error| BadRow(error.to_string())),
        Some((form, _)) => Err(BadRow(format!("a record of form {form}, not {FORM}"))),
        None => Err(BadRow("an empty record".to_owned())),
    }
}

fn origin(value: &[u8]) -> Result<JobOrigin, BadRow> {
    match value.split_first() {
        Some((&ORIGIN_FORM, body)) => {
            codec::decode(body).map_err(|error| BadRow(error.to_string()))
        }
        _ => record::<OldOrigin>(value).map(JobOrigin::from),
    }
}

/// A record of the table of jobs.
#[derive(Debug)]
pub(super) enum JobRecord {
    Origin(Box<JobOrigin>),
    Progress(JobProgress),
    Audit(StoredAudit),
    Claims(StoredClaims),
    ItemsMax(u64),
    /// Its end, of which no event tells yet.
    Untold,
}

/// The job of a row of the table of jobs, and its record.
pub(super) fn job_record(key: &[u8], value: &[u8]) -> Result<(JobId, JobRecord), BadRow> {
    let bad = || BadRow("a key that is not a job's".to_owned());
    let (id, kind) = key.split_at_checked(JOB_KEY_LEN).ok_or_else(bad)?;
    let id = id_of(id).ok_or_else(bad)?;
    match kind {
        [0] => Ok((id, JobRecord::Origin(Box::new(origin(value)?)))),
        [1] => Ok((id, JobRecord::Progress(record(value)?))),
        [2] => Ok((id, JobRecord::Audit(record(value)?))),
        [3] => Ok((id, JobRecord::Claims(record(value)?))),
        [4] => {
            let bytes =
                value.try_into().map_err(|_| BadRow("a quota of items is not one".into()))?;
            Ok((id, JobRecord::ItemsMax(u64::from_be_bytes(bytes))))
        }
        [5] => Ok((id, JobRecord::Untold)),
        _ => Err(bad()),
    }
}

fn job_key(id: JobId) -> Vec<u8> {
    [&id.epoch.to_be_bytes()[..], &id.number.to_be_bytes()].concat()
}

fn id_of(key: &[u8]) -> Option<JobId> {
    let (epoch, number) = key.split_at_checked(4)?;
    Some(JobId {
        epoch: u32::from_be_bytes(epoch.try_into().ok()?),
        number: u64::from_be_bytes(number.try_into().ok()?),
    })
}

/// Key of an item, or of the first one of a chunk.
pub(super) fn item_key(id: JobId, index: u64) -> Vec<u8> {
    [&job_key(id)[..], &index.to_be_bytes()].concat()
}

/// Index of the first item of a chunk, by its key.
pub(super) fn index_of(key: &[u8]) -> Result<u64, BadRow> {
    let bytes = key.get(JOB_KEY_LEN..).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| BadRow("a key that is not an item's".to_owned()))
}

/// The first key that is not one of the items of `id`.
pub(super) fn end_key(id: JobId) -> Vec<u8> {
    // Longer than every key of an item, and greater.
    [&job_key(id)[..], &[0xff; 9]].concat()
}

/// Adds a job.
pub(super) fn put_origin(id: JobId, origin: &JobOrigin) -> [Write; 2] {
    let key = [&job_key(id)[..], &[0]].concat();
    let last = Write::Put { table: TableId::Meta, key: LAST_ID_KEY.to_vec(), value: job_key(id) };
    let value = value_of(ORIGIN_FORM, origin);
    [Write::Put { table: TableId::Jobs, key, value }, last]
}

/// Sets the progress of a job.
pub(super) fn put_progress(id: JobId, progress: &JobProgress) -> Write {
    let key = [&job_key(id)[..], &[1]].concat();
    Write::Put { table: TableId::Jobs, key, value: value(progress) }
}

/// Sets the most items that the principal of a job may hold, which no other row says.
pub(super) fn put_items_max(id: JobId, items_max: u64) -> Write {
    let key = [&job_key(id)[..], &[4]].concat();
    Write::Put { table: TableId::Jobs, key, value: items_max.to_be_bytes().to_vec() }
}

/// Notes that an event has to tell of the end of a job.
pub(super) fn put_untold(id: JobId) -> Write {
    let key = [&job_key(id)[..], &[5]].concat();
    Write::Put { table: TableId::Jobs, key, value: Vec::new() }
}

/// Forgets that again, in the commit of the event.
pub(super) fn delete_untold(id: JobId) -> Write {
    Write::Delete { table: TableId::Jobs, key: [&job_key(id)[..], &[5]].concat() }
}

/// Adds items from `first` on.
pub(super) fn put_items(id: JobId, first: u64, items: &StoredItems) -> Write {
    Write::Put { table: TableId::Items, key: item_key(id, first), value: value(items) }
}

/// Sets the results of the chunk that starts with `first`, which had any of its rows before.
pub(super) fn put_results(id: JobId, first: u64, results: &StoredResults) -> Vec<Write> {
    let table = TableId::Results;
    // A row that is replaced starts where the chunk does; others may have started elsewhere.
    let (from, to) = (item_key(id, first + 1), item_key(id, first + CHUNK_ITEMS));
    let puts = pack(results).into_iter().map(|(position, value)| {
        let key = item_key(id, first + position);
        Write::Put { table, key, value }
    });
    iter::once(Write::DeleteRange { table, from, to }).chain(puts).collect()
}

/// The results of the rows of a chunk that starts with `first`.
pub(super) fn chunk_results(rows: &Rows, first: u64) -> Result<Vec<StoredResult>, BadRow> {
    let mut results = Vec::new();
    for (key, value) in &rows.rows {
        if index_of(key)? != first + results.len() as u64 {
            break;
        }
        results.extend(unpack(value)?);
    }
    if results.is_empty() {
        return Err(BadRow("a chunk of results is missing".to_owned()));
    }
    Ok(results)
}

/// Sets why an item failed, or that it did not after all.
pub(super) fn put_death(id: JobId, index: u64, death: Option<&StoredDeath>) -> Write {
    let (table, key) = (TableId::Deaths, item_key(id, index));
    match death {
        Some(death) => Write::Put { table, key, value: value(death) },
        None => Write::Delete { table, key },
    }
}

/// Removes the items of a job.
pub(super) fn delete_items(id: JobId) -> Write {
    Write::DeleteRange { table: TableId::Items, from: item_key(id, 0), to: end_key(id) }
}

/// Removes everything of a job.
pub(super) fn delete_job(id: JobId) -> Vec<Write> {
    let of =
        |kind| Write::Delete { table: TableId::Jobs, key: [&job_key(id)[..], &[kind]].concat() };
    let all = |table| Write::DeleteRange { table, from: item_key(id, 0), to: end_key(id) };
    let tables =
        [TableId::Items, TableId::Results, TableId::Deaths, TableId::Findings, TableId::Claims];
    [of(0), of(1), of(2), of(3), of(4), of(5)].into_iter().chain(tables.map(all)).collect()
}

/// Where the last id that was given out is.
pub(super) fn last_id_range() -> (TableId, Vec<u8>, Vec<u8>) {
    (TableId::Meta, LAST_ID_KEY.to_vec(), [LAST_ID_KEY, &[0]].concat())
}

/// The last id that was given out.
pub(super) fn last_id(value: &[u8]) -> Result<JobId, BadRow> {
    id_of(value).ok_or_else(|| BadRow("the last id of a job is not one".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::MemoryTables;
    use ipc_proto::Algorithm;

    #[test]
    fn a_job_of_a_journal_of_version_1_reads_all_of_its_files_at_any_rate() {
        let id = JobId { epoch: 3, number: 4 };
        let spec = OldSpec {
            kind: JobKind::Check,
            algorithms: Algorithm::Sha512.into(),
            source: JobSource::Stored,
            cross_check: 5,
            strict_reads: true,
            labels: vec!["l".to_owned()],
            priority: 6,
            keep_s: 7,
        };
        let principal = StoredPrincipal::Uid(8);
        let old = OldOrigin { key: "k".to_owned(), spec, principal, created_s: 9 };
        let [Write::Put { key, value: now, .. }, _] = put_origin(id, &old_origin(&old)) else {
            panic!("rows are put");
        };
        let (_, read) = job_record(&key, &value(&old)).unwrap();
        let JobRecord::Origin(read) = read else { panic!("{read:?}") };
        assert_eq!((read.spec.rate, read.spec.share), (0, NameShare::ALL));
        assert_eq!((read.spec.kind, read.spec.keep_s, read.created_s), (JobKind::Check, 7, 9));
        let (_, again) = job_record(&key, &now).unwrap();
        assert!(matches!(again, JobRecord::Origin(again) if again == read));
        assert!(job_record(&key, &[9, 1, 1]).is_err());
    }

    /// The same origin, read from its old value.
    fn old_origin(old: &OldOrigin) -> JobOrigin {
        origin(&value(old)).unwrap()
    }

    fn results(numbers: std::ops::Range<u64>) -> Vec<StoredResult> {
        let one = |number: u64| StoredResult {
            root: 0,
            path: Blob(format!("name of result {number}").into_bytes()),
            stamp: Stamp { size: number, ..Stamp::default() },
            outcome: ItemOutcome::Digests(Blob(vec![9; 32])),
        };
        numbers.map(one).collect()
    }

    /// The results of a chunk in the journal, and the number of its rows.
    fn stored(tables: &MemoryTables, id: JobId) -> (Vec<StoredResult>, usize) {
        let (from, to) = (item_key(id, 0), item_key(id, CHUNK_ITEMS));
        let rows =
            crate::journal::Snapshot::range(tables, TableId::Results, &from, &to, usize::MAX);
        let rows = rows.unwrap();
        (chunk_results(&rows, 0).unwrap(), rows.rows.len())
    }

    #[test]
    fn a_chunk_that_an_earlier_version_began_is_read_and_replaced() {
        let (id, table) = (JobId { epoch: 1, number: 2 }, TableId::Results);
        let mut tables = MemoryTables::default();
        for numbers in [0..128, 128..200] {
            let key = item_key(id, numbers.start);
            let value = value(&StoredResults(results(numbers)));
            tables.apply(&[Write::Put { table, key, value }]);
        }
        assert_eq!(stored(&tables, id), (results(0..200), 2));
        for len in [201, 256, 3, 256] {
            let fresh = StoredResults(results(0..len));
            tables.apply(&put_results(id, 0, &fresh));
            let (now, rows) = stored(&tables, id);
            assert_eq!(now, fresh.0);
            assert_eq!(rows, pack(&fresh).len(), "no row of before is left");
        }
    }

    #[test]
    fn a_chunk_with_a_gap_is_not_read_across_it() {
        let id = JobId { epoch: 1, number: 2 };
        let row =
            |first: u64, numbers| (item_key(id, first), value(&StoredResults(results(numbers))));
        let of = |rows| chunk_results(&Rows { rows, more: false }, 0);
        assert_eq!(of(vec![row(0, 0..5), row(6, 6..8)]), Ok(results(0..5)));
        assert!(of(vec![row(1, 1..5)]).is_err() && of(Vec::new()).is_err());
    }
}
