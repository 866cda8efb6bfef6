//! Walks through manifests: a check whose list is a file of a dataset has it read by workers, page by page. Its claims become
//! items in the journal, each with its algorithm and digest.
//!
//! Invariants:
//! - what is durable of a manifest is a prefix of it, together with the place where it goes on;
//! - all pages are of one state of the file; when that changes, the job ends.
//!
//! Not here: what a line says (the crate `lists`, in the workers), and when a page is asked for (`walk`).

use super::record::{ManifestPlace, StoredItem, WalkPlace};
use super::walk::{ROW_LEN, reason};
use super::{Book, BookAction};
use crate::core::PageWanted;
use ipc_proto::limits::{CLAIMS_MAX, FRAME_NAMES_MAX};
use ipc_proto::message::{
    AuditBaseline, ClaimEntry, ClaimsWork, Failure, FileItem, JobId, JobSource, JobState,
    ListOutcome, ListWork,
};
use ipc_proto::{Algorithm, Blob};

/// A manifest that is being read.
#[derive(Debug)]
pub(super) struct ManifestWalk {
    /// Where it goes on; none if the journal's record of that is damaged.
    place: Option<ManifestPlace>,
    /// The page that was read there.
    pub(super) page: Option<ListOutcome>,
}

impl ManifestWalk {
    pub(super) fn new(place: &WalkPlace) -> Self {
        Self { place: place.in_manifest(), page: None }
    }
}

/// The algorithm and the digest of a stored item of a manifest.
pub(super) fn expectation(expected: &[u8]) -> Option<(Algorithm, &[u8])> {
    let (&number, digest) = expected.split_first()?;
    Some((*Algorithm::ALL.get(usize::from(number))?, digest))
}

fn stored(claim: ClaimEntry) -> StoredItem {
    let number = u8::try_from(claim.algorithm as usize).unwrap_or(u8::MAX);
    StoredItem {
        name: claim.name,
        expected: Blob([&[number][..], &claim.digest].concat()),
        file: FileItem::from(claim.stamp),
        content: claim.path,
        failure: claim.refused,
        ..StoredItem::default()
    }
}

impl Book {
    /// Stores the claims of the page that is here, or asks for the next one.
    pub(super) fn read_manifest(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some((name, path, base)) = manifest_of(&job.origin.spec.source) else { return };
        let Some(walk) = job.feed.as_mut().and_then(|feed| feed.walk.as_mut()) else { return };
        let Some(manifest) = &mut walk.manifest else { return };
        let Some(place) = &mut manifest.place else {
            let text = "its place in the manifest cannot be read from the journal".to_owned();
            return self.end(id, JobState::Failed, text);
        };
        let Some(ListOutcome::Claims { stamp, entries, bad_lines, offset, state, more }) =
            manifest.page.take()
        else {
            walk.is_asked = true;
            let ManifestPlace { offset, seen, state, .. } = place.clone();
            let claims = ClaimsWork { path: path.clone(), offset, seen, state };
            let work = ListWork {
                dataset: name.clone(),
                dir: base.clone(),
                after: Blob::default(),
                entries_max: u16::try_from(CLAIMS_MAX).unwrap_or(u16::MAX),
                claims: Some(claims),
            };
            let (principal, algorithms) = (job.origin.principal.into(), job.origin.spec.algorithms);
            let page = PageWanted { tag: walk.tag, principal, algorithms, work };
            self.of_list.insert(page.tag, id);
            return self.actions.push(BookAction::List(page));
        };
        let bad_lines = place.bad_lines.saturating_add(bad_lines);
        *place = ManifestPlace { offset, seen: Some(stamp), state, bad_lines };
        if let JobSource::Audit { .. } = &job.origin.spec.source {
            let place = WalkPlace::from(&*place);
            return self.claims_read(id, entries, bad_lines, (place, more));
        }
        let mut items: Vec<StoredItem> = entries.into_iter().map(stored).collect();
        let place = more.then(|| WalkPlace::from(&*place));
        if !more && bad_lines > 0 {
            items.push(StoredItem {
                name: path.clone(),
                failure: Some(Failure::BadLines { lines: bad_lines }),
                ..StoredItem::default()
            });
        }
        let is_empty = !more && job.progress.items + items.len() as u64 == u64::from(bad_lines > 0);
        let (dataset, shown) = (name.clone(), shown(path));
        if is_empty {
            let text =
                format!("{shown} of dataset {dataset}: no properly formatted checksum lines found");
            return self.end(id, JobState::Failed, text);
        }
        self.found(id, &dataset, rows(items), place);
    }

    /// Ends a job whose manifest cannot be read to its end.
    pub(super) fn manifest_failed(&mut self, id: JobId, failure: Failure) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some((name, path, _)) = manifest_of(&job.origin.spec.source) else { return };
        let why = match failure {
            Failure::Changed => "it changed while it was read; submit the job again".to_owned(),
            Failure::NotAList => "not a list of digests".to_owned(),
            Failure::NotRegular => "not a regular file".to_owned(),
            Failure::Invalid => {
                "its path or its format is not one that workers can follow".to_owned()
            }
            Failure::Io { .. }
            | Failure::Unsupported
            | Failure::WorkersLost { .. }
            | Failure::UnknownDataset
            | Failure::Disputed
            | Failure::Outside
            | Failure::BadLines { .. } => reason(failure),
        };
        let text = format!("{} of dataset {name} cannot be read: {why}", shown(path));
        self.end(id, JobState::Failed, text);
    }
}

/// Dataset, path and base of the manifest that a job reads.
fn manifest_of(source: &JobSource) -> Option<(&String, &Blob, &Blob)> {
    match source {
        JobSource::Manifest { name, path, base }
        | JobSource::Audit { name, baseline: AuditBaseline::Manifest { path, base }, .. } => {
            Some((name, path, base))
        }
        JobSource::Stored | JobSource::Dataset { .. } | JobSource::Audit { .. } => None,
    }
}

/// The path of a manifest, for a person.
pub(super) fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

/// Items as rows of the journal.
fn rows(items: Vec<StoredItem>) -> Vec<Vec<StoredItem>> {
    let (mut rows, mut row, mut len) = (Vec::new(), Vec::new(), 0);
    for item in items {
        if row.len() == FRAME_NAMES_MAX || len >= ROW_LEN {
            rows.push(std::mem::take(&mut row));
            len = 0;
        }
        len += item.name.len() + item.content.len();
        row.push(item);
    }
    rows.extend((!row.is_empty()).then_some(row));
    rows
}
