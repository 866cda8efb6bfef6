//! The journal in a state directory.

use super::{check_storage, counted};
use hashcluster_controller::journal::{
    FORMAT, JOURNAL_FILE, Rows, StateDir, Storage, TableId, Write, compact,
};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

fn put(table: TableId, key: &[u8], value: &[u8]) -> Write {
    Write::Put { table, key: key.to_vec(), value: value.to_vec() }
}

/// The reason why a state directory cannot be used.
#[track_caller]
fn refused(dir: &Path) -> String {
    let opened = StateDir::open(dir).and_then(|dir| dir.journal().map(drop));
    let text = opened.expect_err("it is refused").to_string();
    text.replace(&dir.display().to_string(), "DIR")
}

#[test]
fn a_file_is_a_storage() {
    let mut dirs: Vec<TempDir> = Vec::new();
    check_storage(|| {
        dirs.push(tempfile::tempdir().unwrap());
        Box::new(StateDir::open(dirs.last().unwrap().path()).unwrap().journal().unwrap())
    });
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let rows = |storage: &dyn Storage| {
        storage.snapshot().unwrap().range(TableId::Jobs, b"", b"", usize::MAX).unwrap()
    };
    for round in 0..3_u8 {
        let state = StateDir::open(&path).unwrap();
        let journal = state.journal().unwrap();
        let want = (0..round).map(|key| (vec![key], vec![key; 1000])).collect();
        assert_eq!(rows(&journal), Rows { rows: want, more: false });
        journal.commit(&[put(TableId::Jobs, &[round], &[round; 1000])]).unwrap();
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join(JOURNAL_FILE))), (0o700, 0o600));
}

#[test]
fn a_compacted_journal_is_shorter_and_has_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let journal = state.journal().unwrap();
    let rows = |journal: &dyn Storage| {
        journal.snapshot().unwrap().range(TableId::Items, b"", b"", usize::MAX).unwrap()
    };
    let items = |keys: std::ops::Range<u8>| -> Vec<Write> {
        keys.map(|key| put(TableId::Items, &[key], &[key; 40_000])).collect()
    };
    journal.commit(&items(0..200)).unwrap();
    // The end of the file is in use.
    let (table, from, to) = (TableId::Items, vec![3], vec![199]);
    journal.commit(&[Write::DeleteRange { table, from, to }]).unwrap();
    let kept = rows(&journal);
    assert_eq!(kept.rows.len(), 4);
    let snapshot = journal.snapshot().unwrap();
    assert!(journal.compact().is_err());
    drop(snapshot);
    journal.commit(&items(1..2)).unwrap();
    drop((journal, state));
    let len = || fs::metadata(dir.path().join(JOURNAL_FILE)).unwrap().len();
    let (before, after) = compact(dir.path()).unwrap();
    assert!(before >= 190 * 40_000 && after < 1_000_000 && len() == after, "{before} {after}");
    let state = StateDir::open(dir.path()).unwrap();
    let journal = state.journal().unwrap();
    assert_eq!(rows(&journal), kept);
    journal.commit(&items(5..6)).unwrap();
    assert_eq!(rows(&journal).rows.len(), 5);
    let refused = compact(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("uses this state directory"), "{refused}");
}

#[test]
fn space_of_what_is_deleted_is_used_again_and_a_file_is_less_than_three_times_as_large_as_its_rows()
{
    let dir = tempfile::tempdir().unwrap();
    let open = || StateDir::open(dir.path()).unwrap();
    let state = open();
    let mut journal = state.journal().unwrap();
    // Chunks of results that fill their pages, as those of jobs do: a round is one job, of which the last three are kept.
    let mut rows_max = 0;
    for round in 0..40_u16 {
        for commit in 0..8_u16 {
            let rows = (0..25_u16).map(|chunk| {
                let key = [round, commit, chunk].map(u16::to_be_bytes).concat();
                put(TableId::Results, &key, &vec![7; 8_100 - usize::from(chunk)])
            });
            journal.commit(&rows.collect::<Vec<_>>()).unwrap();
        }
        if let Some(old) = round.checked_sub(3) {
            let (from, to) = ([0, 0].to_vec(), (old + 1).to_be_bytes().to_vec());
            journal.commit(&[Write::DeleteRange { table: TableId::Results, from, to }]).unwrap();
        }
        rows_max = rows_max.max(journal.rows_len());
    }
    assert_eq!(journal.rows_len(), counted(&journal));
    let counted = journal.rows_len();
    let file_len = fs::metadata(dir.path().join(JOURNAL_FILE)).unwrap().len();
    assert!(rows_max < file_len && file_len < 3 * rows_max, "{rows_max} bytes in {file_len}");
    drop((journal, state));
    journal = open().journal().unwrap();
    assert_eq!(journal.rows_len(), counted, "counted anew");
}

