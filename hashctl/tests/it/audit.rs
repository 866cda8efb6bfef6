//! `hashctl audit`.

use crate::oracle::line;
use crate::program::{hashctl_alone, run, run_with, tool};
use crate::trees::Site;
use ipc_proto::Algorithm;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

fn site() -> Site {
    let site = Site::new(&[("d/a", "1"), ("d/b", "2"), ("d/s/c", "3"), ("d/e", ""), ("d/-x", "4")]);
    site.sum();
    site
}

#[track_caller]
fn check(site: &Site, args: &[&str], want: &[&str]) {
    let (lines, code) = site.lines(&[&["audit"], args].concat());
    assert_eq!(lines, want, "{args:?}");
    assert_eq!(code, i32::from(!want.is_empty()), "{args:?}");
}

#[test]
fn a_tree_matches_manifests_made_inside_and_outside_of_it() {
    let site = site();
    let script = "cd d; find . -type f -print0 | xargs -0 sha256sum > ../inside; \
                  find . -type f -printf '%P\\0' | xargs -0 sha256sum -- > ../bare; \
                  find \"$PWD\" -type f -print0 | xargs -0 sha256sum --tag > ../absolute; \
                  cd ..; \"$0\" --embedded sum -r -a blake3 --tag d > b3";
    let program = test_kit::program("hashctl");
    let made = run(tool("sh", site.path()).args(["-c", script, program]));
    assert_eq!(made.code, 0, "{}", made.stderr);
    for manifest in ["m", "inside", "bare", "absolute", "b3"] {
        for dir in ["d", "d/", "./d", "s/../d", site.at("d").to_str().unwrap()] {
            fs::create_dir_all(site.at("s")).unwrap();
            let outcome = site.hashctl(&["audit", manifest, dir]);
            let want = (String::new(), "hashctl: 5 matched\n", 0);
            assert_eq!((outcome.out(), &*outcome.stderr, outcome.code), want, "{manifest} {dir}");
        }
    }
    // A copy elsewhere, against the manifest of the original.
    let copied = run(tool("cp", site.path()).args(["-r", "d", "elsewhere"]));
    assert_eq!(copied.code, 0);
    for manifest in ["m", "inside", "absolute"] {
        check(&site, &[manifest, "elsewhere"], &[]);
    }
}

#[test]
fn each_file_is_matched_changed_moved_copied_new_or_missing() {
    let site = site();
    site.write("d/b", "other");
    fs::rename(site.at("d/a"), site.at("d/s/a")).unwrap();
    fs::copy(site.at("d/s/c"), site.at("d/c2")).unwrap();
    site.write("d/n", "new");
    fs::remove_file(site.at("d/-x")).unwrap();
    let want = ["-x: missing", "b: changed", "c2: copied from s/c", "n: new", "s/a: moved from a"];
    check(&site, &["m", "d"], &want);
    check(&site, &["--only", "missing,new", "m", "d"], &["-x: missing", "n: new"]);
    check(&site, &["--only", "matched", "m", "d"], &["e: matched", "s/c: matched"]);
    check(&site, &["--only=moved", "-0", "m", "d"], &["s/a: moved from a\0"]);
    let outcome = site.hashctl(&["audit", "m", "d"]);
    let want = "hashctl: 2 matched, 1 changed, 1 moved, 1 copied, 1 new, 1 missing\n";
    assert_eq!(outcome.stderr, want);
    assert_eq!(site.hashctl(&["audit", "--quiet", "m", "d"]).stderr, "");
}

#[test]
fn an_empty_file_comes_from_nowhere() {
    let site = site();
    site.write("d/new", "");
    fs::remove_file(site.at("d/e")).unwrap();
    check(&site, &["m", "d"], &["e: missing", "new: new"]);
}

