//! Each check of the Yocto layer fails on a copy of the tree that is broken on purpose, and so does a build with
//! the series' Rust.
//! `cargo xtask yocto check` runs the checks on the tree itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory for one test, removed when it ends.
#[derive(Debug)]
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = format!("hashcluster-{}-yocto{count}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    /// A copy of all tracked files.
    fn of_tree() -> Self {
        let root = of_cargo("CARGO_MANIFEST_DIR");
        let root = Path::new(&root).parent().unwrap();
        let dir = Self::new();
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        for path in listed.split_terminator('\0').filter(|path| root.join(path).exists()) {
            fs::create_dir_all(dir.0.join(path).parent().unwrap()).unwrap();
            fs::copy(root.join(path), dir.0.join(path)).unwrap();
        }
        dir
    }

    fn check(&self, name: &str) -> Output {
        let mut check = Command::new(of_cargo("CARGO_BIN_EXE_xtask"));
        check.args(["yocto", "check", "--tree"]).arg(&self.0).arg(name).output().unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A way to break a tree.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Replaces every occurrence of a text in a file, which must have it.
    Edit(&'static str, &'static str, &'static str),
    /// Renames a file or folder.
    Move(&'static str, &'static str),
}
use Fault::{Edit, Move};

impl Fault {
    fn apply(self, Dir(dir): &Dir) {
        match self {
            Edit(path, from, to) => {
                let text = fs::read_to_string(dir.join(path)).unwrap();
                assert!(text.contains(from), "{path} has no {from:?}");
                fs::write(dir.join(path), text.replace(from, to)).unwrap();
            }
            Move(from, to) => fs::rename(dir.join(from), dir.join(to)).unwrap(),
        }
    }
}

/// Asserts that the check `name` passes on the tree, and reports the text of each row once the tree is
/// broken in that way.
#[track_caller]
fn check(name: &str, rows: &[(Fault, &str)]) {
    let before = Dir::of_tree().check(name);
    let said = String::from_utf8_lossy(&before.stderr);
    assert!(before.status.success(), "{name} fails on what is not broken: {said}");
    for (fault, want) in rows {
        let tree = Dir::of_tree();
        fault.apply(&tree);
        let after = tree.check(name);
        let said = String::from_utf8_lossy(&after.stderr);
        assert_eq!(after.status.code(), Some(1), "{name} passes in spite of {fault:?}: {said}");
        assert!(said.contains(want), "{name} says {said:?} instead of {want:?}");
    }
}

const CRATES: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashcluster-crates.inc";
const RECIPE: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashcluster.inc";
const HASHCTL: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashctl_0.1.0.bb";
const HASHCTL_CRATES: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashctl-crates.inc";
const HASHCTL_OLD: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashctl_0.0.9.bb";
const BUSYBOX: &str = "meta-hashcluster/recipes-core/busybox/busybox_%.bbappend";
const OTHER_RELEASE: Fault =
    Edit("meta-hashcluster/conf/layer.conf", "\"wrynose\"", "\"scarthgap\"");

#[test]
fn crates_that_are_not_those_of_the_lock_are_refused() {
    let older = Edit(CRATES, "/bincode/2.0.1 ", "/bincode/2.0.0 ");
    let licence = Edit(CRATES, " Unlicense OR MIT;", " MIT;");
    let unsupported = Edit("Cargo.toml", "\"MIT OR Apache-2.0\"", "\"MIT WITH x\"");
    let checksum = Edit("Cargo.lock", "checksum = \"", "checksum = \"x");
    let stale = "disagrees with Cargo.lock and `cargo tree`; run `cargo xtask yocto crates`";
    check(
        "crates",
        &[
            (older, "/bincode/2.0.0 \\`, disagrees with Cargo.lock and `cargo tree`; run"),
            (licence, " MIT; \\`, disagrees with Cargo.lock and `cargo tree`"),
            (Edit(CRATES, "; \\\n\"\n", "; \\\n"), "is truncated"),
            (Edit(HASHCTL_CRATES, " & (MIT | Unlicense)", ""), stale),
            (Edit(RECIPE, " tests ", " "), "HASHCLUSTER_FILES lacks tests"),
            (checksum, "has no SHA-256 checksum"),
            (unsupported, "unsupported licence expression `MIT WITH x`"),
        ],
    );
    let digit = Edit(CRATES, "[bincode-2.0.1.sha256sum] = \"3", "[bincode-2.0.1.sha256sum] = \"4");
    check("fetch", &[(digit, "was expected")]);
}

#[test]
fn versions_that_disagree_are_refused() {
    let newer = Edit("Cargo.toml", "rust-version = \"1.94\"", "rust-version = \"1.95\"");
    let recipe = "hashctl_0.0.9.bb has version 0.0.9, the workspace 0.1.0";
    check(
        "versions",
        &[
            (Move(HASHCTL, HASHCTL_OLD), recipe),
            (newer, "rust-version is 1.95, but wrynose has Rust 1.94.1"),
            (OTHER_RELEASE, "the Rust version of scarthgap is unknown"),
        ],
    );
}

#[test]
fn a_crate_that_needs_a_newer_rust_is_refused_by_its_name() {
    let dir = Dir::new();
    let write = |path: &str, text: &str| {
        fs::create_dir_all(dir.0.join(path).parent().unwrap()).unwrap();
        fs::write(dir.0.join(path), text).unwrap();
    };
    let package = |name: &str, rest: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}")
    };
    let ours =
        package("ours", "[dependencies]\ndemanding = { path = \"demanding\" }\n[workspace]\n");
    write("Cargo.toml", &ours);
    write("src/lib.rs", "");
    write("demanding/src/lib.rs", "");
    for (needs, is_refused) in [("1.94", false), ("1.95", true)] {
        let manifest = package("demanding", &format!("rust-version = \"{needs}\"\n"));
        write("demanding/Cargo.toml", &manifest);
        let mut check = Command::new(of_cargo("CARGO_BIN_EXE_xtask"));
        check.args(["oldest", "check", "--offline", "--manifest-path"]);
        check.arg(dir.0.join("Cargo.toml")).env("CARGO_TARGET_DIR", dir.0.join("target"));
        let output = check.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), !is_refused, "Rust {needs}: {said}");
        assert_eq!(said.contains("demanding@0.1.0 requires rustc 1.95"), is_refused, "{said}");
    }
}

