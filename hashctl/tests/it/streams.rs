//! Standard input, as a file and as a stream.

use crate::engine::{Engine, Report};
use crate::oracle::line;
use crate::program::{Outcome, hashctl, run, run_with, shell};
use ipc_proto::Algorithm;
use ipc_proto::message::Window;
use std::fs::{self, File};
use tempfile::tempdir;
use test_kit::Random;

fn pipe(engine: &Engine, algorithm: Algorithm, data: &[u8]) -> (Outcome, Report) {
    let fake = engine.clone().start();
    let mut command = hashctl(fake.socket());
    let outcome = run_with(command.args(["sum", "-a", algorithm.name()]), data.to_vec());
    (outcome, fake.join())
}

fn bytes(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

#[track_caller]
fn check(engine: &Engine, algorithm: Algorithm, len: usize) -> Report {
    let data = bytes(len);
    let (ours, report) = pipe(engine, algorithm, &data);
    assert_eq!(ours.out(), line(algorithm, &data, "-"), "{algorithm}, {len} bytes");
    assert_eq!((ours.code, &*ours.stderr), (0, ""));
    report
}

#[test]
fn a_stream_of_any_length_has_the_plain_digest() {
    const PART: usize = 512 << 10;
    for algorithm in Algorithm::ALL {
        for len in [0, 1, 127, PART - 1, PART, PART + 1, 2 * PART, 5 * PART + 77] {
            check(&Engine::default(), algorithm, len);
        }
    }
}

#[test]
fn a_long_stream_through_a_small_window_merges_level_by_level() {
    // Parts of 1 KiB, groups of 32: more than 32 * 32 parts reach a third level.
    for bytes in [1024, 2047] {
        let engine = Engine { window: Window { items: 2, bytes }, ..Engine::default() };
        for parts in [32, 33, 1024, 1025, 1056, 1057, 2080] {
            check(&engine, Algorithm::Blake3, parts * 1024);
        }
        check(&engine, Algorithm::Blake3, 1024 * 1024 + 1);
        let report = check(&engine, Algorithm::Sha512, 50_000);
        assert!(report.unresolved_max <= 2);
    }
}

#[test]
fn a_shuffled_stream_is_put_together_in_order() {
    let engine = Engine {
        shuffle: Some(Random::new(7)),
        window: Window { items: 50, bytes: 32 << 10 },
        ..Engine::default()
    };
    check(&engine, Algorithm::Blake3, 2 << 20);
    check(&engine, Algorithm::Sha256, 200_000);
}

#[test]
fn a_window_too_small_for_any_step_is_an_error() {
    let engine = Engine { window: Window { items: 1, bytes: 100 }, ..Engine::default() };
    let (ours, _) = pipe(&engine, Algorithm::Sha256, &bytes(1000));
    assert_eq!((ours.code, &*ours.out()), (1, ""));
    assert!(ours.stderr.contains("window is too small"), "{}", ours.stderr);
}

#[test]
fn standard_input_stands_in_its_place_among_files() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("f"), "file").unwrap();
    let fake = Engine::default().start();
    let mut ours = hashctl(fake.socket());
    ours.current_dir(dir.path()).args(["sum", "f", "-", "f", "-", "f"]);
    let ours = run_with(&mut ours, b"stdin".to_vec());
    let sha256 = |data, name| line(Algorithm::Sha256, data, name);
    let f = sha256(b"file", "f");
    let want = format!("{f}{}{f}{}{f}", sha256(b"stdin", "-"), sha256(b"", "-"));
    assert_eq!((ours.out(), ours.code), (want, 0));
}

#[test]
fn a_file_as_standard_input_is_passed_on_only_from_its_start() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "head\ntail\n").unwrap();
    let fake = Engine::default().start();
    let ours = run(hashctl(fake.socket()).arg("sum").stdin(File::open(&path).unwrap()));
    assert_eq!(ours.out(), line(Algorithm::Sha256, b"head\ntail\n", "-"));
    assert_eq!(fake.join().files, 1, "as a descriptor");

    let fake = Engine::default().start();
    let script = "exec <\"$4\"; read -r head; exec \"$0\" \"$1\" \"$2\" \"$3\"";
    let mut ours = shell(script, fake.socket(), &["sum".as_ref(), path.as_os_str()]);
    let ours = run(&mut ours);
    assert_eq!(ours.out(), line(Algorithm::Sha256, b"tail\n", "-"), "{}", ours.stderr);
    assert_eq!(fake.join().files, 0, "as bytes");

    let fake = Engine::default().start();
    let script = "exec <\"$4\"; \"$0\" \"$1\" \"$2\" \"$3\"; cat";
    let ours = run(&mut shell(script, fake.socket(), &["sum".as_ref(), path.as_os_str()]));
    let want = line(Algorithm::Sha256, b"head\ntail\n", "-");
    assert_eq!(ours.out(), want, "nothing is left for who comes after");
}

#[test]
fn standard_input_that_cannot_be_read_is_an_error_line() {
    let fake = Engine::default().start();
    let ours = run(hashctl(fake.socket()).arg("sum").stdin(File::open("/").unwrap()));
    assert_eq!((ours.code, &*ours.stderr), (1, "hashctl: -: Is a directory\n"));
    // Closed, and open for writing only, as nohup leaves it.
    for script in ["exec \"$0\" \"$@\" <&-", "exec \"$0\" \"$@\" 0>>/dev/null"] {
        let fake = Engine::default().start();
        let ours = run(&mut shell(script, fake.socket(), &["sum"]));
        assert_eq!((ours.code, &*ours.out()), (1, ""), "{script}");
        assert_eq!(ours.stderr, "hashctl: -: Bad file descriptor\n", "{script}");
    }
}
