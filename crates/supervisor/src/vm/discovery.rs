//! Files in the run directory that tell `hashctl` which directories of this host are datasets.

use super::layout::{DATASETS_DIR, LIVE_DATASETS_FILE, Layout};
use super::prepare::{link, private_dir, private_file, remove_all};
use super::share::{Root, Share};
use crate::cluster::Error;
use std::fs;

/// Writes where the datasets are that the controller offers, and removes what is of others. Each file of those that
/// are `live` costs a worker a way to this host and back.
///
/// # Errors
/// A file of the run directory cannot be written.
pub(crate) fn tell_datasets(
    layout: &Layout,
    offered: &[&Share],
    live: &[&str],
) -> Result<(), Error> {
    let datasets = layout.file(DATASETS_DIR);
    if offered.is_empty() && !datasets.exists() {
        return Ok(());
    }
    private_dir(&datasets)?;
    for entry in fs::read_dir(&datasets).map_err(Error::step("look at the datasets"))?.flatten() {
        let name = entry.file_name();
        if name != LIVE_DATASETS_FILE && !offered.iter().any(|share| *share.name == *name) {
            remove_all(&entry.path()).map_err(Error::write(&entry.path()))?;
        }
    }
    for share in offered {
        let path = datasets.join(&share.name);
        match &share.root {
            Root::Directory(dir) | Root::Snapshot(dir) => link(dir, &path)?,
            Root::Members(members) => {
                private_dir(&path)?;
                for (number, member) in members.iter().enumerate() {
                    link(member, &path.join(number.to_string()))?;
                }
            }
        }
    }
    let live: String = live.iter().map(|name| format!("{name}\n")).collect();
    private_file(&datasets.join(LIVE_DATASETS_FILE), live.as_bytes())
}
