//! Backups of a journal, and ways in which they are damaged.

use hashcluster_controller::journal::{
    BackupError, FORMAT, MemoryStorage, MemoryTables, StateDir, Storage, TableId, Write, back_up,
    back_up_to, restore, restore_from,
};
use std::os::unix::fs::PermissionsExt;

fn put(table: TableId, key: Vec<u8>, value: Vec<u8>) -> Write {
    Write::Put { table, key, value }
}

/// Rows in every table, of one more than a page.
fn contents() -> MemoryStorage {
    let storage = MemoryStorage::default();
    let mut writes = Vec::new();
    for table in TableId::ALL {
        writes.push(put(table, Vec::new(), Vec::new()));
        writes.push(put(table, vec![table.number(), 0], vec![0, 255, table.number()]));
    }
    writes.extend((0..5).map(|key| put(TableId::Items, vec![9, key], vec![key; 400_000])));
    storage.commit(&writes).expect("memory does not fail");
    storage
}

fn backed_up(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let now = storage.snapshot().expect("it can be read");
    back_up(&*now, &mut bytes).expect("memory does not fail");
    bytes
}

#[test]
fn a_restored_journal_has_the_same_rows_and_no_others() {
    let before = contents();
    let bytes = backed_up(&before);
    let other = MemoryStorage::default();
    other.commit(&[put(TableId::Events, b"later".to_vec(), vec![1])]).unwrap();
    let rows = restore(&mut &bytes[..], &other, false).unwrap();
    assert_eq!(rows, 2 * TableId::ALL.len() as u64 + 5);
    assert_eq!(other.tables(), before.tables());
}

#[test]
fn a_backup_that_is_cut_off_or_changed_anywhere_is_refused_as_a_whole() {
    let small = MemoryStorage::default();
    small.commit(&[put(TableId::Runs, b"key".to_vec(), b"value".to_vec())]).unwrap();
    let bytes = backed_up(&small);
    let is_refused = |bytes: &[u8]| {
        let target = MemoryStorage::default();
        let result = restore(&mut &bytes[..], &target, false);
        assert_eq!(target.tables(), MemoryTables::default(), "nothing is written: {result:?}");
        result.is_err()
    };
    assert!(restore(&mut &bytes[..], &MemoryStorage::default(), false).is_ok());
    for len in 0..bytes.len() {
        assert!(is_refused(&bytes[..len]), "cut off after {len} bytes");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(is_refused(&changed), "bit {bit} of byte {at} is flipped");
        }
    }
    assert!(is_refused(&[&bytes[..], b"x"].concat()), "something follows");
}

#[test]
fn jobs_are_replaced_only_if_that_is_asked_for() {
    let bytes = backed_up(&MemoryStorage::default());
    for table in [TableId::Jobs, TableId::Schedules] {
        let target = MemoryStorage::default();
        target.commit(&[put(table, vec![1], vec![1])]).unwrap();
        let before = target.tables();
        let refused = restore(&mut &bytes[..], &target, false);
        assert!(matches!(refused, Err(BackupError::NotEmpty)), "{refused:?}");
        assert_eq!(target.tables(), before);
        assert_eq!(restore(&mut &bytes[..], &target, true).unwrap(), 0);
        assert_eq!(target.tables(), MemoryTables::default());
    }
}

#[test]
fn a_backup_of_a_newer_controller_is_refused() {
    let mut bytes = backed_up(&MemoryStorage::default());
    bytes[19] = 9;
    let refused = restore(&mut &bytes[..], &MemoryStorage::default(), false);
    assert!(
        matches!(refused, Err(BackupError::Newer { version: 9, format: FORMAT })),
        "{refused:?}"
    );
}

#[test]
fn a_state_directory_is_backed_up_to_a_private_new_file_and_restored_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let rows = {
        let state = StateDir::open(&path("old")).unwrap();
        let journal = state.journal().unwrap();
        journal.commit(&[put(TableId::Jobs, vec![1], vec![7; 1000])]).unwrap();
        assert!(matches!(back_up_to(&path("old"), &path("b")), Err(BackupError::StateDir(_))));
        drop(state);
        back_up_to(&path("old"), &path("b")).unwrap()
    };
    let mode = std::fs::metadata(path("b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(back_up_to(&path("old"), &path("b")).is_err(), "no file is overwritten");
    assert_eq!(restore_from(&path("new"), &path("b"), false).unwrap(), rows);
    assert!(matches!(restore_from(&path("new"), &path("b"), false), Err(BackupError::NotEmpty)));
    let journal = StateDir::open(&path("new")).unwrap().journal().unwrap();
    let value = journal.snapshot().unwrap().get(TableId::Jobs, &[1]).unwrap();
    assert_eq!(value, Some(vec![7; 1000]));
}
