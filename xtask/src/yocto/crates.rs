//! The recipes' lists of crates, each of which bitbake fetches by its checksum. The list is all of
//! `Cargo.lock`, because cargo resolves the whole workspace to build one package. Licences, and the
//! crates that a program is linked with, come from `cargo tree`; the SBOM takes them from here.

use super::licenses;
use super::versions::array;
use crate::tools::{Failure, cargo, output};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FOLDER: &str = "meta-hashcluster/recipes-hashcluster/hashcluster";
const RECIPES: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashcluster.inc";

/// The fetcher's name for the default registry.
const REGISTRY: &str = concat!("crates", ".", "io");

const HEADER: &str =
    "# Written from Cargo.lock and `cargo tree` by `cargo xtask yocto crates`.\n\n";

/// Packages with a recipe.
pub(super) const PROGRAMS: [&str; 3] = ["hashcluster-controller", "hashcluster-worker", "hashctl"];

/// Targets of the images; crates of other systems are fetched but not linked.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];

/// A crate of `Cargo.lock` from outside the workspace.
#[derive(Debug, Default, PartialEq, Eq)]
struct Crate {
    name: String,
    version: String,
    checksum: String,
}

/// Licence of each crate `NAME-VERSION`, as an SPDX expression.
type Licenses = BTreeMap<String, String>;

