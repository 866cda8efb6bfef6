//! The attacks, by boundary.

mod client;
mod controllers;
mod descriptors;
mod fleets;
mod floods;
mod inside;
mod programs;
mod workers;

use crate::suite::Case;

/// Cases that fail today, by title, each with its reason: reported at the end of every run.
pub(crate) const KNOWN_BROKEN: &[(&str, &str)] = &[];

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        client::cases(),
        floods::cases(),
        descriptors::cases(),
        workers::cases(),
        fleets::cases(),
        programs::cases(),
        controllers::cases(),
        inside::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
