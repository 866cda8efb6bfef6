//! Durable jobs: submission beside JetStream of nats-server, recovery, memory, disk, and the walk through a dataset
//! of millions of files that exist in no file system.

use crate::contest::{interleave, median};
use crate::machine::version_of;
use crate::nats::Nats;
use crate::report::{Report, Target};
use ipc_proto::message::{
    DirEntry, EntryKind, FileItem, FileSource, Items, JobFilter, JobId, JobKind, JobRoot,
    JobSource, JobSpec, JobState, ListOutcome, ListWork, NameShare, ServiceReply, ServiceRequest,
    Stamp,
};
use ipc_proto::{Algorithm, Blob};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use test_kit::{Cluster, FakeWorker, Footprint, Options, bin};

const ROUNDS: usize = 5;

/// Items of a round, in all jobs together.
const ROUND_ITEMS: u64 = 200_000;

/// Clients that submit at a time, each with a job of its own.
const CLIENTS: u64 = 4;

/// Items of a request.
const FRAME_ITEMS: u64 = 512;

const PENDING_ITEMS: u64 = 1_000_000;

const DATASET: &str = "d";

/// Files of a directory of the dataset.
const DIR_FILES: u64 = 4000;

const FEW_FILES: u64 = 1_000_000;
const MANY_FILES: u64 = 10_000_000;

pub(crate) fn run(report: &mut Report) {
    report.note(&version_of("nats-server", "--version"));
    submit(report);
    pending(report);
    let few = Expanded::measure(report, FEW_FILES);
    let many = Expanded::measure(report, MANY_FILES);
    let (peak, bytes) = (many.peak_kib / 1024.0, many.bytes_per_result);
    report.note(&format!("peak memory: {peak:.1} MiB"));
    let what = "controller's peak memory, dataset of 10 million files over one of 1 million";
    report.check(what, many.peak_kib / few.peak_kib, "x", Target::AtMost(1.5));
    let what = "compacted journal, per stored result of a path of 27 bytes";
    report.check(what, bytes, " B", Target::AtMost(120.0));
}

/// A controller with its state on the disk of temporary files.
struct Durable {
    cluster: Cluster,
    state: PathBuf,
    // Removed last.
    _dir: tempfile::TempDir,
}

impl Durable {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let state = dir.path().join("state");
        let cluster = Cluster::start(Options {
            workers: 0,
            controller_args: vec![
                format!("--state-dir={}", state.display()),
                format!("--dataset={DATASET}"),
            ],
            ..Options::default()
        });
        Self { cluster, state, _dir: dir }
    }

    fn journal(&self) -> fs::Metadata {
        fs::metadata(self.state.join("journal.redb")).expect("the journal")
    }

    fn resident(&self) -> f64 {
        let footprint = Footprint::of(self.cluster.controller.id()).expect("it lives");
        footprint.resident_kib as f64 * 1024.0
    }

    /// Number of jobs and of their items.
    fn held(&self) -> (usize, u64) {
        let request =
            ServiceRequest::Jobs { filter: JobFilter::default(), after: None, limit: 512 };
        match self.cluster.client().service(request) {
            Ok(ServiceReply::Jobs { rows, .. }) => {
                (rows.len(), rows.iter().map(|row| row.items).sum())
            }
            other => panic!("{other:?}"),
        }
    }

    /// Submits jobs of this many items together by several clients; returns when all is acknowledged.
    fn submit(&self, items: u64) {
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| self.submit_one(items / CLIENTS));
            }
        });
    }

    fn submit_one(&self, count: u64) {
        let mut client = self.cluster.client();
        let mut ask = |request| match client.service(request) {
            Ok(ServiceReply::Job(row)) => *row,
            other => panic!("{other:?}"),
        };
        let spec = Box::new(spec(JobSource::Stored));
        let job = ask(ServiceRequest::Submit { key: String::new(), spec }).id;
        for first in (0..count).step_by(usize::try_from(FRAME_ITEMS).expect("few")) {
            let numbers = first..count.min(first + FRAME_ITEMS);
            let paths: Vec<Blob> = numbers.map(|number| Blob(path(number))).collect();
            let files = vec![FileItem::from(stamp(first)); paths.len()];
            let names = paths.clone();
            let source = FileSource::Dataset { name: DATASET.to_owned(), paths };
            let items = Items::Files { source, files };
            let row = ask(ServiceRequest::Store { job, first, names, expected: vec![], items });
            assert_eq!(row.items, count.min(first + FRAME_ITEMS));
        }
        ask(ServiceRequest::Seal { job });
    }
}

