//! `hashctl compare`.

use crate::engine::Engine;
use crate::oracle::line;
use crate::program::{hashctl, run};
use crate::trees::Site;
use ipc_proto::Algorithm;
use std::fs;

#[track_caller]
fn check(site: &Site, args: &[&str], want: &[&str]) {
    let (lines, code) = site.lines(&[&["compare"], args].concat());
    assert_eq!(lines, want, "{args:?}");
    assert_eq!(code, i32::from(!want.is_empty()), "{args:?}");
}

/// Three copies of a tree.
fn site(files: &[(&str, &str)]) -> Site {
    let site = Site::new(&[]);
    for copy in ["A", "B", "C"] {
        files.iter().for_each(|(name, content)| site.write(format!("{copy}/{name}"), content));
    }
    site
}

#[test]
fn the_odd_one_of_three_copies_is_named_with_a_good_one() {
    let site = site(&[("a", "1"), ("b", "2"), ("s/c", "3"), ("e", "")]);
    check(&site, &["A", "B", "C"], &[]);
    check(&site, &["A", "B"], &[]);
    site.write("B/a", "0");
    site.write("A/b", "longer");
    fs::remove_file(site.at("C/s/c")).unwrap();
    let want = [
        "a: differs in B; restore from A",
        "b: differs in A; restore from B",
        "s/c: missing in C; restore from A",
    ];
    check(&site, &["A", "B", "C"], &want);
    let outcome = site.hashctl(&["compare", "A", "B", "C"]);
    let want = "hashctl: 4 names, 1 equal in all copies, 2 with odd copies, 1 missing somewhere\n";
    assert_eq!(outcome.stderr, want);
    site.write("C/a", "x");
    check(
        &site,
        &["--quiet", "A", "B", "C"],
        &[
            "a: differs, without a majority, between A, B, C",
            "b: differs in A; restore from B",
            "s/c: missing in C; restore from A",
        ],
    );
}

#[test]
fn of_two_copies_nobody_knows_which_is_right() {
    let site = site(&[("a", "1"), ("b", "2")]);
    site.write("A/a", "0");
    fs::remove_file(site.at("A/b")).unwrap();
    check(
        &site,
        &["A", "B"],
        &["a: differs, without a majority, between A, B", "b: missing in A; restore from B"],
    );
}

#[test]
fn manifests_vote_as_copies() {
    let site = site(&[("a", "1"), ("b", "2")]);
    for copy in ["A", "B"] {
        site.write(format!("{copy}.sha256"), site.hashctl(&["sum", "-r", copy]).stdout);
    }
    check(&site, &["A.sha256", "A", "B"], &[]);
    check(&site, &["A.sha256", "B.sha256"], &[]);
    // A third manifest was made inside, by another algorithm.
    site.write("m.md5", line(Algorithm::Md5, b"1", "./a") + &line(Algorithm::Md5, b"2", "./b"));
    check(&site, &["A.sha256", "m.md5", "A"], &[]);
    site.rot("A/a");
    check(&site, &["A.sha256", "A", "B"], &["a: differs in A; restore from B"]);
    check(&site, &["A.sha256", "m.md5", "B"], &[]);
    site.write("B.sha256", site.read("B.sha256").replacen(|c: char| c.is_ascii_digit(), "f", 1));
    check(
        &site,
        &["A.sha256", "B.sha256"],
        &["a: differs, without a majority, between A.sha256, B.sha256"],
    );
}

#[test]
fn the_list_for_rsync_has_what_one_copy_lacks_and_the_other_has_right() {
    let site = site(&[("a", "1"), ("#b", "2"), ("c", "3"), ("d", "4"), ("n\nl", "5")]);
    for name in ["A/a", "A/#b"] {
        site.write(name, "broken");
    }
    fs::remove_file(site.at("A/c")).unwrap();
    let list = ["compare", "A", "B", "C", "--restore-to", "A", "--restore-from", "B"];
    let outcome = site.hashctl(&list);
    assert_eq!((outcome.out(), outcome.code), ("./#b\na\nc\n".to_owned(), 0));
    assert_eq!(outcome.stderr, "hashctl: 3 names to restore, 0 that the list cannot restore\n");
    // A name with a line break needs -0.
    site.write("A/n\nl", "broken");
    let outcome = site.hashctl(&list);
    assert_eq!((outcome.out(), outcome.code), ("./#b\na\nc\n".to_owned(), 1));
    let outcome = site.hashctl(&[&list[..], &["-0"]].concat());
    assert_eq!((outcome.out(), outcome.code), ("./#b\0a\0c\0n\nl\0".to_owned(), 0));
    // What the source has wrong, too, is not restored from it.
    site.write("B/a", "broken as well");
    let outcome = site.hashctl(&[&list[..], &["-0"]].concat());
    assert_eq!((outcome.out(), outcome.code), ("./#b\0c\0n\nl\0".to_owned(), 1));
    assert!(outcome.stderr.starts_with("hashctl: a: not in the list"), "{}", outcome.stderr);
    assert_eq!(site.hashctl(&["compare", "A", "B", "--restore-to", "A"]).code, 2);
    let unknown = ["compare", "A", "B", "--restore-to", "A", "--restore-from", "X"];
    assert_eq!(site.hashctl(&unknown).code, 2);
}

#[test]
fn json_has_the_copies_by_their_numbers() {
    let site = site(&[("a", "1"), ("b", "2")]);
    site.write("B/a", "0");
    let outcome = site.hashctl(&["compare", "--json", "A", "B", "C"]);
    let lines: Vec<serde_json::Value> =
        outcome.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let want = serde_json::json!([
        { "version": 1, "copies": [{ "name": "A" }, { "name": "B" }, { "name": "C" }] },
        {
            "version": 1, "name": "a", "good": [0, 2], "odd": [1],
            "undecided": [], "missing": [], "unreadable": [],
        },
        {
            "version": 1,
            "counts": {
                "names": 2, "equal": 1, "odd": 1, "undecided": 0, "missing": 0, "unreadable": 0,
            },
        },
    ]);
    assert_eq!(serde_json::Value::from(lines), want);
}

#[test]
fn only_files_that_can_be_equal_are_read() {
    let site = site(&[("a", "1"), ("e", "")]);
    site.write("A/only", "here");
    site.write("A/size", "1");
    site.write("B/size", "22");
    site.write("C/size", "22");
    let fake = Engine::default().start();
    let mut command = hashctl(fake.socket());
    let outcome = run(command.current_dir(site.path()).args(["compare", "A", "B", "C"]));
    let want = "only: missing in B, C; restore from A\nsize: differs in A; restore from B\n";
    assert_eq!((outcome.out(), outcome.code), (want.to_owned(), 1), "{}", outcome.stderr);
    assert_eq!(fake.join().items, 5, "a three times, size twice");
}

#[test]
fn a_copy_that_cannot_be_opened_is_an_error_and_no_missing_tree() {
    let site = site(&[("a", "1")]);
    let outcome = site.hashctl(&["compare", "A", "gone"]);
    assert_eq!((outcome.out(), outcome.code), (String::new(), 1));
    assert_eq!(outcome.stderr, "hashctl: gone: No such file or directory\n");
    site.write("junk", "junk\n");
    assert_eq!(site.hashctl(&["compare", "A", "junk"]).code, 1);
    assert_eq!(site.hashctl(&["compare", "A"]).code, 2);
}
