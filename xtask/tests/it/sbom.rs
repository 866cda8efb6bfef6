//! The SBOM of a release.

use crate::tree::{read, root};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

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
    // An older one is there for the bridge.
    let (_, sha2) = lock.split_once("name = \"sha2\"\nversion = \"0.11.").expect("it is used");
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

/// A development image with one package, whose file of licences is `copyright`.
fn image(dir: &Path, copyright: Option<&str>) {
    let package = dir.join("packages/zlib1g");
    fs::create_dir_all(&package).unwrap();
    let control = "Package: zlib1g\nVersion: 1:1.2.13\nArchitecture: amd64\nSha256: ab\n";
    fs::write(package.join("control"), control).unwrap();
    if let Some(text) = copyright {
        fs::write(package.join("copyright"), text).unwrap();
    }
    fs::write(dir.join("image.txt"), "digest sha256:ab\narch x86_64\n").unwrap();
    fs::write(dir.join("hashcluster-worker"), "abc").unwrap();
}

/// Writes the SBOM of an image with the worker of the sources in `tree`.
fn image_sbom(tree: &Path, dir: &Path) -> Output {
    let mut script = Command::new("python3");
    script.arg(root().join("xtask/release/image_sbom.py")).arg(tree).args([dir, dir]);
    script.args(["x86_64-unknown-linux-gnu", "hashcluster-worker"]);
    script.env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap()
}

#[test]
fn an_image_with_a_crate_without_licence_has_no_sbom() {
    let tree = std::env::temp_dir().join(format!("hashcluster-crates-{}", std::process::id()));
    let package = |name: &str, more: &str| {
        let dir = tree.join(name);
        fs::create_dir_all(dir.join("src")).unwrap();
        fs::write(dir.join("src/lib.rs"), "").unwrap();
        let head = format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\n");
        fs::write(dir.join("Cargo.toml"), head + more).unwrap();
    };
    for licence in ["", "license = \"MIT\"\n"] {
        package("free", licence);
        let of_the_worker = "license = \"MIT\"\n[dependencies]\nfree = { path = \"../free\" }\n";
        package("hashcluster-worker", of_the_worker);
        let workspace =
            "[workspace]\nmembers = [\"free\", \"hashcluster-worker\"]\nresolver = \"3\"\n";
        fs::write(tree.join("Cargo.toml"), workspace).unwrap();
        let lock = "version = 4\n\n[[package]]\nname = \"free\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"hashcluster-worker\"\nversion = \"1.0.0\"\n\
                    dependencies = [\n \"free\",\n]\n";
        fs::write(tree.join("Cargo.lock"), lock).unwrap();
        let dir = tree.join("image");
        image(&dir, Some("It is under the GNU General Public License version 2.\n"));
        let output = image_sbom(&tree, &dir);
        let said = String::from_utf8(output.stderr).unwrap();
        let sbom = fs::read_to_string(dir.join("image.cdx.json"));
        fs::remove_dir_all(&tree).unwrap();
        if licence.is_empty() {
            assert!(said.contains("the crate free has no licence"), "{said}");
            assert!(!output.status.success() && sbom.is_err());
        } else {
            assert!(output.status.success(), "{said}");
            assert!(sbom.unwrap().contains("pkg:cargo/free@1.0.0"));
        }
    }
}

#[test]
fn an_image_with_a_package_without_licence_has_no_sbom() {
    let dep5 = "Format: https://example.org/copyright-format/1.0/\n\n\
                Files: *\nCopyright: 1995 Jean-loup Gailly\nLicense: Zlib\n text of it\n";
    let prose = "It is free software: see the GNU Lesser General Public\nLicense, version 2.1.\n";
    let common = "The text is in `/usr/share/common-licenses/GPL-2'.\n";
    for (i, (copyright, want)) in [
        (Some(dep5), Some("Zlib")),
        (Some(prose), Some("LGPL-2.1")),
        (Some(common), Some("GPL-2")),
        (Some("All rights reserved.\n"), None),
        (None, None),
    ]
    .into_iter()
    .enumerate()
    {
        let dir = std::env::temp_dir().join(format!("hashcluster-sbom-{}-{i}", std::process::id()));
        image(&dir, copyright);
        let output = image_sbom(&root(), &dir);
        let said = String::from_utf8(output.stderr).unwrap();
        let sbom = fs::read_to_string(dir.join("image.cdx.json"));
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(output.status.success(), want.is_some(), "{said}");
        match want {
            None => {
                assert!(said.contains("the package zlib1g has no licence"), "{said}");
                assert!(sbom.is_err());
            }
            Some(want) => {
                let sbom = sbom.unwrap();
                let purl = "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64";
                for part in [purl, &format!("\"name\": \"{want}\""), "pkg:cargo/engine@"] {
                    assert!(sbom.contains(part), "{part} is not in {sbom}");
                }
            }
        }
    }
}