fn spec(source: JobSource) -> JobSpec {
    JobSpec {
        kind: JobKind::Sum,
        algorithms: Algorithm::Sha256.into(),
        source,
        cross_check: 0,
        strict_reads: false,
        labels: Vec::new(),
        priority: 0,
        keep_s: 0,
        rate: 0,
        share: NameShare::ALL,
    }
}

/// Path of a file: 27 bytes.
fn path(number: u64) -> Vec<u8> {
    let (dir, file) = (number / DIR_FILES, number % DIR_FILES);
    format!("photos-{dir:05}/IMG_{file:06}.jpg").into_bytes()
}

/// Times and length as different as those of real files.
fn stamp(number: u64) -> Stamp {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let mtime_ns = 1_700_000_000_000_000_000 + (mixed % 10_000_000_000_000_000).cast_signed();
    let ctime_ns = mtime_ns + (mixed % 5_000_000_000).cast_signed();
    Stamp { size: mixed % (8 << 20), mtime_ns, ctime_ns }
}

fn submit(report: &mut Report) {
    let ours = Durable::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let nats = std::cell::RefCell::new(Nats::start(dir.path()));
    let rate = |start: Instant| ROUND_ITEMS as f64 / start.elapsed().as_secs_f64();
    // As many bytes as an item of ours has: its name, and its path.
    let item = path(0).repeat(2);
    let frame = item.repeat(usize::try_from(FRAME_ITEMS).expect("few"));
    let rates = interleave(
        ROUNDS,
        &mut [
            Box::new(|| {
                let start = Instant::now();
                ours.submit(ROUND_ITEMS);
                rate(start)
            }),
            Box::new(|| {
                let start = Instant::now();
                nats.borrow_mut().publish(ROUND_ITEMS, &item);
                rate(start)
            }),
            Box::new(|| {
                let start = Instant::now();
                nats.borrow_mut().publish(ROUND_ITEMS.div_ceil(FRAME_ITEMS), &frame);
                rate(start)
            }),
        ],
    );
    let middle = |i: usize| median(rates[i].clone());
    report.note(&format!(
        "items per second, {CLIENTS} clients, {FRAME_ITEMS} per request: {:.0}; acknowledged when they are on the \
         disk (fdatasync): they survive a power cut",
        middle(0)
    ));
    report.note(&format!(
        "JetStream, file storage, a message per item: {:.0}, {FRAME_ITEMS} items per message: {:.0}; acknowledged \
         when the kernel has them, which nats-server has written to the disk every 2 minutes by default: they \
         survive the end of the process",
        middle(1),
        middle(2)
    ));
    report.check("durable submission, items per second", middle(0), "", Target::AtLeast(50_000.0));
}

fn pending(report: &mut Report) {
    let mut durable = Durable::start();
    durable.held();
    let empty = durable.resident();
    durable.submit(PENDING_ITEMS);
    let filled = durable.resident();
    durable.cluster.controller.kill().expect("our own child");
    durable.cluster.controller.wait().expect("our own child");
    let start = Instant::now();
    durable.cluster.restart_controller();
    let (jobs, items) = durable.held();
    let recovery = start.elapsed();
    assert_eq!((jobs as u64, items), (CLIENTS, PENDING_ITEMS));
    // What it reads ahead of the items.
    thread::sleep(Duration::from_secs(2));
    let recovered = durable.resident();
    let per_item = |bytes: f64| (bytes - empty) / PENDING_ITEMS as f64;
    report.note(&format!(
        "memory of the controller: {:.1} MiB without jobs, {:.1} MiB with a million pending items, {:.1} MiB after a \
         recovery",
        empty / f64::from(1 << 20),
        filled / f64::from(1 << 20),
        recovered / f64::from(1 << 20)
    ));
    let most = per_item(filled.max(recovered));
    report.check("memory per pending item", most, " B", Target::AtMost(200.0));
    let what = "kill -9 with a million pending items, until the jobs are listed again";
    report.check(what, recovery.as_secs_f64(), " s", Target::AtMost(5.0));
}

/// Figures of the walk through a dataset.
struct Expanded {
    peak_kib: f64,
    bytes_per_result: f64,
}

