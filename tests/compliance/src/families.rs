//! The families of tools, each with its originals, its files and its cases.

pub(crate) mod b3sum;
pub(crate) mod gnu;

use crate::suite::Suite;
use std::path::Path;
use test_kit::Random;

/// Tools with one set of cases.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// Version of the originals.
    pub(crate) version: &'static str,
    pub(crate) tools: &'static [&'static str],
    pub(crate) cases: &'static str,
    /// Cases that are known to differ, below headings with the reason.
    pub(crate) differs: &'static str,
    /// Makes the files of a case, for the tool.
    pub(crate) files: fn(&Path, &str),
    /// Variables of a case, by the tool.
    pub(crate) variables: fn(&str) -> Vec<(&'static str, String)>,
    /// Runs this many random invocations of each kind.
    pub(crate) random: fn(&mut Suite<'_>, usize, &mut Random),
}

/// All of them.
pub(crate) const FAMILIES: &[Family] = &[gnu::FAMILY, b3sum::FAMILY];
