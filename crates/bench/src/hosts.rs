//! Many hosts on one machine: the cost of a second and a third one, and of each shard to broker and ledger.

use crate::contest::median;
use crate::machine::version_of;
use crate::report::{Report, Target};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use test_kit::{Broker, Cluster, DEADLINE, Footprint, Options, Running, bin, cpu_time, text};

const ROUNDS: usize = 5;

/// Long files: mostly holes, whose bytes take time to hash and no room.
const LONG_FILES: u64 = 128;
const LONG_LEN: u64 = 65 << 20;

/// Small files, for the part of each file in messages and ledger.
const SMALL_FILES: u64 = 100_000;

/// The longest that a job may take.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn run(report: &mut Report) {
    report.note(&version_of("nats-server", "--version"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let long = make_long(&dir.path().join("long"));
    let small = make_small(&dir.path().join("small"));
    let (server, page) = Broker::start_with_page();
    let broker = BenchBroker { server, page };
    scale(report, dir.path(), &long, &broker);
    per_file(report, dir.path(), &small, &broker);
}

/// A dataset's directory with its marker.
fn make(root: &Path) -> PathBuf {
    fs::create_dir_all(root).expect("a new directory");
    let name = root.file_name().expect("it has a name").to_string_lossy().into_owned();
    fs::write(root.join(".hashcluster-dataset"), format!("{name}-1\n")).expect("the disk has room");
    root.to_owned()
}

fn make_long(root: &Path) -> PathBuf {
    let root = make(root);
    for number in 0..LONG_FILES {
        let mut file = File::create(root.join(format!("f{number:03}"))).expect("a new file");
        write!(file, "{number}").expect("the disk has room");
        file.set_len(LONG_LEN).expect("a sparse file");
    }
    root
}

fn make_small(root: &Path) -> PathBuf {
    let root = make(root);
    for number in 0..SMALL_FILES {
        let dir = root.join(format!("{:03}", number / 1000));
        if number % 1000 == 0 {
            fs::create_dir(&dir).expect("a new directory");
        }
        fs::write(dir.join(format!("{:06}", number)), [b'x'; 100]).expect("the disk has room");
    }
    root
}

/// A broker, and the port of its page about itself.
struct BenchBroker {
    server: Broker,
    page: u16,
}

/// A host that serves one dataset with one worker of one thread.
struct BenchHost {
    cluster: Cluster,
    bridge: Running,
}

impl BenchHost {
    fn start(dir: &Path, name: &str, root: &Path, broker: &BenchBroker) -> Self {
        let datasets = vec![("d", root.to_owned())];
        let cluster = Cluster::start(Options { workers: 1, datasets, ..Options::default() });
        let more = format!("serve.shards = 2\nserve.runtime_dir = {:?}\n", cluster.dir());
        let config = configure(dir, name, root, broker, &more);
        let mut serve = Command::new(bin("hashcluster-bridge"));
        let mut bridge =
            Running::start(serve.args(["serve", "--config"]).arg(config), 100 * DEADLINE);
        bridge.wait_for("serving d");
        Self { cluster, bridge }
    }

    /// CPU time of its controller, worker and bridge.
    fn cpu(&self) -> Duration {
        let processes = self.cluster.workers.iter().chain([&self.cluster.controller]);
        let daemons: Duration = processes.map(|child| cpu_time(child.id())).sum();
        daemons + cpu_time(self.bridge.id())
    }
}

fn configure(dir: &Path, host: &str, root: &Path, broker: &BenchBroker, more: &str) -> PathBuf {
    let path = dir.join(format!("{host}.toml"));
    let text = format!(
        "host = \"{host}\"\ndeployment = \"{}\"\nbroker.servers = [\"nats://127.0.0.1:{}\"]\n{more}datasets.d = {root:?}\n",
        root.file_name().expect("it has a name").to_string_lossy(),
        broker.server.port(),
    );
    fs::write(&path, text).expect("the disk has room");
    path
}

/// The costs of a job.
struct JobCost {
    wall: Duration,
    hosts: Duration,
    broker: Duration,
    messages: u64,
    ledger_len: u64,
    submit_peak_kib: u64,
}

/// Runs a job over all of `root`.
fn job(dir: &Path, root: &Path, hosts: &[BenchHost], broker: &BenchBroker) -> JobCost {
    let config = configure(dir, "submit", root, broker, "");
    let (ledger, manifest) = (dir.join("ledger"), dir.join("manifest"));
    // None at the first job.
    let _ = fs::remove_file(&ledger);
    let cpu = || hosts.iter().map(BenchHost::cpu).sum::<Duration>();
    let (before, broker_before, messages) = (cpu(), cpu_time(broker.server.id()), messages(broker));
    let started = Instant::now();
    let mut submit = Command::new(bin("hashcluster-bridge"));
    submit.args(["submit", "--config"]).arg(config).arg("--ledger").arg(&ledger);
    let running = Running::start(submit.arg("-o").arg(&manifest).arg("d"), LIMIT);
    let mut peak = 0;
    while fs::metadata(&manifest).is_err() {
        peak = peak.max(Footprint::of(running.id()).map_or(0, |now| now.resident_kib));
        std::thread::sleep(Duration::from_millis(2));
    }
    let wall = started.elapsed();
    let ended = running.end();
    assert!(ended.status.success(), "{}", ended.stderr);
    fs::remove_file(&manifest).expect("it was just there");
    JobCost {
        wall,
        hosts: cpu() - before,
        broker: cpu_time(broker.server.id()) - broker_before,
        messages: self::messages(broker) - messages,
        ledger_len: fs::metadata(&ledger).expect("a ledger").len(),
        submit_peak_kib: peak,
    }
}

/// Messages that the broker has taken so far.
fn messages(broker: &BenchBroker) -> u64 {
    let mut page = TcpStream::connect(("127.0.0.1", broker.page)).expect("it listens");
    page.write_all(b"GET /varz HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = Vec::new();
    page.read_to_end(&mut answer).expect("it answers");
    let answer = text(&answer);
    let (_, rest) = answer.split_once("\"in_msgs\":").expect("a number of messages");
    let digits: String = rest.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// One, two and three hosts in turn: CPU time per byte, as they share this machine's cores.
fn scale(report: &mut Report, dir: &Path, root: &Path, broker: &BenchBroker) {
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    let mut last = None;
    for round in 0..=ROUNDS {
        for (number, costs) in costs.iter_mut().enumerate() {
            let start = |host| BenchHost::start(dir, &format!("h{host}"), root, broker);
            let hosts: Vec<BenchHost> = (0..=number).map(start).collect();
            let cost = job(dir, root, &hosts, broker);
            if round > 0 {
                costs.push(cost.hosts.as_secs_f64());
                last = Some(cost);
            }
        }
    }
    let bytes = (LONG_FILES * LONG_LEN) as f64;
    let [one, two, three] = costs.map(median);
    for (hosts, cpu) in [(1, one), (2, two), (3, three)] {
        let rate = bytes / cpu / 1e9;
        report
            .note(&format!("{hosts} hosts: {cpu:.2} s of CPU time, {rate:.2} GB per second of it"));
    }
    let linear = |cpu: f64| one / cpu;
    let what = "CPU-bound job, work per CPU second, two hosts over one";
    report.check(what, linear(two), "x", Target::AtLeast(0.9));
    let what = "CPU-bound job, work per CPU second, three hosts over one";
    report.check(what, linear(three), "x", Target::AtLeast(0.9));
    if let Some(cost) = last {
        let shards = LONG_FILES as f64;
        let (messages, ledger) = (cost.messages as f64 / shards, cost.ledger_len as f64 / shards);
        let broker = cost.broker.as_secs_f64() * 1e3 / shards;
        report.note(&format!(
            "per shard of one file: {messages:.1} messages to the broker, {broker:.2} ms of its CPU \
             time, {ledger:.0} B of ledger"
        ));
    }
}

/// A job of many small files on one host.
fn per_file(report: &mut Report, dir: &Path, root: &Path, broker: &BenchBroker) {
    let hosts = [BenchHost::start(dir, "h0", root, broker)];
    let files = SMALL_FILES as f64;
    let cost = job(dir, root, &hosts, broker);
    let rate = files / cost.wall.as_secs_f64();
    let messages = cost.messages as f64 / files * 1e6;
    let (ledger, peak) =
        (cost.ledger_len as f64 / files, cost.submit_peak_kib as f64 * 1024.0 / files);
    report.note(&format!(
        "{SMALL_FILES} files of 100 B, one host: {rate:.0} files per second on the wall; per million \
         of them {messages:.0} messages to the broker"
    ));
    report.note(&format!(
        "per such file: {ledger:.0} B of ledger, {peak:.0} B of the submitting program's peak memory"
    ));
}
