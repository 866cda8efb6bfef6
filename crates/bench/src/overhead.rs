//! Costs of what is on by default or can be: clusters that differ in nothing else hash the same files in
//! turn.

use crate::contest::{Cost, Run, Time, interleave, measure, median, median_ratio, us};
use crate::files::Files;
use crate::report::{Report, Target};
use ipc_proto::endpoint::WORKER_SOCKET;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use test_kit::{Cluster, Options, bin};

const ROUNDS: usize = 21;
const START_ROUNDS: usize = 51;

/// Much more often than Prometheus asks by default, once a minute.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// The directory's name among datasets.
const DATASET: &str = "files";

const NO_SANDBOX: &str = "--sandbox=off";

/// The sandbox of controller and worker.
pub(crate) fn containment(report: &mut Report) {
    compare(report, "containment", 1.01, |dir| {
        let without = Options {
            controller_args: vec![NO_SANDBOX.into()],
            worker_args: vec![NO_SANDBOX],
            ..options(dir)
        };
        (Cluster::start(options(dir)), Cluster::start(without), None)
    });
    let dir = tempfile::tempdir().expect("a temporary directory");
    let start = |args: &'static [&'static str]| -> Run<'_, f64> {
        Box::new(|| us(until_hello(dir.path(), args)) / 1e3)
    };
    let mut times = interleave(START_ROUNDS, &mut [start(&[]), start(&[NO_SANDBOX])]);
    let (without, with) = (median(times.remove(1)), median(times.remove(0)));
    report.note(&format!(
        "start of a worker until its first byte: {with:.2} ms, {without:.2} without"
    ));
    let what = "start of a worker, more with containment";
    report.check(what, with - without, " ms", Target::AtMost(3.0));
}

/// Metrics that are served and read.
pub(crate) fn metrics(report: &mut Report) {
    compare(report, "metrics", 1.02, |dir| {
        let pages = tempfile::tempdir().expect("a temporary directory");
        let [of_controller, of_worker] =
            ["controller", "worker"].map(|name| pages.path().join(name));
        let argument = |path: &Path| format!("--http=unix:{}", path.display());
        let with = Options {
            controller_args: vec![argument(&of_controller)],
            worker_args: vec![argument(&of_worker).leak()],
            ..options(dir)
        };
        let with = Cluster::start(with);
        let scraper = Scraper::start(move || {
            for page in [&of_controller, &of_worker] {
                scrape(page);
            }
            let _alive = &pages;
        });
        (with, Cluster::start(options(dir)), Some(scraper))
    });
}

fn options(dir: &Path) -> Options {
    let datasets = vec![(DATASET, dir.to_owned())];
    Options { workers: 1, threads: 1, datasets, ..Options::default() }
}

/// The CPU time of all processes of the first cluster over that of the second.
fn compare(
    report: &mut Report,
    what: &str,
    most: f64,
    start: impl Fn(&Path) -> (Cluster, Cluster, Option<Scraper>),
) {
    for files in [Files::write(20_000, 4 << 10, "4 KiB"), Files::write(2000, 256 << 10, "256 KiB")]
    {
        let (with, without, _scraper) = start(files.dir());
        with.link_datasets();
        without.link_datasets();
        let files = &files;
        for plane in ["dataset", "descriptors"] {
            let run = |cluster| -> Run<'_> { Box::new(move || hash(files, cluster, plane)) };
            let costs = interleave(ROUNDS, &mut [run(&with), run(&without)]);
            let [with, without] = [&costs[0], &costs[1]].map(|costs| Time::Cpu.of(costs));
            let title = format!("{} by {plane}", files.title("sha256"));
            let ratio = median_ratio(&with, &without);
            let row = format!("{what}: {title}, CPU with it over CPU without");
            report.check(&row, ratio, "x", Target::AtMost(most));
        }
    }
}

fn hash(files: &Files, cluster: &Cluster, plane: &str) -> Cost {
    let mut command = cluster.hashctl();
    command.args(["--plane", plane, "sum"]).args(&files.names).current_dir(files.dir());
    measure(&mut command, &cluster.pids())
}

/// Time from the start of a worker to the first byte that it sends.
fn until_hello(dir: &Path, args: &[&str]) -> Duration {
    let socket = dir.join(WORKER_SOCKET);
    // Of the round before, which may be the first.
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("a path without a socket");
    let mut command = Command::new(bin("hashcluster-worker"));
    command.arg("--runtime-dir").arg(dir).args(["--name", "w0", "--threads", "1"]).args(args);
    let begin = Instant::now();
    let mut worker = command.stderr(Stdio::null()).spawn().expect("the worker starts");
    let (mut stream, _) = listener.accept().expect("it connects");
    stream.read_exact(&mut [0]).expect("it says hello");
    let time = begin.elapsed();
    worker.kill().expect("our own child");
    worker.wait().expect("our own child");
    time
}

/// A thread that does something at intervals until it is dropped.
struct Scraper {
    /// Closed, it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scraper {
    fn start(work: impl Fn() + Send + 'static) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(SCRAPE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                work();
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked, and has said why.
            let _ = thread.join();
        }
    }
}

fn scrape(page: &Path) {
    let mut stream = UnixStream::connect(page).expect("the program listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
