use crate::engine::Engine;
use crate::oracle::{digest, hex, line};
use crate::program::{Outcome, finish, hashctl, run, start, tool};
use ipc_proto::Algorithm;
use ipc_proto::message::{Failure, Window};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use tempfile::{TempDir, tempdir};
use test_kit::Random;

const OPTIONS: [&[&str]; 11] = [
    &[],
    &["--quiet"],
    &["--status"],
    &["--warn"],
    &["-w"],
    &["--strict"],
    &["--ignore-missing"],
    &["--strict", "--quiet"],
    &["--ignore-missing", "--status"],
    &["--quiet", "-w"],
    &["-w", "--status"],
];

/// Files, and manifests about them: good, mixed, hopeless.
fn manifests() -> (TempDir, [&'static str; 8]) {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["a", "b c", "n\nl", "b\\s", "c\rr", "ünï"] {
        fs::write(at(name), name).unwrap();
    }
    fs::create_dir(at("dir")).unwrap();
    let files = ["a", "b c", "n\nl", "b\\s", "c\rr", "ünï"];
    let good = run(tool("sha256sum", dir.path()).args(files)).stdout;
    let tags = run(tool("sha256sum", dir.path()).arg("--tag").args(files)).stdout;
    let zeros = "0".repeat(64);
    let bad = format!("{zeros}  a\n{zeros} *b c\n\\{zeros}  n\\nl\n");
    let missing = format!("{zeros}  gone\n{zeros}  gone too\n{zeros}  dir\n");
    let odd = format!(
        "# comment\n\n  {}garbage\n{zeros}\n{zeros}  \n\\{zeros}  a\\x\nSHA256 (a) {zeros}\n",
        line(Algorithm::Sha256, b"a", "a").replace('\n', "\r\n")
    );
    fs::write(at("good"), &good).unwrap();
    fs::write(at("tags"), &tags).unwrap();
    fs::write(at("bad"), &bad).unwrap();
    fs::write(at("missing"), &missing).unwrap();
    fs::write(at("odd"), &odd).unwrap();
    fs::write(
        at("all"),
        [&good, bad.as_bytes(), &tags, missing.as_bytes(), odd.as_bytes()].concat(),
    )
    .unwrap();
    fs::write(at("garbage"), "garbage\n").unwrap();
    fs::write(at("empty"), "").unwrap();
    (dir, ["good", "tags", "bad", "missing", "odd", "all", "garbage", "empty"])
}

#[track_caller]
fn compare(ours: &Outcome, theirs: &Outcome, what: &str) {
    assert_eq!(ours.out(), theirs.out(), "{what}");
    let stderr = without_counts(&ours.stderr).replace("hashctl: ", "sha256sum: ");
    assert_eq!(stderr, theirs.stderr, "{what}");
    assert_eq!(ours.code, theirs.code, "{what}");
}

/// Without counts and the hint at other algorithms, which coreutils lacks.
fn without_counts(stderr: &str) -> String {
    let is_theirs = |line: &&str| !line.contains(" OK") && !line.contains(": nothing matched; ");
    stderr.split_inclusive('\n').filter(is_theirs).collect()
}

#[test]
fn verdicts_and_warnings_are_those_of_the_installed_coreutils() {
    let (dir, manifests) = manifests();
    for options in OPTIONS {
        for manifest in manifests.map(|name| vec![name]).into_iter().chain([
            vec!["no-such-manifest"],
            vec!["good", "bad", "no-such-manifest", "missing", "good"],
        ]) {
            let fake = Engine::default().start();
            let mut ours = hashctl(fake.socket());
            ours.arg("check").args(options).args(&manifest);
            let ours = run(ours.current_dir(dir.path()));
            let theirs = run(tool("sha256sum", dir.path()).arg("-c").args(options).args(&manifest));
            compare(&ours, &theirs, &format!("{options:?} {manifest:?}"));
        }
    }
}

#[test]
fn a_manifest_on_standard_input_cannot_name_standard_input() {
    let (dir, _) = manifests();
    let text = line(Algorithm::Sha256, b"a", "a") + &line(Algorithm::Sha256, b"", "-");
    fs::write(dir.path().join("m"), text).unwrap();
    for options in OPTIONS {
        let fake = Engine::default().start();
        let manifest = || File::open(dir.path().join("m")).unwrap();
        let mut ours = hashctl(fake.socket());
        ours.arg("check").args(options).arg("-").stdin(manifest());
        let ours = run(ours.current_dir(dir.path()));
        let mut theirs = tool("sha256sum", dir.path());
        let theirs = run(theirs.arg("-c").args(options).stdin(manifest()));
        compare(&ours, &theirs, &format!("{options:?}"));
    }
}

