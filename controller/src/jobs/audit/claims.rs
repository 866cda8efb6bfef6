//! The manifest of an audit, read by workers page by page before its files are looked for. Its claims become rows in the
//! order of the walk, in which the journal sorts them.

use super::super::Book;
use super::super::manifest::shown;
use super::super::record::{StoredClaim, WalkPlace, put_claim, put_claims};
use super::super::usage::{Amount, HeldMax};
use ipc_proto::message::{AuditBaseline, ClaimEntry, JobId, JobRoot, JobSource, JobState};
use ipc_proto::{Algorithms, Blob};

impl Book {
    /// Stores the claims of a page, with the place where the manifest goes on, if there is more. `bad_lines` are those of all pages.
    pub(in super::super) fn claims_read(
        &mut self,
        id: JobId,
        entries: Vec<ClaimEntry>,
        bad_lines: u32,
        (place, more): (WalkPlace, bool),
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let JobSource::Audit { roots, baseline: AuditBaseline::Manifest { path, .. }, .. } =
            &job.origin.spec.source
        else {
            return;
        };
        let mut claims = job.claims.clone().unwrap_or_default();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for ClaimEntry { path, algorithm, digest, refused, .. } in entries {
            let number = claims.claims;
            claims.claims += 1;
            if refused.is_some() {
                claims.refused = claims.refused.saturating_add(1);
                continue;
            }
            let Some((root, path)) = below_root(roots, &path) else { continue };
            if !claims.algorithms.contains(&algorithm) {
                claims.algorithms.push(algorithm);
            }
            bytes += (2 * path.len() + digest.len() + 32) as u64;
            rows.push(put_claim(id, number, &StoredClaim { root, path, algorithm, digest }));
        }
        let shown = shown(path);
        let is_empty = claims.algorithms.is_empty();
        let problem = match Algorithms::new(&claims.algorithms) {
            Err(error) if !is_empty => Some(format!("{shown}: {error}")),
            Err(_) if !more => {
                Some(format!("{shown}: no line is a claim about a file below the directories"))
            }
            Ok(_) | Err(_) => None,
        };
        let amount = Amount { bytes, ..Amount::default() };
        let principal = job.origin.principal.into();
        let taken = problem.map_or_else(|| self.usage.take(principal, amount, HeldMax::ANY), Err);
        if let Err(text) = taken {
            return self.end(id, JobState::Failed, text);
        }
        claims.len += bytes;
        claims.bad_lines = bad_lines;
        claims.is_read = !more;
        job.progress.stored_len += bytes;
        job.progress.walked = Some(if more { place } else { WalkPlace::default() });
        self.commits.write(rows);
        self.commits.write([put_claims(id, &claims)]);
        job.claims = Some(claims);
        let after = self.commits.next_sequence();
        if let Some(walk) = job.feed.as_mut().and_then(|feed| feed.walk.as_mut()) {
            walk.after = after;
        }
        self.write_progress(id);
        if !more {
            // Goes on with the directories, and with the algorithms of the manifest.
            self.stop(id);
            self.make_ready(id);
        }
    }
}

/// Number of the root that a file is below, and its path there.
fn below_root(roots: &[JobRoot], path: &[u8]) -> Option<(u16, Blob)> {
    (0..).zip(roots).find_map(|(number, root)| match &root.path[..] {
        b"" => Some((number, Blob::from(path))),
        dir => {
            let rest = path.strip_prefix(dir)?.strip_prefix(b"/")?;
            Some((number, Blob::from(rest)))
        }
    })
}
