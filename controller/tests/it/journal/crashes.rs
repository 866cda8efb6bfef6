//! The journal's file under crashes at every operation, with what was not synced lost, torn or reordered; recovery
//! crashes, too.
//!
//! `HASHCLUSTER_SEEDS` sets how many seeds are run (500), `HASHCLUSTER_FIRST_SEED` the first.

use super::faulty_device::{DeviceFaults, FaultyDevice};
use hashcluster_controller::journal::{
    DiskStorage, FORMAT, MemoryStorage, MemoryTables, Snapshot, Storage, TableId, Write,
};
use std::sync::Arc;
use test_kit::Random;

/// Crashes per seed.
const CRASHES: u64 = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Rows of all tables, but for the one that has the journal's format.
fn rows(now: &dyn Snapshot) -> Vec<Rows> {
    let of = |table| now.range(table, b"", b"", usize::MAX).expect("it can be read").rows;
    TableId::ALL.into_iter().filter(|table| *table != TableId::Meta).map(of).collect()
}

fn random_writes(random: &mut Random) -> Vec<Write> {
    let tables = [TableId::Jobs, TableId::Results, TableId::Events];
    (0..=random.below(6))
        .map(|_| {
            let table = random.one_of(&tables);
            let key = |random: &mut Random| vec![random.byte() % 8, random.byte() % 8];
            match random.below(8) {
                0 => Write::Delete { table, key: key(random) },
                1 => Write::DeleteRange { table, from: key(random), to: key(random) },
                _ => {
                    let value_len = random.one_of(&[3, 100, 5000, 40_000]);
                    let value = vec![random.byte(); value_len];
                    Write::Put { table, key: key(random), value }
                }
            }
        })
        .collect()
}

/// The format of the journal in a file that can be read.
fn format_of(now: &dyn Snapshot) -> Option<Vec<u8>> {
    now.get(TableId::Meta, FORMAT_KEY).expect("it can be read")
}

const FORMAT_KEY: &[u8] = b"hashcluster-journal-format";

/// Counts of what happened.
#[derive(Debug, Default)]
struct CrashCounts {
    commits: u64,
    compactions: u64,
    /// Opened for the first time as a journal of format 1.
    migrations: u64,
    crashed_recoveries: u64,
    /// Transactions without an answer that were there, and that were not.
    kept: u64,
    undone: u64,
}

/// Lets a journal crash again and again; the symptom if something that was acknowledged is not there afterwards.
fn live(seed: u64, lies: bool) -> Result<CrashCounts, String> {
    let mut random = Random::new(seed);
    let mut counts = CrashCounts::default();
    let first = FaultyDevice::new(Vec::new(), DeviceFaults::default());
    let made = DiskStorage::create(Arc::new(first.clone())).map_err(|error| error.to_string())?;
    let is_old = random.chance(30);
    if is_old {
        let (key, value) = (FORMAT_KEY.to_vec(), 1_u32.to_be_bytes().to_vec());
        let old = Write::Put { table: TableId::Meta, key, value };
        made.commit(&[old]).map_err(|error| error.to_string())?;
        counts.migrations += 1;
    }
    drop(made);
    let mut bytes = first.crash();
    // The acknowledged contents, and those with the transaction that had no answer.
    let mut known = MemoryTables::default();
    let mut in_doubt: Option<MemoryTables> = None;
    for round in 0..=CRASHES {
        let is_last = round == CRASHES;
        let crash_at = (!is_last).then(|| random.below(60));
        let faults =
            DeviceFaults { seed: random.next_u64(), crash_at, lies, ..DeviceFaults::default() };
        let device = FaultyDevice::new(std::mem::take(&mut bytes), faults);
        let has_crashed = || crash_at.is_some_and(|at| device.changes() > at);
        match DiskStorage::open(Arc::new(device.clone())) {
            Err(_) if has_crashed() => counts.crashed_recoveries += 1,
            Err(error) => return Err(format!("round {round}: {error}")),
            Ok(storage) => {
                let now = storage.snapshot().map_err(|error| error.to_string())?;
                if format_of(&*now) != Some(FORMAT.to_be_bytes().to_vec()) {
                    return Err(format!("round {round}: an open journal has another format"));
                }
                let found = rows(&*now);
                drop(now);
                if in_doubt.as_ref().is_some_and(|tables| rows(tables) == found) {
                    known = in_doubt.take().unwrap_or_default();
                    counts.kept += 1;
                } else if rows(&known) != found {
                    return Err(format!("round {round}: what was acknowledged is not there"));
                } else if in_doubt.take().is_some() {
                    counts.undone += 1;
                }
                for _ in 0..30 {
                    if random.chance(1) {
                        if storage.compact().is_err() {
                            break;
                        }
                        counts.compactions += 1;
                    }
                    let writes = random_writes(&mut random);
                    let next = MemoryStorage::from(known.clone());
                    next.commit(&writes).map_err(|error| error.to_string())?;
                    if storage.commit(&writes).is_err() {
                        in_doubt = Some(next.tables());
                        break;
                    }
                    known = next.tables();
                    counts.commits += 1;
                }
            }
        }
        bytes = device.crash();
    }
    Ok(counts)
}

#[test]
#[expect(clippy::print_stdout, reason = "what happened is the result of a long run")]
fn what_was_acknowledged_is_there_after_crashes_at_every_operation() {
    let (first, seeds) = (setting("HASHCLUSTER_FIRST_SEED", 1), setting("HASHCLUSTER_SEEDS", 500));
    let mut total = CrashCounts::default();
    for seed in first..first + seeds {
        let counts = live(seed, false).unwrap_or_else(|symptom| panic!("seed {seed}: {symptom}"));
        total.commits += counts.commits;
        total.compactions += counts.compactions;
        total.migrations += counts.migrations;
        total.crashed_recoveries += counts.crashed_recoveries;
        total.kept += counts.kept;
        total.undone += counts.undone;
    }
    println!("{seeds} seeds from {first}: {total:?}");
    let CrashCounts { commits, compactions, migrations, crashed_recoveries, kept, undone } = total;
    let all = [commits, compactions, migrations, crashed_recoveries, kept, undone];
    let least = all.into_iter().min();
    assert!(least >= Some(seeds / 50), "not everything happened: {total:?}");
}

#[test]
fn a_sync_that_lies_is_caught() {
    let caught = (1..=50).filter(|&seed| live(seed, true).is_err()).count();
    assert!(caught >= 25, "only {caught} of 50 seeds noticed that nothing was durable");
}