#[test]
fn an_option_of_the_kernel_that_does_not_hold_is_named() {
    let root = PathBuf::from(of_cargo("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
    let fragment = "meta-hashcluster/recipes-kernel/linux/linux-yocto/hashcluster-guest.cfg";
    let fragments = [root.join("qemu/kernel.cfg"), root.join(fragment)];
    let whole: String = fragments.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    // As the kernel writes it.
    let whole: String = whole
        .lines()
        .filter(|line| !line.ends_with("=n"))
        .map(|line| format!("{line}\n"))
        .collect();
    let dir = Dir::new();
    let held = |config: String| {
        let path = dir.0.join("config");
        fs::write(&path, config).unwrap();
        let mut check = Command::new(root.join("qemu/kernel.sh"));
        let output = check.arg("--held").arg(path).args(&fragments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let line = |option: &str| format!("does not hold: {option}\n");
    assert_eq!(held(whole.clone()), (true, String::new()));
    let dropped = whole.replace("CONFIG_EROFS_FS=y\n", "# CONFIG_EROFS_FS is not set\n");
    assert_eq!(held(dropped), (false, line("CONFIG_EROFS_FS=y")));
    let module = whole.replace("CONFIG_FUSE_FS=y\n", "CONFIG_FUSE_FS=m\n");
    assert_eq!(held(module), (false, line("CONFIG_FUSE_FS=y")));
    let added = format!("{whole}CONFIG_CGROUPS=y\n");
    assert_eq!(held(added), (false, line("CONFIG_CGROUPS=n")));
}

#[test]
fn a_layer_that_bitbake_reads_with_faults_is_refused() {
    let licence = Edit("LICENSE-MIT", "MIT License", "Some License");
    let series = "which only supports these series: wrynose (layer is compatible with";
    check(
        "layer",
        &[
            (OTHER_RELEASE, series),
            (Move("qemu/rootfs", "root"), "file://qemu/rootfs does not exist"),
            (licence, "LIC_FILES_CHKSUM of LICENSE-MIT differs from the file"),
            (
                Edit(BUSYBOX, "BUSYBOX_SPLIT_SUID:hashcluster", "BUSYBOX_SPLIT_SUID"),
                "changes BUSYBOX_SPLIT_SUID without DISTRO",
            ),
        ],
    );
    let summary = Edit(HASHCTL, "SUMMARY = ", "SUMARY = ");
    check("lint", &[(summary, "Variable 'SUMMARY' should be set")]);
}

#[test]
fn kas_files_with_faults_are_refused() {
    let misspelt = Edit("kas/hashcluster.yml", "machine:", "machne:");
    let lock = "kas/hashcluster.lock.yml";
    let lost = Edit(lock, "bitbake:\n      commit", "bitbak:\n      commit");
    let other = Edit("kas/Kconfig", "kas/debug.yml", "kas/disk.yml");
    check(
        "kas",
        &[
            (misspelt, "kas/hashcluster.yml: the file: Additional properties"),
            (
                Edit("kas/disk.yml", "  disk: |", "  base: |"),
                "local_conf_header/base is also in disk.yml",
            ),
            (lost, "is missing in hashcluster.yml or hashcluster.lock.yml"),
            (Move("kas/disk.yml", "disk.yml"), "kas/disk.yml does not exist"),
            (other, "DEBUG leads to ['kas/disk.yml'] instead of kas/debug.yml"),
        ],
    );
}

/// The exit status is distinct, so that it is taken neither for a pass nor for a fault.
#[test]
fn what_needs_bitbake_is_not_run_without_it_and_says_how() {
    for command in ["parse", "dry-run", "smoke", "layer-check"] {
        let mut xtask = Command::new(of_cargo("CARGO_BIN_EXE_xtask"));
        xtask.args(["yocto", command]).env_remove("OE_CORE_DIR").env_remove("BITBAKE_DIR");
        let ended = xtask.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(4), "{command}: {said}");
        assert!(said.contains("not run") && said.contains("OE_CORE_DIR=…"), "{command}: {said}");
    }
}

/// A variable that cargo sets for tests. It is not compiled in: cargo takes those of a copied tree for fresh.
fn of_cargo(name: &str) -> String {
    std::env::var(name).expect("cargo runs the tests")
}

/// Runs Python in `xtask/yocto`; what it prints, or why it ends with an error.
fn python(args: &[&str], stdin: &str) -> Result<String, String> {
    let mut python = Command::new("python3");
    python.current_dir(Path::new(&of_cargo("CARGO_MANIFEST_DIR")).join("yocto")).args(args);
    python.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::piped());
    let mut child = python.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Dropped, which is the input's end.
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if ended.status.success() { Ok(text(ended.stdout)) } else { Err(text(ended.stderr)) }
}

#[test]
fn examples_in_the_scripts_are_true() {
    for script in ["crates.py", "versions.py", "build.py"] {
        let said = python(&["-m", "doctest", "-v", script], "").unwrap();
        assert!(said.contains("Test passed") && !said.contains("0 tests in 0 items"), "{said}");
    }
}

#[test]
fn an_image_that_breaks_a_promise_is_refused() {
    let good = "-rwxr-xr-x   1 root     root       555720 Mar  9  2018 usr/bin/busybox\n\
                lrwxrwxrwx   1 root     root            7 Mar  9  2018 usr/bin/sh -> busybox\n\
                drwxrwxrwt   2 root     root            0 Mar  9  2018 tmp\n";
    python(&["promises.py", "files"], good).unwrap();
    for (line, want) in [
        ("-rwsr-xr-x 1 root root 1 Mar 9 2018 usr/bin/su", "setuid"),
        ("-rwxr-sr-x 1 root root 1 Mar 9 2018 usr/bin/wall", "setgid"),
        ("drwxrwxrwx 1 root root 1 Mar 9 2018 data", "data is world-writable"),
        ("-rwxr-xr-x 1 root root 1 Mar 9 2018 usr/bin/python3", "interpreter"),
        ("-rw------- 1 root root 1 Mar 9 2018 etc/hashcluster/host_key", "credential"),
    ] {
        let said = python(&["promises.py", "files"], &format!("{good}{line}\n")).unwrap_err();
        assert!(said.contains(want), "{said}");
    }
    assert!(python(&["promises.py", "files"], "").unwrap_err().contains("is empty"));
    python(&["promises.py", "shadow"], "root:*:1::::::\nsshd:!:1::::::\n").unwrap();
    for shadow in ["root::1::::::\n", "root:$6$salt$hash:1::::::\n", ""] {
        python(&["promises.py", "shadow"], shadow).unwrap_err();
    }
}

/// An SBOM of one package that is linked with one crate.
const SBOM: &str = r#"{ "@graph": [
  { "spdxId": "p", "type": "software_Package", "name": "prog", "software_packageVersion": "0.1.0",
    "software_primaryPurpose": "install" },
  { "spdxId": "c", "type": "software_Package", "name": "a-1.2.3+x.crate",
    "software_packageVersion": "1.2.3+x", "software_packageUrl": "pkg:cargo/a@1.2.3%2Bx",
    "software_primaryPurpose": "source", "verifiedUsing": [{ "hashValue": "5a" }] },
  { "spdxId": "l", "type": "simplelicensing_LicenseExpression",
    "simplelicensing_licenseExpression": "MIT OR Apache-2.0" },
  { "spdxId": "r1", "type": "Relationship", "relationshipType": "hasDeclaredLicense",
    "from": "p", "to": ["l"] },
  { "spdxId": "r2", "type": "Relationship", "relationshipType": "hasDeclaredLicense",
    "from": "c", "to": ["l"] },
  { "spdxId": "r3", "type": "LifecycleScopedRelationship", "relationshipType": "hasStaticLink",
    "from": "p", "to": ["c"] }
] }"#;

