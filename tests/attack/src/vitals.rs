//! Sizes of a process: descriptors, threads, memory.

use std::fs;

/// Sizes of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vitals {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

/// Growth that is no leak: threads that close, and files that are being closed.
const DESCRIPTORS_MARGIN: usize = 8;
const THREADS_MARGIN: usize = 4;

/// Memory that an allocator keeps for the next time.
const RESIDENT_MARGIN_KIB: u64 = 48 << 10;

impl Vitals {
    /// Those of `pid`; `None` if it has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).ok().map(Iterator::count);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self { descriptors: count("fd")?, threads: count("task")?, resident_kib })
    }

    /// Reports growth since `before` beyond the margins.
    pub(crate) fn growth_since(&self, before: &Self) -> Option<String> {
        let grown = self.descriptors > before.descriptors + DESCRIPTORS_MARGIN
            || self.threads > before.threads + THREADS_MARGIN
            || self.resident_kib > before.resident_kib + RESIDENT_MARGIN_KIB;
        grown.then(|| format!("{self:?}, {before:?} before"))
    }
}
