//! Descriptors, threads and memory of a process.

use std::fmt;
use std::fs;
use test_kit::Cluster;

/// Sizes of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pid: u32,
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

/// Growth that is no leak: two threads that close, and what waits for them.
const DESCRIPTORS_MARGIN: usize = 8;
const THREADS_MARGIN: usize = 3;

/// Memory that an allocator keeps for the next time.
const RESIDENT_MARGIN_KIB: u64 = 16 << 10;

impl Footprint {
    /// Those of the controller and of the workers.
    pub(crate) fn all(cluster: &Cluster) -> Vec<Self> {
        cluster.pids().into_iter().map(|pid| Self::of(pid).unwrap_or(Self::none(pid))).collect()
    }

    const fn none(pid: u32) -> Self {
        Self { pid, descriptors: 0, threads: 0, resident_kib: 0 }
    }

    fn of(pid: u32) -> Option<Self> {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).ok().map(Iterator::count);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Self { pid, descriptors: count("fd")?, threads: count("task")?, resident_kib })
    }

    /// The first process that has grown beyond the margins.
    pub(crate) fn growth(before: &[Self], after: &[Self]) -> Option<String> {
        let has_grown = |(before, after): &(&Self, &Self)| {
            after.descriptors > before.descriptors + DESCRIPTORS_MARGIN
                || after.threads > before.threads + THREADS_MARGIN
                || after.resident_kib > before.resident_kib + RESIDENT_MARGIN_KIB
        };
        let grown = before.iter().zip(after).find(has_grown);
        grown.map(|(before, after)| format!("a process has grown: {before} before, {after} after"))
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, descriptors, threads, resident_kib } = self;
        write!(f, "pid {pid}: {descriptors} descriptors, {threads} threads, {resident_kib} KiB")
    }
}
