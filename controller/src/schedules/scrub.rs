//! Scrubs: the share of the files that a run reads, and the earlier shares with which it is compared.
//!
//! The places of all paths ([`NameShare::place`]) are a circle. A run reads the part of it that begins where the run before
//! ended, as long in relation to the whole as the time since then is to the period: so everything is read once per
//! period, those files first that were read longest ago, however regular the runs are. A run that was cut off reads
//! nothing for good, and the next one reads its share as well.

use super::Planner;
use super::record::{ScrubPlace, StoredBase, forget_base, put_place};
use ipc_proto::message::NameShare;
use schedule::{ScheduledTask, TaskKind};
use std::collections::BTreeMap;
use std::ops::Range;

/// Places of the circle.
const CIRCLE: u64 = 1 << 32;

/// Most earlier shares with which one is compared; files of still earlier ones are not looked at.
const BASES_MAX: usize = 64;

/// Earlier runs of all tasks of a schedule, by task and run; those that read everything have number 0.
pub(super) type Bases = BTreeMap<(String, u64), StoredBase>;

/// Ranges of places, none of which overlap.
pub(super) type Places = Vec<Range<u64>>;

/// The places of a share.
fn places(share: NameShare) -> Places {
    if share.len == 0 {
        return std::iter::once(0..CIRCLE).collect();
    }
    let (from, to) = (u64::from(share.from), u64::from(share.from) + u64::from(share.len));
    let parts = [from..to.min(CIRCLE), 0..to.saturating_sub(CIRCLE)];
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

fn common(a: &Places, b: &Places) -> Places {
    let pairs =
        a.iter().flat_map(|x| b.iter().map(move |y| x.start.max(y.start)..x.end.min(y.end)));
    pairs.filter(|part| !part.is_empty()).collect()
}

fn without(all: &Places, taken: &Places) -> Places {
    let cut = |left: Places, part: &Range<u64>| {
        let rest = |x: Range<u64>| [x.start..x.end.min(part.start), x.start.max(part.end)..x.end];
        left.into_iter().flat_map(rest).filter(|part| !part.is_empty()).collect()
    };
    taken.iter().fold(all.clone(), cut)
}

/// The share that a run reads which is due at `due_s`; `first_s` is the time that counts for the first one.
fn share(place: Option<ScrubPlace>, due_s: i64, period_s: u64, first_s: u64) -> NameShare {
    let (from, passed_s) = match place {
        Some(place) => (place.next, u64::try_from(due_s.saturating_sub(place.due_s)).unwrap_or(0)),
        None => (0, first_s),
    };
    let len = u128::from(passed_s.max(1)) * u128::from(CIRCLE);
    let len = len.div_ceil(u128::from(period_s.max(1)));
    // A whole circle, and everything that is longer.
    NameShare { from, len: u32::try_from(len).unwrap_or(0) }
}

/// The earlier runs of a task with which `next` is compared, the latest first, and the places for which each of them counts.
pub(super) fn bases_for(bases: &Bases, task: &str, next: &StoredBase) -> Vec<(StoredBase, Places)> {
    let mut left = places(next.share);
    let mut chosen = Vec::new();
    for base in of_task(bases, task).map(|(_, base)| base).rev() {
        let part = common(&left, &places(base.share));
        if base.is_like(next) && !part.is_empty() && chosen.len() < BASES_MAX {
            left = without(&left, &part);
            chosen.push((base.clone(), part));
        }
    }
    chosen
}

fn of_task<'a>(
    bases: &'a Bases,
    task: &str,
) -> impl DoubleEndedIterator<Item = (&'a (String, u64), &'a StoredBase)> {
    bases.range((task.to_owned(), 0)..=(task.to_owned(), u64::MAX))
}

/// The earlier runs of a task that no later run can be compared with, as later ones read the same.
fn outdated(bases: &Bases, task: &str) -> Vec<u64> {
    let mut left = places(NameShare::ALL);
    let mut newest: Option<&StoredBase> = None;
    let mut found = Vec::new();
    for ((_, run), base) in of_task(bases, task).rev() {
        let part = common(&left, &places(base.share));
        if part.is_empty() || !newest.get_or_insert(base).is_like(base) {
            found.push(*run);
        }
        left = without(&left, &part);
    }
    found
}

