//! b3sum.

use super::Family;
use crate::random;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

pub(super) const FAMILY: Family = Family {
    name: "b3sum",
    version: "1.8",
    tools: &["b3sum"],
    cases: include_str!("../../cases/b3sum.txt"),
    differs: include_str!("../../cases/b3sum-differs.txt"),
    files,
    variables: |_| Vec::new(),
    random: random::b3sum,
};

fn files(dir: &Path, _: &str) {
    let write = |name: &[u8], bytes: &[u8]| {
        fs::write(dir.join(OsStr::from_bytes(name)), bytes).expect("room for a small file");
    };
    for name in ["a", "b"] {
        write(name.as_bytes(), name.as_bytes());
    }
    write(b"empty", b"");
    for name in ["x y", "ü", "n\nl", "c\rr", "b\\s", "-dash"] {
        write(name.as_bytes(), b"x");
    }
    write(b"\xff", b"x");
    write(b"kib", &test_kit::pattern(1024));
    write(b"big", big());
    write(b"key", b"0123456789abcdefghijklmnopqrstuv");
    fs::create_dir(dir.join("sub")).expect("a fresh directory");
    write(b"sub/c", b"c");
    symlink("a", dir.join("link")).expect("a fresh directory");
    symlink("loop", dir.join("loop")).expect("a fresh directory");
    test_kit::output(Command::new("mkfifo").arg(dir.join("fifo")));
    let [a, b] = digests();
    write(b"list", format!("{a}  a\n{b}  b\n").as_bytes());
    write(b"tagged", format!("BLAKE3 (a) = {a}\nBLAKE3 (b) = {b}\n").as_bytes());
}

/// Digests of `a` and `b`, from the original.
pub(crate) fn digests() -> &'static [String; 2] {
    static DIGESTS: OnceLock<[String; 2]> = OnceLock::new();
    DIGESTS.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        ["a", "b"].map(|text| {
            let path = dir.path().join("file");
            fs::write(&path, text).expect("room for a small file");
            let output = test_kit::output(Command::new("b3sum").arg("--no-names").arg(path));
            test_kit::text(&output.stdout).trim().to_owned()
        })
    })
}

/// Made once: it takes longer than a case.
fn big() -> &'static [u8] {
    static BIG: OnceLock<Vec<u8>> = OnceLock::new();
    BIG.get_or_init(|| test_kit::pattern((3 << 20) + 17))
}
