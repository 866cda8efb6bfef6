//! Metrics of every program: its build, its log, its process and its host.
//!
//! Everything that is read is opened by [`Host::open`], so that it can be read inside a sandbox that opens
//! nothing: proc(5) writes its files anew for each read from the start.

use crate::dropped::DropReason;
use crate::metrics::{Metric, Metrics};
use crate::metrics_table;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, seek};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::cell::RefCell;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

metrics_table! {
    /// Metrics of every program (`docs/metrics.md`).
    pub COMMON;
    BUILD Gauge "hashcluster_build_info" ["version", "image"]
        "1, with the version of the software and the digest of the image, if it runs from one.";
    LOG_DROPPED Counter "hashcluster_log_lines_dropped_total" ["reason"]
        "Lines of the log that were dropped: too many of an event within a second (rate), or not taken by standard error (output) or by the collector (syslog).";
    LOAD Gauge "hashcluster_host_load1" [] "Load average of the host, or of the guest, over one minute.";
    MEMORY_TOTAL Gauge "hashcluster_host_memory_total_bytes" [] "Memory of the host, or of the guest.";
    MEMORY_AVAILABLE Gauge "hashcluster_host_memory_available_bytes" []
        "Memory of it that programs can have without swapping.";
    START Gauge "process_start_time_seconds" [] "Start of the process, in seconds since 1970.";
    CPU Seconds "process_cpu_seconds_total" [] "Processor time of the process.";
    RESIDENT Gauge "process_resident_memory_bytes" [] "Memory that the process has in use.";
    VIRTUAL Gauge "process_virtual_memory_bytes" [] "Address space of the process.";
    THREADS Gauge "process_threads" [] "Threads of the process.";
    OPEN_FDS Gauge "process_open_fds" [] "Open files of the process.";
    MAX_FDS Gauge "process_max_fds" [] "Most open files of the process.";
}

/// Open files of proc(5) about this process and its host; those that cannot be opened give no metrics.
#[derive(Debug)]
pub struct Host {
    stat: Option<File>,
    load: Option<File>,
    memory: Option<File>,
    descriptors: Option<OwnedFd>,
    /// Start of the host, in seconds since 1970.
    booted: Option<u64>,
    descriptors_max: Option<u64>,
    page_len: u64,
    ticks_per_second: u64,
    build: [String; 2],
}

impl Host {
    /// Opens them, for a program of this `version` from this `image`. Once the limits of the process are set,
    /// and before its sandbox.
    #[must_use]
    pub fn open(version: &str, image: &str) -> Self {
        let file = |path| File::open(path).ok();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self {
            stat: file("/proc/self/stat"),
            load: file("/proc/loadavg"),
            memory: file("/proc/meminfo"),
            descriptors: open("/proc/self/fd", flags, Mode::empty()).ok(),
            booted: stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok()),
            descriptors_max: getrlimit(Resource::Nofile).current,
            page_len: page_size() as u64,
            ticks_per_second: clock_ticks_per_second(),
            build: [version.to_owned(), image.to_owned()],
        }
    }

    /// Sets all of [`COMMON`].
    pub fn set(&self, metrics: &Metrics) {
        metrics.set(&BUILD, &self.build.each_ref().map(String::as_str), 1.0);
        for reason in DropReason::ALL {
            metrics.set_count(&LOG_DROPPED, &[reason.name()], reason.lines());
        }
        let count = |metric, value: Option<u64>| {
            value.into_iter().for_each(|value| metrics.set_count(metric, &[], value));
        };
        let seconds = |metric: &Metric, value: Option<f64>| {
            value.into_iter().for_each(|value| metrics.set(metric, &[], value));
        };
        let load = self.load.as_ref().and_then(read);
        seconds(&LOAD, load.and_then(|text| text.split(' ').next()?.parse().ok()));
        let memory = self.memory.as_ref().and_then(read).unwrap_or_default();
        let memory = |name| {
            let rest = memory.lines().find_map(|line| line.strip_prefix(name));
            let kib: Option<u64> =
                rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            kib.map(|kib| kib * 1024)
        };
        count(&MEMORY_TOTAL, memory("MemTotal:"));
        count(&MEMORY_AVAILABLE, memory("MemAvailable:"));
        let stat = self.stat.as_ref().and_then(read).unwrap_or_default();
        let stat = |number| stat_field(&stat, number);
        #[expect(clippy::cast_precision_loss, reason = "285 million years of ticks fit a double")]
        let ticks = |ticks: u64| ticks as f64 / self.ticks_per_second as f64;
        seconds(&CPU, stat(14).zip(stat(15)).map(|(user, system)| ticks(user + system)));
        let start = stat(22).map(ticks).zip(self.booted);
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double")]
        seconds(&START, start.map(|(after, booted)| booted as f64 + after));
        count(&THREADS, stat(20));
        count(&VIRTUAL, stat(23));
        count(&RESIDENT, stat(24).map(|pages| pages * self.page_len));
        count(&OPEN_FDS, self.descriptors.as_ref().and_then(entries_len));
        count(&MAX_FDS, self.descriptors_max);
    }
}

/// The start of a file of proc(5), which is short.
fn read(file: &File) -> Option<String> {
    let mut bytes = [0; 4096];
    let len = file.read_at(&mut bytes, 0).ok()?;
    Some(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// A field of proc_pid_stat(5) after the name of the program, which may contain anything.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number - 3)?.trim().parse().ok()
}

/// Entries of a directory, without itself and its parent.
fn entries_len(directory: &OwnedFd) -> Option<u64> {
    thread_local! {
        static BUFFER: RefCell<Vec<MaybeUninit<u8>>> = RefCell::new(vec![MaybeUninit::uninit(); 16 << 10]);
    }
    seek(directory, SeekFrom::Start(0)).ok()?;
    BUFFER.with_borrow_mut(|buffer| {
        let mut entries = RawDir::new(directory, buffer);
        let mut len = 0;
        while let Some(entry) = entries.next() {
            len += u64::from(!entry.ok()?.file_name().to_bytes().starts_with(b"."));
        }
        Some(len)
    })
}
