//! The options of b3sum 1.8. Its parser is clap as ours is, so the same declarations give the same
//! help and the same error messages.

use clap::Parser;
use std::path::PathBuf;

/// Version of the original whose interface this is.
#[cfg_attr(test, allow(dead_code, reason = "read by the attribute below"))]
const VERSION: &str = "1.8.7";

/// Length of a key in bytes.
pub(super) const KEY_LEN: usize = 32;

/// Help lines are broken as for a terminal of 100 columns.
const NUM_THREADS_HELP: &str = "\
The maximum number of threads to use

By default, this is the number of logical cores. If this flag is omitted, or if its value
is 0, RAYON_NUM_THREADS is also respected.";

#[derive(Clone, Debug, Parser)]
#[command(name = "b3sum", version = VERSION)]
pub(super) struct B3sumOptions {
    /// Files to hash, or checkfiles to check
    ///
    /// When no file is given, or when - is given, read standard input.
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,

    /// Use the keyed mode, reading the 32-byte key from stdin
    #[arg(long, requires = "files")]
    pub(super) keyed: bool,

    /// Use the key derivation mode, with the given context string
    ///
    /// Cannot be used with --keyed.
    #[arg(long, value_name = "CONTEXT", conflicts_with = "keyed")]
    pub(super) derive_key: Option<String>,

    /// The number of output bytes, before hex encoding
    #[arg(short, long, value_name = "LEN", default_value_t = 32)]
    pub(super) length: u64,

    /// The starting output byte offset, before hex encoding
    #[arg(long, value_name = "SEEK", default_value_t = 0)]
    pub(super) seek: u64,

    /// The maximum number of threads to use
    #[arg(long, value_name = "NUM", long_help = NUM_THREADS_HELP)]
    pub(super) num_threads: Option<usize>,

    /// Disable memory mapping
    ///
    /// Currently this also disables multithreading.
    #[arg(long)]
    pub(super) no_mmap: bool,

    /// Omit filenames in the output
    #[arg(long)]
    pub(super) no_names: bool,

    /// Write raw output bytes to stdout, rather than hex
    ///
    /// --no-names is implied. In this case, only a single input is allowed.
    #[arg(long)]
    pub(super) raw: bool,

    /// Output BSD-style checksums: BLAKE3 ([FILE]) = [HASH]
    #[arg(long)]
    pub(super) tag: bool,

    /// Read BLAKE3 sums from the [FILE]s and check them
    #[arg(short, long,
          conflicts_with_all = ["derive_key", "keyed", "length", "raw", "tag", "no_names"])]
    pub(super) check: bool,

    /// Skip printing OK for each checked file
    ///
    /// Must be used with --check.
    #[arg(long, requires = "check")]
    pub(super) quiet: bool,
}
