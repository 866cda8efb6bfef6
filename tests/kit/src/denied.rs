#![expect(unsafe_code, reason = "makes the system calls that a sandbox denies")]
//! Code in a sandbox. Each case runs in a process of its own, as nothing leaves a sandbox.

use nix::errno::Errno;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Set in the process of a case; to a directory of its own.
const CASE_DIR: &str = "HASHCLUSTER_TEST_CASE_DIR";

/// Runs `case` in a process of its own, which is the test named `test` alone. It is given a directory with
/// the files `shown` and `data/file`. What it prints is what this test prints.
#[expect(clippy::print_stdout, reason = "what the case printed is what the test prints")]
pub fn alone(test: &str, case: impl Fn(PathBuf)) {
    if let Some(dir) = env::var_os(CASE_DIR) {
        return case(dir.into());
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("shown"), "shown").expect("a file");
    fs::create_dir(dir.path().join("data")).expect("a directory");
    fs::write(dir.path().join("data/file"), "data").expect("a file");
    let output = Command::new(env::current_exe().expect("a running program has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CASE_DIR, dir.path())
        .output()
        .expect("the test runs again");
    let [stdout, stderr] = [output.stdout, output.stderr]
        .map(|text| String::from_utf8(text).expect("tests write text"));
    assert!(output.status.success(), "{:?}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "{stdout}");
    print!("{stdout}");
}

/// The error of a system call that fails, one way or the other.
pub fn call(number: libc::c_long, args: [u64; 6]) -> Errno {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the kernel denies the call before it looks at the arguments; where it does not, they are
    // no valid pointers.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Errno::result(result).expect_err("it fails, one way or the other")
}

/// uretprobe and uprobe of x86-64, which no filter sees; the kernel kills who calls them elsewhere than
/// in its own code.
const PROBES: [libc::c_long; 2] = [335, 336];

/// Newer calls than any that Linux has.
pub const NUMBERS: libc::c_long = 600;

/// Makes all calls but `own`, which must fail as those do that are denied.
#[track_caller]
pub fn every_other_call_is_denied(own: &BTreeSet<libc::c_long>) {
    let others = (0..NUMBERS).filter(|number| !own.contains(number));
    let others = others.filter(|number| !cfg!(target_arch = "x86_64") || !PROBES.contains(number));
    let mut denied = 0;
    for number in others {
        assert_eq!(call(number, [u64::MAX; 6]), Errno::EPERM, "{number}");
        denied += 1;
    }
    assert!(denied > 530, "{denied}");
}
