//! Checks that need only the package registries. Each reads one tree; tests copy and break it.

use super::{crates, versions};
use crate::python::FOR_YOCTO;
use crate::tools::{Failure, output, root};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The checks in their order, quick ones first.
pub(super) const NAMES: [&str; 6] = ["crates", "versions", "layer", "lint", "kas", "fetch"];

/// Runs the named checks on `tree`, or all if `names` is empty.
pub(crate) fn check(tree: &Path, names: &[&str]) -> Result<(), Failure> {
    let tree = fs::canonicalize(tree)
        .map_err(|error| Failure::Wrong(format!("{}: {error}", tree.display())))?;
    for name in NAMES.into_iter().filter(|name| names.is_empty() || names.contains(name)) {
        let start = Instant::now();
        let found = one(name, &tree)?;
        println!("{:>6.1} s  {name}: {}", start.elapsed().as_secs_f64(), found.trim_end());
    }
    Ok(())
}

fn one(name: &str, tree: &Path) -> Result<String, Failure> {
    match name {
        "crates" => crates::check(tree),
        "versions" => versions::check(tree),
        "layer" => output(FOR_YOCTO.ensure()?.script("xtask/yocto/layer.py").arg(tree)),
        "lint" => lint(tree),
        "kas" => output(FOR_YOCTO.ensure()?.script("xtask/yocto/kas_files.py").arg(tree)),
        "fetch" => {
            let downloads = FOR_YOCTO.work_dir()?.join("downloads");
            output(FOR_YOCTO.ensure()?.script("xtask/yocto/fetch.py").arg(tree).arg(downloads))
        }
        unknown => unreachable!("{unknown} is not in NAMES"),
    }
}

fn lint(tree: &Path) -> Result<String, Failure> {
    let mut files = Vec::new();
    collect(&tree.join("meta-hashcluster"), &mut files)
        .map_err(|error| Failure::Wrong(format!("meta-hashcluster: {error}")))?;
    files.sort();
    let mut lint = FOR_YOCTO.ensure()?.program("oelint-adv");
    lint.env("OELINT_CONFIG", root().join("xtask/yocto/oelint.cfg")).args(&files);
    let findings = |_| Failure::Wrong("oelint-adv reports faults in meta-hashcluster".into());
    output(lint.current_dir(root())).map_err(findings)?;
    Ok(format!("oelint-adv finds no fault in {} files", files.len()))
}

/// Collects what the linter reads: recipes, appends, classes and configuration.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            collect(&path, files)?;
        } else if [".bb", ".bbappend", ".bbclass", ".conf"].iter().any(|end| name.ends_with(end)) {
            files.push(path);
        }
    }
    Ok(())
}