#[test]
fn a_second_controller_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::open(dir.path()).unwrap();
    let want = format!("another controller (pid {}) uses this state", std::process::id());
    assert!(refused(dir.path()).contains(&want), "{}", refused(dir.path()));
    drop(first);
    StateDir::open(dir.path()).unwrap().journal().unwrap();
}

#[test]
fn what_is_no_journal_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(JOURNAL_FILE);
    let database = |version: Option<u32>| {
        let file = dir.path().join("made");
        let made = redb::Database::create(&file).unwrap();
        let transaction = made.begin_write().unwrap();
        let definition = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
        let mut meta = transaction.open_table(definition).unwrap();
        if let Some(version) = version {
            meta.insert(&b"hashcluster-journal-format"[..], &version.to_be_bytes()[..]).unwrap();
        }
        drop(meta);
        transaction.commit().unwrap();
        drop(made);
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        bytes
    };
    let mut damaged = database(Some(FORMAT));
    let end = damaged.len();
    damaged[4096..end].fill(0xa5);
    let truncated = database(Some(FORMAT))[..8192].to_vec();
    for (name, content, want) in [
        ("empty", Vec::new(), "it is empty"),
        ("text", b"not a database\n".repeat(1000), "it is not a journal of a controller"),
        ("foreign", database(None), "it has no format"),
        ("damaged", damaged, "not a journal of a controller"),
        ("truncated", truncated, "not a journal of a controller"),
        ("none", database(Some(0)), "it has no format"),
        ("newer", database(Some(FORMAT + 1)), "a newer controller wrote it (format 3"),
    ] {
        fs::write(&path, &content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let text = refused(dir.path());
        assert!(text.starts_with("DIR/journal.redb: ") && text.contains(want), "{name}: {text}");
        let mends = text.contains("'mv DIR/journal.redb DIR/journal.redb.damaged'");
        assert_eq!(mends, name != "newer", "{name}: {text}");
        assert!(
            fs::read(&path).unwrap() == content || ["foreign", "none", "newer"].contains(&name),
            "{name}"
        );
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_directory_or_file_that_others_can_change_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    StateDir::open(&state).unwrap().journal().unwrap();
    let chmod =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    chmod(&state, 0o770);
    assert!(refused(&state).contains("chmod go-w DIR"), "{}", refused(&state));
    chmod(&state, 0o755);
    chmod(&state.join(JOURNAL_FILE), 0o644);
    assert!(refused(&state).contains("lets others read it"), "{}", refused(&state));
    fs::remove_file(state.join(JOURNAL_FILE)).unwrap();
    fs::create_dir(state.join(JOURNAL_FILE)).unwrap();
    refused(&state);
    fs::remove_dir(state.join(JOURNAL_FILE)).unwrap();
    symlink("elsewhere", state.join(JOURNAL_FILE)).unwrap();
    refused(&state);
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    assert_eq!(refused(&file), "DIR: not a directory");
    assert!(refused(&dir.path().join("a/b")).contains("No such file"));
}

#[test]
fn what_a_crash_left_of_a_journal_in_the_making_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal.redb.new"), "half of one").unwrap();
    StateDir::open(dir.path()).unwrap().journal().unwrap();
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["journal.lock", "journal.redb"]);
}
