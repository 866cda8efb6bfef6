//! Each check of the Yocto layer fails on a copy of the tree that is broken on purpose.
//! `cargo xtask yocto check` runs the checks on the tree itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

const LAYER_CONF: &str = "meta-hashcluster/conf/layer.conf";
const RECIPES: &str = "meta-hashcluster/recipes-hashcluster/hashcluster";
const CRATES: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashcluster-crates.inc";

/// A copy of all tracked files, removed when the test ends.
#[derive(Debug)]
struct Tree(PathBuf);

impl Tree {
    fn copy(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let to = std::env::temp_dir().join(format!("hashcluster-{}-{name}", std::process::id()));
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        for path in listed.split_terminator('\0').filter(|path| root.join(path).exists()) {
            fs::create_dir_all(to.join(path).parent().unwrap()).unwrap();
            fs::copy(root.join(path), to.join(path)).unwrap();
        }
        Self(to)
    }

    /// Replaces every `from`, which must occur.
    fn edit(&self, path: &str, from: &str, to: &str) {
        let path = self.0.join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{} has no {from:?}", path.display());
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    fn check(&self, names: &[&str]) -> Output {
        let mut check = Command::new(env!("CARGO_BIN_EXE_xtask"));
        check.args(["yocto", "check", "--tree"]).arg(&self.0).args(names).output().unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asserts that the check `name` passes on the tree, and reports `want` once `break_it` has run.
#[track_caller]
fn check(name: &str, break_it: impl Fn(&Tree), want: &str) {
    static PASSED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let tree = Tree::copy(&want.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
    // Once is enough; the lock keeps other tests from running it meanwhile.
    if let Ok(mut passed) = PASSED.lock()
        && passed.insert(name.to_owned())
    {
        let before = tree.check(&[name]);
        let said = String::from_utf8_lossy(&before.stderr);
        assert!(before.status.success(), "{name} fails on what is not broken: {said}");
    }
    break_it(&tree);
    let after = tree.check(&[name]);
    let said = String::from_utf8_lossy(&after.stderr);
    assert_eq!(after.status.code(), Some(1), "{name} passes on what is broken: {said}");
    assert!(said.contains(want), "{name} says {said:?} instead of {want:?}");
}

#[test]
fn a_layer_for_another_release_is_refused() {
    let other = |tree: &Tree| tree.edit(LAYER_CONF, "\"wrynose\"", "\"scarthgap\"");
    check("layer", other, "which only supports these series: wrynose (layer is compatible with");
    check("versions", other, "the Rust version of scarthgap is unknown");
}

#[test]
fn a_list_of_crates_that_is_stale_is_refused() {
    let older = |tree: &Tree| tree.edit(CRATES, "/bincode/2.0.1 ", "/bincode/2.0.0 ");
    check("crates", older, "/bincode/2.0.0 \\`, disagrees with Cargo.lock and `cargo tree`; run");
    let cut = |tree: &Tree| {
        let text = fs::read_to_string(tree.0.join(CRATES)).unwrap();
        let (all_but_last, _) = text.trim_end().rsplit_once('\n').unwrap();
        fs::write(tree.0.join(CRATES), format!("{all_but_last}\n")).unwrap();
    };
    check("crates", cut, "is truncated");
}

#[test]
fn a_member_of_the_workspace_that_recipes_do_not_take_is_refused() {
    let file = format!("{RECIPES}/hashcluster.inc");
    let lacks = |tree: &Tree| tree.edit(&file, " tests ", " ");
    check("crates", lacks, "HASHCLUSTER_FILES lacks tests");
}

#[test]
fn a_corrupted_checksum_is_refused() {
    let corrupt = |tree: &Tree| {
        let text = fs::read_to_string(tree.0.join(CRATES)).unwrap();
        let (before, after) = text.split_once("sha256sum] = \"").unwrap();
        let digit = if after.starts_with('0') { '1' } else { '0' };
        let after = &after[1..];
        fs::write(tree.0.join(CRATES), format!("{before}sha256sum] = \"{digit}{after}")).unwrap();
    };
    check("fetch", corrupt, "was expected");
}

#[test]
fn a_key_of_kas_that_is_misspelt_is_refused() {
    let misspelt = |tree: &Tree| tree.edit("kas/hashcluster.yml", "machine:", "machne:");
    check("kas", misspelt, "kas/hashcluster.yml: the file: Additional properties");
}

#[test]
fn a_block_of_kas_that_replaces_another_is_refused() {
    let same = |tree: &Tree| tree.edit("kas/disk.yml", "  disk: |", "  base: |");
    check("kas", same, "local_conf_header/base is also in disk.yml");
}

#[test]
fn a_repository_without_its_commit_is_refused() {
    let name = "bitbake:\n      commit";
    let lost = |tree: &Tree| tree.edit("kas/hashcluster.lock.yml", name, "bitbak:\n      commit");
    check("kas", lost, "is missing in hashcluster.yml or hashcluster.lock.yml");
}

#[test]
fn a_choice_of_the_menu_that_leads_nowhere_is_refused() {
    let lost = |tree: &Tree| fs::remove_file(tree.0.join("kas/disk.yml")).unwrap();
    check("kas", lost, "kas/disk.yml does not exist");
    let other = |tree: &Tree| tree.edit("kas/Kconfig", "kas/debug.yml", "kas/disk.yml");
    check("kas", other, "DEBUG leads to ['kas/disk.yml'] instead of kas/debug.yml");
}

#[test]
fn a_recipe_of_another_version_is_refused() {
    let adrift = |tree: &Tree| {
        let from = tree.0.join(RECIPES).join("hashctl_0.1.0.bb");
        fs::rename(from, tree.0.join(RECIPES).join("hashctl_0.0.9.bb")).unwrap();
    };
    check("versions", adrift, "hashctl_0.0.9.bb has version 0.0.9, the workspace 0.1.0");
}

#[test]
fn a_rust_that_the_release_does_not_have_is_refused() {
    let newer =
        |tree: &Tree| tree.edit("Cargo.toml", "rust-version = \"1.94\"", "rust-version = \"1.95\"");
    check("versions", newer, "rust-version is 1.95, but wrynose has Rust 1.94.1");
}

#[test]
fn an_append_that_changes_what_others_build_is_refused() {
    let append = "meta-hashcluster/recipes-core/busybox/busybox_%.bbappend";
    let loose =
        |tree: &Tree| tree.edit(append, "BUSYBOX_SPLIT_SUID:hashcluster", "BUSYBOX_SPLIT_SUID");
    check("layer", loose, "changes BUSYBOX_SPLIT_SUID without DISTRO");
}

#[test]
fn a_file_that_a_recipe_names_and_does_not_have_is_refused() {
    let root = |tree: &Tree| fs::rename(tree.0.join("qemu/rootfs"), tree.0.join("root")).unwrap();
    check("layer", root, "file://qemu/rootfs does not exist");
}

#[test]
fn a_licence_that_has_changed_is_refused() {
    let changed = |tree: &Tree| tree.edit("LICENSE-MIT", "MIT License", "Some License");
    check("layer", changed, "LIC_FILES_CHKSUM of LICENSE-MIT differs from the file");
}

#[test]
fn what_the_linter_finds_is_refused() {
    let file = format!("{RECIPES}/hashctl_0.1.0.bb");
    let without = |tree: &Tree| tree.edit(&file, "SUMMARY = ", "SUMARY = ");
    check("lint", without, "Variable 'SUMMARY' should be set");
}

/// The exit status is distinct, so that it is taken neither for a pass nor for a fault.
#[test]
fn what_needs_bitbake_is_not_run_without_it_and_says_how() {
    for command in ["parse", "dry-run", "smoke", "layer-check"] {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(["yocto", command]).env_remove("OE_CORE_DIR").env_remove("BITBAKE_DIR");
        let ended = xtask.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(4), "{command}: {said}");
        assert!(said.contains("not run") && said.contains("OE_CORE_DIR=…"), "{command}: {said}");
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
    let dir = tempdir(sbom, manifest, crates);
    let mut check = Command::new("python3");
    check.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("yocto/sbom.py"));
    check.args([dir.0.join("sbom"), dir.0.join("manifest")]).arg("prog");
    check.stdin(fs::File::open(dir.0.join("crates")).unwrap());
    let ended = check.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if ended.status.success() { Ok(text(ended.stdout)) } else { Err(text(ended.stderr)) }
}

fn tempdir(sbom: &str, manifest: &str, crates: &str) -> Tree {
    static COUNT: Mutex<usize> = Mutex::new(0);
    let mut count = COUNT.lock().unwrap();
    *count += 1;
    let dir = format!("hashcluster-{}-sbom{count}", std::process::id());
    let dir = Tree(std::env::temp_dir().join(dir));
    fs::create_dir_all(&dir.0).unwrap();
    for (name, text) in [("sbom", sbom), ("manifest", manifest), ("crates", crates)] {
        fs::write(dir.0.join(name), text).unwrap();
    }
    dir
}

#[test]
fn an_sbom_without_a_package_a_crate_or_a_licence_is_refused() {
    let (manifest, crates) = ("prog all 0.1.0-r0\n", "a 1.2.3+x 5a MIT OR Apache-2.0\n");
    let said = check_sbom(SBOM, manifest, crates).unwrap();
    assert_eq!(said, "1 packages, and 1 crates in prog, with their licences\n");
    let refuses = |sbom: &str, manifest, crates, want: &str| {
        let said = check_sbom(sbom, manifest, crates).unwrap_err();
        assert!(said.contains(want), "{said:?} instead of {want:?}");
    };
    let with = |from: &str, to: &str| {
        assert!(SBOM.contains(from), "{from}");
        SBOM.replace(from, to)
    };
    let other = "prog all 0.1.0-r0\nbusybox all 1.37.0-r0\n";
    refuses(SBOM, other, crates, "the package busybox of the image is missing in the SBOM");
    refuses(
        SBOM,
        "prog all 0.1.1-r0\n",
        crates,
        "prog has version 0.1.1-r0, but 0.1.0 in the SBOM",
    );
    let bare = with(r#""from": "p", "to": ["l"]"#, r#""from": "p", "to": []"#);
    refuses(&bare, manifest, crates, "prog has no licence in the SBOM");
    let two = "a 1.2.3+x 5a MIT OR Apache-2.0\nb 1.0.0 5b MIT\n";
    refuses(SBOM, manifest, two, "linked with b 1.0.0, which is missing in the SBOM");
    refuses(
        SBOM,
        manifest,
        "b 1.0.0 5b MIT\n",
        "links prog with a-1.2.3+x.crate, but it is not linked",
    );
    let bare = with(r#""from": "c", "to": ["l"]"#, r#""from": "c", "to": []"#);
    refuses(&bare, manifest, crates, "a 1.2.3+x has licence MIT OR Apache-2.0, but [] in the SBOM");
    refuses(&with("MIT OR", "ISC OR"), manifest, crates, "but ['ISC OR Apache-2.0'] in the SBOM");
    refuses(&with("\"5a\"", "\"5b\""), manifest, crates, "another version or checksum");
    refuses(&with("%2B", "-"), manifest, crates, "not the purl pkg:cargo/a@1.2.3%2Bx");
    refuses(SBOM, "", crates, "the list of packages or crates is empty");
}

#[test]
fn a_licence_that_is_not_the_crates_is_refused() {
    let mit = |tree: &Tree| tree.edit(CRATES, " Unlicense OR MIT;", " MIT;");
    check("crates", mit, " MIT; \\`, disagrees with Cargo.lock and `cargo tree`");
    let file = format!("{RECIPES}/hashctl-crates.inc");
    let lacks = |tree: &Tree| tree.edit(&file, " & (MIT | Unlicense)", "");
    check(
        "crates",
        lacks,
        "disagrees with Cargo.lock and `cargo tree`; run `cargo xtask yocto crates`",
    );
}