#[test]
fn equal_contents_are_counted_once_each() {
    let site = Site::new(&[("d/a", "same"), ("d/b", "same"), ("d/c", "same")]);
    site.sum();
    fs::rename(site.at("d/a"), site.at("d/x")).unwrap();
    fs::copy(site.at("d/b"), site.at("d/y")).unwrap();
    check(&site, &["m", "d"], &["x: moved from a", "y: copied from b"]);
    fs::remove_file(site.at("d/y")).unwrap();
    fs::remove_file(site.at("d/b")).unwrap();
    check(&site, &["m", "d"], &["b: missing", "x: moved from a"]);
}

#[test]
fn the_manifest_and_its_state_are_no_new_files_of_the_tree() {
    let site = site();
    assert_eq!(site.hashctl(&["update", "d/m", "d"]).code, 0);
    let outcome = site.hashctl(&["audit", "d/m", "d"]);
    assert_eq!((outcome.out(), outcome.code), (String::new(), 0));
    let want = "hashctl: d/m: left out: the manifest or its state\n\
                hashctl: d/m.state: left out: the manifest or its state\n\
                hashctl: 5 matched\n";
    assert_eq!(outcome.stderr, want);
    // To another manifest they are files as any other.
    check(&site, &["m", "d"], &["m.state: new", "m: new"]);
}

