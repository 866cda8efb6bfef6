//! Choice of the files that an update reads.

use crate::engine::function::Function;
use crate::problem::Special;
use crate::state::settled_ns;
use crate::trees::claims::ClaimTable;
use crate::trees::found::{FoundTree, Metadata, look_at, special_at};
use ipc_proto::Algorithm;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;
use std::time::{Duration, SystemTime};

/// Longest wait for the clock of a file system to go on.
const SETTLE_MAX: Duration = Duration::from_millis(2100);

/// A file that may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpdateTarget {
    /// In the tree.
    Found(u32),
    /// Behind a symbolic link that the manifest names: the first entry of its name.
    Linked(u32, Metadata),
}

/// Unchanged files that are read all the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verify {
    pub(super) percent: Option<f64>,
    pub(super) older_than_ns: Option<i64>,
}

/// Files that are read, with an element per read, and those that are not.
#[derive(Debug)]
pub(super) struct UpdatePlan {
    pub(super) steps: Vec<(UpdateTarget, Function)>,
    pub(super) left_out: Vec<u32>,
    /// Files that are not read.
    pub(super) unchanged: u64,
    /// Time before the first file is read.
    pub(super) now_ns: i64,
    /// By entry: its file is there.
    is_planned: Vec<bool>,
    /// Entries of the manifest itself and its state.
    own: HashSet<u32>,
}

impl UpdatePlan {
    pub(super) fn new(
        tree: &FoundTree,
        claims: &ClaimTable,
        is_own: impl Fn(u32) -> bool,
        verify: Verify,
        asked: Option<Algorithm>,
    ) -> Self {
        let now_ns = settle(tree);
        let mut plan = Self {
            steps: Vec::new(),
            left_out: Vec::new(),
            unchanged: 0,
            now_ns,
            is_planned: vec![false; claims.len()],
            own: HashSet::new(),
        };
        // Functions of new files: those of the first one.
        let first = (claims.len() > 0).then(|| claims.functions_of(claims.find(claims.name(0))));
        let usual = first.unwrap_or_else(|| vec![asked.unwrap_or(Algorithm::Sha256).into()]);
        let mut targets: Vec<(UpdateTarget, bool)> = Vec::with_capacity(tree.len());
        for file in tree.names.indices() {
            let rows = claims.find(tree.names.get(file));
            if is_own(file) {
                plan.left_out.push(file);
                plan.own.extend(rows);
                continue;
            }
            let is_unchanged = plan.take(claims, rows, tree.metadata(file), verify);
            targets.push((UpdateTarget::Found(file), is_unchanged));
        }
        for rows in claims.groups() {
            let name = claims.name(rows[0]);
            let is_link = tree.special(name) == Some(Special::Symlink);
            if tree.names.first(name).is_some() || !is_link || !tree.selects(name) {
                continue;
            }
            let path = tree.path(name);
            let Some(metadata) = look_at(&path).filter(|_| special_at(&path).is_none()) else {
                continue;
            };
            let is_unchanged = plan.take(claims, rows, &metadata, verify);
            targets.push((UpdateTarget::Linked(rows[0], metadata), is_unchanged));
        }
        let mut sample = Sample::new(&targets, verify.percent.unwrap_or(0.0));
        for (target, is_unchanged) in targets {
            if is_unchanged && !sample.takes_next() {
                plan.unchanged += 1;
                continue;
            }
            let rows = match target {
                UpdateTarget::Found(file) => claims.find(tree.names.get(file)),
                UpdateTarget::Linked(row, _) => claims.find(claims.name(row)),
            };
            let functions = match rows {
                [] => Function::reads(&usual),
                rows => Function::reads(&claims.functions_of(rows)),
            };
            plan.steps.extend(functions.into_iter().map(|function| (target, function)));
        }
        plan
    }

