//! Differences of two runs.

use schedule::{
    Cause, Differences, FileChange, FileDifference, RunFile, RunSide, Unordered, walk_order,
};
use std::collections::{BTreeMap, HashSet};
use test_kit::Random;

/// The beginning of the run before, later than all changes of its files.
const BEGAN_NS: i64 = 1_000_000_000_000;

fn file(name: &str, content: &str, mtime_ns: i64) -> RunFile {
    let digests = (content != "-").then(|| content.as_bytes().to_vec());
    RunFile { name: name.into(), digests, size: content.len() as u64, mtime_ns, ctime_ns: mtime_ns }
}

/// Files as `NAME=CONTENT@MTIME`, `-` for a file without digest.
fn files(text: &str) -> Vec<RunFile> {
    let parse = |word: &str| {
        let (name, rest) = word.split_once('=').unwrap();
        let (content, mtime) = rest.split_once('@').unwrap_or((rest, "1"));
        file(name, content, mtime.parse().unwrap())
    };
    text.split_whitespace().map(parse).collect()
}

fn differences(
    mut merge: Differences,
    before: &[RunFile],
    after: &[RunFile],
) -> Vec<FileDifference> {
    let (mut before, mut after, mut found) = (before.iter(), after.iter(), Vec::new());
    loop {
        found.extend(std::iter::from_fn(|| merge.pull()));
        let Some(side) = merge.wants() else { return found };
        let next = match side {
            RunSide::Before => before.next(),
            RunSide::After => after.next(),
        };
        match next {
            Some(file) => merge.push(side, file.clone()).unwrap(),
            None => merge.end(side),
        }
    }
}