#[test]
fn algorithms_may_be_mixed_and_one_job_is_fed_at_a_time() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let mut manifest = String::new();
    for i in 0..600 {
        let algorithm = Algorithm::ALL[i % Algorithm::ALL.len()];
        let digest = hex(&digest(algorithm, if i == 77 { b"y" } else { b"x" }));
        manifest += &format!("{} (f) = {digest}\n", algorithm.tag());
    }
    fs::write(dir.path().join("m"), manifest).unwrap();
    let window = Window { items: 9, bytes: 0 };
    let fake = Engine { shuffle: Some(Random::new(5)), window, ..Engine::default() }.start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["check", "m"]));
    let want: Vec<&str> = (0..600).map(|i| if i == 77 { "f: FAILED" } else { "f: OK" }).collect();
    assert_eq!(ours.out().lines().collect::<Vec<_>>(), want);
    let want = "hashctl: WARNING: 1 computed checksum did NOT match\n\
                hashctl: 600 files: 599 OK, 1 FAILED\n";
    assert_eq!((&*ours.stderr, ours.code), (want, 1));
    let report = fake.join();
    assert_eq!(report.items, 600);
    assert!(
        report.jobs <= 8 * Algorithm::ALL.len() as u64,
        "{} jobs: a few a batch, not one a line",
        report.jobs
    );
}

#[test]
fn uses_the_given_algorithm_where_no_tag_names_one() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let blake3 = line(Algorithm::Blake3, b"x", "f");
    let sha512 = line(Algorithm::Sha512, b"x", "f");
    let tag = format!("SHA256 (f) = {}\n", hex(&digest(Algorithm::Sha256, b"x")));
    fs::write(dir.path().join("m"), format!("{blake3}{tag}{sha512}")).unwrap();
    let check = |args: &[&str]| {
        let fake = Engine::default().start();
        run(hashctl(fake.socket()).current_dir(dir.path()).arg("check").args(args))
    };
    let ours = check(&["-a", "blake3", "-w", "m"]);
    assert_eq!((ours.out(), ours.code), ("f: OK\nf: OK\n".to_owned(), 0));
    assert!(ours.stderr.starts_with("hashctl: m: 3: improperly formatted BLAKE3 checksum line\n"));
    let ours = check(&["m"]);
    assert_eq!((ours.out(), ours.code), ("f: FAILED\nf: OK\nf: OK\n".to_owned(), 1));
}

#[test]
fn a_file_without_a_digest_is_not_ok() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    fs::write(dir.path().join("m"), line(Algorithm::Sha256, b"x", "f")).unwrap();
    let fail = |_: &[u8]| Some(Failure::Changed);
    let fake = Engine { fail, ..Engine::default() }.start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["check", "m"]));
    assert_eq!((ours.out(), ours.code), ("f: FAILED open or read\n".to_owned(), 1));
    let want = "hashctl: f: changed while it was read\n\
                hashctl: WARNING: 1 listed file could not be read\n\
                hashctl: 1 file: 0 OK, 1 could not be read\n";
    assert_eq!(ours.stderr, want);
}

#[test]
fn a_line_longer_than_any_path_is_an_error_and_the_check_continues() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let manifest = format!("{}\n{}", "0".repeat(1 << 20), line(Algorithm::Sha256, b"x", "f"));
    fs::write(dir.path().join("m"), manifest).unwrap();
    let fake = Engine::default().start();
    let ours = run(hashctl(fake.socket()).current_dir(dir.path()).args(["check", "m"]));
    let want = "hashctl: m: 1 line is longer than 262144 bytes, first line 1\n\
                hashctl: 1 file: 1 OK\n";
    assert_eq!((ours.out(), &*ours.stderr, ours.code), ("f: OK\n".to_owned(), want, 1));
}

#[test]
fn a_slow_manifest_is_answered_line_by_line_and_holds_no_job() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let fake = Engine::default().start();
    let mut command = hashctl(fake.socket());
    command.current_dir(dir.path()).args(["check", "-"]).stdin(Stdio::piped());
    let mut child = start(&mut command);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        stdin.write_all(line(Algorithm::Sha256, b"x", "f").as_bytes()).unwrap();
        let mut verdict = String::new();
        stdout.read_line(&mut verdict).unwrap();
        assert_eq!(verdict, "f: OK\n");
    }
    drop(stdin);
    assert_eq!(finish(child).code, 0);
    let report = fake.join();
    assert_eq!((report.jobs, report.jobs_max), (3, 1));
}
