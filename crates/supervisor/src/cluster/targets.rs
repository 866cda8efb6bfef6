//! The list of what Prometheus scrapes of this cluster, for its `file_sd_configs`: `targets/hashcluster.json`
//! in the run directory. Sockets are not in it, as Prometheus cannot scrape them.

use crate::monitoring::is_started;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use telemetry::http::HttpAddress;

pub(super) fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("targets").join("hashcluster.json")
}

/// Replaces the list as a whole: `targets` are addresses with name and role.
pub(super) fn write<'a>(
    run_dir: &Path,
    targets: impl Iterator<Item = (HttpAddress, &'a str, &'a str)>,
) -> io::Result<()> {
    let cluster = run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let groups: Vec<Value> = targets
        .filter_map(|(address, vm, role)| match address {
            HttpAddress::Unix(_) => None,
            HttpAddress::Tcp(address) => Some(json!({
                "targets": [address.to_string()],
                "labels": { "cluster": cluster, "vm": vm, "role": role },
            })),
        })
        .collect();
    let path = path(run_dir);
    fs::create_dir_all(run_dir.join("targets"))?;
    // Prometheus reads files whose names end in .json.
    let fresh = path.with_extension("new");
    fs::write(&fresh, serde_json::to_vec_pretty(&groups)?)?;
    fs::rename(fresh, path)
}

/// Removes the list of a cluster that ends. The directory stays where a monitoring runs: a container that
/// mounted it would not see a new one.
pub(super) fn remove(run_dir: &Path) {
    let _ = fs::remove_file(path(run_dir));
    if !is_started(run_dir) {
        let _ = fs::remove_dir(run_dir.join("targets"));
    }
}
