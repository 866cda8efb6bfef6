//! Checks of what describes a cluster of VMs: its two files, the options of its start, and the image.

use super::diagnosis::{CheckResult, Diagnosis};
use super::remedy::{Commands, Remedy};
use crate::deployment::{Dataset, Deployment, LoadErrors};
use crate::quote;
use crate::vm::{Image, ImageError};
use std::io::ErrorKind;
use std::path::Path;

/// A deployment, or every fault in it.
pub(super) fn deployment(
    ports: &Path,
    loaded: &Result<Deployment, LoadErrors>,
) -> Vec<CheckResult> {
    let deployment = match loaded {
        Ok(deployment) => deployment,
        Err(errors) => return errors.to_string().lines().map(fault).collect(),
    };
    let vms = match deployment.vms.len() - 1 {
        1 => "a controller and 1 worker".to_owned(),
        n => format!("a controller and {n} workers"),
    };
    let mut results = vec![CheckResult::ok("files", format!("{}: {vms}", ports.display()))];
    // It stops no start, and keeps its files from being hashed.
    let missing = deployment.datasets.iter().filter_map(Dataset::fault);
    results.extend(missing.map(dataset_unusable));
    let there = deployment.datasets.iter().filter(|set| !set.is_missing);
    let names: Vec<&str> = there.map(|set| set.name.as_str()).collect();
    if !names.is_empty() {
        results.push(CheckResult::ok("datasets", format!("{} can be read", names.join(", "))));
    }
    results
}

/// A line of [`LoadErrors`]: its place, the fault, and often what to do after a semicolon.
fn fault(line: &str) -> CheckResult {
    let (text, how) = match line.split_once("; ") {
        Some((text, how)) => (text, how),
        None => (
            line,
            "correct it; docs/cluster-toml.md and the comment in ports.conf say what may be there",
        ),
    };
    if text.contains(" as a dataset: ") {
        return dataset_unusable(text.to_owned());
    }
    Diagnosis::ConfigInvalid.of("files", text, Remedy::say(how))
}

fn dataset_unusable(text: String) -> CheckResult {
    let how = "make the directory available (is its disk mounted?), or remove the dataset there";
    Diagnosis::DatasetUnusable.of("datasets", text, Remedy::say(how))
}

/// The image in `dir` is complete and is what its `image.txt` says.
pub(super) fn image(dir: &Path, bin_dir: &Path, commands: &Commands) -> CheckResult {
    let build = |kind: &str| match kind {
        "yocto" => Remedy::run(commands.at_root("kas build kas/hashcluster.yml")),
        _ => Remedy::run(format!(
            "{} {} {}",
            commands.of_tree("qemu/dev-image.sh"),
            quote::path(dir),
            quote::path(bin_dir)
        )),
    };
    let image = match Image::open(dir) {
        Ok(image) => image,
        Err(ImageError::Unreadable { error, .. })
            if error.kind() == ErrorKind::NotFound && !dir.join("image.txt").exists() =>
        {
            let text = format!("none in {}", dir.display());
            let remedy = build("dev").note("./run.sh does it, too");
            return Diagnosis::ImageMissing.of("image", text, remedy);
        }
        Err(error) => {
            return Diagnosis::ImageDamaged.of("image", error.to_string(), build("dev"));
        }
    };
    match image.verify() {
        Ok(()) => {
            let text = format!("{}, {} in {}", image.kind, image.digest, dir.display());
            CheckResult::ok("image", text)
        }
        Err(error) => Diagnosis::ImageDamaged.of("image", error.to_string(), build(&image.kind)),
    }
}
