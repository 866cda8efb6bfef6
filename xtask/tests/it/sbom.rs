//! The SBOM of a release.

use crate::tree::{read, root};
use std::fs;
use std::process::Command;

#[test]
fn an_sbom_has_the_crates_that_a_program_is_linked_with_and_no_others() {
    let dir = std::env::temp_dir().join(format!("hashcluster-sbom-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("hashcluster-worker"), "abc").unwrap();
    let write = || {
        let mut script = Command::new("python3");
        script.arg(root().join("xtask/release/sbom.py")).arg(root()).arg(&dir);
        script.args(["x86_64-unknown-linux-gnu", "hashcluster-worker"]);
        script.env("PYTHONDONTWRITEBYTECODE", "1");
        assert!(script.output().unwrap().status.success());
        fs::read_to_string(dir.join("hashcluster-worker.cdx.json")).unwrap()
    };
    let (sbom, again) = (write(), write());
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(sbom, again, "there is no time in it");
    let lock = read("Cargo.lock");
    let (_, sha2) = lock.split_once("name = \"sha2\"").expect("it is used");
    let (_, checksum) = sha2.split_once("checksum = \"").expect("it has one");
    let of_the_program = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for present in ["pkg:cargo/sha2@", "pkg:cargo/engine@", &checksum[..64], of_the_program] {
        assert!(sbom.contains(present), "{present}");
    }
    // A macro, a crate of tests alone, and a crate of another program.
    for absent in ["serde_derive", "pkg:cargo/tempfile@", "pkg:cargo/fast-glob@"] {
        assert!(!sbom.contains(absent), "{absent}");
    }
}
