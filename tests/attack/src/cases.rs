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
pub(crate) const KNOWN_BROKEN: &[(&str, &str)] = &[
    (
        "client socket / sparse files of 8 EiB, SHA-256",
        "a thread in a long file makes room for another user at its next checkpoint only, which is up to \
         2 GiB away, and there is none while the file's stamps are young: others wait for seconds",
    ),
    (
        "client socket / sparse files of 1 TiB, SHA-512 and MD5",
        "a file of which several digests are asked has no checkpoint at which it could make room",
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
    ]
    .into_iter()
    .flatten()
    .collect()
}
