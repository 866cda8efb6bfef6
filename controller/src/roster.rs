//! Facts about workers that the journal keeps by name, so that a restart of the controller changes nothing: who is
//! in quarantine, and who is drained.
//!
//! Drive it so: give the core what [`load`] finds; hand each change to [`Roster::set`]; carry out the commits of
//! [`Roster::commit`], and tell their end by [`Roster::persisted`].
//!
//! Invariants:
//! - one commit is in flight, and what changes meanwhile goes into the next one;
//! - what could not be written stays to be written, as it is by then.

use crate::core::{Fault, LastingDrain, Standing};
use crate::jobs::{StoredPrincipal, decoded, encoded};
use crate::journal::{Snapshot, StorageError, TableId, Write};
use ipc_proto::message::{LeaseId, LimitExceeded, Message};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bytes that one read of the journal brings.
const READ_LEN: usize = 256 << 10;

/// A [`Standing`] in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct StandingRow {
    quarantined: Option<QuarantineRow>,
    drained: Option<DrainRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct QuarantineRow {
    fault: StoredFault,
    since_s: u64,
}

/// A [`Fault`] that lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum StoredFault {
    WrongAnswer(LeaseId),
    Contradicted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DrainRow {
    by: StoredPrincipal,
    since_s: u64,
    deadline_s: u64,
}

impl Message for StandingRow {
    /// Rows are checked where they are made.
    fn check(&self) -> Result<(), LimitExceeded> {
        Ok(())
    }
}

impl StandingRow {
    /// The row of what holds at `now_s`, in seconds since 1970; none if there is nothing to keep.
    fn of(standing: &Standing, now_s: u64) -> Option<Self> {
        let since = |age: Duration| now_s.saturating_sub(age.as_secs());
        let quarantined = standing.quarantined.and_then(|(fault, age)| {
            let fault = match fault {
                Fault::WrongAnswer(lease) => StoredFault::WrongAnswer(lease),
                Fault::Contradicted => StoredFault::Contradicted,
                Fault::UnknownJob(_)
                | Fault::ItemAfterFinish(_)
                | Fault::WrongIndex { .. }
                | Fault::WindowExceeded(_)
                | Fault::CreditExceeded
                | Fault::Silent
                | Fault::ForeignLease(_)
                | Fault::Overdue
                | Fault::Unnamed => return None,
            };
            Some(QuarantineRow { fault, since_s: since(age) })
        });
        let drained = standing.drained.map(|drain| DrainRow {
            by: drain.by.into(),
            since_s: since(drain.age),
            deadline_s: now_s.saturating_add(drain.left.as_secs()),
        });
        (quarantined.is_some() || drained.is_some()).then_some(Self { quarantined, drained })
    }

    /// The standing that it is of, at `now_s`.
    fn standing(&self, now_s: u64) -> Standing {
        let age = |since_s: u64| Duration::from_secs(now_s.saturating_sub(since_s));
        let fault = |fault: &StoredFault| match fault {
            StoredFault::WrongAnswer(lease) => Fault::WrongAnswer(*lease),
            StoredFault::Contradicted => Fault::Contradicted,
        };
        let quarantined = self.quarantined.as_ref();
        let drained = self.drained.as_ref();
        Standing {
            quarantined: quarantined.map(|row| (fault(&row.fault), age(row.since_s))),
            drained: drained.map(|row| LastingDrain {
                by: row.by.into(),
                age: age(row.since_s),
                left: Duration::from_secs(row.deadline_s.saturating_sub(now_s)),
            }),
        }
    }
}

/// Changes of what is kept.
#[derive(Debug, Default)]
pub struct Roster {
    /// Rows that are to be written, by name; none for those that go.
    changed: BTreeMap<String, Option<StandingRow>>,
    /// Rows that are being written.
    in_flight: Option<BTreeMap<String, Option<StandingRow>>>,
    /// Number of the last commit.
    commits: u64,
}

impl Roster {
    /// Keeps `standing` of the name `worker`.
    pub fn set(&mut self, now_s: u64, worker: &str, standing: &Standing) {
        self.changed.insert(worker.to_owned(), StandingRow::of(standing, now_s));
    }

    /// The number of the commit with whose end all is durable that was set, if one is in flight.
    #[must_use]
    pub fn awaited(&self) -> Option<u64> {
        let has_more = !self.changed.is_empty();
        self.in_flight.as_ref().map(|_| self.commits + u64::from(has_more))
    }

    /// A commit that is to be carried out, with its number.
    pub fn commit(&mut self) -> Option<(u64, Vec<Write>)> {
        if self.in_flight.is_some() || self.changed.is_empty() {
            return None;
        }
        let rows = std::mem::take(&mut self.changed);
        let table = TableId::Workers;
        let write = |(name, row): (&String, &Option<StandingRow>)| {
            let key = name.clone().into_bytes();
            match row {
                Some(row) => Write::Put { table, key, value: encoded(row) },
                None => Write::Delete { table, key },
            }
        };
        let writes = rows.iter().map(write).collect();
        self.commits += 1;
        self.in_flight = Some(rows);
        Some((self.commits, writes))
    }

