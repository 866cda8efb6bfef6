//! `hashctl dups`.

use crate::engine::Engine;
use crate::program::{hashctl, run};
use crate::trees::Site;
use std::fs;
use std::os::unix::fs::symlink;

fn site() -> Site {
    let site = Site::new(&[
        ("d/a", "same"),
        ("d/b", "same"),
        ("d/c", "sane"),
        ("d/s/d", "same"),
        ("d/e", ""),
        ("d/f", ""),
        ("d/x", "other size"),
        ("d/y\nz", "pair"),
        ("d/z", "pair"),
    ]);
    fs::hard_link(site.at("d/b"), site.at("d/link")).unwrap();
    symlink("a", site.at("d/symlink")).unwrap();
    site
}

#[test]
fn groups_of_equal_files_are_printed_in_the_order_of_the_walk() {
    let site = site();
    let outcome = site.hashctl(&["dups", "d"]);
    let want = "d/a\nd/b\nd/s/d\n\n\\d/y\\nz\nd/z\n\n";
    assert_eq!((outcome.out(), outcome.code), (want.to_owned(), 0));
    assert_eq!(outcome.stderr, "hashctl: 2 groups, 3 duplicates of 12 B; 1 hard links left out\n");
    let outcome = site.hashctl(&["dups", "-0", "--quiet", "d"]);
    let want = "d/a\0d/b\0d/s/d\0\0d/y\nz\0d/z\0\0";
    assert_eq!((outcome.out(), &*outcome.stderr), (want.to_owned(), ""));
    let outcome = site.hashctl(&["dups", "--empty", "--min-size", "0", "d"]);
    assert!(outcome.out().contains("d/e\nd/f\n\n"), "{}", outcome.out());
    assert_eq!(site.hashctl(&["dups", "--min-size", "5", "d"]).out(), "");
}

#[test]
fn json_has_the_links_of_each_file() {
    let site = site();
    let outcome = site.hashctl(&["dups", "--json", "d"]);
    let lines: Vec<serde_json::Value> =
        outcome.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let digest = blake3::hash(b"same").to_hex().to_string();
    let want = serde_json::json!({
        "version": 1, "size": 4, "algorithm": "blake3", "digest": digest,
        "files": [
            { "name": "d/a" },
            { "name": "d/b", "links": [{ "name": "d/link" }] },
            { "name": "d/s/d" },
        ],
    });
    assert_eq!(lines[0], want);
    let want = serde_json::json!({
        "version": 1, "counts": { "groups": 2, "duplicates": 3, "bytes": 12, "links": 1 },
    });
    assert_eq!(lines[2], want);
}

#[test]
fn trees_are_compared_with_each_other_and_never_with_themselves() {
    let site = Site::new(&[("a/1", "same"), ("b/2", "same"), ("b/3", "longer")]);
    let outcome = site.hashctl(&["dups", "a", "b"]);
    assert_eq!(outcome.out(), "a/1\nb/2\n\n");
    for dirs in [["a", "a"], ["b", "./b"], ["b", "b/"]] {
        let outcome = site.hashctl(&[&["dups"], &dirs[..]].concat());
        assert_eq!((outcome.out(), outcome.code), (String::new(), 0), "{dirs:?}");
    }
    let outcome = site.hashctl(&["dups", "a", "no-such", "b"]);
    assert_eq!((outcome.out(), outcome.code), ("a/1\nb/2\n\n".to_owned(), 1));
    assert_eq!(outcome.stderr.lines().next(), Some("hashctl: no-such: No such file or directory"));
    assert_eq!(site.hashctl(&["dups"]).code, 2);
}

#[test]
fn only_files_whose_size_occurs_twice_are_read_and_each_inode_once() {
    let site = site();
    let fake = Engine::default().start();
    let outcome = run(hashctl(fake.socket()).current_dir(site.path()).args(["dups", "d"]));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(fake.join().items, 6, "a, b, c, s/d, y and z");
}
