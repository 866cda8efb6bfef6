//! Every storage behaves as the others do.

mod backup;
mod crashes;
mod disk;
pub(crate) mod faulty;
mod faulty_device;
mod outages;

use hashcluster_controller::journal::{
    KEY_LEN_MAX, MemoryStorage, Rows, Storage, StorageError, TableId, VALUE_LEN_MAX, Write,
};

type Case = Result<(), StorageError>;

fn put(key: &[u8], value: &[u8]) -> Write {
    Write::Put { table: TableId::Jobs, key: key.to_vec(), value: value.to_vec() }
}

fn keys(rows: &Rows) -> Vec<&[u8]> {
    rows.rows.iter().map(|(key, _)| &key[..]).collect()
}

/// The keys of the table that the tests write to.
fn stored(storage: &dyn Storage) -> Result<Vec<Vec<u8>>, StorageError> {
    let rows = storage.snapshot()?.range(TableId::Jobs, b"", b"", usize::MAX)?;
    assert!(!rows.more);
    Ok(rows.rows.into_iter().map(|(key, _)| key).collect())
}

fn later_writes_of_a_transaction_see_earlier_ones(storage: &dyn Storage) -> Case {
    let delete = |key: &[u8]| Write::Delete { table: TableId::Jobs, key: key.to_vec() };
    storage.commit(&[put(b"a", b"1"), put(b"b", b"2"), delete(b"a"), put(b"b", b"3")])?;
    let now = storage.snapshot()?;
    assert_eq!(now.get(TableId::Jobs, b"a")?, None);
    assert_eq!(now.get(TableId::Jobs, b"b")?.as_deref(), Some(&b"3"[..]));
    assert_eq!(now.get(TableId::Runs, b"b")?, None, "each table has its own keys");
    storage.commit(&[delete(b"never there")])?;
    Ok(())
}

fn a_range_is_ordered_bounded_and_says_that_there_is_more(storage: &dyn Storage) -> Case {
    let rows: Vec<_> = (0..10_u8).rev().map(|i| put(&[i], &[i; 9])).collect();
    storage.commit(&rows)?;
    let now = storage.snapshot()?;
    let range = |from: &[u8], to: &[u8], max| {
        now.range(TableId::Jobs, from, to, max).expect("memory and disk can be read")
    };
    let want = |keys: std::ops::Range<u8>| keys.map(|key| vec![key]).collect::<Vec<_>>();
    assert_eq!(keys(&range(b"", b"", usize::MAX)), want(0..10));
    assert_eq!(keys(&range(&[2], &[5], usize::MAX)), want(2..5));
    let page = range(&[2], &[5], 25);
    assert!(page.more && keys(&page) == want(2..4), "{page:?}");
    let page = range(&[4], &[5], 0);
    assert!(!page.more && keys(&page) == want(4..5), "one row is returned whatever its size");
    for (from, to) in [(&[5][..], &[5][..]), (&[6], &[5]), (&[99], &[])] {
        assert_eq!(range(from, to, usize::MAX), Rows::default(), "{from:?} {to:?}");
    }
    Ok(())
}

fn a_range_is_deleted_without_its_end(storage: &dyn Storage) -> Case {
    storage.commit(&[put(b"a", b""), put(b"b", b""), put(b"b1", b""), put(b"c", b"")])?;
    let delete = |from: &[u8], to: &[u8]| Write::DeleteRange {
        table: TableId::Jobs,
        from: from.to_vec(),
        to: to.to_vec(),
    };
    storage.commit(&[delete(b"c", b"a"), delete(b"d", b"e")])?;
    assert_eq!(stored(storage)?.len(), 4);
    storage.commit(&[delete(b"b", b"c")])?;
    assert_eq!(stored(storage)?, [b"a".to_vec(), b"c".to_vec()]);
    storage.commit(&[delete(b"b", b"")])?;
    assert_eq!(stored(storage)?, [b"a".to_vec()]);
    Ok(())
}

fn a_snapshot_does_not_change(storage: &dyn Storage) -> Case {
    storage.commit(&[put(b"a", b"1")])?;
    let before = storage.snapshot()?;
    storage.commit(&[put(b"a", b"2"), put(b"b", b"2")])?;
    assert_eq!(before.get(TableId::Jobs, b"a")?.as_deref(), Some(&b"1"[..]));
    assert_eq!(keys(&before.range(TableId::Jobs, b"", b"", 99)?), [b"a"]);
    Ok(())
}

fn too_long_keys_and_values_are_refused_with_the_whole_transaction(storage: &dyn Storage) -> Case {
    let fitting = put(&[1; KEY_LEN_MAX], &[1; VALUE_LEN_MAX]);
    storage.commit(&[fitting])?;
    for long in [put(&[2; KEY_LEN_MAX + 1], b""), put(b"2", &[2; VALUE_LEN_MAX + 1])] {
        let refused = storage.commit(&[put(b"0", b""), long]);
        assert!(matches!(refused, Err(StorageError::TooLong(_))), "{refused:?}");
    }
    assert_eq!(stored(storage)?, [vec![1; KEY_LEN_MAX]]);
    Ok(())
}

/// Bytes of the rows that are there.
pub(crate) fn counted(storage: &dyn Storage) -> u64 {
    let now = storage.snapshot().expect("it can be read");
    let of_table = |table| {
        let rows = now.range(table, b"", b"", usize::MAX).expect("it can be read").rows;
        rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>()
    };
    TableId::ALL.into_iter().map(of_table).sum()
}

/// All that is expected of every storage; each case begins with an empty one.
pub(crate) fn check_storage(mut empty: impl FnMut() -> Box<dyn Storage>) {
    for case in [
        later_writes_of_a_transaction_see_earlier_ones,
        a_range_is_ordered_bounded_and_says_that_there_is_more,
        a_range_is_deleted_without_its_end,
        a_snapshot_does_not_change,
        too_long_keys_and_values_are_refused_with_the_whole_transaction,
    ] {
        let storage = empty();
        case(&*storage).expect("nothing fails");
        assert_eq!(storage.rows_len(), counted(&*storage), "bytes of all rows");
    }
}

#[test]
fn memory_is_a_storage() {
    check_storage(|| Box::new(MemoryStorage::default()));
}

#[test]
fn tables_are_listed_in_the_order_of_their_numbers_and_have_different_names() {
    let mut names: Vec<_> = TableId::ALL.iter().map(|table| table.name()).collect();
    assert!(TableId::ALL.iter().enumerate().all(|(i, table)| table.index() == i));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TableId::ALL.len());
}
