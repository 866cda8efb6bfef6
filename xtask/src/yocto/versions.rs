//! Versions that are written in more than one place: of the recipes and the distro, and of Rust.

use crate::tools::Failure;
use std::fs;
use std::path::{Path, PathBuf};

/// The Rust version of each supported release of oe-core.
const RUST_OF: [(&str, &str); 1] = [("wrynose", "1.94.1")];

const RECIPES: &str = "meta-hashcluster/recipes-hashcluster";
const DISTRO: &str = "meta-hashcluster/conf/distro/hashcluster.conf";
const LAYER: &str = "meta-hashcluster/conf/layer.conf";

/// The Rust version of the release that the layer supports.
pub(super) fn rust_of_series() -> &'static str {
    RUST_OF[0].1
}

pub(super) fn check(tree: &Path) -> Result<String, Failure> {
    let manifest = read(tree, "Cargo.toml")?;
    let version = value(&manifest, "version")?;
    let recipes = recipes(tree)?;
    for recipe in &recipes {
        let name = recipe.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((_, pv)) = name.rsplit_once('_')
            && pv != version
        {
            let what = format!("{RECIPES}: {name}.bb has version {pv}, the workspace {version}");
            return Err(Failure::Wrong(what));
        }
    }
    let distro = value(&read(tree, DISTRO)?, "DISTRO_VERSION")?;
    if distro != version {
        let what = format!("{DISTRO}: DISTRO_VERSION is {distro}, the workspace is {version}");
        return Err(Failure::Wrong(what));
    }
    let needs = value(&manifest, "rust-version")?;
    for series in value(&read(tree, LAYER)?, "LAYERSERIES_COMPAT_hashcluster")?.split(' ') {
        let Some((_, has)) = RUST_OF.iter().find(|(name, _)| *name == series) else {
            return Err(Failure::Wrong(format!(
                "{LAYER}: the Rust version of {series} is unknown"
            )));
        };
        if numbers(&needs) > numbers(has) {
            let what = format!("rust-version is {needs}, but {series} has Rust {has}");
            return Err(Failure::Wrong(format!("Cargo.toml: {what}")));
        }
    }
    let len = recipes.len();
    Ok(format!("{len} recipes and the distro have version {version}, which needs Rust {needs}"))
}

/// The elements of a one-line TOML array that starts with `opening`.
pub(super) fn array(manifest: &str, opening: &str) -> Result<Vec<String>, Failure> {
    let line = manifest.lines().find_map(|line| line.strip_prefix(opening));
    let line = line.ok_or_else(|| Failure::Wrong(format!("Cargo.toml: no line `{opening}…`")))?;
    let words = line.trim_end_matches(']').split(',');
    Ok(words.map(|word| word.trim().trim_matches('"').to_owned()).collect())
}

fn recipes(tree: &Path) -> Result<Vec<PathBuf>, Failure> {
    let wrong = |error: std::io::Error| Failure::Wrong(format!("{RECIPES}: {error}"));
    let mut found = Vec::new();
    for folder in fs::read_dir(tree.join(RECIPES)).map_err(wrong)? {
        for file in fs::read_dir(folder.map_err(wrong)?.path()).map_err(wrong)? {
            found.push(file.map_err(wrong)?.path());
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "bb"));
    let is_program = |path: &&PathBuf| path.to_string_lossy().contains("/hashcluster-worker_");
    match found.iter().find(is_program) {
        Some(_) => Ok(found),
        None => Err(Failure::Wrong(format!("{RECIPES}: the worker has no recipe"))),
    }
}

fn read(tree: &Path, path: &str) -> Result<String, Failure> {
    fs::read_to_string(tree.join(path)).map_err(|error| Failure::Wrong(format!("{path}: {error}")))
}

/// The value of the first line `key = "…"`.
fn value(text: &str, key: &str) -> Result<String, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
    let line = line.ok_or_else(|| Failure::Wrong(format!("no line `{key} = \"…\"`")))?;
    Ok(line.trim_end_matches('"').to_owned())
}

/// A version in comparable form: 1.9 is before 1.10, and 1.94 equals 1.94.0.
fn numbers(version: &str) -> [u32; 3] {
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip(version.split('.')) {
        *number = part.parse().unwrap_or(u32::MAX);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("1.9") < numbers("1.10"));
        assert!(numbers("1.94") <= numbers("1.94.1"));
        assert!(numbers("1.95") > numbers("1.94.1"));
        assert!(numbers("1.x") > numbers("1.94.1"), "an invalid number is never old enough");
    }

    #[test]
    fn a_list_is_read_from_its_line() {
        assert_eq!(array("members = [\"a\", \"b\"]\n", "members = [").unwrap(), ["a", "b"]);
    }
}
