//! `hashctl update`, and the state that it keeps.

use crate::oracle::line;
use crate::program::{finish, hashctl_alone, run, start, tool};
use crate::trees::Site;
use ipc_proto::Algorithm;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[track_caller]
fn check(site: &Site, args: &[&str], want: &[&str], code: i32) {
    let (lines, got) = site.lines(&[&["update"], args].concat());
    assert_eq!(lines, want, "{args:?}");
    assert_eq!(got, code, "{args:?}");
}

/// The manifest is right about the tree, says sha256sum.
#[track_caller]
fn verify(site: &Site, manifest: &str) {
    let outcome = run(tool("sha256sum", site.path()).args(["-c", "--quiet", "--strict", manifest]));
    assert_eq!((outcome.out(), outcome.code), (String::new(), 0), "{}", outcome.stderr);
}

#[test]
fn a_manifest_is_made_and_brought_up_to_date_in_its_order() {
    let site = Site::new(&[("d/a", "1"), ("d/b", "2"), ("d/s/c", "3")]);
    check(&site, &["m", "d"], &["a: new", "b: new", "s/c: new"], 0);
    site.sum();
    assert_eq!(site.read("m").lines().count(), 3);
    let reversed: Vec<String> =
        site.read("m").lines().rev().map(|line| line.to_owned() + "\n").collect();
    site.write("m", "# comment\n\n".to_owned() + &reversed.concat());
    site.write("d/b", "other");
    site.write("d/0", "new");
    fs::remove_file(site.at("d/a")).unwrap();
    check(&site, &["m", "d"], &["0: new", "a: missing", "b: modified"], 0);
    verify(&site, "m");
    let names: Vec<String> =
        site.read("m").lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["comment", "", "d/s/c", "d/b", "d/0"]);
    let before = fs::metadata(site.at("m")).unwrap().ino();
    check(&site, &["m", "d"], &[], 0);
    assert_eq!(fs::metadata(site.at("m")).unwrap().ino(), before, "nothing was written");
}

#[test]
fn only_what_may_have_changed_is_read() {
    let site = Site::new(&[("d/a", "1"), ("d/b", "2"), ("d/c", "3"), ("d/e", "")]);
    let summary = |args: &[&str]| {
        let outcome = site.hashctl(&[&["update"], args, &["m", "d"]].concat());
        assert_eq!(outcome.code, 0);
        outcome.stderr
    };
    assert_eq!(summary(&[]), "hashctl: 0 matched, 4 new, 0 not read\n");
    assert_eq!(summary(&[]), "hashctl: 0 matched, 4 not read\n");
    // Times, the inode.
    site.age("d/a", Duration::from_secs(9));
    fs::copy(site.at("d/b"), site.at("b2")).unwrap();
    fs::rename(site.at("b2"), site.at("d/b")).unwrap();
    assert_eq!(summary(&[]), "hashctl: 2 matched, 2 not read\n");
    assert_eq!(summary(&[]), "hashctl: 0 matched, 4 not read\n");
    assert_eq!(summary(&["--verify", "25%"]), "hashctl: 1 matched, 3 not read\n");
    assert_eq!(summary(&["--verify=100"]), "hashctl: 4 matched, 0 not read\n");
    assert_eq!(summary(&["--verify-older-than", "1d"]), "hashctl: 0 matched, 4 not read\n");
    assert_eq!(summary(&["--verify-older-than", "0s"]), "hashctl: 4 matched, 0 not read\n");
    // Without its state everything is read, and with it nothing.
    fs::remove_file(site.at("m.state")).unwrap();
    assert_eq!(summary(&["--dry-run"]), "hashctl: 4 matched, 0 not read; nothing was written\n");
    assert_eq!(summary(&["--state", "s"]), "hashctl: 4 matched, 0 not read\n");
    assert_eq!(summary(&["--state", "s"]), "hashctl: 0 matched, 4 not read\n");
}

#[test]
fn the_entry_of_a_rotted_file_stays_until_it_is_accepted() {
    let site = Site::new(&[("d/a", "1"), ("d/b", "2")]);
    check(&site, &["m", "d"], &["a: new", "b: new"], 0);
    let good = site.read("m");
    site.rot("d/a");
    for _ in 0..2 {
        check(&site, &["m", "d"], &["a: ROTTED"], 1);
        assert_eq!(site.read("m"), good);
    }
    let outcome = site.hashctl(&["update", "--quiet", "m", "d"]);
    assert!(outcome.stderr.starts_with("hashctl: a: ROTTED: "), "{}", outcome.stderr);
    check(&site, &["--accept-rotted", "m", "d"], &["a: ROTTED"], 0);
    assert_ne!(site.read("m"), good);
    verify(&site, "m");
    check(&site, &["m", "d"], &[], 0);
}

