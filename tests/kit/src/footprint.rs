//! Descriptors, threads and memory of a process.

use std::fmt;
use std::fs;

/// Sizes of one process, or growth of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
}

impl Footprint {
    /// Sizes of the process `pid`; `None` if it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).ok().map(Iterator::count);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self { descriptors: count("fd")?, threads: count("task")?, resident_kib })
    }

    /// Reports growth since `before` by more than `margin`.
    pub fn growth_since(&self, before: &Self, margin: &Self) -> Option<String> {
        let has_grown = self.descriptors > before.descriptors + margin.descriptors
            || self.threads > before.threads + margin.threads
            || self.resident_kib > before.resident_kib + margin.resident_kib;
        has_grown.then(|| format!("{before} before, {self} after"))
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, resident_kib } = self;
        write!(f, "{descriptors} descriptors, {threads} threads, {resident_kib} KiB")
    }
}
