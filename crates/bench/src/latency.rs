//! One empty task there and back, against a raw ping-pong and a hand-over through Redis.
//!
//! A ping-pong of two processes takes three times as long when they run on two cores as when the
//! scheduler happens to put both on one, and it changes its mind within a run. So the client is
//! kept on the first core and the raw ping-pong's other end on the second; the daemons are placed
//! by the scheduler. The ping-pong on one core is shown beside it, without a target.

use crate::report::{Report, Target, median, us};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use test_kit::{Cluster, MessageJob, Options, until};

const ROUNDS: usize = 40;
const BLOCK: usize = 250;

pub(crate) fn run(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::start(Options::default());
    let mut ours = MessageJob::on(&cluster);
    let mut redis = Redis::start(dir.path());
    let mut raw = Raw::start(dir.path(), 1);
    let mut raw_here = Raw::start(dir.path(), 0);
    let everywhere = sched_getaffinity(OWN).expect("our own affinity");
    pin(0);
    let (mut raw_p50, mut our_p50, mut redis_p50) = (Vec::new(), Vec::new(), Vec::new());
    let mut here_p50 = Vec::new();
    for round in 0..ROUNDS + 1 {
        let times = [
            block(|| raw.ping()),
            block(|| ours.round_trip()),
            block(|| redis.ping()),
            block(|| raw_here.ping()),
        ];
        if round > 0 {
            raw_p50.push(times[0]);
            our_p50.push(times[1]);
            redis_p50.push(times[2]);
            here_p50.push(times[3]);
        }
    }
    sched_setaffinity(OWN, &everywhere).expect("our own affinity");
    let over_raw = our_p50.iter().zip(&raw_p50).map(|(ours, raw)| ours / raw).collect();
    let over_redis = our_p50.iter().zip(&redis_p50).map(|(ours, redis)| ours / redis).collect();
    report.note(&format!(
        "p50 of {ROUNDS} interleaved blocks of {BLOCK}: raw on two cores {:.1} us, raw on one core \
         {:.1} us, one task {:.1} us, redis {:.1} us",
        median(raw_p50),
        median(here_p50),
        median(our_p50),
        median(redis_p50)
    ));
    report.check(
        "one empty task over a raw ping-pong, p50",
        median(over_raw),
        "x",
        Target::AtMost(2.0),
    );
    report.check(
        "one empty task over a Redis hand-over, p50",
        median(over_redis),
        "x",
        Target::AtMost(1.0),
    );
}

/// The p50 of one block, in microseconds.
fn block(mut ping: impl FnMut()) -> f64 {
    let mut times: Vec<Duration> = (0..BLOCK)
        .map(|_| {
            let start = Instant::now();
            ping();
            start.elapsed()
        })
        .collect();
    times.sort();
    us(times[BLOCK / 2])
}

const OWN: Pid = Pid::from_raw(0);

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).expect("the number of a core");
    sched_setaffinity(OWN, &set).expect("this machine has two cores");
}

struct Raw {
    stream: UnixStream,
    child: Child,
}

impl Raw {
    /// Starts the other end on `core`.
    fn start(dir: &Path, core: usize) -> Self {
        let path = dir.join(format!("echo{core}.sock"));
        let listener = UnixListener::bind(&path).expect("a new socket");
        let own = std::env::current_exe().expect("our own path");
        let core = core.to_string();
        let child = Command::new(own).arg("echo").arg(&path).arg(core).spawn().expect("ourselves");
        let (stream, _) = listener.accept().expect("the child connects");
        Self { stream, child }
    }

    fn ping(&mut self) {
        let mut bytes = [0; 64];
        self.stream.write_all(&bytes).expect("the child lives");
        self.stream.read_exact(&mut bytes).expect("the child lives");
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // It ends by itself when the stream does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end of the raw ping-pong.
pub(crate) fn echo(path: &str, core: &str) {
    pin(core.parse().expect("the number of a core"));
    let mut stream = UnixStream::connect(path).expect("the bench listens");
    let mut bytes = [0; 64];
    while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
}

struct Redis {
    server: Child,
    worker: Child,
    stream: BufReader<UnixStream>,
}

impl Redis {
    fn start(dir: &Path) -> Self {
        let path = dir.join("redis.sock");
        let text = path.to_str().expect("a temporary path is text");
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", text])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let stream = until("redis-server to listen", || UnixStream::connect(&path).ok());
        let own = std::env::current_exe().expect("our own path");
        let worker = Command::new(own).arg("redis-worker").arg(&path).spawn().expect("ourselves");
        Self { server, worker, stream: BufReader::new(stream) }
    }

    fn ping(&mut self) {
        command(&mut self.stream, &["RPUSH", "tasks", "x"]);
        command(&mut self.stream, &["BLPOP", "results", "0"]);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        for child in [&mut self.worker, &mut self.server] {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes tasks out of Redis and puts results back.
pub(crate) fn redis_worker(path: &str) {
    let mut stream = BufReader::new(UnixStream::connect(path).expect("redis listens"));
    loop {
        command(&mut stream, &["BLPOP", "tasks", "0"]);
        command(&mut stream, &["RPUSH", "results", "x"]);
    }
}

/// One command and its reply (RESP2): an integer, or an array of bulk strings.
fn command(stream: &mut BufReader<UnixStream>, words: &[&str]) {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    if stream.get_mut().write_all(text.as_bytes()).is_err() {
        std::process::exit(0);
    }
    let mut line = String::new();
    if stream.read_line(&mut line).unwrap_or(0) == 0 {
        std::process::exit(0);
    }
    let strings = line.strip_prefix('*').map_or(0, |count| count.trim().parse().unwrap_or(0));
    for _ in 0..2 * strings {
        line.clear();
        stream.read_line(&mut line).expect("redis answers in full");
    }
}
