//! Parts of trees, and digests of every kind, in the commands that work on whole trees.

use crate::oracle::line;
use crate::program::{run, tool};
use crate::trees::Site;
use ipc_proto::Algorithm;
use std::fs;

const FILES: &[(&str, &str)] =
    &[("d/a.c", "1"), ("d/a.o", "2"), ("d/tmp/x", "3"), ("d/s/b.c", "4"), ("d/s/b.o", "5")];

#[track_caller]
fn check(site: &Site, args: &[&str], want: &[&str]) {
    let (lines, code) = site.lines(args);
    assert_eq!(lines, want, "{args:?}");
    assert_eq!(code, i32::from(!want.is_empty()), "{args:?}");
}

fn site() -> Site {
    let site = Site::new(FILES);
    site.sum();
    site
}

#[test]
fn an_audit_leaves_out_files_and_their_entries() {
    let site = site();
    site.write("d/a.o", "other");
    site.write("d/tmp/new", "6");
    fs::remove_file(site.at("d/s/b.o")).unwrap();
    fs::remove_file(site.at("d/tmp/x")).unwrap();
    let all = ["a.o: changed", "s/b.o: missing", "tmp/new: new", "tmp/x: missing"];
    check(&site, &["audit", "m", "d"], &all);
    check(&site, &["audit", "--exclude", "*.o", "m", "d"], &all[2..]);
    check(&site, &["audit", "--exclude", "tmp/", "m", "d"], &all[..2]);
    check(&site, &["audit", "--exclude=tmp", "--exclude=*.o", "m", "d"], &[]);
    check(&site, &["audit", "--include", "*.c", "m", "d"], &[]);
    check(&site, &["audit", "--exclude", "s/*", "m", "d"], &[all[0], all[2], all[3]]);
    let outcome = site.hashctl(&["audit", "--include", "*.c", "m", "d"]);
    let want = "hashctl: 2 matched; 3 entries of files that are not selected\n";
    assert_eq!(outcome.stderr, want);
    // A file is no copy of what was left out.
    fs::copy(site.at("d/s/b.c"), site.at("d/tmp/x")).unwrap();
    check(&site, &["audit", "--include", "[nx]*", "m", "d"], &["tmp/new: new", "tmp/x: changed"]);
    for command in ["audit", "update", "compare", "dups"] {
        assert_eq!(site.hashctl(&[command, "--exclude", "[", "m", "d"]).code, 2, "{command}");
    }
}

#[test]
fn names_find_their_directory_also_where_most_files_are_left_out() {
    let site = site();
    fs::rename(site.at("d"), site.at("elsewhere")).unwrap();
    check(&site, &["audit", "--include", "x", "m", "elsewhere"], &[]);
    check(&site, &["audit", "--include", "none", "m", "elsewhere"], &[]);
}

#[test]
fn an_update_leaves_the_entries_of_what_it_leaves_out() {
    let site = site();
    site.write("d/a.c", "changed");
    site.write("d/a.o", "changed");
    site.write("d/tmp/new", "6");
    fs::remove_file(site.at("d/tmp/x")).unwrap();
    fs::remove_file(site.at("d/s/b.c")).unwrap();
    let before = site.read("m");
    let (lines, code) = site.lines(&["update", "--exclude=*.o", "--exclude=tmp/", "m", "d"]);
    assert_eq!((lines, code), (vec!["a.c: changed".to_owned(), "s/b.c: missing".to_owned()], 0));
    let kept = |name: &str| before.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
    let want = line(Algorithm::Sha256, b"changed", "d/a.c")
        + &[kept("a.o"), kept("s/b.o"), kept("tmp/x")].map(|line| line + "\n").concat();
    assert_eq!(site.read("m"), want);
    // What is left out proves that it is the right directory.
    let outcome = site.hashctl(&["update", "--include", "none", "m", "d"]);
    assert_eq!((outcome.out(), outcome.code), (String::new(), 0), "{}", outcome.stderr);
    assert_eq!(site.read("m"), want);
}

#[test]
fn copies_and_duplicates_are_those_of_what_is_selected() {
    let site = site();
    for copy in ["A", "B"] {
        let copied = run(tool("cp", site.path()).args(["-r", "d", copy]));
        assert_eq!(copied.code, 0);
    }
    site.write("A/a.o", "other");
    fs::remove_file(site.at("B/tmp/x")).unwrap();
    let all = ["a.o: differs in A; restore from B", "tmp/x: missing in B; restore from A"];
    check(&site, &["compare", "m", "A", "B"], &all);
    check(&site, &["compare", "--exclude", "*.o", "m", "A", "B"], &all[1..]);
    check(&site, &["compare", "--exclude", "tmp", "m", "A", "B"], &all[..1]);
    check(&site, &["compare", "--include", "*.c", "m", "A", "B"], &[]);
    let outcome = site.hashctl(&["dups", "--quiet", "--include", "*.c", "A", "B"]);
    assert_eq!(outcome.out(), "A/a.c\nB/a.c\n\nA/s/b.c\nB/s/b.c\n\n");
    let outcome = site.hashctl(&["dups", "--quiet", "--exclude", "s/", "--exclude=*.o", "A", "B"]);
    assert_eq!(outcome.out(), "A/a.c\nB/a.c\n\n");
}