    /// Notes that the file of `rows` is there; true if it need not be read.
    fn take(
        &mut self,
        claims: &ClaimTable,
        rows: &[u32],
        metadata: &Metadata,
        verify: Verify,
    ) -> bool {
        let oldest = verify.older_than_ns.map(|age| self.now_ns.saturating_sub(age));
        rows.iter().for_each(|&row| self.is_planned[row as usize] = true);
        let is_fresh = |row: &u32| {
            claims.seen(*row).is_some_and(|seen| {
                seen.is_unchanged(metadata) && oldest.is_none_or(|oldest| seen.seen_ns >= oldest)
            })
        };
        !rows.is_empty() && rows.iter().all(is_fresh)
    }

    /// True if the file of an entry is there.
    pub(super) fn is_planned(&self, row: u32) -> bool {
        self.is_planned[row as usize]
    }

    /// True if an entry is about the manifest or its state.
    pub(super) fn is_own(&self, row: u32) -> bool {
        self.own.contains(&row)
    }
}

/// Waits until a write to any of the files gets another timestamp than the one that was seen; then
/// what is read is what the metadata stands for. Returns the time.
fn settle(tree: &FoundTree) -> i64 {
    let settled = tree.names.indices().map(|file| settled_ns(tree.metadata(file))).max();
    let now_ns = now();
    let wait_ns = settled.unwrap_or(now_ns).saturating_sub(now_ns);
    let wait = Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(0));
    // A file from the future stays unsettled, and is read again the next time.
    if wait.is_zero() {
        return now_ns;
    }
    thread::sleep(wait.min(SETTLE_MAX));
    now()
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// A random choice of a share of the unchanged files, rounded up (selection sampling: Knuth, TAOCP
/// volume 2, algorithm S).
struct Sample {
    left: u64,
    wanted: u64,
    random: u64,
}

impl Sample {
    fn new(targets: &[(UpdateTarget, bool)], percent: f64) -> Self {
        let left = targets.iter().filter(|(_, is_unchanged)| *is_unchanged).count() as u64;
        let seed = RandomState::new().build_hasher().finish();
        Self { left, wanted: share(left, percent), random: seed | 1 }
    }

    fn takes_next(&mut self) -> bool {
        // xorshift64 (Marsaglia, 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let is_taken = self.random % self.left < self.wanted;
        self.left -= 1;
        self.wanted -= u64::from(is_taken);
        is_taken
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "between 0 and the number of files, of which none needs 53 bits"
)]
fn share(count: u64, percent: f64) -> u64 {
    ((count as f64 * percent / 100.0).ceil() as u64).min(count)
}

/// A percentage, with or without its sign.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    let number = number.filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "a number from 0 to 100, such as 2.5%".to_owned())
}

/// An age in nanoseconds: a number with a unit.
pub(super) fn age(text: &str) -> Result<i64, String> {
    let units =
        [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800), ("y", 31_557_600)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: i64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds)?.checked_mul(1_000_000_000).filter(|age| *age >= 0)
    });
    parsed.ok_or_else(|| "a number with s, m, h, d, w or y, such as 90d, up to 292y".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_percentages_are_read_with_their_units() {
        let day = 86_400 * 1_000_000_000;
        for (text, want) in [
            ("90d", Some(90 * day)),
            ("2w", Some(14 * day)),
            ("0s", Some(0)),
            ("90", None),
            ("d", None),
            ("-1d", None),
            ("300y", None),
            ("1 d", None),
        ] {
            assert_eq!(age(text).ok(), want, "{text}");
        }
        for (text, want) in
            [("1%", Some(1.0)), ("2.5", Some(2.5)), ("100%", Some(100.0)), ("0", Some(0.0))]
        {
            assert_eq!(percent(text).ok(), want, "{text}");
        }
        for text in ["", "%", "101%", "-1", "NaN", "inf", "1/10"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_sample_has_its_share_rounded_up() {
        for (count, percent, want) in
            [(1000, 1.0, 10), (10, 1.0, 1), (0, 50.0, 0), (7, 0.0, 0), (7, 100.0, 7), (3, 50.0, 2)]
        {
            let targets = vec![(UpdateTarget::Found(0), true); count];
            let mut sample = Sample::new(&targets, percent);
            let taken = targets.iter().filter(|_| sample.takes_next()).count();
            assert_eq!(taken, want, "{percent} % of {count}");
        }
    }
}
