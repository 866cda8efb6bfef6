//! The recipes' list of crates, which bitbake fetches each by its checksum. It is the whole of
//! `Cargo.lock`: cargo resolves the workspace before it builds one package of it.

use super::versions::array;
use crate::tools::Failure;
use std::fs;
use std::path::Path;

const LIST: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashcluster-crates.inc";
const RECIPES: &str = "meta-hashcluster/recipes-hashcluster/hashcluster/hashcluster.inc";

/// What the fetcher calls the default registry.
const REGISTRY: &str = concat!("crates", ".", "io");

/// A crate of `Cargo.lock` that is not ours.
#[derive(Debug, Default, PartialEq, Eq)]
struct Crate {
    name: String,
    version: String,
    checksum: String,
}

pub(super) fn write(tree: &Path) -> Result<(), Failure> {
    let path = tree.join(LIST);
    fs::write(&path, list(&read(tree, "Cargo.lock")?)?)
        .map_err(|error| Failure::Wrong(format!("{}: {error}", path.display())))
}

/// Whether the list is that of `Cargo.lock`, and whether the recipes take all of the workspace.
pub(super) fn check(tree: &Path) -> Result<String, Failure> {
    let lock = read(tree, "Cargo.lock")?;
    let (want, is) = (list(&lock)?, read(tree, LIST)?);
    if let Some((n, is)) =
        (1..).zip(is.lines()).find(|&(n, is)| want.lines().nth(n - 1) != Some(is))
    {
        let why = format!("line {n}, `{is}`, is not what Cargo.lock says");
        return Err(Failure::Wrong(format!("{LIST}: {why}; run `cargo xtask yocto crates`")));
    }
    if is != want {
        return Err(Failure::Wrong(format!("{LIST}: is cut; run `cargo xtask yocto crates`")));
    }
    let files = read(tree, RECIPES)?;
    let members = array(&read(tree, "Cargo.toml")?, "members = [")?;
    match members.iter().find(|member| !files.split_whitespace().any(|word| word == **member)) {
        Some(member) => Err(Failure::Wrong(format!(
            "{RECIPES}: HASHCLUSTER_FILES lacks {member}, without which cargo reads no workspace"
        ))),
        None => Ok(format!("{} crates of Cargo.lock are in the list", crates(&lock).len())),
    }
}

fn read(tree: &Path, path: &str) -> Result<String, Failure> {
    fs::read_to_string(tree.join(path)).map_err(|error| Failure::Wrong(format!("{path}: {error}")))
}

fn list(lock: &str) -> Result<String, Failure> {
    let crates = crates(lock);
    if let Some(Crate { name, .. }) = crates.iter().find(|found| found.checksum.len() != 64) {
        return Err(Failure::Wrong(format!("Cargo.lock: {name} has no checksum of SHA-256")));
    }
    let mut text =
        "# From Cargo.lock, by `cargo xtask yocto crates`.\n\nSRC_URI += \"\\\n".to_owned();
    for Crate { name, version, .. } in &crates {
        text += &format!("    crate://{REGISTRY}/{name}/{version} \\\n");
    }
    text += "\"\n\n";
    for Crate { name, version, checksum } in &crates {
        text += &format!("SRC_URI[{name}-{version}.sha256sum] = \"{checksum}\"\n");
    }
    Ok(text)
}

/// Those with a source, which members of the workspace do not have.
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
    fn only_what_comes_from_elsewhere_is_fetched() {
        let found = crates(LOCK);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].name.as_str(), found[0].version.as_str()), ("a", "1.2.3"));
    }

    #[test]
    fn a_crate_is_fetched_by_its_checksum_or_not_at_all() {
        assert!(list(LOCK).unwrap_err().to_string().contains("a has no checksum"));
        let text = list(&LOCK.replace("\"00\"", &format!("\"{}\"", "5a".repeat(32)))).unwrap();
        assert!(text.contains(&format!("SRC_URI[a-1.2.3.sha256sum] = \"{}\"\n", "5a".repeat(32))));
        assert!(text.contains("/a/1.2.3 \\\n\"\n"));
    }
}