#[test]
fn names_of_any_bytes_keep_to_their_line() {
    let site = Site::new(&[]);
    let names: [&[u8]; 6] = [b"n\nl", b"b\\s", b"\\n", b"\xff\xfe", b" lead", b"-"];
    for name in names {
        site.write(std::path::Path::new("d").join(OsStr::from_bytes(name)), name);
    }
    site.sum();
    check(&site, &["m", "d"], &[]);
    for name in names {
        fs::remove_file(site.at("d").join(OsStr::from_bytes(name))).unwrap();
    }
    let outcome = site.hashctl(&["audit", "m", "d"]);
    let mut lines: Vec<&[u8]> = outcome.stdout.split(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    let want: [&[u8]; 7] = [
        b"",
        b" lead: missing",
        b"-: missing",
        b"\\\\\\n: missing",
        b"\\b\\\\s: missing",
        b"\\n\\nl: missing",
        b"\xff\xfe: missing",
    ];
    assert_eq!(lines, want);
    let outcome = site.hashctl(&["audit", "--json", "--only", "missing", "m", "d"]);
    assert!(outcome.out().contains("{\"version\":1,\"name\":\"n\\nl\",\"status\":\"missing\""));
    assert!(outcome.out().contains("{\"version\":1,\"name_b64\":\"//4=\",\"status\":\"missing\""));
}

#[test]
fn several_manifests_and_algorithms_are_checked_together() {
    let site = Site::new(&[("d/a", "1"), ("d/b", "2")]);
    site.write("m1", line(Algorithm::Sha256, b"1", "a") + &line(Algorithm::Md5, b"1", "a"));
    site.write("m2", line(Algorithm::Sha512, b"2", "b"));
    check(&site, &["m1", "m2", "d"], &[]);
    check(&site, &["m1", "d"], &["b: new"]);
    // One of two digests is wrong.
    site.write("m1", line(Algorithm::Sha256, b"1", "a") + &line(Algorithm::Md5, b"x", "a"));
    check(&site, &["m1", "m2", "d"], &["a: changed"]);
    // A name that is listed twice has to have both.
    site.write("m1", line(Algorithm::Sha256, b"1", "a") + &line(Algorithm::Sha256, b"9", "./a"));
    check(&site, &["m1", "m2", "d"], &["a: changed"]);
    site.write("m1", line(Algorithm::Sha256, b"1", "a").repeat(2));
    check(&site, &["m1", "m2", "d"], &[]);
    // A file that moved is found by the algorithm of its own manifest.
    fs::rename(site.at("d/b"), site.at("d/b2")).unwrap();
    check(&site, &["m1", "m2", "d"], &["b2: moved from b"]);
}

#[test]
fn lines_that_count_for_nothing_are_named_and_fail() {
    let site = Site::new(&[("d/a", "1")]);
    site.write("m", line(Algorithm::Sha256, b"1", "a") + "junk\n" + &"0".repeat(64) + "  ../x\n");
    let outcome = site.hashctl(&["audit", "m", "d"]);
    assert_eq!((outcome.out(), outcome.code), ("../x: missing\n".to_owned(), 1));
    assert!(outcome.stderr.contains("m: 1 improperly formatted lines, the first is 2\n"));
    assert!(outcome.stderr.contains("m: 1 names are not below d\n"));
    site.write("empty", "");
    check(&site, &["empty", "d"], &["a: new"]);
    fs::create_dir(site.at("nothing")).unwrap();
    check(&site, &["empty", "nothing"], &[]);
    for args in [&["m", "no-such"][..], &["no-such", "d"], &["m", "d/a"]] {
        let outcome = site.hashctl(&[&["audit"], args].concat());
        assert_eq!((outcome.out(), outcome.code), (String::new(), 1), "{args:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    }
    assert_eq!(site.hashctl(&["audit", "m"]).code, 2);
    assert_eq!(site.hashctl(&["audit", "--state", "s", "m", "m", "d"]).code, 2);
}

#[test]
fn links_are_left_out_unless_a_manifest_names_them() {
    let site = site();
    symlink("a", site.at("d/l")).unwrap();
    symlink("s", site.at("d/t")).unwrap();
    let outcome = site.hashctl(&["audit", "m", "d"]);
    assert_eq!((outcome.out(), outcome.code), (String::new(), 0));
    assert_eq!(outcome.stderr, "hashctl: 5 matched; 2 links and special files left out\n");
    let more = site.read("m") + &line(Algorithm::Sha256, b"1", "d/l");
    site.write("m", more + &line(Algorithm::Sha256, b"3", "d/t/c"));
    check(&site, &["m", "d"], &[]);
    fs::remove_file(site.at("d/l")).unwrap();
    symlink("/dev/zero", site.at("d/l")).unwrap();
    check(&site, &["m", "d"], &["l: unreadable (skipped: a character device)"]);
}

#[test]
fn what_a_directory_hides_is_unreadable_and_not_missing() {
    let site = site();
    let permit = |mode| fs::set_permissions(site.at("d/s"), fs::Permissions::from_mode(mode));
    permit(0).unwrap();
    // Without the rights that let root read everything.
    let mut command = match nix::unistd::Uid::effective().is_root() {
        true => {
            let mut command = tool("setpriv", site.path());
            command.args(["--bounding-set=-all", "--inh-caps=-all"]);
            command.arg(test_kit::program("hashctl"));
            command
        }
        false => tool(test_kit::program("hashctl"), site.path()),
    };
    let outcome = run(command.args(["--embedded", "audit", "m", "d"]));
    permit(0o700).unwrap();
    let want = "s/c: unreadable (Permission denied)\ns: unreadable (Permission denied)\n";
    assert_eq!((outcome.out(), outcome.code), (want.to_owned(), 1), "{}", outcome.stderr);
}

#[test]
fn a_state_tells_rot_from_change() {
    let site = site();
    for path in ["d/a", "d/b"] {
        site.age(path, Duration::from_secs(1000));
    }
    assert_eq!(site.hashctl(&["update", "m", "d"]).code, 0);
    site.rot("d/a");
    site.write("d/b", "other");
    site.write("d/s/c", "x");
    site.age("d/s/c", Duration::from_secs(5000));
    let want = ["a: ROTTED", "b: modified", "s/c: older"];
    check(&site, &["m", "d"], &want);
    check(&site, &["--only", "rotted", "m", "d"], &["a: ROTTED"]);
    check(&site, &["--only", "changed", "m", "d"], &want);
    let outcome = site.hashctl(&["audit", "--quiet", "m", "d"]);
    assert!(outcome.stderr.starts_with("hashctl: a: ROTTED: size and time"), "{}", outcome.stderr);
    // Elsewhere, by its name.
    fs::rename(site.at("m.state"), site.at("elsewhere")).unwrap();
    check(&site, &["m", "d"], &["a: changed", "b: changed", "s/c: changed"]);
    check(&site, &["--state", "elsewhere", "m", "d"], &want);
    // A state of another manifest says nothing about this one.
    site.write("m", site.read("m").replace(|c: char| c.is_ascii_digit(), "0"));
    fs::rename(site.at("elsewhere"), site.at("m.state")).unwrap();
    let (lines, _) = site.lines(&["audit", "m", "d"]);
    assert!(lines.iter().all(|line| line.ends_with(": changed")), "{lines:?}");
}

#[test]
fn a_damaged_state_is_an_error_that_says_what_to_do() {
    let site = site();
    assert_eq!(site.hashctl(&["update", "m", "d"]).code, 0);
    let state = site.read("m.state");
    for (text, want) in [
        (state.replacen("1", "2", 1), "of version 2"),
        (state.replace("d/a", "d/x"), "damaged in line 7; restore it, or remove it"),
        (state[..state.len() / 2].to_owned(), "damaged in line"),
        ("junk\n".to_owned(), "not a state of hashctl"),
    ] {
        site.write("m.state", text);
        for command in ["audit", "update"] {
            let outcome = site.hashctl(&[command, "m", "d"]);
            assert_eq!((outcome.out(), outcome.code), (String::new(), 1));
            assert!(outcome.stderr.starts_with("hashctl: m.state: "), "{}", outcome.stderr);
            assert!(outcome.stderr.contains(want), "{}", outcome.stderr);
        }
    }
}

#[test]
fn a_manifest_may_come_through_standard_input() {
    let site = site();
    let manifest = fs::read(site.at("m")).unwrap();
    let mut command = hashctl_alone();
    command.current_dir(site.path()).args(["--embedded", "audit", "-", "d"]);
    let outcome = run_with(&mut command, manifest);
    assert_eq!((outcome.out(), &*outcome.stderr), (String::new(), "hashctl: 5 matched\n"));
}

#[test]
fn check_says_the_cause_where_a_state_is_beside_the_list() {
    let site = site();
    assert_eq!(site.hashctl(&["update", "m", "d"]).code, 0);
    site.rot("d/a");
    site.write("d/b", "other");
    let outcome = site.hashctl(&["check", "--quiet", "m"]);
    assert_eq!((outcome.out(), outcome.code), ("d/a: FAILED\nd/b: FAILED\n".to_owned(), 1));
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert!(lines[0].starts_with("hashctl: d/a: ROTTED: size and time"), "{lines:?}");
    assert!(lines[1].starts_with("hashctl: d/b: modified: "), "{lines:?}");
    assert_eq!(site.hashctl(&["check", "--status", "m"]).stderr, "");
    // Files are named from another directory, the list and its state are not.
    fs::create_dir(site.at("lists")).unwrap();
    for name in ["m", "m.state"] {
        fs::rename(site.at(name), site.at("lists").join(name)).unwrap();
    }
    let outcome = site.hashctl(&["check", "--json", "--quiet", "-C", ".", "lists/m"]);
    assert!(outcome.out().contains("\"cause\":\"rotted\""), "{}", outcome.out());
    assert!(outcome.out().contains("\"cause\":\"modified\""), "{}", outcome.out());
    site.write("lists/m.state", "junk");
    let outcome = site.hashctl(&["check", "--quiet", "lists/m"]);
    let errors = outcome.stderr.lines().filter(|line| line.contains("not a state of hashctl"));
    assert_eq!((errors.count(), outcome.code), (1, 1), "{}", outcome.stderr);
}