pub(super) fn write(tree: &Path) -> Result<(), Failure> {
    for (name, text) in lists(tree)? {
        let path = tree.join(FOLDER).join(name);
        fs::write(&path, text)
            .map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// One line `NAME VERSION CHECKSUM LICENCE` per crate that `program` is linked with.
pub(super) fn linked_with(program: &str, tree: &Path) -> Result<String, Failure> {
    let lock = crates(&read(tree, "Cargo.lock")?);
    let linked = linked(program, tree)?;
    let lines = lock.iter().filter_map(|Crate { name, version, checksum }| {
        let license = linked.get(&format!("{name}-{version}"))?;
        Some(format!("{name} {version} {checksum} {license}\n"))
    });
    Ok(lines.collect())
}

/// Compares the lists with `Cargo.lock`, and the recipes' sources with the workspace's members.
pub(super) fn check(tree: &Path) -> Result<String, Failure> {
    for (name, want) in lists(tree)? {
        let path = format!("{FOLDER}/{name}");
        compare(&read(tree, &path)?, &want).map_err(|what| {
            Failure::Wrong(format!("{path}: {what}; run `cargo xtask yocto crates`"))
        })?;
    }
    let files = read(tree, RECIPES)?;
    let members = array(&read(tree, "Cargo.toml")?, "members = [")?;
    if let Some(member) = members
        .iter()
        .find(|member| !files.split_whitespace().any(|word| member.split('/').next() == Some(word)))
    {
        let what =
            format!("HASHCLUSTER_FILES lacks {member}; without it cargo cannot read the workspace");
        return Err(Failure::Wrong(format!("{RECIPES}: {what}")));
    }
    let len = crates(&read(tree, "Cargo.lock")?).len();
    Ok(format!("{len} crates of Cargo.lock are in the lists, with their licences"))
}

fn compare(is: &str, want: &str) -> Result<(), String> {
    let mut lines = (1..).zip(is.lines());
    if let Some((n, is)) = lines.find(|&(n, is)| want.lines().nth(n - 1) != Some(is)) {
        return Err(format!("line {n}, `{is}`, disagrees with Cargo.lock and `cargo tree`"));
    }
    if is == want { Ok(()) } else { Err("is truncated".to_owned()) }
}

fn read(tree: &Path, path: &str) -> Result<String, Failure> {
    fs::read_to_string(tree.join(path)).map_err(|error| Failure::Wrong(format!("{path}: {error}")))
}

/// File names and correct contents of the lists.
fn lists(tree: &Path) -> Result<Vec<(String, String)>, Failure> {
    let lock = read(tree, "Cargo.lock")?;
    let of_all = tree_of(tree, &["--workspace", "--edges=normal,build,dev", "--target=all"])?;
    let all = list(&lock)? + &licenses_of(&crates(&lock), &of_all)?;
    let mut lists = vec![("hashcluster-crates.inc".to_owned(), all)];
    for program in PROGRAMS {
        let linked = linked(program, tree)?;
        let license = licenses::of_all(linked.values().map(String::as_str))
            .map_err(|what| Failure::Wrong(format!("crates of {program}: {what}")))?;
        let mut text = format!("{HEADER}LICENSE = \"{license}\"\n\nCRATES_LINKED = \"\\\n");
        for Crate { name, version, .. } in crates(&lock) {
            let id = format!("{name}-{version}");
            if linked.contains_key(&id) {
                text += &format!("    {id} \\\n");
            }
        }
        lists.push((format!("{program}-crates.inc"), text + "\"\n"));
    }
    Ok(lists)
}

/// Packages linked into `program`, our own included; without macros and build scripts.
fn linked(program: &str, tree: &Path) -> Result<Licenses, Failure> {
    let targets = TARGETS.map(|target| format!("--target={target}"));
    let mut args = vec!["--package", program, "--edges=normal,no-proc-macro"];
    args.extend(targets.iter().map(String::as_str));
    tree_of(tree, &args)
}

fn tree_of(tree: &Path, args: &[&str]) -> Result<Licenses, Failure> {
    let mut command = cargo(&["tree", "--locked", "--quiet", "--prefix=none", "--format={p}|{l}"]);
    let said = output(command.args(args).current_dir(tree))?;
    Ok(said.lines().filter_map(license_of).collect())
}

/// Parses a line `NAME vVERSION…|LICENCE`; a package that was listed before ends in `(*)`.
fn license_of(line: &str) -> Option<(String, String)> {
    let (package, license) = line.split_once('|')?;
    let (name, version) = package.split_once(" v")?;
    let version = version.split(' ').next()?;
    // Older manifests write `/`.
    let license = license.trim_end_matches(" (*)").replace('/', " OR ");
    Some((format!("{name}-{version}"), license))
}

fn licenses_of(crates: &[Crate], licenses: &Licenses) -> Result<String, Failure> {
    let mut text = "\nCRATE_LICENSES = \"\\\n".to_owned();
    for Crate { name, version, .. } in crates {
        match licenses.get(&format!("{name}-{version}")).map(String::as_str) {
            None | Some("") => {
                return Err(Failure::Wrong(format!("{name} {version} declares no licence")));
            }
            Some(license) => text += &format!("    {name} {version} {license}; \\\n"),
        }
    }
    Ok(text + "\"\n")
}

fn list(lock: &str) -> Result<String, Failure> {
    let crates = crates(lock);
    if let Some(Crate { name, .. }) = crates.iter().find(|found| found.checksum.len() != 64) {
        return Err(Failure::Wrong(format!("Cargo.lock: {name} has no SHA-256 checksum")));
    }
    let mut text = format!("{HEADER}SRC_URI += \"\\\n");
    for Crate { name, version, .. } in &crates {
        text += &format!("    crate://{REGISTRY}/{name}/{version} \\\n");
    }
    text += "\"\n\n";
    for Crate { name, version, checksum } in &crates {
        text += &format!("SRC_URI[{name}-{version}.sha256sum] = \"{checksum}\"\n");
    }
    Ok(text)
}

/// Packages with a source; members of the workspace have none.
fn crates(lock: &str) -> Vec<Crate> {
    let packages = lock.split("[[package]]").skip(1);
    let packages = packages.filter(|package| package.contains("\nsource = "));
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.unwrap_or_default().trim_end_matches('"').to_owned()
    };
    packages
        .map(|package| Crate {
            name: value(package, "name"),
            version: value(package, "version"),
            checksum: value(package, "checksum"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\
        dependencies = [\n \"a\",\n]\n\n[[package]]\nname = \"a\"\nversion = \"1.2.3\"\n\
        source = \"registry\"\nchecksum = \"00\"\n";

    #[test]
    fn only_crates_from_outside_the_workspace_are_fetched() {
        let found = crates(LOCK);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("a", "1.2.3"));
    }

    #[test]
    fn a_crate_is_fetched_by_its_checksum_or_not_at_all() {
        assert!(list(LOCK).unwrap_err().to_string().contains("a has no SHA-256 checksum"));
        let text = list(&LOCK.replace("\"00\"", &format!("\"{}\"", "5a".repeat(32)))).unwrap();
        assert!(text.contains(&format!("SRC_URI[a-1.2.3.sha256sum] = \"{}\"\n", "5a".repeat(32))));
        assert!(text.contains("/a/1.2.3 \\\n\"\n"));
    }

    #[test]
    fn a_crate_without_a_licence_is_refused() {
        let said = "a v1.2.3 (proc-macro)|MIT/Apache-2.0\na v1.2.3|MIT/Apache-2.0 (*)\n\nb v1|\n";
        let licenses: Licenses = said.lines().filter_map(license_of).collect();
        let text = licenses_of(&crates(LOCK), &licenses).unwrap();
        assert!(text.contains("    a 1.2.3 MIT OR Apache-2.0; \\\n"), "{text}");
        let unlicensed = [Crate { name: "b".into(), version: "1".into(), ..Crate::default() }];
        let said = licenses_of(&unlicensed, &licenses).unwrap_err().to_string();
        assert!(said.contains("b 1 declares no licence"), "{said}");
        assert!(licenses_of(&crates(LOCK), &Licenses::new()).is_err());
    }
}
