//! Disks that are full, read-only or broken.

use super::faulty::{Faults, FaultyStorage, Outage};
use super::faulty_device::{DeviceFaults, FaultyDevice};
use hashcluster_controller::journal::{
    DiskStorage, Journal, JournalAnswer, JournalHealth, MemoryTables, Query, Rows, Storage,
    StorageError, TableId, Write,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

fn put(key: u64, len: usize) -> Write {
    Write::Put { table: TableId::Results, key: key.to_be_bytes().to_vec(), value: vec![7; len] }
}

fn on_device() -> (FaultyDevice, DiskStorage) {
    let device = FaultyDevice::new(Vec::new(), DeviceFaults::default());
    let storage = DiskStorage::create(Arc::new(device.clone())).expect("nothing fails yet");
    (device, storage)
}

/// Keys that are there.
fn keys(storage: &dyn Storage) -> Vec<u64> {
    let now = storage.snapshot().expect("it can be read");
    let rows = now.range(TableId::Results, b"", b"", usize::MAX).expect("it can be read").rows;
    rows.iter().map(|(key, _)| key.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))).collect()
}

#[test]
fn a_full_disk_undoes_the_transaction_and_keeps_what_was_committed() {
    let (device, storage) = on_device();
    let blocks_max = device.blocks() + 100;
    device.set(|faults| faults.blocks_max = Some(blocks_max));
    let mut stored = 0;
    let refused = loop {
        match storage.commit(&[put(stored, 20_000)]) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk has no end");
    };
    assert!(matches!(refused, StorageError::Full(_)), "{refused:?}");
    assert!(stored > 3, "{stored}");
    let want: Vec<u64> = (0..stored).collect();
    assert_eq!(keys(&storage), want, "what was committed can be read while the disk is full");
    let again = storage.commit(&[put(9999, 4_000_000)]);
    assert!(matches!(again, Err(StorageError::Full(_))), "{again:?}");
    assert_eq!(keys(&storage), want);
    device.set(|faults| faults.blocks_max = None);
    storage.commit(&[put(stored, 4_000_000)]).unwrap();
    assert_eq!(keys(&storage), (0..=stored).collect::<Vec<_>>(), "it goes on when there is space");
    drop(storage);
    let storage =
        DiskStorage::open(Arc::new(FaultyDevice::new(device.crash(), DeviceFaults::default())));
    assert_eq!(keys(&storage.unwrap()), (0..=stored).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_becomes_read_only_is_read_and_written_to_again_when_it_can() {
    let (device, storage) = on_device();
    storage.commit(&[put(1, 100)]).unwrap();
    device.set(|faults| faults.read_only = true);
    for _ in 0..3 {
        let refused = storage.commit(&[put(2, 100)]);
        assert!(matches!(refused, Err(StorageError::ReadOnly(_))), "{refused:?}");
        assert_eq!(keys(&storage), [1]);
    }
    device.set(|faults| faults.read_only = false);
    storage.commit(&[put(3, 100)]).unwrap();
    assert_eq!(keys(&storage), [1, 3]);
}

#[test]
fn a_snapshot_ends_when_the_database_is_opened_again_and_writes_over_it() {
    let (device, storage) = on_device();
    storage.commit(&[put(1, 100)]).unwrap();
    let old = storage.snapshot().unwrap();
    device.set(|faults| faults.read_only = true);
    storage.commit(&[put(2, 100)]).unwrap_err();
    device.set(|faults| faults.read_only = false);
    (2..50).for_each(|key| storage.commit(&[put(key, 20_000)]).unwrap());
    let read = old.range(TableId::Results, b"", b"", usize::MAX);
    assert!(matches!(read, Err(StorageError::Failed(_))), "{read:?}");
    assert!(old.get(TableId::Results, &1_u64.to_be_bytes()).is_err());
    assert_eq!(keys(&storage).len(), 49);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_though_later_syncs_succeed() {
    let (device, storage) = on_device();
    storage.commit(&[put(1, 100)]).unwrap();
    device.set(|faults| faults.broken_sync = true);
    let failed = storage.commit(&[put(2, 100)]);
    assert!(matches!(failed, Err(StorageError::Failed(_))), "{failed:?}");
    device.set(|faults| faults.broken_sync = false);
    let changes = device.changes();
    for _ in 0..3 {
        let refused = storage.commit(&[put(3, 100)]);
        assert!(matches!(refused, Err(StorageError::Failed(_))), "{refused:?}");
    }
    assert_eq!(device.changes(), changes, "nothing is written any more");
    assert!(keys(&storage).contains(&1), "it can be read");
    drop(storage);
    let found = keys(
        &DiskStorage::open(Arc::new(FaultyDevice::new(device.crash(), DeviceFaults::default())))
            .unwrap(),
    );
    assert!(found == [1] || found == [1, 2], "{found:?}");
}

/// The next answer within a deadline.
fn next(answers: &mut UnboundedReceiver<JournalAnswer>) -> JournalAnswer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let answer = runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), answers.recv()).await });
    answer.expect("an answer in time").expect("the journal runs")
}