fn shown(found: &[FileDifference]) -> String {
    let text = |found: &FileDifference| {
        let change = match &found.change {
            FileChange::New => "new".to_owned(),
            FileChange::Gone => "gone".to_owned(),
            FileChange::Changed(cause) => cause.name().unwrap().to_owned(),
            FileChange::Moved(from) => format!("from:{}", String::from_utf8_lossy(from)),
        };
        format!("{}:{change}", String::from_utf8_lossy(&found.name))
    };
    found.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(before: &str, after: &str, want: &str) {
    let found = differences(Differences::new(BEGAN_NS), &files(before), &files(after));
    assert_eq!(shown(&found), want, "{before} → {after}");
}

#[test]
fn each_kind_of_difference_has_its_name() {
    check("a=1 b=2", "a=1 b=2", "");
    check("a=1", "a=1 b=2", "b:new");
    check("a=1 b=2", "b=2", "a:gone");
    check("a=1@5", "a=2@6", "a:modified");
    check("a=1@5", "a=22@5", "a:modified");
    check("a=1@5", "a=2@5", "a:rotted");
    check("a=1@5", "a=2@4", "a:older");
    check("a=1 c=3", "b=1 c=3", "b:from:a");
    check("log=1@5 z=9", "log=2@6 log.1=1@5 z=9", "log:modified log.1:from:log");
    check("", "", "");
}

#[test]
fn files_without_digest_or_content_say_nothing_of_moves() {
    check("a=-", "a=1", "");
    check("a=1", "a=-", "");
    check("a= b=1", "b=1 c=", "a:gone c:new");
    check("a=-", "b=-", "a:gone b:new");
}

#[test]
fn a_file_that_changed_while_it_was_read_did_not_rot() {
    let mut before = file("a", "1", 5);
    before.ctime_ns = BEGAN_NS;
    let found = differences(Differences::new(BEGAN_NS), &[before], &[file("a", "2", 5)]);
    assert_eq!(found[0].change, FileChange::Changed(Cause::Modified));
}

#[test]
fn names_are_compared_in_the_order_of_a_walk() {
    let sorted = ["a", "a/b", "a/b/c", "a/c", "a.b", "b"];
    for (i, a) in sorted.iter().enumerate() {
        for (j, b) in sorted.iter().enumerate() {
            assert_eq!(walk_order(a.as_bytes(), b.as_bytes()), i.cmp(&j), "{a} {b}");
        }
    }
    check("a/x=1 a.b=2", "a/x=1 a.b=3@2", "a.b:modified");
    let mut merge = Differences::new(0);
    merge.push(RunSide::Before, file("b", "1", 1)).unwrap();
    merge.end(RunSide::After);
    assert_eq!(merge.pull(), None);
    assert_eq!(merge.push(RunSide::Before, file("a", "1", 1)), Err(Unordered));
    assert_eq!(merge.push(RunSide::Before, file("b", "1", 1)), Err(Unordered));
}

#[test]
fn beyond_the_limit_files_are_new_and_gone() {
    let names = |prefix: &str| -> Vec<RunFile> {
        (0..10).map(|i| file(&format!("{prefix}{i}"), &format!("{i}"), 1)).collect()
    };
    let mut merge = Differences::with_moves_max(BEGAN_NS, 6);
    assert!(merge.has_all_moves());
    for side in [RunSide::Before, RunSide::After] {
        assert_eq!(merge.wants(), Some(side));
        merge.end(side);
    }
    assert_eq!(merge.pull(), None);
    let found = differences(Differences::with_moves_max(BEGAN_NS, 6), &names("a"), &names("b"));
    assert_eq!(found.len(), 20);
    assert!(found.iter().all(|found| matches!(found.change, FileChange::New | FileChange::Gone)));
    let found = differences(Differences::with_moves_max(BEGAN_NS, 20), &names("a"), &names("b"));
    assert!(found.len() == 10 && found.iter().all(|f| matches!(f.change, FileChange::Moved(_))));
}

#[test]
fn random_lists_agree_with_maps() {
    let seed = Random::from_entropy().next_u64();
    let mut random = Random::new(seed);
    for _ in 0..2_000 {
        let mut list = || {
            let mut files = BTreeMap::new();
            for _ in 0..random.below(8) {
                let name = ["a", "a/b", "a/c", "a.b", "b", "c/d/e", "z"][random.index(7)];
                let content = ["1", "2", "3", "-", ""][random.index(5)];
                files.insert(name, file(name, content, 1 + i64::from(random.byte() % 3)));
            }
            let mut files: Vec<RunFile> = files.into_values().collect();
            files.sort_by(|a, b| walk_order(&a.name, &b.name));
            files
        };
        let (before, after) = (list(), list());
        let found = differences(Differences::new(BEGAN_NS), &before, &after);
        let names = |files: &[RunFile]| -> HashSet<Vec<u8>> {
            files.iter().map(|file| file.name.clone()).collect()
        };
        let (old, new) = (names(&before), names(&after));
        let (mut gone, mut arrived, mut changed) = (HashSet::new(), HashSet::new(), HashSet::new());
        for FileDifference { name, change } in found {
            match change {
                FileChange::New => assert!(arrived.insert(name)),
                FileChange::Gone => assert!(gone.insert(name)),
                FileChange::Changed(_) => assert!(changed.insert(name)),
                FileChange::Moved(from) => {
                    assert!(arrived.insert(name.clone()));
                    // The same content, from a name that lost it.
                    let of = |files: &[RunFile], name: &[u8]| {
                        files
                            .iter()
                            .find(|file| file.name == name)
                            .and_then(|file| file.digests.clone())
                    };
                    assert_eq!(of(&before, &from), of(&after, &name), "seed {seed}");
                    assert_ne!(of(&before, &from), of(&after, &from), "seed {seed}");
                    if !new.contains(&from) {
                        assert!(gone.insert(from), "seed {seed}: two files come from one");
                    }
                }
            }
        }
        assert_eq!(gone, old.difference(&new).cloned().collect(), "seed {seed}");
        assert_eq!(arrived, new.difference(&old).cloned().collect(), "seed {seed}");
        let differs = |name: &&Vec<u8>| {
            let of = |files: &[RunFile]| {
                files.iter().find(|file| file.name == **name).unwrap().digests.clone()
            };
            of(&before).zip(of(&after)).is_some_and(|(old, new)| old != new)
        };
        assert_eq!(
            changed,
            old.intersection(&new).filter(differs).cloned().collect(),
            "seed {seed}"
        );
    }
}