impl Expanded {
    fn measure(report: &mut Report, files: u64) -> Self {
        let mut durable = Durable::start();
        let mut worker = FakeWorker::join_with(&durable.cluster, "w", &[DATASET]);
        worker.give_credit(8);
        let serving = thread::spawn(move || worker.serve_dataset(7, |work| page(files, work)));
        let start = Instant::now();
        let job = walk(&durable.cluster, files);
        let seconds = start.elapsed().as_secs_f64();
        let peak_kib = peak_kib(durable.cluster.controller.id());
        assert_eq!(job.1, files, "every file has its result");
        let before = durable.journal().blocks() * 512;
        assert!(durable.cluster.terminate_controller());
        // It ends with its connection.
        serving.join().expect("the worker does not panic");
        compact(&durable.state);
        let after = durable.journal().blocks() * 512;
        let each = |bytes: u64| bytes as f64 / files as f64;
        report.note(&format!(
            "dataset of {files} files: {:.0} per second found, leased, answered by a worker that reads nothing, and \
             stored; peak memory of the controller {:.1} MiB; journal {:.1} B per result with the space that the \
             items had, {:.1} B compacted",
            files as f64 / seconds,
            peak_kib / 1024.0,
            each(before),
            each(after)
        ));
        Self { peak_kib, bytes_per_result: each(after) }
    }
}

/// A job over the whole dataset, to its end; its id, and the number of its results.
fn walk(cluster: &Cluster, files: u64) -> (JobId, u64) {
    let mut client = cluster.client();
    let root = JobRoot { path: Blob::default(), shown: Blob::default() };
    let source = JobSource::Dataset { name: DATASET.to_owned(), roots: vec![root] };
    let submit = ServiceRequest::Submit { key: String::new(), spec: Box::new(spec(source)) };
    let Ok(ServiceReply::Job(row)) = client.service(submit) else { panic!("it is submitted") };
    let job = row.id;
    loop {
        let wait = ServiceRequest::Wait { job, timeout_ms: 10_000 };
        let Ok(ServiceReply::Job(row)) = client.service(wait) else { panic!("it is there") };
        if row.state == JobState::Done {
            return (job, row.resolved);
        }
        assert_eq!(row.state, JobState::Running, "{}", row.reason);
        assert!(row.items <= files, "{} items", row.items);
    }
}

/// A page of a dataset of this many files, computed from its names.
fn page(files: u64, work: &ListWork) -> ListOutcome {
    let is_root = work.dir.is_empty();
    let name_of = |number: u64| {
        let path = path(number);
        let slash = path.iter().position(|&byte| byte == b'/').expect("a directory");
        if is_root { path[..slash].to_vec() } else { path[slash + 1..].to_vec() }
    };
    let (first, end, step) = if is_root {
        (0, files, DIR_FILES)
    } else {
        let first = digits(&work.dir) * DIR_FILES;
        (first, files.min(first + DIR_FILES), 1)
    };
    let next = if work.after.is_empty() { 0 } else { digits(&work.after) + 1 };
    let numbers = (0..).map(|n| first + (next + n) * step).take_while(|&number| number < end);
    let entries: Vec<DirEntry> = numbers
        .clone()
        .take(work.entries_max.into())
        .map(|number| DirEntry {
            name: Blob(name_of(number)),
            kind: if is_root { EntryKind::Directory } else { EntryKind::File },
            stamp: stamp(number),
            inode: number,
            device: 1,
        })
        .collect();
    let more = numbers.count() > entries.len();
    ListOutcome::Page { entries, more }
}

/// The number in a name.
fn digits(name: &[u8]) -> u64 {
    let digits = name.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

fn peak_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.parse().ok()).expect("the kernel says")
}

fn compact(state: &Path) {
    let mut compact = Command::new(bin("hashcluster-controller"));
    compact.arg("--compact").arg("--state-dir").arg(state).stderr(Stdio::null());
    assert!(compact.status().expect("it starts").success());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_the_dataset_have_every_file_once() {
        let files = 2 * DIR_FILES + 3;
        let all = |dir: &[u8]| {
            let (mut found, mut after) = (Vec::new(), Blob::default());
            loop {
                let (dataset, dir) = (DATASET.to_owned(), Blob(dir.to_vec()));
                let work = ListWork { dataset, dir, after, entries_max: 999, claims: None };
                let outcome = page(files, &work);
                assert!(outcome.fits(&work), "{work:?}");
                let ListOutcome::Page { entries, more } = outcome else { panic!("a page") };
                found.extend(entries.into_iter().map(|entry| entry.name.0));
                if !more {
                    return found;
                }
                after = Blob(found.last().unwrap().clone());
            }
        };
        let mut paths = Vec::new();
        for dir in all(b"") {
            paths.extend(all(&dir).into_iter().map(|name| [&dir[..], b"/", &name].concat()));
        }
        assert_eq!(paths, (0..files).map(path).collect::<Vec<_>>());
        assert_eq!(paths[0].len(), 27);
    }
}