fn started(storage: &FaultyStorage) -> (Journal, UnboundedReceiver<JournalAnswer>) {
    Journal::start(storage.clone(), || Ok(())).expect("threads")
}

#[test]
fn commits_are_answered_in_order_and_queries_find_them() {
    let storage = FaultyStorage::new(MemoryTables::default(), Faults::default());
    let (journal, mut answers) = started(&storage);
    for sequence in 0..100 {
        journal.commit(sequence, vec![put(sequence, 10)]).unwrap();
    }
    for sequence in 0..100 {
        let answer = next(&mut answers);
        assert!(matches!(answer, JournalAnswer::Committed(n) if n == sequence), "{answer:?}");
    }
    let from = 7_u64.to_be_bytes().to_vec();
    let range = |bytes_max| Query {
        table: TableId::Results,
        from: from.clone(),
        to: Vec::new(),
        bytes_max,
    };
    journal.read(5, range(1)).unwrap();
    journal.read(6, range(usize::MAX)).unwrap();
    let rows = vec![(from.clone(), vec![7; 10])];
    let JournalAnswer::Found(5, Ok(found)) = next(&mut answers) else { panic!("a page") };
    assert_eq!(found, Rows { rows, more: true });
    let JournalAnswer::Found(6, Ok(found)) = next(&mut answers) else { panic!("a page") };
    assert_eq!((found.rows.len(), found.more), (93, false));
    drop(journal);
    assert!(storage.commits() >= 3, "two of the probe");
}

#[test]
fn what_queues_while_a_commit_runs_becomes_one_transaction_and_is_bounded() {
    use hashcluster_controller::journal::{COMMITS_LEN_MAX, REQUESTS_MAX, Snapshot};
    use std::sync::{Mutex, mpsc};

    /// Commits wait until they are let through.
    struct Gate(FaultyStorage, Mutex<mpsc::Receiver<()>>);
    impl Storage for Gate {
        fn commit(&self, writes: &[Write]) -> Result<(), StorageError> {
            self.1.lock().unwrap().recv().unwrap();
            self.0.commit(writes)
        }
        fn snapshot(&self) -> Result<Box<dyn Snapshot>, StorageError> {
            self.0.snapshot()
        }
        fn rows_len(&self) -> u64 {
            self.0.rows_len()
        }
    }

    let storage = FaultyStorage::new(MemoryTables::default(), Faults::default());
    let (open, gate) = mpsc::channel();
    let gate = Gate(storage.clone(), Mutex::new(gate));
    let (journal, mut answers) = Journal::start(gate, || Ok(())).unwrap();
    // The two commits of the first probe wait at the gate, with all that follows.
    for sequence in 0..100 {
        journal.commit(sequence, vec![put(sequence, 10)]).unwrap();
    }
    let too_large = journal.commit(100, vec![put(0, COMMITS_LEN_MAX)]);
    assert_eq!(too_large.unwrap_err().len(), 1, "the writes come back");
    let mut queued = 100;
    while journal.commit(queued, vec![put(queued, 10)]).is_ok() {
        queued += 1;
        assert!(queued <= REQUESTS_MAX as u64 + 1, "the queue has no end");
    }
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    for sequence in 0..queued {
        let answer = next(&mut answers);
        assert!(matches!(answer, JournalAnswer::Committed(n) if n == sequence), "{answer:?}");
    }
    assert_eq!(storage.commits(), 3, "two of the probe, and one for all that queued");
    drop(open);
}