/// Runs the check of an SBOM on an image with `manifest` whose program is linked with `crates`.
fn check_sbom(sbom: &str, manifest: &str, crates: &str) -> Result<String, String> {
    let dir = Dir::new();
    let files = ["sbom", "manifest"].map(|name| dir.0.join(name).to_str().unwrap().to_owned());
    fs::write(&files[0], sbom).unwrap();
    fs::write(&files[1], manifest).unwrap();
    python(&["sbom.py", &files[0], &files[1], "prog"], crates)
}

#[test]
fn an_sbom_without_a_package_a_crate_or_a_licence_is_refused() {
    let (manifest, crates) = ("prog all 0.1.0-r0\n", "a 1.2.3+x 5a MIT OR Apache-2.0\n");
    let said = check_sbom(SBOM, manifest, crates).unwrap();
    assert_eq!(said, "1 packages, and 1 crates in prog, with their licences\n");
    let with = |from: &str, to: &str| {
        assert!(SBOM.contains(from), "{from}");
        SBOM.replace(from, to)
    };
    let sbom = || SBOM.to_owned();
    let package_bare = with(r#""from": "p", "to": ["l"]"#, r#""from": "p", "to": []"#);
    let crate_bare = with(r#""from": "c", "to": ["l"]"#, r#""from": "c", "to": []"#);
    let other = "prog all 0.1.0-r0\nbusybox all 1.37.0-r0\n";
    let two = "a 1.2.3+x 5a MIT OR Apache-2.0\nb 1.0.0 5b MIT\n";
    let newer = "prog all 0.1.1-r0\n";
    for (sbom, manifest, crates, want) in [
        (sbom(), other, crates, "the package busybox of the image is missing in the SBOM"),
        (sbom(), newer, crates, "prog has version 0.1.1-r0, but 0.1.0 in the SBOM"),
        (package_bare, manifest, crates, "prog has no licence in the SBOM"),
        (sbom(), manifest, two, "linked with b 1.0.0, which is missing in the SBOM"),
        (sbom(), manifest, "b 1.0.0 5b MIT\n", "a-1.2.3+x.crate, but it is not linked"),
        (crate_bare, manifest, crates, "a 1.2.3+x has licence MIT OR Apache-2.0, but [] in"),
        (with("MIT OR", "ISC OR"), manifest, crates, "but ['ISC OR Apache-2.0'] in the SBOM"),
        (with("\"5a\"", "\"5b\""), manifest, crates, "another version or checksum"),
        (with("%2B", "-"), manifest, crates, "not the purl pkg:cargo/a@1.2.3%2Bx"),
        (sbom(), "", crates, "the list of packages or crates is empty"),
    ] {
        let said = check_sbom(&sbom, manifest, crates).unwrap_err();
        assert!(said.contains(want), "{said:?} instead of {want:?}");
    }
}