#[test]
fn rot_that_leaves_no_trace_is_found_by_verifying() {
    let site = Site::new(&[("d/a", "1")]);
    check(&site, &["m", "d"], &["a: new"], 0);
    // As if the state had seen the file as it is now: its bytes changed below the file system.
    site.rot("d/a");
    let metadata = fs::metadata(site.at("d/a")).unwrap();
    let ctime = metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec();
    let state = site.read("m.state");
    let mut fields: Vec<&str> = state.lines().nth(1).unwrap().split(' ').collect();
    let (ctime, seen) = (ctime.to_string(), (ctime + 1_000_000_000).to_string());
    (fields[4], fields[6]) = (&ctime, &seen);
    let head = format!("hashctl-state 1\n{}\n", fields.join(" "));
    let checksum = blake3::hash(head.as_bytes()).to_hex();
    site.write("m.state", format!("{head}end 1 {checksum}\n"));
    let fixed = site.hashctl(&["update", "m", "d"]);
    assert_eq!((fixed.out(), fixed.code), (String::new(), 0), "{}", fixed.stderr);
    check(&site, &["--verify", "100%", "m", "d"], &["a: ROTTED"], 1);
}

#[test]
fn without_a_state_a_file_older_than_the_manifest_has_rotted() {
    let site = Site::new(&[("d/a", "1")]);
    site.write("m", line(Algorithm::Sha256, b"2", "d/a"));
    // Written at the same time as far as anybody can tell.
    check(&site, &["--dry-run", "m", "d"], &["a: changed"], 0);
    let future = std::time::SystemTime::now() + Duration::from_secs(100);
    let file = fs::File::options().append(true).open(site.at("m")).unwrap();
    file.set_modified(future).unwrap();
    check(&site, &["m", "d"], &["a: ROTTED"], 1);
    check(&site, &["--accept-rotted", "m", "d"], &["a: ROTTED"], 0);
    verify(&site, "m");
}

#[test]
fn an_earlier_version_is_named_and_taken() {
    let site = Site::new(&[("d/a", "1")]);
    check(&site, &["m", "d"], &["a: new"], 0);
    site.write("d/a", "0");
    site.age("d/a", Duration::from_secs(10_000));
    check(&site, &["--quiet", "m", "d"], &["a: older"], 0);
    verify(&site, "m");
    check(&site, &["--quiet", "m", "d"], &[], 0);
}

