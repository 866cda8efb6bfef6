//! The digest tools of GNU coreutils.

use super::Family;
use crate::random;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

pub(super) const FAMILY: Family = Family {
    name: "gnu",
    version: "9.1",
    tools: &["sha256sum", "md5sum", "sha1sum", "sha224sum", "sha384sum", "sha512sum", "b2sum"],
    cases: include_str!("../../cases/gnu.txt"),
    differs: include_str!("../../cases/gnu-differs.txt"),
    files,
    variables,
    random: random::gnu,
};

/// The small files, whose digests `variables` has.
const SMALL: [(&str, &[u8]); 3] = [("A", b"a\n"), ("B", b"b\n"), ("E", b"")];

fn files(dir: &Path, tool: &str) {
    let write = |name: &[u8], bytes: &[u8]| {
        fs::write(dir.join(OsStr::from_bytes(name)), bytes).expect("room for a small file");
    };
    for (name, (_, bytes)) in [&b"a"[..], b"b", b"empty"].iter().zip(SMALL) {
        write(name, bytes);
    }
    for name in
        ["x y", "ü", "n\nl", "c\rr", "b\\s", "-dash", "q'q", "co:lon", "*s", " lead", "(p) = q"]
    {
        write(name.as_bytes(), b"x");
    }
    write(b"\xff", b"x");
    write(b"big", &test_kit::pattern(300_000));
    fs::create_dir(dir.join("d")).expect("a fresh directory");
    write(b"d/c", b"c\n");
    symlink("a", dir.join("link")).expect("a fresh directory");
    symlink("loop", dir.join("loop")).expect("a fresh directory");
    let digests = &digests()[tool];
    let [a, b, _] = digests;
    let tag = tag(tool);
    write(b"list", format!("{a}  a\n{b}  b\n").as_bytes());
    write(b"tags", format!("{tag} (a) = {a}\n{tag} (b) = {b}\n").as_bytes());
    let wrong = "0".repeat(a.len());
    write(b"mixed", format!("{a}  a\njunk\n{wrong}  b\n{a}  none\n").as_bytes());
}

/// `$A`, `$B` and `$E` are the digests of `a`, `b` and `empty`; `$W` is a wrong one; `$TAG` the tool's tag.
fn variables(tool: &str) -> Vec<(&'static str, String)> {
    let digests = &digests()[tool];
    let wrong = ("W", "0".repeat(digests[0].len()));
    let small = SMALL.iter().zip(digests).map(|((name, _), digest)| (*name, digest.clone()));
    small.chain([wrong, ("TAG", tag(tool).to_owned())]).collect()
}

/// The tag of a tool's BSD-style lines.
pub(crate) fn tag(tool: &str) -> &'static str {
    match tool {
        "md5sum" => "MD5",
        "sha1sum" => "SHA1",
        "sha224sum" => "SHA224",
        "sha256sum" => "SHA256",
        "sha384sum" => "SHA384",
        "sha512sum" => "SHA512",
        "b2sum" => "BLAKE2b",
        _ => panic!("{tool} is not of this family"),
    }
}

/// Digests of [`SMALL`] by tool, from the originals.
pub(crate) fn digests() -> &'static HashMap<&'static str, [String; 3]> {
    static DIGESTS: OnceLock<HashMap<&str, [String; 3]>> = OnceLock::new();
    DIGESTS.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let digest = |tool: &str, bytes: &[u8]| {
            let path = dir.path().join("file");
            fs::write(&path, bytes).expect("room for a small file");
            let output = test_kit::output(Command::new(tool).arg(path));
            test_kit::text(&output.stdout).split(' ').next().expect("a digest").to_owned()
        };
        let tools = FAMILY.tools.iter();
        tools.map(|tool| (*tool, SMALL.map(|(_, bytes)| digest(tool, bytes)))).collect()
    })
}
