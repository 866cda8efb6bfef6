//! `soak [MINUTES]`: the real programs under mixed work, kills, floods, hung files and clients that leave,
//! for as long as asked. Every digest is compared; at the end the processes hold what they held before.
//!
//! `cargo xtask soak` builds the programs and runs it. It needs root, for other users and for FUSE.
#![expect(clippy::print_stdout, reason = "a command for people")]

mod flood;
mod load;
mod trouble;

use ipc_proto::message::WorkerHealth;
use load::{Data, Load};
use nix::unistd::Uid;
use std::env;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_kit::{Cluster, Footprint, Options, Random};
use trouble::Trouble;

const WORKERS: usize = 4;

/// Growth that is no leak: two threads that close, what waits for them, and memory that an allocator keeps
/// for the next time.
const MARGIN: Footprint = Footprint { descriptors: 8, threads: 3, resident_kib: 16 << 10 };

/// Time in which everything that was held is given back, and all workers are ready again.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// Time between two lines about the progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Uses of a run, all counted once they were checked.
#[derive(Debug, Default)]
struct Tally {
    digests: AtomicU64,
    jobs: AtomicU64,
    left: AtomicU64,
    kills: AtomicU64,
    hung: AtomicU64,
}

/// The state that all threads of a run share.
#[derive(Debug, Default)]
struct Run {
    tally: Tally,
    is_over: AtomicBool,
    faults: Mutex<Vec<String>>,
    latencies: Mutex<Vec<Duration>>,
}

impl Run {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Notes a fault, which ends the run.
    fn fault(&self, what: String) {
        self.faults.lock().expect("nobody panics with it").push(what);
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["flood", uid, dir] => flood::flood(uid.parse().expect("a user id"), dir.as_ref()),
        [minutes] if !Uid::effective().is_root() => {
            println!(
                "soak for {minutes} min: floods are another user's, and files hang on FUSE: run it as root"
            );
            ExitCode::FAILURE
        }
        [minutes] => soak(Duration::from_secs(60 * minutes.parse::<u64>().expect("minutes"))),
        _ => panic!("usage: soak MINUTES"),
    }
}

fn soak(duration: Duration) -> ExitCode {
    let seed = Random::from_entropy().next_u64();
    println!("soak: {} s, HASHCLUSTER_TEST_SEED={seed}", duration.as_secs());
    let data = Data::new();
    let uid = flood::ALLOWED;
    let options = Options {
        workers: WORKERS,
        datasets: vec![("d", data.dir().to_owned())],
        controller_args: vec![format!("--allow-uid={uid}")],
        ..Options::default()
    };
    let mut cluster = Cluster::start(options);
    cluster.link_datasets();
    let run = Run::default();
    let (address, runtime_dir) = (cluster.address(), cluster.dir().to_owned());
    let load = Load { run: &run, data: &data, address: &address, runtime_dir: &runtime_dir };
    // Threads and memory that the first jobs need are there afterwards.
    load.all_once();
    let before = footprints(&cluster);
    let start = Instant::now();
    thread::scope(|scope| {
        let mut random = Random::new(seed);
        load.start(scope, &mut random);
        let mut trouble = Trouble::new(&run, random);
        let mut reported = start;
        while start.elapsed() < duration && !run.is_over() {
            trouble.make(&mut cluster);
            if reported.elapsed() > REPORT_INTERVAL {
                reported = Instant::now();
                println!("{:>5} s: {}", start.elapsed().as_secs(), summary(&run));
            }
        }
        run.is_over.store(true, Ordering::Relaxed);
        trouble.end(&mut cluster);
    });
    println!("after {} s: {}", start.elapsed().as_secs(), summary(&run));
    settle(&run, &mut cluster, &before);
    let faults = run.faults.into_inner().expect("nobody panics with it");
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("logs of the cluster:\n{}", cluster.logs());
    faults.iter().for_each(|fault| println!("FAULT: {fault}"));
    ExitCode::FAILURE
}

/// Sizes of the controller and of the workers; nothing of those that have ended.
fn footprints(cluster: &Cluster) -> Vec<Footprint> {
    cluster.pids().into_iter().map(|pid| Footprint::of(pid).unwrap_or_default()).collect()
}

/// The growth of the first process that has grown.
fn growth(before: &[Footprint], after: &[Footprint]) -> Option<String> {
    let growth =
        before.iter().zip(after).find_map(|(before, now)| now.growth_since(before, &MARGIN));
    growth.map(|growth| format!("a process has grown: {growth}"))
}

/// Waits until every process holds what it held before, and says what that is.
fn settle(run: &Run, cluster: &mut Cluster, before: &[Footprint]) {
    let start = Instant::now();
    let (after, open) = loop {
        trouble::replace_ended(cluster);
        let after = footprints(cluster);
        let open = still_open(cluster);
        let has_settled = open.is_none() && growth(before, &after).is_none();
        if has_settled || start.elapsed() > SETTLE_LIMIT {
            break (after, open);
        }
        thread::sleep(Duration::from_millis(100));
    };
    println!("settled in {:.1} s", start.elapsed().as_secs_f64());
    for (number, (before, after)) in before.iter().zip(&after).enumerate() {
        let name = number.checked_sub(1).map_or("controller".into(), |number| format!("w{number}"));
        println!("{name:<10} {before}\n        -> {after}");
    }
    [open, growth(before, &after)].into_iter().flatten().for_each(|fault| {
        run.fault(fault);
    });
}

/// Work that the controller still has although nobody waits for it, or workers that it lacks.
fn still_open(cluster: &Cluster) -> Option<String> {
    let status = cluster.status();
    let ready = status
        .workers
        .iter()
        .filter(|worker| worker.health == WorkerHealth::Ready && worker.leases == 0);
    let is_idle = status.jobs.is_empty() && (status.limits.items, status.limits.bytes) == (0, 0);
    let is_clean = status.quarantined.is_empty() && status.counters.items_contradicted == 0;
    (ready.count() != WORKERS || !is_idle || !is_clean).then(|| format!("{status:?}"))
}

fn summary(run: &Run) -> String {
    let Tally { digests, jobs, left, kills, hung } = &run.tally;
    let mut latencies = run.latencies.lock().expect("nobody panics with it").clone();
    latencies.sort_unstable();
    let at = |percent: usize| {
        let at = latencies.len().saturating_sub(1) * percent / 100;
        latencies.get(at).copied().unwrap_or_default().as_millis()
    };
    format!(
        "{digests:?} digests compared, {jobs:?} jobs, {left:?} clients left in mid-job, {kills:?} \
         signals to workers, {hung:?} hung files; a bystander's file p50 {} ms, p99 {} ms, max {} ms",
        at(50),
        at(99),
        at(100)
    )
}
