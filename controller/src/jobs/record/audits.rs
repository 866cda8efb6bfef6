//! Rows of audits: findings, and the claims of a manifest.

use super::{end_key, item_key, job_key, value};
use crate::journal::{TableId, Write};
use ipc_proto::message::{AuditCounts, AuditRow, JobId};
use ipc_proto::{Algorithm, Blob};
use serde::{Deserialize, Serialize};

/// Findings in a row of the journal. With the longest names they fit a frame of the codec.
pub(in super::super) const FINDINGS_ROW: u64 = 16;

/// Summary of the findings of an audit that is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct StoredAudit {
    pub(in super::super) counts: AuditCounts,
    /// Number of findings in the journal, and their bytes.
    pub(in super::super) findings: u64,
    pub(in super::super) len: u64,
}

/// Neighbouring findings: [`FINDINGS_ROW`], or fewer in the last row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct StoredFindings(pub(in super::super) Vec<AuditRow>);

/// The manifest of an audit, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct StoredClaims {
    /// All of it was.
    pub(in super::super) is_read: bool,
    /// Those of its lines, in the order of their first ones.
    pub(in super::super) algorithms: Vec<Algorithm>,
    /// Number of claims, of files below the roots or elsewhere, and bytes of those that are stored.
    pub(in super::super) claims: u64,
    pub(in super::super) len: u64,
    /// Lines that are no claim, and claims that no worker can look into.
    pub(in super::super) bad_lines: u32,
    pub(in super::super) refused: u32,
}

/// A claim about a file below a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct StoredClaim {
    pub(in super::super) root: u16,
    pub(in super::super) path: Blob,
    pub(in super::super) algorithm: Algorithm,
    pub(in super::super) digest: Blob,
}

/// Sets the summary of an audit.
pub(in super::super) fn put_audit(id: JobId, audit: &StoredAudit) -> Write {
    let key = [&job_key(id)[..], &[2]].concat();
    Write::Put { table: TableId::Jobs, key, value: value(audit) }
}

/// Removes that again.
pub(in super::super) fn delete_audit(id: JobId) -> Write {
    Write::Delete { table: TableId::Jobs, key: [&job_key(id)[..], &[2]].concat() }
}

/// Adds findings from `first` on.
pub(in super::super) fn put_findings(id: JobId, first: u64, findings: &StoredFindings) -> Write {
    Write::Put { table: TableId::Findings, key: item_key(id, first), value: value(findings) }
}

/// Removes the findings of a job.
pub(in super::super) fn delete_findings(id: JobId) -> Write {
    Write::DeleteRange { table: TableId::Findings, from: item_key(id, 0), to: end_key(id) }
}

/// Sets how far the manifest of an audit is read.
pub(in super::super) fn put_claims(id: JobId, claims: &StoredClaims) -> Write {
    let key = [&job_key(id)[..], &[3]].concat();
    Write::Put { table: TableId::Jobs, key, value: value(claims) }
}

/// Adds a claim, the one of this number in its manifest. Rows are in the order of the walk, as `/` becomes the least
/// byte, and those of one file in the order of their lines.
pub(in super::super) fn put_claim(id: JobId, number: u64, claim: &StoredClaim) -> Write {
    let path: Vec<u8> =
        claim.path.iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect();
    let root = claim.root.to_be_bytes();
    let key = [&job_key(id)[..], &root, &path, &[0, 0], &number.to_be_bytes()].concat();
    Write::Put { table: TableId::Claims, key, value: value(claim) }
}

/// Removes the claims of a job.
pub(in super::super) fn delete_claims(id: JobId) -> Write {
    Write::DeleteRange { table: TableId::Claims, from: item_key(id, 0), to: end_key(id) }
}
