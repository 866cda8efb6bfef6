//! `hashctl b3sum`: what `tests/compliance` cannot compare with the original.

use crate::program::{Outcome, hashctl_alone, run, run_with};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;
use test_kit::pattern;

fn b3sum(dir: &Path, args: &[&str]) -> Command {
    let mut command = hashctl_alone();
    command.current_dir(dir).arg("b3sum").args(args);
    command
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn assert_outcome(outcome: &Outcome, code: i32, stdout: &str, stderr: &str) {
    assert_eq!((outcome.code, &*outcome.out(), &*outcome.stderr), (code, stdout, stderr));
}

/// The first 100 bytes from byte 33 on.
fn output(hasher: &mut blake3::Hasher, bytes: &[u8]) -> String {
    let mut output = [0; 100];
    let mut reader = hasher.update(bytes).finalize_xof();
    reader.set_position(33);
    reader.fill(&mut output);
    hex(&output)
}

#[test]
fn every_mode_gives_any_part_of_the_output_of_files_of_every_size() {
    let dir = tempdir().unwrap();
    let key = *b"0123456789abcdefghijklmnopqrstuv";
    for len in [0, 1, 1024, 1025, 65_536, 200_000, 1 << 20, (4 << 20) + 1, 9_000_001] {
        let bytes = pattern(len);
        fs::write(dir.path().join("a"), &bytes).unwrap();
        let part = ["--no-names", "-l", "100", "--seek", "33", "a"];
        let with =
            |mode: &[&str]| run_with(&mut b3sum(dir.path(), &[mode, &part].concat()), key.into());
        for (mode, mut hasher) in [
            (&[][..], blake3::Hasher::new()),
            (&["--keyed"], blake3::Hasher::new_keyed(&key)),
            (&["--derive-key", "context"], blake3::Hasher::new_derive_key("context")),
        ] {
            let want = output(&mut hasher, &bytes) + "\n";
            assert_outcome(&with(mode), 0, &want, "");
        }
    }
}

#[test]
fn a_list_on_standard_input_that_names_standard_input_does_not_hang() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    let digest = blake3::hash(b"a");
    let list = format!("{digest}  a\n{digest}  -\nBLAKE3 (-) = {digest}\n");
    let outcome = run_with(&mut b3sum(dir.path(), &["-c"]), list.into());
    let refused = "-: FAILED (standard input is the list itself)\n";
    let warning = "b3sum: WARNING: 2 computed checksums did NOT match\n";
    assert_outcome(&outcome, 1, &format!("a: OK\n{refused}{refused}"), warning);
}

#[test]
fn a_long_output_takes_no_memory_of_its_length() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    // 100 MB of address space for 400 MB of digits.
    let script = "ulimit -v 100000; \"$0\" b3sum -l 200000000 --no-names a | wc -c";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, test_kit::program("hashctl")]).current_dir(dir.path());
    let outcome =
        run(shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()));
    assert_outcome(&outcome, 0, "400000001\n", "");
}

#[test]
fn it_is_b3sum_by_its_name_as_well() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    let want = format!("{}  a\n", blake3::hash(b"a"));
    for name in ["b3sum", "/usr/libexec/hashcluster/bin/b3sum"] {
        let mut command = hashctl_alone();
        let outcome = run(command.arg0(name).arg("a").current_dir(dir.path()));
        assert_outcome(&outcome, 0, &want, "");
    }
    assert_outcome(&run(&mut b3sum(dir.path(), &["a"])), 0, &want, "");
}
