//! The attacks, by boundary.

mod client;
mod controllers;
mod descriptors;
mod fleets;
mod floods;
mod inside;
mod programs;
mod scarce;
mod workers;

use crate::suite::Case;

/// Cases that fail today, by title, each with its reason: reported at the end of every run.
pub(crate) const KNOWN_BROKEN: &[(&str, &str)] = &[
    (
        "client socket / sparse files of 8 EiB, SHA-256",
        "the thread for short work shares the cores with those that have long files: 20 to 30 ms",
    ),
    (
        "client socket / sparse files of 1 TiB, SHA-512 and MD5",
        "the thread for short work shares the cores with those that have long files: 10 to 15 ms",
    ),
];

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
        scarce::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