#[test]
fn a_file_that_is_written_to_all_the_time_is_never_taken_as_unchanged() {
    let site = Site::new(&[("d/a", "00000000"), ("d/b", "1")]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                count += 1;
                // Of the same length, in place, as often as a clock's tick has room for.
                fs::write(site.at("d/a"), format!("{count:08}")).unwrap();
            }
        });
        for _ in 0..20 {
            site.hashctl(&["update", "m", "d"]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let outcome = site.hashctl(&["update", "m", "d"]);
    assert_eq!(outcome.code, 0, "{}{}", outcome.out(), outcome.stderr);
    verify(&site, "m");
}

#[test]
fn a_file_that_is_written_right_after_it_was_hashed_is_read_again() {
    let site = Site::new(&[("d/a", "0")]);
    for round in 1..=20 {
        let outcome = site.hashctl(&["update", "m", "d"]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        site.write("d/a", (round % 10).to_string());
    }
    assert_eq!(site.hashctl(&["update", "m", "d"]).code, 0);
    verify(&site, "m");
}

#[test]
fn lines_keep_the_form_and_the_names_that_they_have() {
    let site = Site::new(&[("d/a", "1")]);
    let sha256 = line(Algorithm::Sha256, b"1", "").trim().to_owned();
    for (before, want) in [
        (format!("{sha256} *./a\n"), "HEX *./a\nHEX *./n\n"),
        (format!("SHA256 (a) = {sha256}"), "SHA256 (a) = HEX\nSHA256 (n) = HEX\n"),
        (format!("{sha256}  d/a\r\n"), "HEX  d/a\r\nHEX  d/n\r\n"),
        (format!("{sha256}  {}\n", site.at("d/a").display()), "HEX  ROOT/d/a\nHEX  ROOT/d/n\n"),
    ] {
        let _ = fs::remove_file(site.at("d/n"));
        let _ = fs::remove_file(site.at("m.state"));
        site.write("m", &before);
        site.write("d/n", "1");
        assert_eq!(site.hashctl(&["update", "m", "d"]).code, 0);
        let want = want.replace("HEX", &sha256).replace("ROOT", site.path().to_str().unwrap());
        assert_eq!(site.read("m"), want);
    }
}

#[test]
fn several_algorithms_are_all_kept_right() {
    let site = Site::new(&[("d/a", "1")]);
    let both = |data: &[u8], name: &str| {
        line(Algorithm::Sha256, data, name) + &line(Algorithm::Md5, data, name)
    };
    site.write("m", both(b"1", "a"));
    check(&site, &["m", "d"], &[], 0);
    site.write("d/a", "2");
    site.write("d/b", "3");
    check(&site, &["m", "d"], &["a: modified", "b: new"], 0);
    assert_eq!(site.read("m"), both(b"2", "a") + &both(b"3", "b"));
    // A new manifest names the algorithm where the length of a digest does not.
    check(&site, &["-a", "blake3", "b3", "d"], &["a: new", "b: new"], 0);
    assert!(site.read("b3").starts_with("BLAKE3 (d/a) = "));
    assert_eq!(site.hashctl(&["check", "b3"]).code, 0);
}

#[test]
fn a_directory_without_any_of_the_files_is_left_alone() {
    let site = Site::new(&[("d/a", "1"), ("other/x", "2")]);
    fs::create_dir(site.at("unmounted")).unwrap();
    check(&site, &["m", "d"], &["a: new"], 0);
    let before = site.read("m");
    for dir in ["unmounted", "other"] {
        let outcome = site.hashctl(&["update", "m", dir]);
        assert_eq!((outcome.out(), outcome.code), (String::new(), 1));
        assert!(outcome.stderr.contains("is the directory right, and mounted?"));
        assert_eq!(site.read("m"), before);
    }
    for args in [&["m", "no-such"][..], &["no/such/m", "d"], &["d", "d"]] {
        let outcome = site.hashctl(&[&["update"], args].concat());
        assert_eq!((outcome.out(), outcome.code), (String::new(), 1), "{args:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    }
    assert_eq!(site.hashctl(&["update", "-", "d"]).code, 2);
    assert_eq!(site.hashctl(&["update", "--verify", "101%", "m", "d"]).code, 2);
}

#[test]
fn a_manifest_inside_the_tree_never_lists_itself() {
    let site = Site::new(&[("d/a", "1")]);
    for _ in 0..3 {
        check(&site, &["--quiet", "d/m", "d"], &[], 0);
    }
    let names: Vec<String> = site.read("d/m").lines().map(|line| line[66..].to_owned()).collect();
    assert_eq!(names, ["d/a"]);
    // One that a shell made lists itself as empty.
    let own = site.read("d/m") + &line(Algorithm::Sha256, b"", "d/m");
    site.write("d/m", own);
    check(&site, &["--quiet", "d/m", "d"], &[], 0);
    assert_eq!(site.read("d/m").lines().count(), 1);
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_entry() {
    let site = Site::new(&[("d/a", "1"), ("d/b", "2")]);
    check(&site, &["m", "d"], &["a: new", "b: new"], 0);
    let before = site.read("m");
    fs::remove_file(site.at("d/a")).unwrap();
    symlink("/dev/zero", site.at("d/a")).unwrap();
    check(&site, &["m", "d"], &["a: unreadable (skipped: a character device)"], 1);
    assert_eq!(site.read("m"), before);
}

#[test]
fn an_interrupt_leaves_manifest_and_state_as_they_were() {
    let site = Site::new(&[("d/a", "1")]);
    check(&site, &["m", "d"], &["a: new"], 0);
    let before = (site.read("m"), site.read("m.state"));
    // Large enough that hashing it takes longer than the signal.
    let file = fs::File::create(site.at("d/large")).unwrap();
    file.set_len(1 << 40).unwrap();
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGKILL] {
        let mut command = hashctl_alone();
        command.current_dir(site.path()).args(["--embedded", "-v", "update", "m", "d"]);
        let mut child = start(&mut command);
        // Its first line shows that it runs.
        let mut first = [0];
        std::io::Read::read_exact(child.stderr.as_mut().unwrap(), &mut first).unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
        let code = finish(child).code;
        assert!(code == 4 || code == -9, "{code}");
        assert_eq!((site.read("m"), site.read("m.state")), before);
    }
    let left = fs::read_dir(site.path()).unwrap().count();
    assert_eq!(left, 3, "m, m.state and d");
}

#[test]
fn a_new_name_in_a_bag_is_percent_encoded() {
    let site = Site::new(&[("d/data/a", "1")]);
    site.write("d/manifest-sha256.txt", line(Algorithm::Sha256, b"1", "data/a"));
    site.write("d/data/p%\nq\\", "2");
    let update = ["update", "--quiet", "d/manifest-sha256.txt", "d"];
    assert_eq!(site.hashctl(&update).code, 0);
    let want =
        line(Algorithm::Sha256, b"1", "data/a") + &line(Algorithm::Sha256, b"2", "data/p%25%0Aq\\");
    assert_eq!(site.read("d/manifest-sha256.txt"), want);
    check(&site, &["d/manifest-sha256.txt", "d"], &[], 0);
}