impl Planner {
    /// The share that a task of a run reads: all, unless it is a scrub.
    pub(super) fn share_of(&self, name: &str, step: usize, task: &ScheduledTask) -> NameShare {
        let TaskKind::Scrub { period } = task.kind else { return NameShare::ALL };
        let Some(planned) = self.planned.get(name) else { return NameShare::ALL };
        let Some(run) = &planned.run else { return NameShare::ALL };
        let place = planned.places.get(&planned.schedule.steps[step].name).copied();
        let due_s = run.row.due_s;
        let next_s = planned.schedule.next_after(due_s);
        let first_s = next_s.map(|next_s| next_s.saturating_sub(due_s));
        let first_s = first_s.and_then(|s| u64::try_from(s).ok()).unwrap_or(period.as_secs());
        share(place, due_s, period.as_secs(), first_s)
    }

    /// Notes that a scrub has read its share, so that the next run reads on behind it.
    pub(super) fn advance_scrub(&mut self, name: &str, step: usize, share: NameShare) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        let Some(run) = &planned.run else { return };
        let task = planned.schedule.steps[step].name.clone();
        let place = ScrubPlace { next: share.from.wrapping_add(share.len), due_s: run.row.due_s };
        self.next.writes.push(put_place(name, &task, place));
        planned.places.insert(task, place);
    }

    /// Forgets the runs of a task that are not needed any more.
    pub(super) fn forget_bases(&mut self, name: &str, task: &str) {
        let Some(planned) = self.planned.get_mut(name) else { return };
        for run in outdated(&planned.bases, task) {
            planned.bases.remove(&(task.to_owned(), run));
            self.next.writes.push(forget_base(name, task, run));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_proto::Algorithm;
    use ipc_proto::message::{JobId, JobSource};

    fn base(from: u32, len: u32) -> StoredBase {
        StoredBase {
            job: JobId { epoch: 1, number: from.into() },
            began_s: 0,
            algorithms: Algorithm::Sha256.into(),
            source: JobSource::Stored,
            share: NameShare { from, len },
        }
    }

    const QUARTER: u32 = 1 << 30;

    #[test]
    fn shares_cover_the_circle_once_per_period_however_irregular_the_runs() {
        let period_s = 90 * 86_400;
        let (mut place, mut due_s, mut covered) = (None, 1_000_000_i64, 0);
        let mut left = places(NameShare::ALL);
        for gap in [86_400, 3_600, 7 * 86_400, 1].into_iter().cycle() {
            let share = share(place, due_s, period_s, 86_400);
            left = without(&left, &places(share));
            covered += u64::from(share.len);
            place = Some(ScrubPlace { next: share.from.wrapping_add(share.len), due_s });
            if left.is_empty() {
                break;
            }
            due_s += gap;
        }
        let passed_s = u64::try_from(due_s - 1_000_000).unwrap() + 86_400;
        assert!((period_s..period_s + 8 * 86_400).contains(&passed_s), "{passed_s}");
        assert!(covered < CIRCLE + CIRCLE / 10, "hardly anything was read twice: {covered}");
        // After an outage of more than a period everything is read, from where the last run ended.
        let all = share(place, due_s + 100 * 86_400, period_s, 1);
        assert_eq!((all.len, all.from), (0, place.unwrap().next));
        // A clock that was set back leaves a share as small as can be.
        assert_eq!(share(place, 0, period_s, 1).len, share(place, due_s + 1, period_s, 1).len);
    }

    #[test]
    fn a_share_is_compared_with_the_latest_runs_that_read_its_files() {
        let mut bases = Bases::new();
        for (run, part) in [(1, base(0, QUARTER)), (2, base(QUARTER, QUARTER)), (3, base(0, 9))] {
            bases.insert(("t".to_owned(), run), part);
        }
        bases.insert(("u".to_owned(), 9), base(0, 0));
        let next = base(u32::MAX, QUARTER);
        let chosen = bases_for(&bases, "t", &next);
        let part = |from, len| places(NameShare { from, len });
        let want = [(base(0, 9), part(0, 9)), (base(0, QUARTER), part(9, QUARTER - 10))];
        assert_eq!(chosen, want, "the last place was never read");
        assert!(outdated(&bases, "t").is_empty());
        bases.insert(("t".to_owned(), 4), base(0, QUARTER));
        assert_eq!(outdated(&bases, "t"), [3, 1]);
        // Another source: nothing of before counts.
        let other = StoredBase { algorithms: Algorithm::Blake3.into(), ..base(5, 5) };
        assert_eq!(bases_for(&bases, "t", &other), []);
        bases.insert(("t".to_owned(), 5), other);
        assert_eq!(outdated(&bases, "t"), [4, 3, 2, 1]);
    }
}