#[test]
fn a_full_journal_says_so_and_writes_again_by_itself_when_there_is_space() {
    let storage = FaultyStorage::new(MemoryTables::default(), Faults::default());
    for (outage, want) in [(Outage::Full, "full"), (Outage::ReadOnly, "read-only")] {
        storage.set_outage(Some(outage));
        let (journal, mut answers) = started(&storage);
        let JournalAnswer::Health(health) = next(&mut answers) else { panic!("its health") };
        assert_eq!(health.name(), want);
        journal.commit(1, vec![put(1, 1)]).unwrap();
        let answer = next(&mut answers);
        assert!(matches!(answer, JournalAnswer::NotCommitted(1, _)), "{answer:?}");
        storage.set_outage(None);
        let answer = next(&mut answers);
        assert!(matches!(answer, JournalAnswer::Health(JournalHealth::Writes)), "{answer:?}");
        journal.commit(2, vec![put(1, 1)]).unwrap();
        let answer = next(&mut answers);
        assert!(matches!(answer, JournalAnswer::Committed(2)), "{answer:?}");
    }
}

#[test]
fn a_broken_journal_answers_every_commit_with_the_reason() {
    let storage = FaultyStorage::new(MemoryTables::default(), Faults::default());
    let (journal, mut answers) = started(&storage);
    journal.commit(0, vec![put(1, 1)]).unwrap();
    assert!(matches!(next(&mut answers), JournalAnswer::Committed(0)));
    storage.set_outage(Some(Outage::Broken));
    journal.commit(1, vec![put(2, 2)]).unwrap();
    let answer = next(&mut answers);
    assert!(
        matches!(answer, JournalAnswer::NotCommitted(1, StorageError::Failed(_))),
        "{answer:?}"
    );
    let JournalAnswer::Health(health) = next(&mut answers) else { panic!("its health") };
    assert_eq!((health.name(), health.reason()), ("failed", Some("EIO")));
}

#[test]
fn one_commit_that_is_too_long_fails_alone() {
    let storage = FaultyStorage::new(MemoryTables::default(), Faults::default());
    let (journal, mut answers) = started(&storage);
    let long = Write::Delete { table: TableId::Jobs, key: vec![0; 5000] };
    journal.commit(1, vec![put(1, 1), long]).unwrap();
    journal.commit(2, vec![put(2, 2)]).unwrap();
    let answer = next(&mut answers);
    assert!(
        matches!(answer, JournalAnswer::NotCommitted(1, StorageError::TooLong(5000))),
        "{answer:?}"
    );
    assert!(matches!(next(&mut answers), JournalAnswer::Committed(2)));
    drop(journal);
    assert_eq!(keys(&storage), [2]);
}

#[test]
fn a_storage_that_crashes_keeps_what_it_acknowledged_unless_it_lies() {
    let mut lost = 0;
    for seed in 0..100 {
        for lies in [false, true] {
            let faults = Faults { seed, crash_at: Some(seed % 10), lies };
            let storage = FaultyStorage::new(MemoryTables::default(), faults);
            let mut acknowledged = Vec::new();
            while storage.commit(&[put(acknowledged.len() as u64, 1)]).is_ok() {
                acknowledged.push(acknowledged.len() as u64);
            }
            assert!(storage.is_down() && storage.snapshot().is_err());
            let left = FaultyStorage::new(storage.crash(), Faults::default());
            let is_there = keys(&left).starts_with(&acknowledged);
            assert!(is_there || lies, "seed {seed}");
            lost += u32::from(!is_there);
        }
    }
    assert!(lost > 30, "only {lost} of 100 crashes of a lying storage lost anything");
}