    /// Takes the end of the commit in flight; the names of which a restart does not know what was set.
    pub fn persisted(&mut self, is_durable: bool) -> Vec<String> {
        let Some(rows) = self.in_flight.take().filter(|_| !is_durable) else { return Vec::new() };
        let names = rows.keys().cloned().collect();
        for (name, row) in rows {
            self.changed.entry(name).or_insert(row);
        }
        names
    }
}

/// Standings that are kept, by name, with times as of `now_s`.
///
/// # Errors
/// [`StorageError`], also for a row of another kind.
pub fn load(contents: &dyn Snapshot, now_s: u64) -> Result<Vec<(String, Standing)>, StorageError> {
    let mut found = Vec::new();
    let mut from = Vec::new();
    loop {
        let page = contents.range(TableId::Workers, &from, b"", READ_LEN)?;
        for (key, value) in &page.rows {
            let foreign = |why: String| StorageError::Corrupt(format!("a worker's row: {why}"));
            let row: StandingRow = decoded(value).map_err(|bad| foreign(bad.0))?;
            let name = String::from_utf8(key.clone()).map_err(|bad| foreign(bad.to_string()))?;
            found.push((name, row.standing(now_s)));
        }
        match page.rows.last() {
            Some((last, _)) if page.more => from = [last, &[0][..]].concat(),
            Some(_) | None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Principal;
    use crate::journal::{MemoryStorage, Storage};

    const NOW: u64 = 1_000_000;

    fn drained(left_s: u64) -> Standing {
        let (age, left) = (Duration::from_secs(3), Duration::from_secs(left_s));
        let drained = LastingDrain { by: Principal::Uid(7), age, left };
        Standing { drained: Some(drained), ..Standing::default() }
    }

    fn quarantined(fault: Fault, age_s: u64) -> Standing {
        Standing { quarantined: Some((fault, Duration::from_secs(age_s))), drained: None }
    }

    fn kept(storage: &MemoryStorage, now_s: u64) -> Vec<(String, Standing)> {
        load(&*storage.snapshot().unwrap(), now_s).unwrap()
    }

    #[test]
    fn what_is_set_is_found_again_and_its_times_went_on() {
        let storage = MemoryStorage::default();
        let mut roster = Roster::default();
        let wrong = Fault::WrongAnswer(LeaseId { epoch: 9, number: 8 });
        let both = Standing { drained: drained(30).drained, ..quarantined(wrong, 60) };
        roster.set(NOW, "a", &drained(30));
        roster.set(NOW, "b", &both);
        roster.set(NOW, "c", &quarantined(Fault::Contradicted, 0));
        let (1, writes) = roster.commit().unwrap() else { panic!("the first") };
        storage.commit(&writes).unwrap();
        assert!(roster.persisted(true).is_empty());
        assert_eq!(roster.awaited(), None);
        let of = |rows: Vec<(String, Standing)>, name: &str| {
            rows.into_iter().find(|row| row.0 == name).map(|row| row.1)
        };
        assert_eq!(of(kept(&storage, NOW), "b"), Some(both));
        let later = kept(&storage, NOW + 10);
        let drain = of(later.clone(), "a").unwrap().drained.unwrap();
        assert_eq!((drain.age.as_secs(), drain.left.as_secs()), (13, 20));
        assert_eq!(of(later, "c"), Some(quarantined(Fault::Contradicted, 10)));
        let drain = of(kept(&storage, NOW + 99), "a").unwrap().drained.unwrap();
        assert_eq!(drain.left, Duration::ZERO);

        roster.set(NOW, "a", &Standing::default());
        let (_, writes) = roster.commit().unwrap();
        storage.commit(&writes).unwrap();
        let names: Vec<String> = kept(&storage, NOW).into_iter().map(|row| row.0).collect();
        assert_eq!(names, ["b", "c"]);
    }

    #[test]
    fn what_does_not_last_is_not_kept() {
        for fault in [Fault::Overdue, Fault::Unnamed, Fault::Silent] {
            assert_eq!(StandingRow::of(&quarantined(fault, 1), NOW), None);
        }
    }

    #[test]
    fn one_commit_is_in_flight_and_what_failed_is_written_as_it_is_by_then() {
        let mut roster = Roster::default();
        roster.set(NOW, "a", &drained(1));
        assert!(roster.commit().is_some());
        assert_eq!(roster.awaited(), Some(1));
        roster.set(NOW, "a", &Standing::default());
        roster.set(NOW, "b", &drained(1));
        assert_eq!((roster.commit(), roster.awaited()), (None, Some(2)));
        assert_eq!(roster.persisted(false), ["a"]);
        assert_eq!(roster.awaited(), None, "nobody waits for a journal that takes nothing");
        let (2, writes) = roster.commit().unwrap() else { panic!("the second") };
        let [Write::Delete { key, .. }, Write::Put { .. }] = &writes[..] else {
            panic!("{writes:?}")
        };
        assert_eq!(key, b"a");
        assert_eq!(roster.awaited(), Some(2));
        assert!(roster.persisted(true).is_empty());
        assert_eq!((roster.commit(), roster.awaited()), (None, None));
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        let storage = MemoryStorage::default();
        let (table, key, value) = (TableId::Workers, b"a".to_vec(), b"\x01nonsense".to_vec());
        storage.commit(&[Write::Put { table, key, value }]).unwrap();
        let found = load(&*storage.snapshot().unwrap(), NOW);
        assert!(matches!(found, Err(StorageError::Corrupt(_))), "{found:?}");
    }
}
