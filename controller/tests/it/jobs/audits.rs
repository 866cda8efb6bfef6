//! The second job of a client whose first one walked a tree: an audit of that tree, which has changed since.

use super::client::{FILE_STAMP, SimItem, digest_by};
use ipc_proto::message::{AuditFinding, AuditRow, ClaimEntry, JobId};
use ipc_proto::{Algorithm, Blob};
use std::collections::{BTreeMap, BTreeSet};
use test_kit::Random;

pub(crate) struct SimAudit {
    /// The job whose results are the baseline; none for a manifest.
    pub(crate) base: Option<JobId>,
    before: Vec<SimItem>,
    /// Findings as they were read.
    pub(crate) rows: Vec<AuditRow>,
    /// Those that were read before a crash.
    seen: Option<Vec<AuditRow>>,
}

/// Algorithm of the line of a file.
fn algorithm(number: usize) -> Algorithm {
    if number.is_multiple_of(7) { Algorithm::Md5 } else { Algorithm::Sha256 }
}

fn claim(item: &SimItem, algorithm: Algorithm) -> ClaimEntry {
    ClaimEntry {
        name: Blob(item.name.clone()),
        path: Blob(item.content.clone()),
        algorithm,
        digest: Blob(digest_by(algorithm, &item.bytes)),
        stamp: FILE_STAMP,
        refused: None,
    }
}

impl SimAudit {
    /// Changes `items`, which the job `base` has found.
    pub(crate) fn new(base: JobId, items: &mut Vec<SimItem>, random: &mut Random) -> Self {
        let before = items.clone();
        let change = random.one_of(&[0, 3, 30]);
        let mut number = 0;
        for item in &before {
            let at = items.iter().position(|other| other.content == item.content);
            if !random.chance(change) {
                continue;
            }
            let at = at.expect("each is changed once");
            match random.below(5) {
                0 => drop(items.remove(at)),
                1 => items[at].bytes.push(b'!'),
                2 => {
                    items[at] = item.renamed(number);
                    number += 1;
                }
                _ => {
                    let mut added = item.renamed(number);
                    number += 1;
                    if random.chance(50) {
                        added.bytes.push(b'?');
                    }
                    items.push(added);
                }
            }
        }
        items.sort_by(|a, b| a.content.split(|&c| c == b'/').cmp(b.content.split(|&c| c == b'/')));
        let base = Some(base).filter(|_| random.chance(50));
        Self { base, before, rows: Vec::new(), seen: None }
    }

    /// Lines of the manifest: not in the order of the walk, some files with two, which are of one algorithm or of several.
    pub(crate) fn claims(&self) -> Vec<ClaimEntry> {
        let claims = self.before.iter().enumerate().rev().flat_map(|(i, item)| {
            let number = if i % 3 == 0 { 2 } else { 1 };
            (0..number).map(move |second| claim(item, algorithm(i + second)))
        });
        claims.collect()
    }

    /// The algorithm of a finding about a file, by its number.
    fn algorithm_of(&self, name: &[u8]) -> Algorithm {
        let at = self.before.iter().position(|item| item.name == name);
        if self.base.is_some() { Algorithm::Sha256 } else { algorithm(at.expect("it was there")) }
    }

    /// The findings are those of the two trees, and the same after every crash.
    pub(crate) fn check(&mut self, items: &[SimItem]) -> Result<(), String> {
        let rows = std::mem::take(&mut self.rows);
        if let Some(seen) = &self.seen {
            return if *seen == rows {
                Ok(())
            } else {
                Err("other findings than before".to_owned())
            };
        }
        let of = |items: &[SimItem]| -> BTreeMap<Vec<u8>, Vec<u8>> {
            items.iter().map(|item| (item.name.clone(), item.bytes.clone())).collect()
        };
        let (before, after) = (of(&self.before), of(items));
        let lost = |name: &[u8]| after.get(name) != before.get(name);
        let mut left: BTreeMap<Vec<u8>, AuditRow> = BTreeMap::new();
        for row in &rows {
            left.insert(row.name.0.clone(), row.clone());
        }
        if left.len() != rows.len() {
            return Err("two findings of one file".to_owned());
        }
        let order = |row: &AuditRow| -> Vec<Vec<u8>> {
            row.name.split(|&c| c == b'/').map(<[u8]>::to_vec).collect()
        };
        if !rows.is_sorted_by_key(order) {
            return Err("findings are not in the order of the walk".to_owned());
        }
        let mut moved = BTreeSet::new();
        let mut moves: BTreeMap<&[u8], [usize; 2]> = BTreeMap::new();
        for (name, bytes) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
            let row = left.remove(name).ok_or("a new file without a finding")?;
            let from = &row.from.0;
            let is_right = match row.finding {
                AuditFinding::New => !before.values().any(|other| other == bytes),
                AuditFinding::Copied => before.get(from) == Some(bytes),
                AuditFinding::Moved => {
                    before.get(from) == Some(bytes) && lost(from) && moved.insert(from.clone())
                }
                AuditFinding::Matched
                | AuditFinding::Modified
                | AuditFinding::Older
                | AuditFinding::Rotted
                | AuditFinding::Missing
                | AuditFinding::Unreadable
                | AuditFinding::Changed => false,
            };
            if !is_right || row.size != FILE_STAMP.size {
                return Err(format!("{row:?} of a new file"));
            }
            let count = moves.entry(bytes).or_default();
            count[0] += 1;
            count[1] += usize::from(row.finding == AuditFinding::Moved);
        }
        for (bytes, [new, moved]) in moves {
            let origins = before.iter().filter(|(name, of)| *of == bytes && lost(name)).count();
            if moved != new.min(origins) {
                return Err(format!("{moved} of {new} files moved, {origins} could have"));
            }
        }
        let is_known = self.base.is_some();
        let changed = if is_known { AuditFinding::Rotted } else { AuditFinding::Changed };
        for (name, bytes) in &before {
            let (finding, digest) = match after.get(name) {
                Some(now) if now == bytes => continue,
                Some(now) => (changed, Blob(digest_by(self.algorithm_of(name), now))),
                None if moved.contains(name) => continue,
                None => (AuditFinding::Missing, Blob::default()),
            };
            let is_here = finding == changed;
            let want = AuditRow {
                finding,
                name: Blob(name.clone()),
                from: Blob::default(),
                size: if is_here { FILE_STAMP.size } else { 0 },
                algorithm: is_here.then(|| self.algorithm_of(name)),
                digest,
                expected: Blob(digest_by(self.algorithm_of(name), bytes)),
                failure: None,
            };
            let got = left.remove(name);
            if got.as_ref() != Some(&want) {
                return Err(format!("{got:?} instead of {want:?}"));
            }
        }
        if let Some(row) = left.values().next() {
            return Err(format!("{row:?} of a file that is as it was"));
        }
        self.seen = Some(rows);
        Ok(())
    }
}