/// A manifest as `b2sum -l 256` writes it.
fn b2sum(site: &Site, options: &str, manifest: &str) {
    let script = format!("find d -type f | LC_ALL=C sort | xargs b2sum {options} > {manifest}");
    assert_eq!(run(tool("sh", site.path()).args(["-c", &script])).code, 0);
}

#[test]
fn shorter_digests_of_b2sum_are_compared_too() {
    let site = site();
    b2sum(&site, "-l 256", "x.b2");
    b2sum(&site, "-l 256 --tag", "tagged");
    b2sum(&site, "-l 8", "tiny");
    for args in [&["x.b2"][..], &["tagged"], &["-a", "blake2b", "tiny"], &["x.b2", "tagged", "m"]] {
        check(&site, &[&["audit"], args, &["d"]].concat(), &[]);
    }
    for list in ["x.b2", "tagged"] {
        check(&site, &["compare", list, "d", "m"], &[]);
        check(&site, &["check", "--quiet", list], &[]);
    }
    site.write("d/a.c", "0");
    fs::rename(site.at("d/a.o"), site.at("d/moved")).unwrap();
    let want = ["a.c: changed", "moved: moved from a.o"];
    check(&site, &["audit", "x.b2", "d"], &want);
    check(&site, &["audit", "tagged", "d"], &want);
    let json = site.hashctl(&["audit", "--json", "--only", "changed", "tagged", "d"]).out();
    assert!(json.contains("\"algorithm\":\"blake2b-256\""), "{json}");
    check(
        &site,
        &["compare", "--include=a.c", "m", "x.b2", "d"],
        &["a.c: differs, without a majority, between m, x.b2, d"],
    );
}

#[test]
fn an_update_keeps_to_the_length_of_the_digests_and_remembers_them() {
    let site = site();
    for (options, manifest) in [("-l 256", "x.b2"), ("-l 160 --tag", "tagged")] {
        b2sum(&site, options, manifest);
        assert_eq!(site.hashctl(&["update", manifest, "d"]).code, 0);
        site.write("d/s/new", manifest);
        site.write("d/a.c", manifest);
        let outcome = site.hashctl(&["update", manifest, "d"]);
        let want = "a.c: modified\ns/new: new\n";
        assert_eq!((outcome.out(), outcome.code), (want.to_owned(), 0), "{}", outcome.stderr);
        let outcome = site.hashctl(&["update", manifest, "d"]);
        assert!(outcome.stderr.contains("not read"), "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with("hashctl: 0 matched"), "{}", outcome.stderr);
        let checked = run(tool("b2sum", site.path()).args(["-c", "--quiet", manifest]));
        assert_eq!((checked.out(), checked.code), (String::new(), 0), "{}", checked.stderr);
        site.rot("d/a.c");
        check(&site, &["audit", manifest, "d"], &["a.c: ROTTED"]);
        let outcome = site.hashctl(&["check", "--quiet", manifest]);
        assert!(outcome.stderr.starts_with("hashctl: d/a.c: ROTTED"), "{}", outcome.stderr);
        fs::remove_file(site.at("d/s/new")).unwrap();
    }
}

/// Files that were read, says the progress for programs: one that is read twice counts twice.
#[track_caller]
fn reads(site: &Site, args: &[&str]) -> u64 {
    let outcome = site.hashctl(&[&["--progress", "json"], args].concat());
    let last = outcome.stderr.lines().rfind(|line| line.contains("\"progress\":\"end\"")).unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    last["files"].as_u64().unwrap()
}

#[test]
fn a_file_in_manifests_of_several_algorithms_is_read_once() {
    let site = site();
    for list in ["sha512", "md5", "blake3"] {
        let outcome = site.hashctl(&["sum", "-r", "--tag", "-a", list, "d"]);
        site.write(list, outcome.stdout);
    }
    let four = ["audit", "sha512", "md5", "blake3", "m", "d"];
    check(&site, &four, &[]);
    assert_eq!(reads(&site, &four), 5);
    // More than are computed at once, and one that workers do not know.
    b2sum(&site, "--tag", "b2");
    b2sum(&site, "-l 256", "x.b2");
    let six = ["audit", "sha512", "md5", "blake3", "m", "b2", "x.b2", "d"];
    check(&site, &six, &[]);
    assert_eq!(reads(&site, &six), 15);
    site.write("d/new", "7");
    assert_eq!(reads(&site, &four), 6);
    fs::remove_file(site.at("d/new")).unwrap();
    check(&site, &["compare", "m", "md5", "d"], &[]);
    assert_eq!(reads(&site, &["compare", "m", "md5", "d"]), 5);
    site.write("both", site.read("m") + &site.read("md5"));
    assert_eq!(reads(&site, &["update", "both", "d"]), 5);
    check(&site, &["audit", "both", "d"], &[]);
}

#[test]
fn manifests_are_compared_by_any_algorithm_that_both_have() {
    let site = site();
    for list in ["md5", "sha1"] {
        let outcome = site.hashctl(&["sum", "-r", "--tag", "-a", list, "d"]);
        site.write(list, outcome.stdout);
    }
    site.write("both", site.read("m") + &site.read("md5"));
    check(&site, &["compare", "both", "md5"], &[]);
    check(&site, &["compare", "both", "m"], &[]);
    let (lines, code) = site.lines(&["compare", "both", "sha1"]);
    assert_eq!((lines.len(), code), (5, 1), "nothing in common: {lines:?}");
}
